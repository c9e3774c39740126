//! `format_query` and `parse_query`: what can be said about an expression without evaluating it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http_api::{ApiError, Json, Params, json_response};
use model::Matcher;
use promql::ast::*;
use promql::functions::Function;
use promql::kernels::format::plain;

use super::error::of_query;
use super::metadata::held_while_sent;
use super::{ApiState, SyntaxReader};

/// The most bytes of an answer: some times what the longest query has.
pub(super) const MAX_ANSWER: usize = 16 << 20;

/// The most bytes that a syntax tree, and what is said of it, take for each byte of the text.
const TREE_BYTES: usize = 128;
const ANSWER_BYTES: usize = 1024;

pub(super) async fn format(
    State(api): State<Arc<ApiState>>,
    params: Params,
) -> Result<Response, ApiError> {
    let formatted = |expr: &Expr| {
        let text = expr.pretty_within(MAX_ANSWER)?;
        Some(answer(|json| json.string(text.as_bytes())))
    };
    api.answer_about_syntax(&params, formatted).await
}

pub(super) async fn tree(
    State(api): State<Arc<ApiState>>,
    params: Params,
) -> Result<Response, ApiError> {
    let tree = |expr: &Expr| {
        let answer = answer(|json| node(json, expr));
        Some(answer).filter(|answer| answer.len() <= MAX_ANSWER)
    };
    api.answer_about_syntax(&params, tree).await
}

impl ApiState {
    /// What `read` makes of the query's syntax tree, charged until it is sent.
    async fn answer_about_syntax(
        &self,
        params: &Params,
        read: SyntaxReader,
    ) -> Result<Response, ApiError> {
        let mut held = self.settings.budget.reserve("what is said of a query's text");
        let text = params.get("query").unwrap_or_default().len();
        let charged = held.grow((text * TREE_BYTES + MAX_ANSWER.min(text * ANSWER_BYTES)) as u64);
        charged.map_err(|e| ApiError::execution(e.to_string()))?;
        let answer = self.read_syntax(params, read).await?.ok_or_else(|| {
            ApiError::parameter(
                "query",
                format!("what can be said of it takes more than the limit of {MAX_ANSWER} bytes"),
            )
        })?;
        held.shrink(held.bytes().saturating_sub(answer.len() as u64));
        Ok(held_while_sent(json_response(Body::from(answer)), held))
    }

    /// What `read` makes of the query's syntax tree.
    pub(super) async fn read_syntax(
        &self,
        params: &Params,
        read: SyntaxReader,
    ) -> Result<Option<Vec<u8>>, ApiError> {
        let text = params.get("query").unwrap_or_default().to_owned();
        (self.evaluation.read_syntax)(text, read).await.map_err(of_query)
    }
}

fn answer(write: impl FnOnce(&mut Json)) -> Vec<u8> {
    let mut json = Json::default();
    json.raw(r#"{"status":"success","data":"#);
    write(&mut json);
    json.raw("}");
    json.into_bytes()
}

/// Writes an object field by field, each where it belongs: a tree that is put together first is
/// copied as often as it is high.
struct Fields<'a> {
    json: &'a mut Json,
    empty: bool,
}

