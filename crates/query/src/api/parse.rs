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
use serde_json::{Value, json};

use super::ApiState;

pub(super) async fn format(
    State(api): State<Arc<ApiState>>,
    params: Params,
) -> Result<Response, ApiError> {
    let expr = parse(&api, &params)?;
    let mut json = Json::default();
    json.raw(r#"{"status":"success","data":"#);
    json.string(expr.pretty().as_bytes());
    json.raw("}");
    Ok(json_response(Body::from(json.into_bytes())))
}

pub(super) async fn tree(
    State(api): State<Arc<ApiState>>,
    params: Params,
) -> Result<Response, ApiError> {
    let answer = json!({ "status": "success", "data": node(&parse(&api, &params)?) });
    Ok(json_response(Body::from(answer.to_string())))
}

fn parse(api: &ApiState, params: &Params) -> Result<Expr, ApiError> {
    let text = params.get("query").unwrap_or_default();
    api.settings.language.parse_expr(text).map_err(|e| ApiError::parameter("query", e))
}

/// A node of the syntax tree in the shape that Prometheus' tree view reads.
fn node(expr: &Expr) -> Value {
    match &expr.kind {
        ExprKind::Number(number) => json!({ "type": "numberLiteral", "val": plain(number.value) }),
        ExprKind::String(literal) => {
            json!({ "type": "stringLiteral", "val": String::from_utf8_lossy(&literal.value) })
        }
        ExprKind::Paren(inner) => json!({ "type": "parenExpr", "expr": node(inner) }),
        ExprKind::Unary(unary) => {
            json!({ "type": "unaryExpr", "op": if unary.negate { "-" } else { "+" }, "expr": node(&unary.expr) })
        }
        ExprKind::Vector(selector) => vector(selector, "vectorSelector"),
        ExprKind::Matrix(matrix) => {
            let mut tree = vector(&matrix.selector, "matrixSelector");
            tree["range"] = millis(Some(&matrix.range));
            tree["rangeExpr"] = arithmetic(Some(&matrix.range));
            tree
        }
        ExprKind::Subquery(subquery) => self::subquery(subquery),
        ExprKind::Call(call) => json!({
            "type": "call",
            "func": function(call.function()),
            "args": call.args.iter().map(node).collect::<Vec<_>>(),
        }),
        ExprKind::Aggregate(aggregation) => json!({
            "type": "aggregation",
            "op": aggregation.op.as_str(),
            "expr": node(&aggregation.expr),
            "param": aggregation.param.as_deref().map(node),
            "grouping": aggregation.grouping,
            "without": aggregation.without,
        }),
        ExprKind::Binary(binary) => json!({
            "type": "binaryExpr",
            "op": binary.op.as_str(),
            "lhs": node(&binary.lhs),
            "rhs": node(&binary.rhs),
            "matching": binary.matching.as_ref().map(matching),
            "bool": binary.return_bool,
        }),
    }
}

fn vector(selector: &VectorSelector, kind: &str) -> Value {
    json!({
        "type": kind,
        "name": selector.name.as_deref().unwrap_or_default(),
        "offset": millis(selector.offset.as_ref()),
        "offsetExpr": arithmetic(selector.offset.as_ref()),
        "matchers": selector.matchers.iter().map(matcher).collect::<Vec<_>>(),
        "timestamp": fixed_time(selector.at),
        "startOrEnd": start_or_end(selector.at),
        "anchored": selector.extension == Some(Extension::Anchored),
        "smoothed": selector.extension == Some(Extension::Smoothed),
    })
}

fn subquery(subquery: &Subquery) -> Value {
    json!({
        "type": "subquery",
        "expr": node(&subquery.expr),
        "range": millis(Some(&subquery.range)),
        "rangeExpr": arithmetic(Some(&subquery.range)),
        "offset": millis(subquery.offset.as_ref()),
        "offsetExpr": arithmetic(subquery.offset.as_ref()),
        "step": millis(subquery.step.as_ref()),
        "stepExpr": arithmetic(subquery.step.as_ref()),
        "timestamp": fixed_time(subquery.at),
        "startOrEnd": start_or_end(subquery.at),
    })
}

fn matcher(matcher: &Matcher) -> Value {
    let value = String::from_utf8_lossy(&matcher.value);
    json!({ "name": matcher.name, "value": value, "type": matcher.op().as_str() })
}

fn function(function: &Function) -> Value {
    json!({
        "name": function.name,
        "argTypes": function.arg_types.iter().map(|t| value_type(*t)).collect::<Vec<_>>(),
        "variadic": function.variadic,
        "returnType": value_type(function.return_type),
    })
}

fn value_type(value_type: ValueType) -> &'static str {
    match value_type {
        ValueType::Scalar => "scalar",
        ValueType::Vector => "vector",
        ValueType::Matrix => "matrix",
        ValueType::String => "string",
    }
}

fn matching(matching: &VectorMatching) -> Value {
    let card = match matching.cardinality {
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
        Cardinality::ManyToMany => "many-to-many",
    };
    json!({
        "card": card,
        "labels": matching.labels,
        "on": matching.on,
        "include": matching.include,
        "fillValues": { "lhs": matching.fill_left, "rhs": matching.fill_right },
    })
}

fn fixed_time(at: Option<At>) -> Option<i64> {
    match at {
        Some(At::Millis(t)) => Some(t),
        Some(At::Start | At::End) | None => None,
    }
}

fn start_or_end(at: Option<At>) -> Option<&'static str> {
    match at {
        Some(At::Start) => Some("start"),
        Some(At::End) => Some("end"),
        Some(At::Millis(_)) | None => None,
    }
}

/// A duration given by arithmetic is not known before the query's times are: 0 until then.
fn millis(duration: Option<&Duration>) -> Value {
    duration.and_then(|d| d.millis).unwrap_or(0).into()
}

fn arithmetic(duration: Option<&Duration>) -> Value {
    duration.and_then(|d| d.expr.as_deref()).map_or(Value::Null, |expr| term(expr, false))
}

/// `wrapped` is an operation in parentheses; Prometheus has no node for those.
fn term(expr: &DurationExpr, wrapped: bool) -> Value {
    let operation = |op: &str, lhs: Option<&DurationExpr>, rhs: Option<&DurationExpr>| {
        let side = |side: Option<&DurationExpr>| side.map_or(Value::Null, |expr| term(expr, false));
        json!({ "type": "durationExpr", "op": op, "lhs": side(lhs), "rhs": side(rhs), "wrapped": wrapped })
    };
    match &expr.kind {
        // A number in parentheses is one with a plus before it.
        DurationExprKind::Number(_) if wrapped => operation("+", None, Some(expr)),
        DurationExprKind::Number(number) => {
            json!({ "type": "numberLiteral", "val": plain(number.value), "duration": number.is_duration })
        }
        DurationExprKind::Step => operation("step", None, None),
        DurationExprKind::Range => operation("range", None, None),
        DurationExprKind::Negate(inner) => operation("-", None, Some(inner)),
        DurationExprKind::Min(a, b) => operation("min_of", Some(a), Some(b)),
        DurationExprKind::Max(a, b) => operation("max_of", Some(a), Some(b)),
        DurationExprKind::Binary(op, a, b) => operation(op.as_str(), Some(a), Some(b)),
        DurationExprKind::Paren(inner) => term(inner, true),
    }
}
