//! What the tests of the engine share: running queries and comparing values.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use engine::{Answer, Dedup, Engine, EngineSettings, Grid, Query, QueryError, SeriesSource};

/// Golden data: the full set where it lies beside the repository, else the copies in it.
#[allow(dead_code, reason = "not every test binary uses it")]
pub(crate) fn golden(file: &str) -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let candidates = [here.join("../../../shared/data/golden").join(file), here.join("tests/data/golden").join(file)];
    candidates.into_iter().find(|p| p.exists())
}

/// All block folders under a folder of golden data.
#[allow(dead_code, reason = "not every test binary uses it")]
pub(crate) fn blocks(folder: &Path) -> Vec<PathBuf> {
    let mut blocks: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    blocks.retain(|b| b.join("meta.json").exists());
    blocks.sort();
    blocks
}

/// An engine with everything experimental on.
pub(crate) fn engine(delayed_name_removal: bool) -> Engine {
    Engine::new(EngineSettings {
        threads: 2,
        experimental_functions: true,
        extended_range_selectors: true,
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
        dedup,
        timeout: Duration::from_secs(60),
        source: Arc::clone(source),
    };
    futures::executor::block_on(engine.query(query))
}
