//! Expressions as text: on one line as Prometheus prints them, and broken into lines as
//! `format_query` does.

use std::fmt::{self, Display, Formatter, Write};

use model::{METRIC_NAME, MatchOp, Matcher};

use crate::ast::*;
use crate::durations::{format_duration, literal_millis};
use crate::kernels::format::plain;
use crate::quote::{format_float_general, quote};

/// Longer expressions are broken into lines by [`Expr::pretty`].
const MAX_LINE: usize = 100;

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        print(self, f, |child, f| child.fmt(f))
    }
}

/// Prints an expression on one line; `child` prints those below it.
fn print<W: Write>(
    expr: &Expr,
    out: &mut W,
    mut child: impl FnMut(&Expr, &mut W) -> fmt::Result,
) -> fmt::Result {
    match &expr.kind {
        ExprKind::Number(number) => write!(out, "{number}"),
        ExprKind::String(string) => out.write_str(&quote(&string.value)),
        ExprKind::Vector(selector) => write!(out, "{}", SelectorText(selector)),
        ExprKind::Matrix(matrix) => write!(out, "{}", MatrixText(matrix)),
        ExprKind::Subquery(subquery) => {
            child(&subquery.expr, out)?;
            write!(out, "{}", SubquerySuffix(subquery))
        }
        ExprKind::Call(call) => {
            write!(out, "{}(", call.func)?;
            for (i, arg) in call.args.iter().enumerate() {
                out.write_str(if i > 0 { ", " } else { "" })?;
                child(arg, out)?;
            }
            out.write_char(')')
        }
        ExprKind::Aggregate(aggregation) => {
            write!(out, "{}(", AggregationHead(aggregation))?;
            if let Some(param) = &aggregation.param {
                child(param, out)?;
                out.write_str(", ")?;
            }
            child(&aggregation.expr, out)?;
            out.write_char(')')
        }
        ExprKind::Binary(binary) => {
            child(&binary.lhs, out)?;
            write!(out, " {} ", OperatorText(binary))?;
            child(&binary.rhs, out)
        }
        ExprKind::Unary(unary) => {
            out.write_char(sign(unary))?;
            child(&unary.expr, out)
        }
        ExprKind::Paren(inner) => {
            out.write_char('(')?;
            child(inner, out)?;
            out.write_char(')')
        }
    }
}

fn sign(unary: &Unary) -> char {
    if unary.negate { '-' } else { '+' }
}

impl Display for NumberLiteral {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.is_duration {
            return f.write_str(&format_duration(literal_millis(*self)));
        }
        f.write_str(&plain(self.value))
    }
}

impl Display for Duration {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.expr {
            Some(expr) => expr.fmt(f),
            None => f.write_str(&format_duration(self.millis.unwrap_or(0))),
        }
    }
}

impl Display for DurationExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            DurationExprKind::Number(number) => number.fmt(f),
            DurationExprKind::Step => f.write_str("step()"),
            DurationExprKind::Range => f.write_str("range()"),
            DurationExprKind::Negate(inner) => write!(f, "-{inner}"),
            DurationExprKind::Min(a, b) => write!(f, "min_of({a}, {b})"),
            DurationExprKind::Max(a, b) => write!(f, "max_of({a}, {b})"),
            DurationExprKind::Binary(op, a, b) => write!(f, "{a} {} {b}", op.as_str()),
            DurationExprKind::Paren(inner) => write!(f, "({inner})"),
        }
    }
}

/// ` offset 5m`. Arithmetic continues after `offset` only when it begins with a parenthesis.
struct OffsetText<'a>(&'a Option<Duration>);

impl Display for OffsetText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => Ok(()),
            Some(Duration { expr: Some(expr), .. }) if needs_parens(expr) => {
                write!(f, " offset ({expr})")
            }
            Some(offset) => write!(f, " offset {offset}"),
        }
    }
}

fn needs_parens(expr: &DurationExpr) -> bool {
    let mut leftmost = expr;
    while let DurationExprKind::Binary(_, lhs, _) = &leftmost.kind {
        leftmost = lhs;
    }
    let arithmetic = matches!(expr.kind, DurationExprKind::Binary(..));
    arithmetic && !matches!(leftmost.kind, DurationExprKind::Paren(_))
}

struct AtText(Option<At>);

impl Display for AtText {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => Ok(()),
            Some(At::Millis(ms)) => write!(f, " @ {:.3}", ms as f64 / 1000.0),
            Some(At::Start) => f.write_str(" @ start()"),
            Some(At::End) => f.write_str(" @ end()"),
        }
    }
}

struct ExtensionText(Option<Extension>);

impl Display for ExtensionText {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            None => "",
            Some(Extension::Anchored) => " anchored",
            Some(Extension::Smoothed) => " smoothed",
        })
    }
}

struct SelectorText<'a>(&'a VectorSelector);

