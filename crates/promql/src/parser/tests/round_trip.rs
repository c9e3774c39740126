//! Random trees print to texts that parse to the same trees, and random texts never panic.

use model::{MatchOp, Matcher};
use proptest::prelude::*;

use super::super::*;

fn expr(kind: ExprKind) -> Expr {
    Expr { kind, span: Span::default() }
}

/// In parentheses where an operator would tear it apart, or become part of the arithmetic of an
/// offset.
fn operand(inner: Expr) -> Expr {
    let arithmetic = |offset: &Option<Duration>| offset.as_ref().is_some_and(|d| d.expr.is_some());
    match inner.kind {
        ExprKind::Vector(ref selector) if arithmetic(&selector.offset) => {
            expr(ExprKind::Paren(Box::new(inner)))
        }
        ExprKind::Binary(_) | ExprKind::Unary(_) | ExprKind::Number(_) => {
            expr(ExprKind::Paren(Box::new(inner)))
        }
        _ => inner,
    }
}

fn label() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z_][a-z0-9_]{0,4}", "[ -~é]{1,4}", Just("by".to_owned())]
}

fn matcher() -> impl Strategy<Value = Matcher> {
    let value = prop_oneof!["[a-z|.*]{0,5}", "[ -~\\n日\u{202a}]{0,5}"];
    (label(), value, 0..4u8).prop_map(|(name, value, op)| {
        let op =
            [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex][usize::from(op)];
        Matcher::new(op, name.clone(), value.clone())
            .unwrap_or_else(|_| Matcher::equal(name, value))
    })
}

fn constant(millis: i64) -> Duration {
    Duration { millis: Some(millis), expr: None, span: Span::default() }
}

fn duration_expr() -> impl Strategy<Value = DurationExpr> {
    let of = |kind| DurationExpr { kind, span: Span::default() };
    let leaf = prop_oneof![
        (1..100_000_000i64).prop_map(|ms| DurationExprKind::Number(NumberLiteral {
            value: crate::durations::literal_seconds(ms),
            is_duration: true
        })),
        (1..1000u32).prop_map(|n| DurationExprKind::Number(NumberLiteral {
            value: f64::from(n),
            is_duration: false
        })),
        Just(DurationExprKind::Step),
        Just(DurationExprKind::Range),
    ];
    leaf.prop_map(of).prop_recursive(3, 12, 2, move |inner| {
        let paren = move |e: DurationExpr| match e.kind {
            DurationExprKind::Paren(_) => e,
            _ => of(DurationExprKind::Paren(Box::new(e))),
        };
        let two = (inner.clone(), inner.clone());
        prop_oneof![
            inner.clone().prop_map(paren),
            inner.prop_map(move |e| of(DurationExprKind::Negate(Box::new(paren(e))))),
            (two.clone(), any::<bool>()).prop_map(move |((a, b), min)| {
                let (a, b) = (Box::new(a), Box::new(b));
                of(if min { DurationExprKind::Min(a, b) } else { DurationExprKind::Max(a, b) })
            }),
            (two, 0..6usize).prop_map(move |((a, b), op)| {
                use BinaryOp::*;
                let op = [Add, Sub, Mul, Div, Mod, Pow][op];
                of(DurationExprKind::Binary(op, Box::new(paren(a)), Box::new(paren(b))))
            }),
        ]
    })
}

fn duration() -> impl Strategy<Value = Duration> {
    let arithmetic = duration_expr().prop_filter_map("a constant", |e| match e.kind {
        DurationExprKind::Number(_) => None,
        _ => Some(Duration { millis: None, expr: Some(Box::new(e)), span: Span::default() }),
    });
    prop_oneof![3 => (1..10_000_000_000i64).prop_map(constant), 1 => arithmetic]
}

fn modifiers() -> impl Strategy<Value = (Option<Duration>, Option<At>)> {
    let negative = (1..100_000_000i64).prop_map(|ms| constant(-ms));
    let at = prop_oneof![
        (-100_000_000_000i64..100_000_000_000).prop_map(At::Millis),
        Just(At::Start),
        Just(At::End)
    ];
    (prop::option::of(prop_oneof![duration(), negative]), prop::option::of(at))
}

fn selector() -> impl Strategy<Value = VectorSelector> {
    let name = prop::option::weighted(0.7, "[a-z_:][a-z0-9_:]{3,6}z");
    let extension =
        prop::option::of(prop_oneof![Just(Extension::Anchored), Just(Extension::Smoothed)]);
    let matchers = prop::collection::vec(matcher(), 0..3);
    (name, matchers, modifiers(), extension).prop_map(
        |(name, mut matchers, (offset, at), extension)| {
            matchers.retain(|m| m.name != METRIC_NAME);
            matchers.push(Matcher::equal(METRIC_NAME, name.as_deref().unwrap_or("unnamed")));
            // The printer sorts matchers by their text, and the name before the braces comes last.
            let last = if name.is_some() { matchers.pop() } else { None };
            matchers.sort_by_key(crate::print_matcher);
            matchers.extend(last);
            VectorSelector { name, matchers, offset, at, extension }
        },
    )
}

