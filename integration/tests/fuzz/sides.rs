//! The two that are compared: our engine in this process, and a Prometheus server over the same blocks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use engine::source::tsdb::{TsdbSource, TsdbSourceSettings};
use engine::{Dedup, Detail, Engine, EngineSettings, Grid, Query, SeriesSource};
use promql::ParserOptions;
use promql::ast::{AggregateOp, Expr, ExprKind};

use super::outcome::{self, Exactness, Outcome};
use crate::harness::fleet::{Prometheus, PrometheusSettings};
use crate::harness::{http, runtime};

const LOOKBACK_MS: i64 = 300_000;
const ASKED_AGAIN: usize = 6;

pub(super) struct Sides {
    prometheus: Prometheus,
    engine: Engine,
    source: Arc<dyn SeriesSource>,
}

impl Sides {
    /// Starts both, with all experimental parts of the language.
    pub(super) fn start(program: PathBuf, folder: &Path, blocks: &[PathBuf], delayed_name_removal: bool) -> Sides {
        let mut features = vec!["promql-extended-range-selectors", "promql-binop-fill-modifiers"];
        if delayed_name_removal {
            features.push("promql-delayed-name-removal");
        }
        let settings = PrometheusSettings {
            blocks: blocks.to_vec(),
            features: features.into_iter().map(str::to_owned).collect(),
            ..PrometheusSettings::default()
        };
        let prometheus = Prometheus::start_program(program, folder, &settings);
        let engine = Engine::new(EngineSettings {
            threads: 2,
            experimental_functions: true,
            extended_range_selectors: true,
            fill_modifiers: true,
            delayed_name_removal,
            ..EngineSettings::default()
        });
        let source = TsdbSource::open(blocks, TsdbSourceSettings::default()).expect("blocks that were just written");
        Sides { prometheus, engine, source: Arc::new(source) }
    }

    /// What Prometheus gives, and what we give.
    pub(super) fn evaluate(&self, text: &str, grid: Grid) -> (Outcome, Outcome) {
        (self.theirs(text, grid), self.ours(text, grid))
    }

    /// Whether Prometheus, asked again, gives other answers itself: in range queries it goes through the series of
    /// some operands in the random order of a map, and what it adds up then depends on that.
    pub(super) fn is_undecided(&self, text: &str, grid: Grid, want: &Outcome) -> bool {
        (0..ASKED_AGAIN).any(|_| want.difference(&self.theirs(text, grid), Exactness::Close).is_some())
    }

    fn ours(&self, text: &str, grid: Grid) -> Outcome {
        let query = Query {
            text: text.to_owned(),
            grid,
            lookback_ms: LOOKBACK_MS,
            dedup: Dedup::Off,
            timeout: Duration::from_secs(60),
            source: Arc::clone(&self.source),
            detail: Detail::default(),
        };
        outcome::ours(runtime().block_on(self.engine.query(query)))
    }

    fn theirs(&self, text: &str, grid: Grid) -> Outcome {
        let seconds = |ms: i64| format!("{}.{:03}", ms / 1000, ms % 1000);
        let mut fields = vec![("query".to_owned(), text.to_owned())];
        let path = if grid.is_instant() {
            fields.push(("time".to_owned(), seconds(grid.start_ms)));
            "/api/v1/query"
        } else {
            for (name, ms) in [("start", grid.start_ms), ("end", grid.end_ms), ("step", grid.step_ms)] {
                fields.push((name.to_owned(), seconds(ms)));
            }
            "/api/v1/query_range"
        };
        let answer = http::post_form(&format!("{}{path}", self.prometheus.url), &fields);
        let body = answer.and_then(|answer| answer.json()).unwrap_or_else(|e| panic!("{text}: {e:#}"));
        outcome::theirs(&body).unwrap_or_else(|e| panic!("{text}: {e:#}: {body}"))
    }

    /// Series in another order, where PromQL defines one.
    pub(super) fn wrong_order(&self, text: &str, grid: Grid, want: &Outcome, got: &Outcome) -> Option<String> {
        let expr = ParserOptions::ALL.parse_expr(text).ok()?;
        if !grid.is_instant() || !is_ordered(expr.unwrap_parens()) {
            return None;
        }
        let (want, got) = (want.success()?.in_order(), got.success()?.in_order());
        let same = |(a, b): (&f64, &f64)| crate::harness::answers::same_number(*a, *b);
        (!want.iter().zip(&got).all(same)).then(|| format!("order {got:?}\n  not {want:?}"))
    }
}

fn is_ordered(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Call(call) => call.func.starts_with("sort"),
        ExprKind::Aggregate(aggregation) => matches!(aggregation.op, AggregateOp::Topk | AggregateOp::Bottomk),
        _ => false,
    }
}
