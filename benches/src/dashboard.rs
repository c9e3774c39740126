//! The queries of a dashboard: how long planning takes, and how panels fare when all are asked at
//! once.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use engine::testing::{TsdbSource, TsdbSourceSettings};
use engine::{Engine, EngineSettings};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::engine::{Line, block_folders, read_queries};
use crate::measure::{MemoryWatch, clock, seconds_since};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A folder of block folders
    #[arg(long)]
    blocks: PathBuf,
    /// Queries to plan, not to run: lines `start end step query`, times in seconds, step 0 for an
    /// instant query
    #[arg(long)]
    queries: PathBuf,
    /// Panels to ask all at once, in such lines
    #[arg(long)]
    panels: PathBuf,
    /// Threads of the engine
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Queries that are evaluated at once, as with a querier's gate; others wait
    #[arg(long, default_value_t = 20)]
    concurrent: usize,
    /// How often to run each panel alone, and all at once
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

/// Times that a query is planned.
const PLANNINGS: usize = 1000;

/// How many of the cheapest panels are looked at together.
const CHEAPEST: usize = 10;

pub(crate) fn run(args: &Args) -> Result<()> {
    let memory = MemoryWatch::of_self();
    let ours = DashboardEngine::open(args)?;
    for line in read_queries(&args.queries)? {
        let (best_us, median_us) = ours.planning(&line)?;
        let line = json!({
            "bench": "planning", "query": line.text, "best_us": best_us, "median_us": median_us, "runs": PLANNINGS,
        });
        println!("{line}");
    }
    let lines: Vec<Arc<Line>> = read_queries(&args.panels)?.into_iter().map(Arc::new).collect();
    ensure!(lines.len() >= CHEAPEST, "a dashboard has at least {CHEAPEST} panels");
    let mut panels = Vec::new();
    for line in &lines {
        let (_, plan_us) = ours.planning(line)?;
        panels.push(Panel {
            line: Arc::clone(line),
            plan_us,
            alone_ms: ours.alone(line, args.runs)?,
            runs: Vec::new(),
        });
    }
    memory.restart();
    let crowds = (0..args.runs.max(1)).map(|_| ours.crowd(&lines)).collect::<Result<Vec<_>>>()?;
    for crowd in &crowds {
        panels.iter_mut().zip(crowd).for_each(|(panel, ran)| panel.runs.push(*ran));
    }
    print(args, &panels, &crowds, memory.peak_mib());
    Ok(())
}

/// One answer among many.
#[derive(Clone, Copy)]
struct Ran {
    /// The time since all panels were asked.
    ms: f64,
    queue_ms: f64,
}

struct Panel {
    line: Arc<Line>,
    plan_us: f64,
    alone_ms: f64,
    /// The results in each crowd.
    runs: Vec<Ran>,
}

impl Panel {
    fn crowd_ms(&self) -> f64 {
        median(self.runs.iter().map(|ran| ran.ms))
    }

    /// When it would be ready if all panels progressed at the same pace: after its own work and as
    /// much of each other's.
    fn fair_ms(&self, all: &[Panel]) -> f64 {
        all.iter().map(|other| other.alone_ms.min(self.alone_ms)).sum()
    }
}

struct DashboardEngine {
    engine: Arc<Engine>,
    gate: Arc<Semaphore>,
    source: Arc<TsdbSource>,
    /// Looks series up, with as many threads as processors, as in the querier.
    runtime: Runtime,
}

impl DashboardEngine {
    fn open(args: &Args) -> Result<DashboardEngine> {
        let settings =
            EngineSettings { threads: args.threads, max_samples: 0, ..EngineSettings::default() };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let source = Arc::new(TsdbSource::open(
            block_folders(&args.blocks)?,
            TsdbSourceSettings::default(),
        )?);
        let gate = Arc::new(Semaphore::new(args.concurrent.max(1)));
        Ok(DashboardEngine { engine: Arc::new(Engine::new(settings)), gate, source, runtime })
    }

    /// Best and median of text to plan, in microseconds.
    fn planning(&self, line: &Line) -> Result<(f64, f64)> {
        let query = line.query(&self.source);
        let mut times = Vec::with_capacity(PLANNINGS);
        for _ in 0..PLANNINGS {
            let query = query.clone();
            let start = clock().monotonic();
            let plan = self.runtime.block_on(self.engine.explain(query));
            let plan = plan.map_err(|e| anyhow!("{}: {e}", line.text))?;
            times.push(seconds_since(start) * 1e6);
            drop(plan);
        }
        let best = times.iter().copied().fold(f64::INFINITY, f64::min);
        Ok((best, median(times)))
    }