fn number() -> impl Strategy<Value = NumberLiteral> {
    prop_oneof![
        any::<f64>()
            .prop_filter("NaN has one spelling", |v| !v.is_nan())
            .prop_map(|value| NumberLiteral { value, is_duration: false }),
        Just(NumberLiteral { value: crate::numbers::NAN, is_duration: false }),
        (-1_000_000_000i64..1_000_000_000).prop_filter("0s has no sign", |ms| *ms != 0).prop_map(
            |ms| {
                let value = crate::durations::literal_seconds(ms.abs());
                NumberLiteral { value: if ms < 0 { -value } else { value }, is_duration: true }
            }
        ),
    ]
}

fn matching() -> impl Strategy<Value = VectorMatching> {
    let labels = || prop::collection::vec(label(), 0..3);
    let fill =
        || prop::option::of(any::<f64>().prop_filter("NaN has one spelling", |v| !v.is_nan()));
    (0..3u8, any::<bool>(), labels(), labels(), fill(), fill()).prop_map(
        |(card, on, labels, include, left, right)| {
            let cardinality =
                [Cardinality::OneToOne, Cardinality::ManyToOne, Cardinality::OneToMany]
                    [usize::from(card)];
            let grouped = cardinality != Cardinality::OneToOne;
            let include = if grouped { include } else { Vec::new() };
            let include = include.into_iter().filter(|l| !on || !labels.contains(l)).collect();
            VectorMatching { cardinality, on, labels, include, fill_left: left, fill_right: right }
        },
    )
}

fn vector_op() -> impl Strategy<Value = (BinaryOp, bool, VectorMatching)> {
    (prop::sample::select(&BinaryOp::ALL[..]), any::<bool>(), matching()).prop_map(
        |(op, return_bool, matching)| {
            let matching = if op.is_set_operator() {
                let (cardinality, include) = (Cardinality::ManyToMany, Vec::new());
                VectorMatching {
                    cardinality,
                    include,
                    fill_left: None,
                    fill_right: None,
                    ..matching
                }
            } else {
                matching
            };
            (op, return_bool && op.is_comparison(), matching)
        },
    )
}

fn aggregation(inner: Expr, op: AggregateOp, grouping: Vec<String>, without: bool) -> Expr {
    let param = op.param_type().map(|wanted| {
        Box::new(expr(match wanted {
            ValueType::String => ExprKind::String(StringLiteral { value: b"l\xff\"".to_vec() }),
            _ => ExprKind::Number(NumberLiteral { value: 0.5, is_duration: false }),
        }))
    });
    expr(ExprKind::Aggregate(Aggregation { op, expr: Box::new(inner), param, grouping, without }))
}

fn vector() -> impl Strategy<Value = Expr> {
    let range = (selector(), duration()).prop_map(|(selector, range)| {
        let matrix =
            ExprKind::Matrix(MatrixSelector { selector, selector_span: Span::default(), range });
        expr(ExprKind::Call(Call { func: "rate", args: vec![expr(matrix)] }))
    });
    let leaf = prop_oneof![selector().prop_map(|s| expr(ExprKind::Vector(s))), range];
    leaf.prop_recursive(4, 24, 2, |inner| {
        // Brackets do not take a colon before the first number.
        let numbered = duration().prop_filter("without a number", |d| {
            d.to_string().contains(|c: char| c.is_ascii_digit())
        });
        let subquery = (inner.clone(), numbered, prop::option::of(duration()), modifiers())
            .prop_map(|(inner, range, step, (offset, at))| {
                let subquery = Subquery { expr: Box::new(operand(inner)), range, step, offset, at };
                expr(ExprKind::Call(Call {
                    func: "max_over_time",
                    args: vec![expr(ExprKind::Subquery(subquery))],
                }))
            });
        let binary = (inner.clone(), vector_op(), inner.clone()).prop_map(
            |(a, (op, return_bool, matching), b)| {
                let (lhs, rhs) = (Box::new(operand(a)), Box::new(operand(b)));
                expr(ExprKind::Binary(Binary {
                    op,
                    lhs,
                    rhs,
                    matching: Some(matching),
                    return_bool,
                }))
            },
        );
        let scalar = (number(), inner.clone()).prop_map(|(number, b)| {
            let lhs = Box::new(operand(expr(ExprKind::Number(number))));
            let (op, rhs) = (BinaryOp::Pow, Box::new(operand(b)));
            expr(ExprKind::Binary(Binary { op, lhs, rhs, matching: None, return_bool: false }))
        });
        let labels = prop::collection::vec(label(), 0..3);
        let aggregated = (inner.clone(), 0..14usize, labels, any::<bool>()).prop_map(
            |(inner, op, grouping, without)| {
                aggregation(inner, AggregateOp::ALL[op], grouping, without)
            },
        );
        prop_oneof![
            subquery,
            binary,
            scalar,
            aggregated,
            (inner.clone(), number()).prop_map(|(inner, number)| {
                let args = vec![inner, expr(ExprKind::Number(number))];
                expr(ExprKind::Call(Call { func: "clamp_max", args }))
            }),
            (inner.clone(), any::<bool>()).prop_map(|(inner, negate)| {
                expr(ExprKind::Unary(Unary { negate, expr: Box::new(operand(inner)) }))
            }),
            inner.prop_map(|inner| expr(ExprKind::Paren(Box::new(inner)))),
        ]
    })
}

