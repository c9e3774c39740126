//! Type checks, in the order in which Prometheus makes them: children first, and the first error is
//! reported.

use std::collections::HashSet;

use model::METRIC_NAME;

use crate::ast::*;
use crate::error::{Kind, ParseError};
use crate::functions::Function;
use crate::quote::quote;

type Result<T> = std::result::Result<T, ParseError>;

/// Checks the tree and settles what depends on types: vector matching exists only between vectors,
/// and set operators match many to many.
pub(crate) fn check(text: &str, expr: &mut Expr) -> Result<ValueType> {
    Checker { text }.expr(expr)
}

/// The first label that both `on` and the grouping name.
fn in_both(matching: &VectorMatching) -> Option<&String> {
    if !matching.on || matching.include.is_empty() {
        return None;
    }
    let include: HashSet<&String> = matching.include.iter().collect();
    matching.labels.iter().find(|label| include.contains(label))
}

struct Checker<'a> {
    text: &'a str,
}

impl Checker<'_> {
    fn fail<T>(&self, span: Span, message: impl Into<String>) -> Result<T> {
        Err(ParseError::new(Kind::Invalid, self.text, span, message))
    }

    fn expr(&self, expr: &mut Expr) -> Result<ValueType> {
        let span = expr.span;
        match &mut expr.kind {
            ExprKind::Number(_) => Ok(ValueType::Scalar),
            ExprKind::String(_) => Ok(ValueType::String),
            ExprKind::Vector(selector) => self.selector(span, selector, false),
            ExprKind::Matrix(matrix) => {
                self.selector(matrix.selector_span, &matrix.selector, false)?;
                Ok(ValueType::Matrix)
            }
            ExprKind::Subquery(subquery) => {
                let found = match self.expr(&mut subquery.expr)? {
                    ValueType::Vector => return Ok(ValueType::Matrix),
                    ValueType::Scalar => "scalar",
                    ValueType::Matrix => "matrix",
                    ValueType::String => "string",
                };
                self.fail(
                    span,
                    format!("subquery is only allowed on instant vector, got {found} instead"),
                )
            }
            ExprKind::Paren(inner) => self.expr(inner),
            ExprKind::Unary(unary) => {
                let found = self.expr(&mut unary.expr)?;
                if matches!(found, ValueType::Scalar | ValueType::Vector) {
                    return Ok(found);
                }
                let allowed =
                    "unary expression only allowed on expressions of type scalar or instant vector";
                self.fail(span, format!("{allowed}, got {}", quote(found.documented().as_bytes())))
            }
            ExprKind::Aggregate(aggregation) => {
                self.expect(&mut aggregation.expr, ValueType::Vector, "aggregation expression")?;
                if let (Some(param), Some(wanted)) =
                    (&mut aggregation.param, aggregation.op.param_type())
                {
                    self.expect(param, wanted, "aggregation parameter")?;
                }
                Ok(ValueType::Vector)
            }
            ExprKind::Call(call) => self.call(span, call),
            ExprKind::Binary(binary) => self.binary(span, binary),
        }
    }

    fn expect(&self, expr: &mut Expr, wanted: ValueType, place: &str) -> Result<()> {
        let found = self.expr(expr)?;
        if found == wanted {
            return Ok(());
        }
        let (wanted, found) = (wanted.documented(), found.documented());
        self.fail(expr.span, format!("expected type {wanted} in {place}, got {found}"))
    }

    fn selector(
        &self,
        span: Span,
        selector: &VectorSelector,
        may_be_empty: bool,
    ) -> Result<ValueType> {
        if let Some(name) = &selector.name {
            // The last matcher is the one of the name before the braces.
            let inner = &selector.matchers[..selector.matchers.len().saturating_sub(1)];
            if let Some(twice) = inner.iter().find(|m| m.name == METRIC_NAME) {
                let (a, b) = (quote(name.as_bytes()), quote(&twice.value));
                return self.fail(span, format!("metric name must not be set twice: {a} or {b}"));
            }
        } else if !may_be_empty && selector.matchers.iter().all(|m| m.matches_empty()) {
            return self.fail(span, "vector selector must contain at least one non-empty matcher");
        }
        Ok(ValueType::Vector)
    }

    fn call(&self, span: Span, call: &mut Call) -> Result<ValueType> {
        let function = call.function();
        self.argument_count(span, function, call.args.len())?;
        if function.name == "info"
            && let Some(selector) = call.args.get(1)
        {
            self.info_selector(span, selector)?;
        }
        for (i, arg) in call.args.iter_mut().enumerate() {
            let Some(wanted) = function.arg_type(i) else { break };
            let found = match &arg.kind {
                ExprKind::Vector(selector) => {
                    self.selector(arg.span, selector, function.name == "info" && i == 1)?
                }
                _ => self.expr(arg)?,
            };
            if found != wanted {
                let (wanted, found) = (wanted.documented(), found.documented());
                let place = format!("call to function {}", quote(function.name.as_bytes()));
                return self
                    .fail(arg.span, format!("expected type {wanted} in {place}, got {found}"));
            }
        }
        Ok(function.return_type)
    }

    fn argument_count(&self, span: Span, function: &Function, count: usize) -> Result<()> {
        let (listed, name) = (function.arg_types.len(), quote(function.name.as_bytes()));
        let fail = |bound: &str, n: usize| {
            self.fail(
                span,
                format!("expected {bound}{n} argument(s) in call to {name}, got {count}"),
            )
        };
        if function.variadic == 0 {
            return if listed == count { Ok(()) } else { fail("", listed) };
        }
        let least = listed - 1;
        let most = usize::try_from(function.variadic).map_or(usize::MAX, |n| least + n);
        match count {
            n if n < least => fail("at least ", least),
            n if n > most => fail("at most ", most),
            _ => Ok(()),
        }
    }

    /// The second argument of `info` holds matchers of info metrics' labels, so it may match
    /// everything.
    fn info_selector(&self, span: Span, selector: &Expr) -> Result<()> {
        let found = selector.value_type();
        if found != ValueType::Vector {
            let (wanted, found) = (ValueType::Vector.documented(), found.documented());
            return self.fail(
                span,
                format!("expected type {wanted} in call to function \"info\", got {found}"),
            );
        }
        match &selector.kind {
            ExprKind::Vector(vector) if vector.name.is_none() => Ok(()),
            ExprKind::Vector(_) => self
                .fail(selector.span, "expected label selectors only, got vector selector instead"),
            _ => self.fail(selector.span, "expected label selectors only"),
        }
    }

    fn binary(&self, span: Span, binary: &mut Binary) -> Result<ValueType> {
        let left = self.expr(&mut binary.lhs)?;
        let right = self.expr(&mut binary.rhs)?;
        let op = binary.op;
        let scalars = left == ValueType::Scalar && right == ValueType::Scalar;
        let operator = self.operator_span(binary);
        if binary.return_bool && !op.is_comparison() {
            return self.fail(operator, "bool modifier can only be used on comparison operators");
        }
        if op.is_comparison() && !binary.return_bool && scalars {
            return self.fail(operator, "comparisons between scalars must use BOOL modifier");
        }
        if let Some(m) = &binary.matching
            && let Some(label) = in_both(m)
        {
            let label = quote(label.as_bytes());
            return self.fail(
                operator,
                format!("label {label} must not occur in ON and GROUP clause at once"),
            );
        }
        for (side, found) in [(&binary.lhs, left), (&binary.rhs, right)] {
            if !matches!(found, ValueType::Scalar | ValueType::Vector) {
                return self.fail(
                    side.span,
                    "binary expression must contain only scalar and instant vector types",
                );
            }
        }
        self.matching(span, binary, left == ValueType::Vector && right == ValueType::Vector)?;
        Ok(if scalars { ValueType::Scalar } else { ValueType::Vector })
    }

    fn matching(&self, span: Span, binary: &mut Binary, vectors: bool) -> Result<()> {
        let op = binary.op;
        let Some(matching) = &mut binary.matching else { return Ok(()) };
        let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
        if !vectors {
            if !matching.labels.is_empty() {
                return self.fail(span, "vector matching only allowed between instant vectors");
            }
            if fills {
                return self
                    .fail(span, "filling in missing series only allowed between instant vectors");
            }
            if op.is_set_operator() {
                let op = quote(op.as_str().as_bytes());
                return self.fail(
                    span,
                    format!("set operator {op} not allowed in binary scalar expression"),
                );
            }
            binary.matching = None;
        } else if op.is_set_operator() {
            if matching.cardinality != Cardinality::OneToOne {
                let op = quote(op.as_str().as_bytes());
                return self.fail(span, format!("no grouping allowed for {op} operation"));
            }
            if fills {
                return self.fail(span, "filling in missing series not allowed for set operators");
            }
            matching.cardinality = Cardinality::ManyToMany;
        }
        Ok(())
    }

    /// From the operator on, without blanks around it.
    fn operator_span(&self, binary: &Binary) -> Span {
        let text = self.text.as_bytes();
        let (mut start, mut end) =
            (binary.lhs.span.end.min(text.len()), binary.rhs.span.start.min(text.len()));
        let blank = |b: &u8| matches!(b, b' ' | b'\t' | b'\n' | b'\r');
        while text.get(start).is_some_and(blank) {
            start += 1;
        }
        while end > start && blank(&text[end - 1]) {
            end -= 1;
        }
        Span { start, end: end.max(start) }
    }
}
