//! What the tests of the engine share: running queries and comparing values.

use std::sync::Arc;
use std::time::Duration;

use engine::{Answer, Dedup, Detail, Engine, EngineSettings, Error, Query, SeriesSource};
use promql::ParserOptions;
use promql::value::Grid;

/// An engine with everything experimental on.
pub(crate) fn engine(threads: usize, delayed_name_removal: bool) -> Engine {
    Engine::new(EngineSettings {
        threads,
        language: ParserOptions::ALL,
        delayed_name_removal,
        ..EngineSettings::default()
    })
}

/// When and how a query is to be answered.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) grid: Grid,
    pub(crate) dedup: Option<Dedup>,
    pub(crate) max_resolution_ms: i64,
}

impl Asked {
    /// Over raw samples, as they are.
    pub(crate) fn raw(grid: Grid) -> Asked {
        Asked { grid, dedup: None, max_resolution_ms: 0 }
    }
}

/// Runs one query with a lookback of five minutes.
pub(crate) fn run(
    engine: &Engine,
    source: &Arc<dyn SeriesSource>,
    text: &str,
    asked: Asked,
) -> Result<Answer, Error> {
    let query = Query {
        text: text.to_owned(),
        grid: asked.grid,
        lookback_ms: 300_000,
        dynamic_lookback: true,
        dedup: asked.dedup,
        max_resolution_ms: asked.max_resolution_ms,
        timeout: Duration::from_secs(60),
        source: Arc::clone(source),
        detail: Detail::default(),
    };
    futures::executor::block_on(engine.query(query))
}
