//! Whole processes: ours and peers, started on free ports of the loopback interface.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// A process that is killed when this is dropped.
pub(crate) struct ChildProcess {
    child: Child,
}

impl ChildProcess {
    pub(crate) fn start(program: &PathBuf, args: &[String]) -> Result<ChildProcess> {
        let mut command = Command::new(program);
        command.args(args).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().with_context(|| format!("start {}", program.display()))?;
        Ok(ChildProcess { child })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `url` answers with success.
    pub(crate) async fn wait_ready(&mut self, client: &reqwest::Client, url: &str) -> Result<()> {
        for _ in 0..600 {
            if let Some(status) = self.child.try_wait()? {
                bail!("the process behind {url} ended with {status}");
            }
            if client.get(url).send().await.is_ok_and(|r| r.status().is_success()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("{url} is not ready after 30 s")
    }

    /// Waits for the end.
    pub(crate) fn wait(&mut self) -> Result<()> {
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { bail!("the process ended with {status}") }
    }

    /// Of a process that has ended by itself, without a signal.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        self.child.try_wait().ok()??.code()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        // it may have ended by itself
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lets this process, and those that it starts, open as many files as it is allowed to.
pub(crate) fn use_all_descriptors() {
    // SAFETY: an rlimit is plain data, and both calls get the address of one. Where they fail, the
    // limit stays as it was.
    unsafe {
        let mut limit = std::mem::zeroed::<libc::rlimit>();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// A port that is free now.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The `drumlin` that was built beside this bench.
pub(crate) fn drumlin() -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("drumlin");
    anyhow::ensure!(
        path.exists(),
        "{} is missing: run `cargo build --release -p drumlin` first",
        path.display()
    );
    Ok(path)
}