fn forget_duration(duration: &mut Duration) {
    duration.span = Span::default();
    duration.expr.iter_mut().for_each(|e| forget_duration_expr(e));
}

fn forget_duration_expr(expr: &mut DurationExpr) {
    expr.span = Span::default();
    match &mut expr.kind {
        DurationExprKind::Number(_) | DurationExprKind::Step | DurationExprKind::Range => {}
        DurationExprKind::Negate(inner) | DurationExprKind::Paren(inner) => {
            forget_duration_expr(inner)
        }
        DurationExprKind::Min(a, b)
        | DurationExprKind::Max(a, b)
        | DurationExprKind::Binary(_, a, b) => {
            forget_duration_expr(a);
            forget_duration_expr(b);
        }
    }
}

/// Removes all positions, which trees made by hand do not have.
fn forget_spans(tree: &mut Expr) {
    tree.walk_mut(&mut |e| {
        e.span = Span::default();
        match &mut e.kind {
            ExprKind::Vector(selector) => selector.offset.iter_mut().for_each(forget_duration),
            ExprKind::Matrix(matrix) => {
                matrix.selector_span = Span::default();
                forget_duration(&mut matrix.range);
                matrix.selector.offset.iter_mut().for_each(forget_duration);
            }
            ExprKind::Subquery(subquery) => {
                forget_duration(&mut subquery.range);
                subquery.step.iter_mut().for_each(forget_duration);
                subquery.offset.iter_mut().for_each(forget_duration);
            }
            _ => {}
        }
        true
    });
}

const FRAGMENTS: [&str; 49] = [
    "foo",
    "sum",
    "by",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "=",
    "=~",
    "!=",
    "\"",
    "'",
    "`",
    "\\",
    "5m",
    "1e",
    "0x",
    "@",
    "offset",
    "start()",
    "step()",
    "+",
    "-",
    "*",
    "/",
    "^",
    "==",
    "</",
    "on",
    "group_left",
    "fill(",
    "bool",
    "_",
    "x3",
    "{{",
    "}}",
    "schema:1",
    "buckets:[1 2",
    "#",
    "\n",
    "eval instant at 5m ",
    "load 5m\n",
    "expect ",
    "é",
    "\u{fffd}",
];

fn fragments() -> impl Strategy<Value = String> {
    prop::collection::vec(
        prop_oneof![4 => prop::sample::select(&FRAGMENTS[..]).prop_map(str::to_owned), 1 => any::<String>()],
        0..12,
    )
    .prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(160) })]

    #[test]
    fn printed_trees_parse_to_themselves(tree in vector()) {
        let text = tree.to_string();
        let mut again = ParserOptions::ALL.parse_expr(&text).map_err(|e| TestCaseError::fail(format!("{text}: {e}")))?;
        forget_spans(&mut again);
        prop_assert_eq!(&again, &tree, "{}", text);
        let mut pretty = ParserOptions::ALL.parse_expr(&tree.pretty()).unwrap();
        forget_spans(&mut pretty);
        prop_assert_eq!(&pretty, &tree, "{}", tree.pretty());
    }

    #[test]
    fn texts_of_any_kind_never_panic(text in fragments()) {
        if let Ok(expr) = ParserOptions::ALL.parse_expr(&text) {
            let printed = expr.to_string();
            let again = ParserOptions::ALL.parse_expr(&printed).map(|e| e.to_string());
            prop_assert_eq!(again.map_err(|e| e.to_string()), Ok(printed));
        }
        let _ = parse_selector(&text);
        let _ = crate::parse_duration(&text);
        let _ = crate::unquote(&text);
        let _ = crate::testlang::parse_series_description(&text);
        let _ = crate::testlang::parse_test(&text);
    }
}