    /// The median of some runs, with nothing else being asked.
    fn alone(&self, line: &Arc<Line>, runs: usize) -> Result<f64> {
        let one = [Arc::clone(line)];
        // what is first touched takes longer
        self.crowd(&one)?;
        let times =
            (0..runs.max(1)).map(|_| Ok(self.crowd(&one)?[0].ms)).collect::<Result<Vec<_>>>()?;
        Ok(median(times))
    }

    /// Asks all lines at once.
    fn crowd(&self, lines: &[Arc<Line>]) -> Result<Vec<Ran>> {
        self.runtime.block_on(async {
            let start = clock().monotonic();
            let mut asked = JoinSet::new();
            for (i, line) in lines.iter().enumerate() {
                let (engine, query) = (Arc::clone(&self.engine), line.query(&self.source));
                let gate = Arc::clone(&self.gate);
                asked.spawn(async move {
                    // it is never closed
                    let _place = gate.acquire().await;
                    let queue_ms = seconds_since(start) * 1e3;
                    let answer = engine.query(query).await;
                    (i, Ran { ms: seconds_since(start) * 1e3, queue_ms }, answer)
                });
            }
            let mut ran = vec![None; lines.len()];
            while let Some(joined) = asked.join_next().await {
                let (i, one, answer) = joined?;
                let stats = answer.map_err(|e| anyhow!("{}: {e}", lines[i].text))?.stats;
                ensure!(
                    stats.decoded_samples > 0,
                    "{}: a panel without data measures nothing",
                    lines[i].text
                );
                ran[i] = Some(one);
            }
            ran.into_iter().collect::<Option<Vec<Ran>>>().context("a panel has no answer")
        })
    }
}

fn print(args: &Args, panels: &[Panel], crowds: &[Vec<Ran>], peak_mib: f64) {
    for panel in panels {
        let crowd_ms = panel.crowd_ms();
        let line = json!({
            "bench": "panel", "query": panel.line.text, "start": panel.line.start, "end": panel.line.end,
            "step": panel.line.step, "plan_us": panel.plan_us, "alone_ms": panel.alone_ms, "crowd_ms": crowd_ms,
            "queue_ms": median(panel.runs.iter().map(|ran| ran.queue_ms)), "fair_ms": panel.fair_ms(panels),
        });
        println!("{line}");
    }
    let finished = |crowd: &[Ran]| {
        let mut finished: Vec<f64> = crowd.iter().map(|ran| ran.ms).collect();
        finished.sort_by(f64::total_cmp);
        finished
    };
    let of_crowds =
        |place: &dyn Fn(&[f64]) -> f64| median(crowds.iter().map(|crowd| place(&finished(crowd))));
    let last = of_crowds(&|finished| finished[finished.len() - 1]);
    let alone: f64 = panels.iter().map(|panel| panel.alone_ms).sum();
    let mut by_cost: Vec<&Panel> = panels.iter().collect();
    by_cost.sort_by(|a, b| a.alone_ms.total_cmp(&b.alone_ms));
    let cheapest = &by_cost[..CHEAPEST];
    let slowest =
        |time: &dyn Fn(&Panel) -> f64| cheapest.iter().map(|panel| time(panel)).fold(0.0, f64::max);
    let line = json!({
        "bench": "dashboard", "panels": panels.len(), "threads": args.threads, "concurrent": args.concurrent,
        "alone_sum_ms": alone, "makespan_ms": last, "first_ms": of_crowds(&|finished| finished[0]),
        "median_ms": of_crowds(&|finished| finished[finished.len() / 2]), "last_ms": last,
        "cheapest": CHEAPEST, "cheapest_alone_ms": slowest(&|panel| panel.alone_ms),
        "cheapest_crowd_median_ms": median(cheapest.iter().map(|panel| panel.crowd_ms())),
        "cheapest_crowd_last_ms": slowest(&Panel::crowd_ms),
        "cheapest_fair_ms": slowest(&|panel| panel.fair_ms(panels)),
        "most_plan_us": panels.iter().map(|panel| panel.plan_us).fold(0.0, f64::max), "peak_anon_mib": peak_mib,
    });
    println!("{line}");
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
