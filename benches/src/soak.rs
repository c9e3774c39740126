//! Everything that harms, done to running processes for as long as is wished: the lists of
//! `testkit::hostile`, queries that would take minutes, crowds, callers that leave.
//!
//! Under every row no process may end, memory stays within the budget and what cannot be charged,
//! an ordinary question is never answered wrong and is answered afterwards, and a process of its
//! own gets an answer to every probe.

mod attack;
mod compactor;
mod prober;
mod rows;
mod scene;

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::measure::{clock, seconds_since};
use attack::Tally;
pub(crate) use prober::{Args as ProbeArgs, run as probe};
use prober::{Prober, Probes};
use rows::Row;
use scene::Running;

/// The `--memory-budget` of every process.
const BUDGET_MIB: u64 = 256;

/// What a process may take besides: code, stacks, buffers of connections, what the allocator has
/// not given back yet.
const BESIDES_MIB: f64 = 128.0;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long all rows take together
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Only rows with this in their names
    #[arg(long, default_value = "")]
    only: String,
    /// The milliseconds within which 99.9 % of all probes must be answered
    #[arg(long, default_value_t = 50.0)]
    probes_within_ms: f64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    crate::process::use_all_descriptors();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(soak(args))
}

async fn soak(args: &Args) -> Result<()> {
    let scenes = rows::scenes(&args.only);
    let mut left: usize = scenes.iter().map(|(_, rows)| rows.len()).sum();
    ensure!(left > 0, "no row has {:?} in its name", args.only);
    let end = clock().monotonic() + Duration::from_secs(args.seconds);
    let (mut failed, mut all) = (Vec::new(), Probes::default());
    for (scene, rows) in scenes {
        let mut running = scene.start().await?;
        for row in rows {
            let time = end.saturating_sub(clock().monotonic()) / left as u32;
            left -= 1;
            let outcome = one(&mut running, &row, time).await?;
            println!("{}", outcome.line(&row));
            failed.extend(outcome.failures().into_iter().map(|f| format!("{}: {f}", row.name)));
            all.extend(outcome.probes);
        }
    }
    let whole = all.summary();
    println!("{}", json!({"bench": "soak", "row": "all", "probes": whole, "failed": failed}));
    ensure!(failed.is_empty(), "{} rows failed: {}", failed.len(), failed.join("; "));
    ensure!(
        all.millis(0.999) <= args.probes_within_ms,
        "99.9 % of probes took up to {:.1} ms, more than {} ms",
        all.millis(0.999),
        args.probes_within_ms
    );
    Ok(())
}

/// What a row led to.
struct Outcome {
    seconds: f64,
    tally: Tally,
    probes: Probes,
    /// By process; MiB.
    peaks: Vec<(&'static str, f64)>,
    ended: Vec<&'static str>,
    /// What was wrong with the ordinary question's answer afterwards.
    after: Option<String>,
}

/// Runs a row for about as long as it is given.
async fn one(running: &mut Running, row: &Row, time: Duration) -> Result<Outcome> {
    for process in &running.processes {
        process.memory.restart();
    }
    let prober = Prober::start(&running.ports())?;
    let start = clock().monotonic();
    let mut tally = attack::run(running, &row.attack, start + time).await;
    let after = running.answered_at_last().await.err().map(|e| format!("{e:#}"));
    let probes = prober.stop()?;
    let mut peaks: Vec<_> =
        running.processes.iter().map(|p| (p.name, p.memory.peak_mib())).collect();
    peaks.append(&mut tally.peaks);
    let ended = running.processes.iter_mut().filter_map(|p| {
        let ended = !p.process.is_running();
        ended.then_some(p.name)
    });
    Ok(Outcome {
        seconds: seconds_since(start),
        probes,
        peaks,
        ended: ended.collect(),
        after,
        tally,
    })
}

impl Outcome {
    fn line(&self, row: &Row) -> Value {
        let peaks: serde_json::Map<String, Value> =
            self.peaks.iter().map(|(name, mib)| ((*name).to_owned(), json!(mib.round()))).collect();
        json!({
            "bench": "soak", "row": row.name, "seconds": self.seconds, "peak_mib": peaks,
            "answers": self.tally.answers, "honest": self.tally.honest,
            "probes": self.probes.summary(), "failures": self.failures(),
        })
    }

    fn failures(&self) -> Vec<String> {
        let limit = BUDGET_MIB as f64 + BESIDES_MIB;
        let ended = self.ended.iter().map(|name| format!("{name} ended"));
        let large = self.peaks.iter().filter(|(_, mib)| *mib > limit);
        let large = large.map(|(name, mib)| format!("{name} took {mib:.0} MiB"));
        let unanswered = self.probes.unanswered();
        let silent = (unanswered > 0).then(|| format!("{unanswered} probes had no answer"));
        ended
            .chain(large)
            .chain(silent)
            .chain(self.after.clone())
            .chain(self.tally.wrong.iter().cloned())
            .collect()
    }
}
