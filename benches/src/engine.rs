//! Queries over open blocks, timed from text to result by our engine and then by Go's, one query
//! after the other.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use engine::testing::{TsdbSource, TsdbSourceSettings};
use engine::{Answer, Detail, Engine, EngineSettings, Query};
use promql::value::{Grid, PointValue, Value};
use serde_json::json;

use crate::measure::{MemoryWatch, clock, cpu_seconds, keep_to_cores, seconds_since};
use crate::peers::{self, Peer};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A folder of block folders
    #[arg(long)]
    blocks: PathBuf,
    /// Lines `start end step query`, times in seconds; step 0 for an instant query
    #[arg(long)]
    queries: PathBuf,
    /// Threads of our engine, GOMAXPROCS of the others, and cores that all processes of the run are
    /// kept to
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// The number of runs of which the best counts, or as many as take half a second where those
    /// are more
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Only this line of the queries, from 1, so that the process shows what memory one query takes
    #[arg(long)]
    only: Option<usize>,
    /// Also time Prometheus' engine and promql-engine: `build`, or the folder that has them
    #[arg(long)]
    peer: Option<String>,
}

/// The most runs, however short a query is.
const MOST_RUNS: usize = 1000;

/// A line of a file of queries.
pub(crate) struct Line {
    pub(crate) start: f64,
    pub(crate) end: f64,
    pub(crate) step: f64,
    pub(crate) text: String,
}

pub(crate) fn read_queries(path: &Path) -> Result<Vec<Line>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            parse(line).with_context(|| format!("line {line:?}: expected `start end step query`"))
        })
        .collect()
}

fn parse(line: &str) -> Option<Line> {
    let mut parts = line.splitn(4, char::is_whitespace);
    let mut number = || parts.next()?.parse::<f64>().ok();
    let (start, end, step) = (number()?, number()?, number()?);
    Some(Line { start, end, step, text: parts.next()?.trim().to_owned() })
}

impl Line {
    /// The query of the line, over a source.
    pub(crate) fn query(&self, source: &Arc<TsdbSource>) -> Query {
        let ms = |seconds: f64| (seconds * 1e3) as i64;
        Query {
            text: self.text.clone(),
            grid: Grid { start_ms: ms(self.start), end_ms: ms(self.end), step_ms: ms(self.step) },
            lookback_ms: 300_000,
            dynamic_lookback: true,
            dedup: None,
            max_resolution_ms: 0,
            timeout: Duration::from_secs(600),
            source: source.clone(),
            detail: Detail::default(),
        }
    }
}

/// The block folders below a folder.
pub(crate) fn block_folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    let folders = entries.flatten().map(|e| e.path()).filter(|p| p.join("meta.json").exists());
    let mut folders: Vec<PathBuf> = folders.collect();
    folders.sort();
    ensure!(!folders.is_empty(), "no block folders in {}", folder.display());
    Ok(folders)
}

/// One run of one query: what it took and what came out.
#[derive(Clone, Copy)]
pub(crate) struct MeasuredRun {
    pub(crate) ms: f64,
    /// CPU time of all threads of the process, which a busy machine disturbs least.
    pub(crate) cpu_ms: f64,
    pub(crate) points: usize,
    /// The sum of the finite points; for histograms, of their sums.
    pub(crate) sum: f64,
}

impl MeasuredRun {
    /// Whether the other run found the same, up to the order in which points were added up.
    fn agrees(&self, other: &MeasuredRun) -> bool {
        self.points == other.points
            && (self.sum - other.sum).abs() <= 1e-8 * self.sum.abs().max(other.sum.abs())
    }
}

/// The shortest time of each kind over this many runs, or as many as take half a second where those
/// are more, and how many there were. All runs of one engine come in a row: if they alternated,
/// short ones would find a cache full of another's data.
fn best_of(
    least: usize,
    mut run: impl FnMut() -> Result<MeasuredRun>,
) -> Result<(MeasuredRun, usize)> {
    let start = clock().monotonic();
    let (mut best, mut runs) = (run()?, 1);
    while runs < least || (runs < MOST_RUNS && seconds_since(start) < 0.5) {
        let run = run()?;
        best = MeasuredRun { ms: run.ms.min(best.ms), cpu_ms: run.cpu_ms.min(best.cpu_ms), ..run };
        runs += 1;
    }
    Ok((best, runs))
}

struct EngineUnderTest {
    engine: Engine,
    source: Arc<TsdbSource>,
    runtime: tokio::runtime::Runtime,
}

impl EngineUnderTest {
    fn open(args: &Args) -> Result<EngineUnderTest> {
        let source = TsdbSource::open(block_folders(&args.blocks)?, TsdbSourceSettings::default())?;
        let settings =
            EngineSettings { threads: args.threads, max_samples: 0, ..EngineSettings::default() };
        // blocks on disk need neither connections nor timers, which would make waking this thread
        // more expensive
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        Ok(EngineUnderTest { engine: Engine::new(settings), source: Arc::new(source), runtime })
    }

