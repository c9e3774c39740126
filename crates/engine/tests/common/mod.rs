//! What the tests of the engine share: running queries and comparing values.

use std::sync::Arc;
use std::time::Duration;

use engine::{Answer, Dedup, Detail, Engine, EngineSettings, Grid, Query, QueryError, SeriesSource};

/// An engine with everything experimental on.
pub(crate) fn engine(threads: usize, delayed_name_removal: bool) -> Engine {
    Engine::new(EngineSettings {
        threads,
        experimental_functions: true,
        extended_range_selectors: true,
        extended_rate_functions: true,
        fill_modifiers: true,
        delayed_name_removal,
        ..EngineSettings::default()
    })
}

/// Runs one query with a lookback of five minutes.
pub(crate) fn run(
    engine: &Engine,
    source: &Arc<dyn SeriesSource>,
    text: &str,
    (grid, dedup): (Grid, Dedup),
) -> Result<Answer, QueryError> {
    let query = Query {
        text: text.to_owned(),
        grid,
        lookback_ms: 300_000,
        dynamic_lookback: true,
        dedup,
        timeout: Duration::from_secs(60),
        source: Arc::clone(source),
        detail: Detail::default(),
    };
    futures::executor::block_on(engine.query(query))
}
