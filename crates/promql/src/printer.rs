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
        match &self.kind {
            ExprKind::Number(number) => number.fmt(f),
            ExprKind::String(string) => f.write_str(&quote(&string.value)),
            ExprKind::Vector(selector) => vector(f, selector),
            ExprKind::Matrix(matrix) => matrix_selector(f, matrix),
            ExprKind::Subquery(subquery) => {
                write!(f, "{}{}", subquery.expr, SubquerySuffix(subquery))
            }
            ExprKind::Call(call) => {
                write!(f, "{}(", call.func)?;
                for (i, arg) in call.args.iter().enumerate() {
                    write!(f, "{}{arg}", if i > 0 { ", " } else { "" })?;
                }
                f.write_char(')')
            }
            ExprKind::Aggregate(aggregation) => {
                write!(f, "{}(", AggregationHead(aggregation))?;
                if let Some(param) = &aggregation.param {
                    write!(f, "{param}, ")?;
                }
                write!(f, "{})", aggregation.expr)
            }
            ExprKind::Binary(binary) => {
                write!(f, "{} {} {}", binary.lhs, OperatorText(binary), binary.rhs)
            }
            ExprKind::Unary(unary) => write!(f, "{}{}", sign(unary), unary.expr),
            ExprKind::Paren(inner) => write!(f, "({inner})"),
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

fn vector(f: &mut Formatter<'_>, selector: &VectorSelector) -> fmt::Result {
    name_and_matchers(f, selector)?;
    let (at, extension) = (AtText(selector.at), ExtensionText(selector.extension));
    write!(f, "{at}{extension}{}", OffsetText(&selector.offset))
}

fn matrix_selector(f: &mut Formatter<'_>, matrix: &MatrixSelector) -> fmt::Result {
    let selector = &matrix.selector;
    name_and_matchers(f, selector)?;
    let (at, extension) = (AtText(selector.at), ExtensionText(selector.extension));
    write!(f, "[{}]{extension}{at}{}", matrix.range, OffsetText(&selector.offset))
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
    /// The expression as text, broken into indented lines where it is longer than 100 bytes.
    pub fn pretty(&self) -> String {
        let mut out = String::new();
        self.pretty_into(&mut out, 0);
        out
    }

    fn pretty_into(&self, out: &mut String, level: usize) {
        let line = self.to_string();
        let indent = "  ".repeat(level);
        let fits = line.len() <= MAX_LINE;
        match &self.kind {
            ExprKind::Aggregate(aggregation) if !fits => {
                out.push_str(&format!("{indent}{}(\n", AggregationHead(aggregation)));
                if let Some(param) = &aggregation.param {
                    param.pretty_into(out, level + 1);
                    out.push_str(",\n");
                }
                aggregation.expr.pretty_into(out, level + 1);
                out.push_str(&format!("\n{indent})"));
            }
            ExprKind::Binary(binary) if !fits => {
                binary.lhs.pretty_into(out, level + 1);
                out.push_str(&format!("\n{indent}{}\n", OperatorText(binary)));
                binary.rhs.pretty_into(out, level + 1);
            }
            ExprKind::Call(call) if !fits => {
                out.push_str(&format!("{indent}{}(\n", call.func));
                for (i, arg) in call.args.iter().enumerate() {
                    out.push_str(if i > 0 { ",\n" } else { "" });
                    arg.pretty_into(out, level + 1);
                }
                out.push_str(&format!("\n{indent})"));
            }
            ExprKind::Paren(inner) if !fits => {
                out.push_str(&format!("{indent}(\n"));
                inner.pretty_into(out, level + 1);
                out.push_str(&format!("\n{indent})"));
            }
            ExprKind::Subquery(subquery) if !fits => {
                subquery.expr.pretty_into(out, level);
                out.push_str(&SubquerySuffix(subquery).to_string());
            }
            // Prometheus does not indent a subquery that fits.
            ExprKind::Subquery(_) => out.push_str(&line),
            ExprKind::Unary(unary) => {
                let mut operand = String::new();
                unary.expr.pretty_into(&mut operand, level);
                out.push_str(&format!("{indent}{}{}", sign(unary), operand.trim()));
            }
            _ => out.push_str(&format!("{indent}{line}")),
        }
    }
}