impl<'a> Fields<'a> {
    fn write(json: &'a mut Json, write: impl FnOnce(&mut Fields<'_>)) {
        json.raw("{");
        let mut fields = Fields { json, empty: true };
        write(&mut fields);
        fields.json.raw("}");
    }

    fn of_type(json: &'a mut Json, kind: &str, write: impl FnOnce(&mut Fields<'_>)) {
        Fields::write(json, |fields| {
            fields.text("type", kind);
            write(fields);
        });
    }

    fn field(&mut self, name: &str, write: impl FnOnce(&mut Json)) {
        self.json.comma(usize::from(!std::mem::replace(&mut self.empty, false)));
        self.json.string(name.as_bytes());
        self.json.raw(":");
        write(self.json);
    }

    fn text(&mut self, name: &str, value: &str) {
        self.field(name, |json| json.string(value.as_bytes()));
    }

    fn bytes(&mut self, name: &str, value: &[u8]) {
        self.field(name, |json| json.string(value));
    }

    fn flag(&mut self, name: &str, value: bool) {
        self.field(name, |json| json.raw(if value { "true" } else { "false" }));
    }

    fn optional<T>(&mut self, name: &str, value: Option<T>, write: impl FnOnce(&mut Json, T)) {
        self.field(name, |json| match value {
            Some(value) => write(json, value),
            None => json.raw("null"),
        });
    }

    fn list<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        write: impl Fn(&mut Json, T),
    ) {
        self.field(name, |json| {
            json.raw("[");
            for (i, item) in items.into_iter().enumerate() {
                json.comma(i);
                write(json, item);
            }
            json.raw("]");
        });
    }

    fn node(&mut self, name: &str, expr: &Expr) {
        self.field(name, |json| node(json, expr));
    }

    /// The length of a duration and what it was written as. One given by arithmetic is not known
    /// before the query's times are: 0 until then.
    fn duration(&mut self, name: &str, duration: Option<&Duration>) {
        let millis = duration.and_then(|d| d.millis).unwrap_or(0);
        self.field(name, |json| json.integer(millis));
        let arithmetic = duration.and_then(|d| d.expr.as_deref());
        self.optional(&format!("{name}Expr"), arithmetic, |json, expr| term(json, expr, false));
    }

    /// What `@` says.
    fn at(&mut self, at: Option<At>) {
        let fixed = match at {
            Some(At::Millis(t)) => Some(t),
            Some(At::Start | At::End) | None => None,
        };
        self.optional("timestamp", fixed, Json::integer);
        let name = match at {
            Some(At::Start) => Some("start"),
            Some(At::End) => Some("end"),
            Some(At::Millis(_)) | None => None,
        };
        self.optional("startOrEnd", name, |json, name| json.string(name.as_bytes()));
    }
}

/// A node of the syntax tree in the shape that Prometheus' tree view reads; left out where the
/// answer is longer than it may be already.
fn node(json: &mut Json, expr: &Expr) {
    if json.written() > MAX_ANSWER {
        return;
    }
    match &expr.kind {
        ExprKind::Number(number) => {
            Fields::of_type(json, "numberLiteral", |f| f.text("val", &plain(number.value)));
        }
        ExprKind::String(literal) => {
            Fields::of_type(json, "stringLiteral", |f| f.bytes("val", &literal.value));
        }
        ExprKind::Paren(inner) => {
            Fields::of_type(json, "parenExpr", |f| f.node("expr", inner));
        }
        ExprKind::Unary(unary) => Fields::of_type(json, "unaryExpr", |f| {
            f.text("op", if unary.negate { "-" } else { "+" });
            f.node("expr", &unary.expr);
        }),
        ExprKind::Vector(selector) => {
            Fields::of_type(json, "vectorSelector", |f| vector(f, selector));
        }
        ExprKind::Matrix(matrix) => Fields::of_type(json, "matrixSelector", |f| {
            vector(f, &matrix.selector);
            f.duration("range", Some(&matrix.range));
        }),
        ExprKind::Subquery(subquery) => Fields::of_type(json, "subquery", |f| {
            f.node("expr", &subquery.expr);
            f.duration("range", Some(&subquery.range));
            f.duration("offset", subquery.offset.as_ref());
            f.duration("step", subquery.step.as_ref());
            f.at(subquery.at);
        }),
        ExprKind::Call(call) => Fields::of_type(json, "call", |f| {
            f.field("func", |json| function(json, call.function()));
            f.list("args", &call.args, node);
        }),
        ExprKind::Aggregate(aggregation) => Fields::of_type(json, "aggregation", |f| {
            f.text("op", aggregation.op.as_str());
            f.node("expr", &aggregation.expr);
            f.optional("param", aggregation.param.as_deref(), node);
            f.field("grouping", |json| json.strings(&aggregation.grouping));
            f.flag("without", aggregation.without);
        }),
        ExprKind::Binary(binary) => Fields::of_type(json, "binaryExpr", |f| {
            f.text("op", binary.op.as_str());
            f.node("lhs", &binary.lhs);
            f.node("rhs", &binary.rhs);
            f.optional("matching", binary.matching.as_ref(), matching);
            f.flag("bool", binary.return_bool);
        }),
    }
}

