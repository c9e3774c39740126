//! `process_*` from `/proc/self`, under the names every Prometheus client library uses.

use std::fs;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge};

/// Clock ticks per second of `/proc`; the kernel's ABI fixes it on every architecture we run on.
const TICKS: f64 = 100.0;

#[derive(Clone, Debug)]
pub(super) struct ProcessMetrics {
    cpu_seconds: Counter,
    open_fds: Gauge,
    max_fds: Gauge,
    virtual_bytes: Gauge,
    resident_bytes: Gauge,
    threads: Gauge,
    start_seconds: Gauge,
}

impl ProcessMetrics {
    pub(super) fn new() -> prometheus::Result<ProcessMetrics> {
        let process = ProcessMetrics {
            cpu_seconds: Counter::new(
                "process_cpu_seconds_total",
                "User and system CPU time spent, in seconds.",
            )?,
            open_fds: Gauge::new("process_open_fds", "Open file descriptors.")?,
            max_fds: Gauge::new("process_max_fds", "Most file descriptors that may be open.")?,
            virtual_bytes: Gauge::new("process_virtual_memory_bytes", "Virtual memory, in bytes.")?,
            resident_bytes: Gauge::new(
                "process_resident_memory_bytes",
                "Resident memory, in bytes.",
            )?,
            threads: Gauge::new("process_threads", "Operating system threads.")?,
            start_seconds: Gauge::new(
                "process_start_time_seconds",
                "Start of the process, in Unix seconds.",
            )?,
        };
        process.start_seconds.set(start_time().unwrap_or_default());
        Ok(process)
    }

    fn refresh(&self) {
        if let Some(cpu) = cpu_seconds() {
            self.cpu_seconds.inc_by((cpu - self.cpu_seconds.get()).max(0.0));
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            self.open_fds.set(entries.count() as f64);
        }
        if let Ok(limits) = fs::read_to_string("/proc/self/limits") {
            let soft = limits
                .lines()
                .find(|l| l.starts_with("Max open files"))
                .and_then(|l| l.split_whitespace().nth(3));
            self.max_fds.set(soft.and_then(|n| n.parse().ok()).unwrap_or_default());
        }
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            self.virtual_bytes.set(status_field(&status, "VmSize:") * 1024.0);
            self.resident_bytes.set(status_field(&status, "VmRSS:") * 1024.0);
            self.threads.set(status_field(&status, "Threads:"));
        }
    }

    fn gauges(&self) -> [&Gauge; 6] {
        [
            &self.open_fds,
            &self.max_fds,
            &self.virtual_bytes,
            &self.resident_bytes,
            &self.threads,
            &self.start_seconds,
        ]
    }
}

impl Collector for ProcessMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges().into_iter().flat_map(Collector::desc).chain(self.cpu_seconds.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.refresh();
        self.gauges()
            .into_iter()
            .flat_map(Collector::collect)
            .chain(self.cpu_seconds.collect())
            .collect()
    }
}

pub(super) fn status_field(status: &str, name: &str) -> f64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next())
        .and_then(|n| n.parse().ok())
        .unwrap_or_default()
}

/// The fields of `/proc/self/stat` after the command's name, which may hold spaces and parentheses
/// itself.
fn stat_field(index_from_state: usize) -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(index_from_state)?.parse().ok()
}

fn cpu_seconds() -> Option<f64> {
    Some((stat_field(11)? + stat_field(12)?) / TICKS)
}

fn start_time() -> Option<f64> {
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 =
        boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + stat_field(19)? / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_process_has_memory_threads_and_a_start() {
        let process = ProcessMetrics::new().unwrap();
        let families = process.collect();
        let value = |name: &str| {
            let family = families.iter().find(|f| f.name() == name).unwrap();
            family.get_metric()[0].get_gauge().get_value()
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_threads") >= 1.0);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_start_time_seconds") > 1.6e9);
    }
}
