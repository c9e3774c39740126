//! A run of `drumlin compact` over the bucket of a scene, beside its gateway.

use std::time::Duration;

use anyhow::{Result, bail};

use super::BUDGET_MIB;
use super::scene::Running;
use crate::measure::MemoryWatch;
use crate::process::{ChildProcess, drumlin};

/// It takes a second where nothing is wrong.
const LIMIT: Duration = Duration::from_secs(120);

/// How many MiB it took. Whatever is wrong with a block, it says so and ends by itself.
pub(super) async fn run(running: &Running) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let args = [
        "compact".to_owned(),
        format!("--objstore.config-file={}", running.bucket.display()),
        format!("--data-dir={}", folder.path().display()),
        "--consistency-delay=0s".to_owned(),
        "--http-address=127.0.0.1:0".to_owned(),
        format!("--memory-budget={BUDGET_MIB}MiB"),
    ];
    let mut process = ChildProcess::start(&drumlin()?, &args)?;
    let memory = MemoryWatch::of_pid(process.pid());
    let ended = tokio::time::timeout(LIMIT, async {
        while process.is_running() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    if ended.await.is_err() {
        bail!("compact still runs after {} s", LIMIT.as_secs());
    }
    match process.exit_code() {
        Some(_) => Ok(memory.peak_mib()),
        None => bail!("compact was ended by a signal"),
    }
}