fn vector(fields: &mut Fields<'_>, selector: &VectorSelector) {
    fields.text("name", selector.name.as_deref().unwrap_or_default());
    fields.duration("offset", selector.offset.as_ref());
    fields.list("matchers", &selector.matchers, matcher);
    fields.at(selector.at);
    fields.flag("anchored", selector.extension == Some(Extension::Anchored));
    fields.flag("smoothed", selector.extension == Some(Extension::Smoothed));
}

fn matcher(json: &mut Json, matcher: &Matcher) {
    Fields::write(json, |f| {
        f.text("name", &matcher.name);
        f.bytes("value", &matcher.value);
        f.text("type", matcher.op().as_str());
    });
}

fn function(json: &mut Json, function: &Function) {
    Fields::write(json, |f| {
        f.text("name", function.name);
        f.list("argTypes", function.arg_types, |json, t| json.string(value_type(*t).as_bytes()));
        f.field("variadic", |json| json.integer(i64::from(function.variadic)));
        f.text("returnType", value_type(function.return_type));
    });
}

fn value_type(value_type: ValueType) -> &'static str {
    match value_type {
        ValueType::Scalar => "scalar",
        ValueType::Vector => "vector",
        ValueType::Matrix => "matrix",
        ValueType::String => "string",
    }
}

fn matching(json: &mut Json, matching: &VectorMatching) {
    let card = match matching.cardinality {
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
        Cardinality::ManyToMany => "many-to-many",
    };
    let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
    Fields::write(json, |f| {
        f.text("card", card);
        f.field("labels", |json| json.strings(&matching.labels));
        f.flag("on", matching.on);
        f.field("include", |json| json.strings(&matching.include));
        f.field("fillValues", |json| {
            Fields::write(json, |f| {
                f.optional("lhs", finite(matching.fill_left), Json::number);
                f.optional("rhs", finite(matching.fill_right), Json::number);
            });
        });
    });
}

/// `wrapped` is an operation in parentheses; Prometheus has no node for those.
fn term(json: &mut Json, expr: &DurationExpr, wrapped: bool) {
    let operation = |json: &mut Json, op: &str, sides: [Option<&DurationExpr>; 2]| {
        Fields::of_type(json, "durationExpr", |f| {
            f.text("op", op);
            for (name, side) in ["lhs", "rhs"].into_iter().zip(sides) {
                f.optional(name, side, |json, side| term(json, side, false));
            }
            f.flag("wrapped", wrapped);
        });
    };
    match &expr.kind {
        // A number in parentheses is one with a plus before it.
        DurationExprKind::Number(_) if wrapped => operation(json, "+", [None, Some(expr)]),
        DurationExprKind::Number(number) => Fields::of_type(json, "numberLiteral", |f| {
            f.text("val", &plain(number.value));
            f.flag("duration", number.is_duration);
        }),
        DurationExprKind::Step => operation(json, "step", [None, None]),
        DurationExprKind::Range => operation(json, "range", [None, None]),
        DurationExprKind::Negate(inner) => operation(json, "-", [None, Some(inner)]),
        DurationExprKind::Min(a, b) => operation(json, "min_of", [Some(a), Some(b)]),
        DurationExprKind::Max(a, b) => operation(json, "max_of", [Some(a), Some(b)]),
        DurationExprKind::Binary(op, a, b) => operation(json, op.as_str(), [Some(a), Some(b)]),
        DurationExprKind::Paren(inner) => term(json, inner, true),
    }
}