    /// The run, and how many samples were decoded for it.
    fn run(&self, line: &Line) -> Result<(MeasuredRun, u64)> {
        let (cpu, start) = (cpu_seconds(), clock().monotonic());
        let answer = self.runtime.block_on(self.engine.query(line.query(&self.source)));
        let (ms, cpu_ms) = (seconds_since(start) * 1e3, (cpu_seconds() - cpu) * 1e3);
        let answer = answer.map_err(|e| anyhow!("{}: {e}", line.text))?;
        let (points, sum) = total(&answer);
        Ok((MeasuredRun { ms, cpu_ms, points, sum }, answer.stats.decoded_samples))
    }
}

fn total(answer: &Answer) -> (usize, f64) {
    let series = match &answer.value {
        Value::Scalar { value, .. } => return (1, *value),
        Value::String { .. } => return (1, 0.0),
        Value::Vector(series) | Value::Matrix(series) => series,
    };
    let values = series.iter().flat_map(|s| s.points.iter()).map(|point| match point.value {
        PointValue::Float(value) => value,
        PointValue::Histogram(histogram) => histogram.sum,
    });
    let add =
        |(points, sum), value: f64| (points + 1, if value.is_finite() { sum + value } else { sum });
    values.fold((0, 0.0), add)
}

pub(crate) fn run(args: &Args) -> Result<()> {
    keep_to_cores(args.threads)?;
    let memory = MemoryWatch::of_self();
    let ours = EngineUnderTest::open(args)?;
    let mut peers = match &args.peer {
        Some(place) => peers::start(place, &args.blocks, args.threads)?,
        None => Vec::new(),
    };
    let mut table = Table::default();
    for (number, line) in (1..).zip(read_queries(&args.queries)?) {
        if args.only.is_some_and(|only| only != number) {
            continue;
        }
        let before_mib = memory.restart();
        let (_, mut decoded) = ours.run(&line)?;
        // later runs find memory that the allocator keeps of the one before for a second
        let peak_of_first_mib = memory.peak_mib();
        let (best, runs) = best_of(args.runs, || {
            let (run, samples) = ours.run(&line)?;
            decoded = samples;
            Ok(run)
        })?;
        let peak_mib = memory.peak_mib();
        let best_of_peers: Vec<MeasuredRun> = peers
            .iter_mut()
            .map(|peer| Ok(best_of(args.runs, || peer.run(&line))?.0))
            .collect::<Result<_>>()?;
        let mut json = json!({
            "engine": "drumlin", "query": line.text, "start": line.start, "end": line.end, "step": line.step,
            "ms": best.ms, "cpu_ms": best.cpu_ms, "runs": runs, "out": best.points, "samples": decoded, "threads": args.threads,
            "before_anon_mib": before_mib, "peak_anon_mib": peak_mib, "peak_of_first_anon_mib": peak_of_first_mib,
        });
        for (peer, run) in peers.iter().zip(&best_of_peers) {
            json[format!("{}_ms", peer.name)] = run.ms.into();
            json[format!("{}_cpu_ms", peer.name)] = run.cpu_ms.into();
            json[format!("{}_agrees", peer.name)] = best.agrees(run).into();
        }
        println!("{json}");
        table.add(&line, best, best_of_peers);
    }
    if !peers.is_empty() {
        table.print(&peers);
    }
    Ok(())
}

/// What is printed at the end: a row per query, and by how much we are ahead of the faster peer.
#[derive(Default)]
struct Table {
    rows: Vec<(String, MeasuredRun, Vec<MeasuredRun>)>,
}

impl Table {
    fn add(&mut self, line: &Line, ours: MeasuredRun, peers: Vec<MeasuredRun>) {
        let instant = if line.step == 0.0 { ", instant" } else { "" };
        self.rows.push((format!("`{}`{instant}", line.text), ours, peers));
    }

    fn print(&self, peers: &[Peer]) {
        let names: Vec<&str> = peers.iter().map(|peer| peer.name).collect();
        println!(
            "\n| query | here | {} | ratio to the faster | the same of CPU time |",
            names.join(" | ")
        );
        println!("|---|---|{}---|---|", "---|".repeat(names.len()));
        let (mut wall, mut cpu) = (Vec::new(), Vec::new());
        for (query, ours, peers) in &self.rows {
            // a figure for a different result would be meaningless
            let cell = |run: &MeasuredRun| {
                format!("{}{}", millis(run.ms), if ours.agrees(run) { "" } else { ", differs" })
            };
            let cells: Vec<String> = peers.iter().map(cell).collect();
            let least = |time: fn(&MeasuredRun) -> f64| {
                peers.iter().map(time).fold(f64::INFINITY, f64::min) / time(ours)
            };
            let (by_wall, by_cpu) = (least(|run| run.ms), least(|run| run.cpu_ms));
            wall.push(by_wall);
            cpu.push(by_cpu);
            println!(
                "| {query} | {} | {} | {by_wall:.1}× | {by_cpu:.1}× |",
                millis(ours.ms),
                cells.join(" | ")
            );
        }
        let (wall, cpu) = (geometric_mean(&wall), geometric_mean(&cpu));
        println!("| geometric mean |{} {wall:.1}× | {cpu:.1}× |", " |".repeat(names.len() + 1));
    }
}

fn geometric_mean(ratios: &[f64]) -> f64 {
    (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp()
}

fn millis(ms: f64) -> String {
    match ms {
        ms if ms < 1.0 => format!("{ms:.3} ms"),
        ms if ms < 100.0 => format!("{ms:.1} ms"),
        ms => format!("{ms:.0} ms"),
    }
}
