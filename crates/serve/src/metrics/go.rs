//! The `go_*` metrics that the resource panels of dashboards read, each with what comes nearest to
//! it in a process without Go's runtime.

use std::fs;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Metric, MetricFamily, MetricType, Quantile, Summary};
use prometheus::{Counter, Gauge, Registry};
use tokio::runtime::RuntimeMetrics;

use super::process::status_field;
use crate::{Registrar, Result};

/// What the allocator says of itself, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocated {
    /// Given out now.
    pub bytes: u64,
    /// Of the pages that hold something of it.
    pub pages_bytes: u64,
    /// Given out since the start, whether given back or not.
    pub total_bytes: u64,
}

/// Registers them. `allocated` is asked at each scrape; `tasks` are those of the main runtime.
///
/// # Errors
/// `Internal` when one of them is registered already.
pub fn go_metrics(
    registry: &Registry,
    tasks: RuntimeMetrics,
    allocated: fn() -> Allocated,
) -> Result<()> {
    let new = Registrar::new(registry);
    let metrics = GoMetrics::new(tasks, allocated);
    new.add("go_*", metrics)?;
    new.add("go_gc_duration_seconds", NoCollector::new()).map(|_| ())
}

#[derive(Clone, Debug)]
struct GoMetrics {
    tasks: RuntimeMetrics,
    allocated: fn() -> Allocated,
    goroutines: Gauge,
    alloc: Gauge,
    heap_alloc: Gauge,
    heap_inuse: Gauge,
    stack_inuse: Gauge,
    alloc_total: Counter,
}

impl GoMetrics {
    fn new(tasks: RuntimeMetrics, allocated: fn() -> Allocated) -> prometheus::Result<GoMetrics> {
        const GIVEN_OUT: &str = "Bytes that the allocator has given out.";
        Ok(GoMetrics {
            tasks,
            allocated,
            goroutines: Gauge::new(
                "go_goroutines",
                "Tasks of the async runtime that have not ended; there are no goroutines.",
            )?,
            alloc: Gauge::new("go_memstats_alloc_bytes", GIVEN_OUT)?,
            heap_alloc: Gauge::new("go_memstats_heap_alloc_bytes", GIVEN_OUT)?,
            heap_inuse: Gauge::new(
                "go_memstats_heap_inuse_bytes",
                "Bytes of the allocator's pages that hold something.",
            )?,
            stack_inuse: Gauge::new(
                "go_memstats_stack_inuse_bytes",
                "Bytes of the main thread's stack; those of other threads are not told apart.",
            )?,
            alloc_total: Counter::new(
                "go_memstats_alloc_bytes_total",
                "Bytes that the allocator has given out since the start, freed or not.",
            )?,
        })
    }

    fn all(&self) -> [&dyn Collector; 6] {
        [
            &self.goroutines,
            &self.alloc,
            &self.heap_alloc,
            &self.heap_inuse,
            &self.stack_inuse,
            &self.alloc_total,
        ]
    }
}

impl Collector for GoMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.all().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Allocated { bytes, pages_bytes, total_bytes } = (self.allocated)();
        self.goroutines.set(self.tasks.num_alive_tasks() as f64);
        self.alloc.set(bytes as f64);
        self.heap_alloc.set(bytes as f64);
        self.heap_inuse.set(pages_bytes as f64);
        self.alloc_total.inc_by((total_bytes as f64 - self.alloc_total.get()).max(0.0));
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            self.stack_inuse.set(status_field(&status, "VmStk:") * 1024.0);
        }
        self.all().into_iter().flat_map(Collector::collect).collect()
    }
}

/// `go_gc_duration_seconds`, of no collection.
#[derive(Clone, Debug)]
struct NoCollector(Gauge);

impl NoCollector {
    fn new() -> prometheus::Result<NoCollector> {
        let help = "Always 0: there is no garbage collector, and nothing pauses for it.";
        Gauge::new("go_gc_duration_seconds", help).map(NoCollector)
    }
}

impl Collector for NoCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let quantiles = [0.0, 0.25, 0.5, 0.75, 1.0].map(|quantile| {
            let mut zero = Quantile::default();
            zero.set_quantile(quantile);
            zero.set_value(0.0);
            zero
        });
        let mut summary = Summary::default();
        summary.set_quantile(quantiles.to_vec());
        let mut metric = Metric::default();
        metric.set_summary(summary);
        let mut families = self.0.collect();
        for family in &mut families {
            family.set_field_type(MetricType::SUMMARY);
            family.set_metric(vec![metric.clone()]);
        }
        families
    }
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    #[tokio::test]
    async fn the_seven_that_dashboards_read_are_there() {
        let registry = Registry::new();
        let tasks = tokio::runtime::Handle::current().metrics();
        let allocated = || Allocated { bytes: 3, pages_bytes: 4, total_bytes: 5 };
        go_metrics(&registry, tasks, allocated).unwrap();
        let waiting = tokio::spawn(std::future::pending::<()>());
        let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in [
            "go_memstats_alloc_bytes 3",
            "go_memstats_heap_alloc_bytes 3",
            "go_memstats_heap_inuse_bytes 4",
            "go_memstats_alloc_bytes_total 5",
            "go_goroutines 1",
            "# TYPE go_gc_duration_seconds summary",
            "go_gc_duration_seconds{quantile=\"0.75\"} 0",
            "go_gc_duration_seconds_count 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        let stack = text.lines().find_map(|l| l.strip_prefix("go_memstats_stack_inuse_bytes "));
        assert!(stack.unwrap().parse::<f64>().unwrap() > 4096.0, "{stack:?}");
        waiting.abort();
    }
}
