//! Clocks and memory of a process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use model::{Clock, SystemClock};

/// The machine's clock.
pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new(|span| Box::pin(tokio::time::sleep(span))))
}

/// Seconds since `start`, a reading of `clock().monotonic()`.
pub(crate) fn seconds_since(start: Duration) -> f64 {
    clock().monotonic().saturating_sub(start).as_secs_f64()
}

/// CPU seconds of this process, all threads, user and system.
pub(crate) fn cpu_seconds() -> f64 {
    // SAFETY: rusage is plain data, and getrusage fills it in.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Restricts this thread, and all threads and processes it starts from now on, to this many of its
/// cores, so that one working thread with helpers beside it does not pass for one core.
pub(crate) fn keep_to_cores(cores: usize) -> Result<()> {
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: a cpu_set_t is plain data; both calls get its size, and the macros stay below
    // CPU_SETSIZE.
    let kept = unsafe {
        let (mut allowed, mut kept) = (std::mem::zeroed::<libc::cpu_set_t>(), std::mem::zeroed());
        let asked = libc::sched_getaffinity(0, size, &mut allowed);
        let usable = (0..libc::CPU_SETSIZE as usize).filter(|cpu| libc::CPU_ISSET(*cpu, &allowed));
        usable.take(cores.max(1)).for_each(|cpu| libc::CPU_SET(cpu, &mut kept));
        asked == 0 && libc::sched_setaffinity(0, size, &kept) == 0
    };
    if kept {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error()).context("keep to some of the cores")
    }
}

/// What another process used so far, over all threads.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Taken {
    pub(crate) user_seconds: f64,
    pub(crate) system_seconds: f64,
    /// Page faults without I/O: memory touched for the first time, or again after it was released.
    pub(crate) minor_faults: u64,
}

impl Taken {
    pub(crate) fn by(pid: u32) -> Option<Taken> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // the name may hold spaces; what follows it does not
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let seconds = |at: usize| Some(number(at)? as f64 / 100.0);
        Some(Taken {
            user_seconds: seconds(11)?,
            system_seconds: seconds(12)?,
            minor_faults: number(7)?,
        })
    }
}

fn number_of(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

fn status_of(pid: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/status")).ok()
}

fn anonymous_bytes(pid: &str) -> Option<u64> {
    number_of(&status_of(pid)?, "RssAnon:").map(|kib| kib << 10)
}

fn threads(pid: &str) -> Option<u64> {
    number_of(&status_of(pid)?, "Threads:")
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Watches the anonymous memory and the threads of a process every few milliseconds and keeps the
/// peaks.
pub(crate) struct MemoryWatch {
    pid: String,
    stop: Arc<AtomicBool>,
    peak: Arc<AtomicU64>,
    peak_threads: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl MemoryWatch {
    pub(crate) fn of_self() -> MemoryWatch {
        MemoryWatch::of("self".into())
    }

    pub(crate) fn of_pid(pid: u32) -> MemoryWatch {
        MemoryWatch::of(pid.to_string())
    }

    fn of(pid: String) -> MemoryWatch {
        let (stop, peak) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let peak_threads = Arc::new(AtomicU64::new(0));
        let (stopped, highest, most) =
            (Arc::clone(&stop), Arc::clone(&peak), Arc::clone(&peak_threads));
        let watched = pid.clone();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                highest.fetch_max(anonymous_bytes(&watched).unwrap_or(0), Ordering::Relaxed);
                most.fetch_max(threads(&watched).unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        MemoryWatch { pid, stop, peak, peak_threads, thread: Some(thread) }
    }

    /// Forgets the peak so far; returns how much it is now, in MiB.
    pub(crate) fn restart(&self) -> f64 {
        let now = anonymous_bytes(&self.pid).unwrap_or(0);
        self.peak.store(now, Ordering::Relaxed);
        mib(now)
    }

    /// The most memory so far, in MiB.
    pub(crate) fn peak_mib(&self) -> f64 {
        mib(self.peak.load(Ordering::Relaxed))
    }

    /// The most threads so far.
    pub(crate) fn peak_threads(&self) -> u64 {
        self.peak_threads.load(Ordering::Relaxed)
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // it cannot panic, and the bench would end anyway
            let _ = thread.join();
        }
    }
}

/// Bytes of all files below a folder.
pub(crate) fn folder_bytes(folder: &std::path::Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