impl Display for SelectorText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let selector = self.0;
        name_and_matchers(f, selector)?;
        let (at, extension) = (AtText(selector.at), ExtensionText(selector.extension));
        write!(f, "{at}{extension}{}", OffsetText(&selector.offset))
    }
}

struct MatrixText<'a>(&'a MatrixSelector);

impl Display for MatrixText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let MatrixSelector { selector, range, .. } = self.0;
        name_and_matchers(f, selector)?;
        let (at, extension) = (AtText(selector.at), ExtensionText(selector.extension));
        write!(f, "[{range}]{extension}{at}{}", OffsetText(&selector.offset))
    }
}

fn name_and_matchers(f: &mut Formatter<'_>, selector: &VectorSelector) -> fmt::Result {
    let name = selector.name.as_deref().unwrap_or("");
    let is_name = |m: &Matcher| {
        m.name == METRIC_NAME && m.op() == MatchOp::Equal && m.value == name.as_bytes()
    };
    let shown = selector.matchers.iter().filter(|m| name.is_empty() || !is_name(m));
    let mut matchers: Vec<String> = shown.map(print_matcher).collect();
    matchers.sort_unstable();
    f.write_str(name)?;
    if matchers.is_empty() { Ok(()) } else { write!(f, "{{{}}}", matchers.join(",")) }
}

/// A matcher as PromQL writes it: `job="x"`, `"odd.name"=~"y.*"`.
pub fn print_matcher(matcher: &Matcher) -> String {
    format!("{}{}{}", LabelName(&matcher.name), matcher.op().as_str(), quote(&matcher.value))
}

/// A label's name, quoted where it must be.
struct LabelName<'a>(&'a str);

impl Display for LabelName<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let plain = |(i, b): (usize, u8)| {
            b == b'_' || b.is_ascii_alphabetic() || (i > 0 && b.is_ascii_digit())
        };
        if !self.0.is_empty() && self.0.bytes().enumerate().all(plain) {
            return f.write_str(self.0);
        }
        f.write_str(&quote(self.0.as_bytes()))
    }
}

fn labels(f: &mut Formatter<'_>, keyword: &str, names: &[String]) -> fmt::Result {
    write!(f, " {keyword} (")?;
    for (i, name) in names.iter().enumerate() {
        write!(f, "{}{}", if i > 0 { ", " } else { "" }, LabelName(name))?;
    }
    f.write_char(')')
}

/// `sum by (a, b) `, or `sum` without grouping.
struct AggregationHead<'a>(&'a Aggregation);

impl Display for AggregationHead<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let aggregation = self.0;
        f.write_str(aggregation.op.as_str())?;
        if aggregation.without || !aggregation.grouping.is_empty() {
            labels(f, if aggregation.without { "without" } else { "by" }, &aggregation.grouping)?;
            f.write_char(' ')?;
        }
        Ok(())
    }
}

/// The operator with its modifiers: `== bool on (a) group_left ()`.
struct OperatorText<'a>(&'a Binary);

impl Display for OperatorText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let binary = self.0;
        f.write_str(binary.op.as_str())?;
        if binary.return_bool {
            f.write_str(" bool")?;
        }
        let Some(matching) = &binary.matching else { return Ok(()) };
        let group = match matching.cardinality {
            Cardinality::ManyToOne => Some("group_left"),
            Cardinality::OneToMany => Some("group_right"),
            Cardinality::OneToOne | Cardinality::ManyToMany => None,
        };
        if matching.on || group.is_some() || !matching.labels.is_empty() {
            labels(f, if matching.on { "on" } else { "ignoring" }, &matching.labels)?;
        }
        if let Some(group) = group {
            labels(f, group, &matching.include)?;
        }
        match (matching.fill_left, matching.fill_right) {
            (Some(left), Some(right)) if left == right => {
                write!(f, " fill ({})", format_float_general(left))
            }
            (left, right) => {
                if let Some(left) = left {
                    write!(f, " fill_left ({})", format_float_general(left))?;
                }
                if let Some(right) = right {
                    write!(f, " fill_right ({})", format_float_general(right))?;
                }
                Ok(())
            }
        }
    }
}

/// `[5m:1m] @ 10.000 offset 1m`.
struct SubquerySuffix<'a>(&'a Subquery);

impl Display for SubquerySuffix<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let subquery = self.0;
        write!(f, "[{}:", subquery.range)?;
        if let Some(step) = &subquery.step {
            write!(f, "{step}")?;
        }
        write!(f, "]{}{}", AtText(subquery.at), OffsetText(&subquery.offset))
    }
}

impl Expr {
    /// The expression as text, broken into indented lines where it is longer than 100 bytes. Deep
    /// in an expression, a line has hundreds of blanks for each of its bytes.
    pub fn pretty(&self) -> String {
        self.pretty_within(usize::MAX).unwrap_or_default()
    }

