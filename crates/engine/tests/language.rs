//! Checks that our own test files cover the whole language: every function, aggregation, operator
//! and modifier in an evaluation that succeeds, and every error of evaluation. It also checks that
//! a query nested as deep as the parser permits is evaluated.

mod common;

use common::Asked;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use engine::testing::MemorySource;
use engine::{Error, Kind, SeriesSource};
use model::{Labels, Sample, SampleValue};
use promql::ast::*;
use promql::functions::FUNCTIONS;
use promql::testlang::{
    Command, Eval, ExpectKind, ExpectText, MODIFIERS, modifiers_of, parse_test,
};
use promql::value::{Grid, PointValue, Value};
use promql::{MAX_DEPTH, MAX_NESTING, ParserOptions};

/// Start timestamps are not kept.
const OUT_OF_SCOPE: [&str; 1] = ["start_timestamp"];

/// Texts of errors that depend on the data or on values; those of the parser have files of their
/// own.
const ERRORS: [&str; 17] = [
    "vector cannot contain metrics with the same labelset",
    "many-to-many matching not allowed: matching labels must be unique on one side",
    "on the left hand-side of the operation",
    "on the right hand-side of the operation",
    "many-to-one matching must be explicit (group_left/group_right)",
    "grouping labels must ensure unique matches",
    "Parameter value is NaN",
    "Ratio value is NaN",
    "overflows int64",
    "invalid label name",
    "invalid regular expression in label_replace()",
    "invalid destination label name in label_replace()",
    "invalid destination label name in label_join()",
    "invalid source label name in label_join()",
    "invalid smoothing factor",
    "invalid trend factor",
    "duration must be greater than 0",
];

fn evaluations() -> Vec<Eval> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/promql");
    let mut evals = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let commands = parse_test(&text).unwrap();
        evals.extend(commands.into_iter().filter_map(|command| match command {
            Command::Eval(eval) => Some(*eval),
            Command::Clear | Command::Load(_) => None,
        }));
    }
    evals
}

#[derive(Default)]
struct Seen {
    functions: BTreeSet<&'static str>,
    aggregations: BTreeSet<&'static str>,
    operators: BTreeSet<&'static str>,
    modifiers: BTreeSet<&'static str>,
}

impl Seen {
    fn expression(&mut self, expr: &Expr) {
        self.modifiers.extend(modifiers_of(expr));
        match &expr.kind {
            ExprKind::Call(call) => _ = self.functions.insert(call.func),
            ExprKind::Aggregate(aggregation) => {
                _ = self.aggregations.insert(aggregation.op.as_str())
            }
            ExprKind::Binary(binary) => _ = self.operators.insert(binary.op.as_str()),
            _ => {}
        }
    }
}

fn missing(
    all: impl IntoIterator<Item = &'static str>,
    seen: &BTreeSet<&'static str>,
) -> Vec<&'static str> {
    all.into_iter().filter(|name| !seen.contains(name)).collect()
}

#[test]
fn the_files_hold_the_whole_language() {
    let mut seen = Seen::default();
    for eval in evaluations().iter().filter(|eval| !eval.expects(ExpectKind::Fail)) {
        let expr = ParserOptions::ALL
            .parse_expr(&eval.text)
            .unwrap_or_else(|e| panic!("{}: {e}", eval.text));
        expr.walk(&mut |expr| {
            seen.expression(expr);
            true
        });
    }
    let functions = FUNCTIONS.iter().map(|f| f.name).filter(|name| !OUT_OF_SCOPE.contains(name));
    assert_eq!(missing(functions, &seen.functions), [""; 0]);
    assert_eq!(missing(AggregateOp::ALL.map(AggregateOp::as_str), &seen.aggregations), [""; 0]);
    assert_eq!(missing(BinaryOp::ALL.map(BinaryOp::as_str), &seen.operators), [""; 0]);
    assert_eq!(missing(MODIFIERS, &seen.modifiers), [""; 0]);
}

#[test]
fn the_files_hold_every_error_of_evaluation() {
    let texts: Vec<String> = evaluations()
        .iter()
        .flat_map(|eval| &eval.expectations)
        .filter(|expectation| expectation.kind == ExpectKind::Fail)
        .filter_map(|expectation| match &expectation.text {
            ExpectText::Any => None,
            ExpectText::Message(message) => Some(message.clone()),
            ExpectText::Regex(pattern) => Some(pattern.replace('\\', "")),
        })
        .collect();
    let unseen: Vec<&str> =
        ERRORS.into_iter().filter(|e| !texts.iter().any(|text| text.contains(e))).collect();
    assert_eq!(unseen, [""; 0]);
}

/// The value of a query over one series `a` whose only sample is 1.
fn value_of(text: &str) -> Result<f64, Error> {
    let series = (
        Labels::from_pairs([("__name__", "a")]),
        vec![Sample { t: 0, value: SampleValue::Float(1.0) }],
    );
    let source: Arc<dyn SeriesSource> = Arc::new(MemorySource::new([series]).unwrap());
    let answer =
        common::run(&common::engine(1, false), &source, text, Asked::raw(Grid::instant(0)))?;
    match answer.value {
        Value::Scalar { value, .. } => Ok(value),
        Value::Vector(series) => match series[0].points.first().unwrap().value {
            PointValue::Float(value) => Ok(value),
            ref other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// As on a thread of a runtime, which has less stack than the main one.
fn on_a_small_stack(run: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap().join().unwrap();
}

#[test]
fn what_the_parser_takes_is_evaluated() {
    on_a_small_stack(|| {
        let nested = |open: &str, close: &str, levels: usize| {
            format!("{}a{}", open.repeat(levels), close.repeat(levels))
        };
        for (text, value) in [
            (format!("{}a", "a + ".repeat(MAX_DEPTH - 2)), (MAX_DEPTH - 1) as f64),
            (format!("{}1", "1 + ".repeat(MAX_DEPTH - 2)), (MAX_DEPTH - 1) as f64),
            (format!("a{}", " or a".repeat(MAX_DEPTH - 2)), 1.0),
            (nested("(", ")", MAX_NESTING - 1), 1.0),
            (nested("sum(", ")", MAX_NESTING - 1), 1.0),
            (nested("abs(", ")", MAX_NESTING - 1), 1.0),
            (nested("-", "", MAX_NESTING - 2), 1.0),
            (nested("max_over_time(", "[1m:1m])", MAX_NESTING - 2), 1.0),
        ] {
            let result = value_of(&text).map_err(|e| e.to_string());
            assert_eq!(result, Ok(value), "{}", &text[..20]);
        }
    });
}

#[test]
fn what_is_too_deep_or_too_long_is_refused() {
    on_a_small_stack(|| {
        for text in [
            "(".repeat(100_000),
            "sum(".repeat(100_000),
            format!("{}a", "a + ".repeat(100_000)),
            format!("{}a", "a or ".repeat(MAX_DEPTH)),
            format!("{}a{}", "max_over_time(".repeat(50_000), "[1m:1m])".repeat(50_000)),
            format!("a{{x=\"{}\"}}", "x".repeat(1 << 20)),
            format!("a{{{}}}", "x=\"y\",".repeat(1 << 18)),
        ] {
            let error = value_of(&text).unwrap_err();
            assert_eq!(error.kind(), Kind::BadData, "{error:?} of {}", &text[..20]);
        }
    });
}
