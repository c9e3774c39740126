//! The two that are compared: our engine in this process, and a Prometheus server over the same
//! blocks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use engine::testing::{TsdbSource, TsdbSourceSettings};
use engine::{Detail, Engine, EngineSettings, Query, SeriesSource};
use promql::ParserOptions;
use promql::ast::{AggregateOp, Expr, ExprKind};
use promql::value::Grid;

use super::outcome::{self, Exactness, Outcome};
use crate::harness::fleet::{Prometheus, PrometheusSettings};
use crate::harness::{http, runtime};

pub(super) const LOOKBACK_MS: i64 = 300_000;
const ASKED_AGAIN: usize = 24;

pub(super) struct Sides {
    prometheus: Prometheus,
    /// The same samples in one block.
    compacted: Prometheus,
    ours: Ours,
}

/// Our engine over blocks.
pub(super) struct Ours {
    engine: Engine,
    source: Arc<dyn SeriesSource>,
}

impl Ours {
    /// An engine with all experimental parts of the language.
    pub(super) fn new(blocks: &[PathBuf], delayed_name_removal: bool) -> Ours {
        let engine = Engine::new(EngineSettings {
            threads: 2,
            language: ParserOptions::ALL,
            delayed_name_removal,
            ..EngineSettings::default()
        });
        let source = TsdbSource::open(blocks, TsdbSourceSettings::default())
            .expect("blocks that were just written");
        Ours { engine, source: Arc::new(source) }
    }

    pub(super) fn evaluate(&self, text: &str, grid: Grid) -> Outcome {
        let query = Query {
            text: text.to_owned(),
            grid,
            lookback_ms: LOOKBACK_MS,
            dynamic_lookback: true,
            dedup: None,
            max_resolution_ms: 0,
            timeout: Duration::from_secs(60),
            source: Arc::clone(&self.source),
            detail: Detail::default(),
        };
        outcome::ours(runtime().block_on(self.engine.query(query)))
    }
}

impl Sides {
    /// Starts both, with all experimental parts of the language. The samples are given as blocks
    /// and as one block.
    pub(super) fn start(
        program: &Path,
        folder: &Path,
        (blocks, compacted): (&[PathBuf], &[PathBuf]),
        delayed_name_removal: bool,
    ) -> Sides {
        let mut features = vec!["promql-extended-range-selectors", "promql-binop-fill-modifiers"];
        if delayed_name_removal {
            features.push("promql-delayed-name-removal");
        }
        let prometheus = |name: &str, blocks: &[PathBuf]| {
            let settings = PrometheusSettings {
                blocks: blocks.to_vec(),
                features: features.iter().map(|feature| (*feature).to_owned()).collect(),
                ..PrometheusSettings::default()
            };
            Prometheus::start_program(program.to_owned(), &folder.join(name), &settings)
        };
        let (prometheus, compacted) =
            (prometheus("blocks", blocks), prometheus("compacted", compacted));
        Sides { prometheus, compacted, ours: Ours::new(blocks, delayed_name_removal) }
    }

    /// What Prometheus gives, and what we give.
    pub(super) fn evaluate(&self, text: &str, grid: Grid) -> (Outcome, Outcome) {
        (theirs(&self.prometheus, text, grid), self.ours.evaluate(text, grid))
    }

    /// Whether Prometheus itself gives other answers when asked again: in range queries it iterates
    /// over the series of some operands in the random order of a map, and its sums depend on that.
    pub(super) fn is_undecided(&self, text: &str, grid: Grid, want: &Outcome) -> bool {
        let again = |_| theirs(&self.prometheus, text, grid);
        (0..ASKED_AGAIN).map(again).any(|again| want.difference(&again, Exactness::Close).is_some())
    }

    /// Whether Prometheus' warnings change to ours once the same samples are in one block. It does
    /// not know what comes before a histogram that it jumps to in a series of several blocks; in
    /// one block it knows. So whether a reset in the same window contradicts it depends on what was
    /// compacted when.
    pub(super) fn depends_on_blocks(
        &self,
        text: &str,
        grid: Grid,
        want: &Outcome,
        got: &Outcome,
    ) -> bool {
        let same_values = want.difference(got, Exactness::CloseValues).is_none();
        same_values
            && theirs(&self.compacted, text, grid).difference(got, Exactness::Close).is_none()
    }

    /// Whether series are in another order, where PromQL defines one.
    pub(super) fn wrong_order(
        &self,
        text: &str,
        grid: Grid,
        want: &Outcome,
        got: &Outcome,
    ) -> Option<String> {
        let expr = ParserOptions::ALL.parse_expr(text).ok()?;
        if !grid.is_instant() || !is_ordered(expr.unwrap_parens()) {
            return None;
        }
        let (want, got) = (want.success()?, got.success()?);
        if sort_labels(expr.unwrap_parens()).iter().any(|label| want.is_partly_labelled(label)) {
            return None;
        }
        let (want, got) = (want.in_order(), got.in_order());
        let same = |(a, b): (&f64, &f64)| crate::harness::answers::same_number(*a, *b);
        (!want.iter().zip(&got).all(same)).then(|| format!("order {got:?}\n  not {want:?}"))
    }
}

fn theirs(prometheus: &Prometheus, text: &str, grid: Grid) -> Outcome {
    ask(&prometheus.url, text, grid, &[])
}

/// Asks an HTTP API of Prometheus' kind; `more` are further parameters.
pub(super) fn ask(url: &str, text: &str, grid: Grid, more: &[(&str, &str)]) -> Outcome {
    let seconds = |ms: i64| format!("{:.3}", ms as f64 / 1000.0);
    let mut fields = vec![("query".to_owned(), text.to_owned())];
    fields.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let path = if grid.is_instant() {
        fields.push(("time".to_owned(), seconds(grid.start_ms)));
        "/api/v1/query"
    } else {
        for (name, ms) in [("start", grid.start_ms), ("end", grid.end_ms), ("step", grid.step_ms)] {
            fields.push((name.to_owned(), seconds(ms)));
        }
        "/api/v1/query_range"
    };
    let answer = http::post_form(&format!("{url}{path}"), &fields);
    let body = answer.and_then(|answer| answer.json()).unwrap_or_else(|e| panic!("{text}: {e:#}"));
    outcome::theirs(&body).unwrap_or_else(|e| panic!("{text}: {e:#}: {body}"))
}

/// The labels by which `sort_by_label` and its opposite sort. Where some series lack one, they
/// compare as neither more nor less than any other, and the order depends on the sorting algorithm.
fn sort_labels(expr: &Expr) -> Vec<String> {
    let ExprKind::Call(call) = &expr.kind else { return Vec::new() };
    let text = |arg: &Expr| match &arg.unwrap_parens().kind {
        ExprKind::String(literal) => Some(String::from_utf8_lossy(&literal.value).into_owned()),
        _ => None,
    };
    if call.func.starts_with("sort_by_label") {
        call.args.iter().filter_map(text).collect()
    } else {
        Vec::new()
    }
}

fn is_ordered(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Call(call) => call.func.starts_with("sort"),
        ExprKind::Aggregate(aggregation) => {
            matches!(aggregation.op, AggregateOp::Topk | AggregateOp::Bottomk)
        }
        _ => false,
    }
}