    /// The same text; `None` if it takes more than so many bytes, of which no more are written than
    /// the expression takes on one line.
    pub fn pretty_within(&self, most_bytes: usize) -> Option<String> {
        let mut line = OneLine::default();
        // writing to a String cannot fail
        let _ = line.print(self);
        let mut lines = Lines { line, out: String::new(), most_bytes };
        lines.write(self, Place { index: 0, level: 0, indented: true });
        Some(lines.out).filter(|out| out.len() <= most_bytes)
    }
}

/// An expression on one line, which tells where the expressions in it are, in the order in which
/// they are printed.
#[derive(Default)]
struct OneLine {
    text: String,
    printed: Vec<PrintedExpr>,
}

/// The place of an expression in the text, and the index of the one behind all that are in it.
struct PrintedExpr {
    start: usize,
    end: usize,
    next: usize,
}

impl OneLine {
    fn print(&mut self, expr: &Expr) -> fmt::Result {
        let (index, start) = (self.printed.len(), self.text.len());
        self.printed.push(PrintedExpr { start, end: start, next: index });
        print(expr, self, |child, line| line.print(child))?;
        self.printed[index] = PrintedExpr { start, end: self.text.len(), next: self.printed.len() };
        Ok(())
    }
}

impl Write for OneLine {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text.write_str(text)
    }
}

/// Which expression of a line is written, and where.
#[derive(Clone, Copy)]
struct Place {
    /// Its index in the line.
    index: usize,
    level: usize,
    /// Whether its first line is indented too.
    indented: bool,
}

impl Place {
    /// The first expression in it.
    fn inside(self) -> Place {
        Place { index: self.index + 1, level: self.level + 1, indented: true }
    }
}

/// What lines begin with. Deep ones are mostly blanks.
const BLANKS: &str = "                                                                ";

/// An expression that is broken into lines.
struct Lines {
    line: OneLine,
    out: String,
    /// What is longer is of no use.
    most_bytes: usize,
}

impl Lines {
    fn indent(&mut self, level: usize) {
        let mut left = if self.out.len() > self.most_bytes { 0 } else { 2 * level };
        while left > 0 {
            let blanks = &BLANKS[..left.min(BLANKS.len())];
            self.out.push_str(blanks);
            left -= blanks.len();
        }
    }

    /// The place of the expression behind the one at `place`.
    fn after(&self, place: Place) -> Place {
        Place { index: self.line.printed[place.index].next, ..place }
    }

    fn write(&mut self, expr: &Expr, place: Place) {
        let PrintedExpr { start, end, .. } = self.line.printed[place.index];
        let fits = end - start <= MAX_LINE;
        // Prometheus does not indent a subquery that fits.
        let indented = match &expr.kind {
            ExprKind::Binary(_) => fits,
            ExprKind::Subquery(_) => false,
            _ => true,
        };
        if indented && place.indented {
            self.indent(place.level);
        }
        match &expr.kind {
            ExprKind::Unary(unary) => {
                self.out.push(sign(unary));
                let inside = Place { level: place.level, indented: false, ..place.inside() };
                self.write(&unary.expr, inside);
            }
            _ if fits => self.out.push_str(&self.line.text[start..end]),
            ExprKind::Aggregate(aggregation) => {
                let head = format!("{}(", AggregationHead(aggregation));
                let param = aggregation.param.as_deref();
                self.enclosed(&head, param.into_iter().chain([&*aggregation.expr]), place);
            }
            ExprKind::Call(call) => self.enclosed(&format!("{}(", call.func), &call.args, place),
            ExprKind::Paren(inner) => self.enclosed("(", [&**inner], place),
            ExprKind::Binary(binary) => {
                let left = Place { indented: place.indented, ..place.inside() };
                self.write(&binary.lhs, left);
                self.out.push('\n');
                self.indent(place.level);
                self.out.push_str(&format!("{}\n", OperatorText(binary)));
                self.write(&binary.rhs, Place { indented: true, ..self.after(left) });
            }
            ExprKind::Subquery(subquery) => {
                let inside =
                    Place { level: place.level, indented: place.indented, ..place.inside() };
                self.write(&subquery.expr, inside);
                self.out.push_str(&SubquerySuffix(subquery).to_string());
            }
            _ => self.out.push_str(&self.line.text[start..end]),
        }
    }

    /// Expressions between parentheses, each on lines of its own.
    fn enclosed<'a>(
        &mut self,
        head: &str,
        inner: impl IntoIterator<Item = &'a Expr>,
        place: Place,
    ) {
        self.out.push_str(head);
        let mut inside = place.inside();
        for (i, expr) in inner.into_iter().enumerate() {
            self.out.push_str(if i > 0 { ",\n" } else { "\n" });
            self.write(expr, inside);
            inside = self.after(inside);
        }
        self.out.push('\n');
        self.indent(place.level);
        self.out.push(')');
    }
}
