//! Probes as a kubelet and a Prometheus send them, from a process of its own, so that nothing that
//! the attacks do on our side is taken for slowness of the probed.

use std::io::{BufRead, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::measure::clock;

const PATHS: [&str; 3] = ["/-/healthy", "/-/ready", "/metrics"];
const PAUSE: Duration = Duration::from_millis(5);

/// A probe that has taken this long has no answer.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Ports of the loopback interface
    ports: Vec<u16>,
}

/// Probes until standard input ends, and then prints the microseconds that each took, or -1.
pub(crate) fn run(args: &Args) -> Result<()> {
    let (stop, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let threads: Vec<_> = args
        .ports
        .iter()
        .map(|port| {
            let (port, stop, taken) = (*port, Arc::clone(&stop), Arc::clone(&taken));
            std::thread::spawn(move || probe_until(&stop, port, &taken))
        })
        .collect();
    std::io::stdin().read_to_end(&mut Vec::new())?;
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        // what it has seen so far counts
        let _ = thread.join();
    }
    let taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
    taken.iter().try_for_each(|micros| writeln!(std::io::stdout(), "{micros}"))?;
    Ok(())
}

fn probe_until(stop: &AtomicBool, port: u16, taken: &Mutex<Vec<i64>>) {
    let clock = clock();
    for path in PATHS.iter().cycle() {
        let start = clock.monotonic();
        let answered = probe(port, path).is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 "));
        let micros = clock.monotonic().saturating_sub(start).as_micros() as i64;
        let taken_by_it = if answered { micros } else { -1 };
        taken.lock().unwrap_or_else(PoisonError::into_inner).push(taken_by_it);
        if stop.load(Ordering::Relaxed) {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

/// The answer to one probe over a connection of its own.
fn probe(port: u16, path: &str) -> std::io::Result<Vec<u8>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// A process that probes others; it is killed when this is dropped.
pub(crate) struct Prober(Child);

impl Prober {
    pub(crate) fn start(ports: &[u16]) -> Result<Prober> {
        let child = Command::new(std::env::current_exe()?)
            .arg("probe")
            .args(ports.iter().map(u16::to_string))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        Ok(Prober(child.context("start a process that probes")?))
    }

    /// What it saw.
    pub(crate) fn stop(mut self) -> Result<Probes> {
        drop(self.0.stdin.take());
        let output = self.0.stdout.take().context("a prober without output")?;
        let mut probes = Probes::default();
        for line in std::io::BufReader::new(output).lines() {
            match line?.parse::<i64>()? {
                micros @ 0.. => probes.micros.push(micros as u64),
                _ => probes.unanswered += 1,
            }
        }
        probes.micros.sort_unstable();
        Ok(probes)
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        // it may have ended by itself
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How long probes took.
#[derive(Default)]
pub(crate) struct Probes {
    /// Sorted.
    micros: Vec<u64>,
    unanswered: usize,
}

impl Probes {
    pub(crate) fn unanswered(&self) -> usize {
        self.unanswered
    }

    pub(crate) fn extend(&mut self, other: Probes) {
        self.micros.extend(other.micros);
        self.micros.sort_unstable();
        self.unanswered += other.unanswered;
    }

    /// The milliseconds within which so large a part of those with an answer had it.
    pub(crate) fn millis(&self, part: f64) -> f64 {
        let last = self.micros.len().saturating_sub(1);
        let at = (self.micros.len() as f64 * part).ceil() as usize;
        self.micros.get(at.saturating_sub(1).min(last)).map_or(0.0, |micros| *micros as f64 / 1e3)
    }

    pub(crate) fn summary(&self) -> Value {
        json!({
            "count": self.micros.len(), "unanswered": self.unanswered,
            "p50_ms": self.millis(0.5), "p99_ms": self.millis(0.99),
            "p99.9_ms": self.millis(0.999), "most_ms": self.millis(1.0),
        })
    }
}
