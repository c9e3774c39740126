//! The same queries one after another and all at once, through `drumlin store` and `drumlin query`,
//! each process in a control group of its own with a limit on memory.

use std::path::PathBuf;

use anyhow::{Context, Result};
use futures::future::join_all;
use serde_json::json;

use crate::engine::{Line, read_queries};
use crate::measure::{MemoryWatch, clock, seconds_since};
use crate::pair::{Pair, PairSettings, folder_config};
use crate::process::{ChildProcess, drumlin};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A bucket of type FILESYSTEM
    #[arg(long)]
    bucket: PathBuf,
    /// Lines `start end step query`, times in seconds
    #[arg(long)]
    queries: PathBuf,
    /// How often each query is asked
    #[arg(long, default_value_t = 20)]
    copies: usize,
    /// MiB that each process may take; more ends it. Needs to be root
    #[arg(long)]
    limit_mib: Option<u64>,
    /// The `--memory-budget` of both, in MiB
    #[arg(long, default_value_t = 768)]
    budget_mib: u64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measure(args))
}

async fn measure(args: &Args) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let objstore = folder.path().join("objstore.yml");
    folder_config(&args.bucket.canonicalize()?, &objstore)?;
    let settings = PairSettings {
        gateway: drumlin()?,
        objstore,
        data: folder.path().join("data"),
        max_source_resolution: "0s".into(),
        args: vec![format!("--memory-budget={}MiB", args.budget_mib)],
    };
    for line in read_queries(&args.queries)? {
        crowd(args, &settings, &line).await?;
    }
    Ok(())
}

/// New processes for each query, so that each has the peaks of its own.
async fn crowd(args: &Args, settings: &PairSettings, line: &Line) -> Result<()> {
    let mut pair = Pair::start(settings).await?;
    let _groups = match args.limit_mib {
        Some(mib) => [&pair.gateway, &pair.querier]
            .map(|process| ControlGroup::around(process, mib << 20).map(Some)),
        None => [Ok(None), Ok(None)],
    };
    let watches = [&pair.gateway, &pair.querier].map(|p| MemoryWatch::of_pid(p.pid()));
    pair.wait_for_answer(line).await?;
    let start = clock().monotonic();
    for _ in 0..args.copies {
        pair.ask(line).await?;
    }
    let alone = seconds_since(start);
    let start = clock().monotonic();
    let answers = join_all((0..args.copies).map(|_| pair.ask(line))).await;
    let together = seconds_since(start);
    let refused: Vec<String> =
        answers.iter().filter_map(|answer| Some(format!("{:#}", answer.as_ref().err()?))).collect();
    let line = json!({
        "bench": "crowd", "query": line.text, "copies": args.copies,
        "budget_mib": args.budget_mib, "limit_mib": args.limit_mib,
        "one_after_another_s": alone, "all_at_once_s": together, "ratio": together / alone,
        "answered": answers.iter().filter(|answer| answer.is_ok()).count(),
        "refused": refused.first(),
        "gateway_peak_mib": watches[0].peak_mib(), "querier_peak_mib": watches[1].peak_mib(),
        "gateway_lives": pair.gateway.is_running(), "querier_lives": pair.querier.is_running(),
    });
    println!("{line}");
    // a group can be removed once its process is gone
    drop(pair);
    Ok(())
}

/// A control group of the kernel with a limit on memory; removed on drop.
struct ControlGroup(PathBuf);

impl ControlGroup {
    fn around(process: &ChildProcess, bytes: u64) -> Result<ControlGroup> {
        let root = PathBuf::from("/sys/fs/cgroup");
        let (parent, limit) = match root.join("memory").exists() {
            true => (root.join("memory"), "memory.limit_in_bytes"),
            false => (root, "memory.max"),
        };
        let group = ControlGroup(parent.join(format!("drumlin-bench-{}", process.pid())));
        std::fs::create_dir(&group.0)
            .with_context(|| format!("create the control group {}", group.0.display()))?;
        std::fs::write(group.0.join(limit), bytes.to_string())?;
        std::fs::write(group.0.join("cgroup.procs"), process.pid().to_string())?;
        Ok(group)
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // one that stays has no effect
        let _ = std::fs::remove_dir(&self.0);
    }
}
