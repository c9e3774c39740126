//! Queries over open blocks, timed from text to result.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use engine::source::tsdb::{TsdbSource, TsdbSourceSettings};
use engine::{Dedup, Engine, EngineSettings, Grid, Query, SeriesSource, Value};
use serde_json::json;

use crate::measure::{MemoryWatch, clock, seconds_since};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A folder of block folders
    #[arg(long)]
    blocks: PathBuf,
    /// Lines `start end step query`, times in seconds; step 0 for an instant query
    #[arg(long)]
    queries: PathBuf,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// The best of so many runs counts
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

/// A line of a file of queries.
pub(crate) struct Line {
    pub(crate) start: f64,
    pub(crate) end: f64,
    pub(crate) step: f64,
    pub(crate) text: String,
}

pub(crate) fn read_queries(path: &Path) -> Result<Vec<Line>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| parse(line).with_context(|| format!("line {line:?}: expected `start end step query`"))).collect()
}

fn parse(line: &str) -> Option<Line> {
    let mut parts = line.splitn(4, char::is_whitespace);
    let mut number = || parts.next()?.parse::<f64>().ok();
    let (start, end, step) = (number()?, number()?, number()?);
    Some(Line { start, end, step, text: parts.next()?.trim().to_owned() })
}

/// The block folders below a folder.
pub(crate) fn block_folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    let folders = entries.flatten().map(|e| e.path()).filter(|p| p.join("meta.json").exists());
    let mut folders: Vec<PathBuf> = folders.collect();
    folders.sort();
    anyhow::ensure!(!folders.is_empty(), "no block folders in {}", folder.display());
    Ok(folders)
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let memory = MemoryWatch::of_self();
    let source = TsdbSource::open(block_folders(&args.blocks)?, TsdbSourceSettings::default())?;
    let source: Arc<dyn SeriesSource> = Arc::new(source);
    let settings = EngineSettings { threads: args.threads, max_samples: 0, ..EngineSettings::default() };
    let engine = Engine::new(settings);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for line in read_queries(&args.queries)? {
        let mut best: Option<(f64, engine::Answer)> = None;
        for _ in 0..args.runs.max(1) {
            let start = clock().monotonic();
            let answer = runtime.block_on(engine.query(query(&line, &source)));
            let answer = answer.map_err(|e| anyhow!("{}: {e}", line.text))?;
            let ms = seconds_since(start) * 1e3;
            if best.as_ref().is_none_or(|(least, _)| ms < *least) {
                best = Some((ms, answer));
            }
        }
        let (ms, answer) = best.context("no run")?;
        let line = json!({
            "engine": "drumlin", "query": line.text, "start": line.start, "end": line.end, "step": line.step,
            "ms": ms, "out": points(&answer.value), "samples": answer.stats.decoded_samples,
            "threads": args.threads, "peak_anon_mib": memory.peak_mib(),
        });
        println!("{line}");
    }
    Ok(())
}

fn query(line: &Line, source: &Arc<dyn SeriesSource>) -> Query {
    let ms = |seconds: f64| (seconds * 1e3) as i64;
    Query {
        text: line.text.clone(),
        grid: Grid { start_ms: ms(line.start), end_ms: ms(line.end), step_ms: ms(line.step) },
        lookback_ms: 300_000,
        dedup: Dedup::Off,
        timeout: Duration::from_secs(600),
        source: Arc::clone(source),
    }
}

fn points(value: &Value) -> usize {
    match value {
        Value::Scalar { .. } | Value::String { .. } => 1,
        Value::Vector(series) | Value::Matrix(series) => series.iter().map(|s| s.points.len()).sum(),
    }
}
