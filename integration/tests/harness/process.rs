//! Processes that end with the test that started them.

use std::ffi::OsStr;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::{http, now, poll};

/// How long a process may take until it serves; generous, as all tests share few cores.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(60);

/// A free port of the loopback interface.
///
/// Taken from below the range out of which the kernel serves port 0, so that no connection of
/// another test uses it by the time the process binds it.
pub(crate) fn free_port() -> u16 {
    const FIRST: u16 = 15_000;
    const COUNT: u16 = 15_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = (std::process::id() % 500) as u16 * 30;
    for _ in 0..COUNT {
        let port = FIRST + (own + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}

/// A running process; killed when dropped. Its log is shown when the test fails.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program`; its output goes to a file in `folder`.
    pub(crate) fn start<A: AsRef<OsStr>>(
        name: &str,
        program: &Path,
        folder: &Path,
        args: impl IntoIterator<Item = A>,
    ) -> Process {
        let mut command = Command::new(program);
        command.args(args);
        Process::start_command(name, command, folder)
    }

    pub(crate) fn start_command(name: &str, mut command: Command, folder: &Path) -> Process {
        let log = folder.join(format!("{name}.log"));
        // appended to, so that a restarted process does not hide what the one before said
        let file = File::options().create(true).append(true).open(&log).expect("a log file");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|e| panic!("start {name} ({:?}): {e}", command.get_program()));
        Process { name: name.to_owned(), child, log }
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the process can be looked after")
    }

    pub(crate) fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The end of the log, for messages.
    fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn running(&mut self) -> Result<()> {
        match self.child.try_wait().context("look after the process")? {
            Some(status) => bail!("{} ended ({status}):\n{}", self.name, self.tail()),
            None => Ok(()),
        }
    }

    /// Waits until `url` answers 200.
    #[track_caller]
    pub(crate) fn wait_ready(&mut self, url: &str) {
        let deadline = now() + START_LIMIT;
        let name = self.name.clone();
        poll(&format!("{name} becomes ready"), START_LIMIT + Duration::from_secs(1), || {
            if let Err(ended) = self.running() {
                panic!("{ended:#}");
            }
            let answer = http::get(url)?;
            ensure!(
                answer.code == 200,
                "{url} answers {} {}; log:\n{}",
                answer.code,
                answer.text(),
                self.tail()
            );
            ensure!(now() <= deadline, "too late");
            Ok(())
        });
    }

    /// Waits until the process has ended by itself.
    #[track_caller]
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        let name = self.name.clone();
        let child = &mut self.child;
        let log = self.log.clone();
        poll(&format!("{name} ends"), limit, || {
            let status = child.try_wait().context("look after the process")?;
            status.with_context(|| format!("still running; log in {}", log.display()))
        })
    }

    /// Ends it as the kernel does when out of memory: at once, with no chance to tidy up.
    pub(crate) fn kill9(mut self) {
        self.child.kill().expect("the process can be killed");
        self.child.wait().expect("the process can be waited for");
    }

    /// Asks it to shut down.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        // SAFETY: a plain system call; the process is our child and not yet waited for, so the id
        // is its own
        let sent = unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
        assert_eq!(sent, 0, "{} can be told to end", self.name);
        self.wait(Duration::from_secs(30))
    }

    /// Pauses or continues it, whatever it is doing.
    pub(crate) fn pause(&self, paused: bool) {
        let signal = if paused { libc::SIGSTOP } else { libc::SIGCONT };
        // SAFETY: as in `terminate`
        let sent = unsafe { libc::kill(self.child.id() as libc::pid_t, signal) };
        assert_eq!(sent, 0, "{} can be signalled", self.name);
        if paused && cfg!(target_os = "linux") {
            // the other threads run until the one that received the signal is scheduled
            poll("every thread stands still", Duration::from_secs(30), || {
                ensure!(self.stands_still()?, "{} still runs", self.name);
                Ok(())
            });
        }
    }

    fn stands_still(&self) -> Result<bool> {
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let stat = std::fs::read_to_string(task?.path().join("stat"))?;
            // behind the name, which may hold anything
            let state = stat.rsplit(") ").next().unwrap_or_default().chars().next();
            if state != Some('T') {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}:\n{}", self.name, self.tail());
        }
    }
}

/// Runs a program to its end and returns what it printed.
#[track_caller]
pub(crate) fn run<A: AsRef<OsStr>>(program: &Path, args: impl IntoIterator<Item = A>) -> Finished {
    let mut command = Command::new(program);
    let output = command.args(args).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|e| panic!("run {}: {e}", program.display()));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Finished { status: output.status, output: text(&output.stdout), errors: text(&output.stderr) }
}

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) output: String,
    pub(crate) errors: String,
}

impl Finished {
    #[track_caller]
    pub(crate) fn expect_success(self, what: &str) -> Finished {
        assert!(self.status.success(), "{what}: {}\n{}\n{}", self.status, self.output, self.errors);
        self
    }
}
