//! Metrics, made and registered in one go.

use prometheus::core::Collector;
use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, Opts, Registry,
};

use crate::{Error, Kind, Result};

/// Makes metrics that are in a registry from the start. Names are given in full, so that a name
/// seen on a dashboard can be found in the code.
///
/// Every method fails with `Internal` when the name is not a valid metric name or is already taken.
#[derive(Clone, Copy, Debug)]
pub struct Registrar<'a> {
    registry: &'a Registry,
}

impl<'a> Registrar<'a> {
    pub fn new(registry: &'a Registry) -> Registrar<'a> {
        Registrar { registry }
    }

    pub fn counter(&self, name: &str, help: &str) -> Result<Counter> {
        self.add(name, Counter::new(name, help))
    }

    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<CounterVec> {
        self.add(name, CounterVec::new(Opts::new(name, help), labels))
    }

    pub fn gauge(&self, name: &str, help: &str) -> Result<Gauge> {
        self.add(name, Gauge::new(name, help))
    }

    pub fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec> {
        self.add(name, GaugeVec::new(Opts::new(name, help), labels))
    }

    /// `buckets` are the upper bounds, ascending, without infinity.
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram> {
        self.add(
            name,
            Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())),
        )
    }

    /// A histogram per value of the labels.
    pub fn histograms(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
        labels: &[&str],
    ) -> Result<HistogramVec> {
        self.add(
            name,
            HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels),
        )
    }

    /// A metric of another kind. `name` is only for the error.
    pub fn add<C: Collector + Clone + 'static>(
        &self,
        name: &str,
        metric: prometheus::Result<C>,
    ) -> Result<C> {
        let failed = |e: prometheus::Error| {
            Error::caused(Kind::Internal, format!("register metric {name}"), e)
        };
        let metric = metric.map_err(failed)?;
        self.registry.register(Box::new(metric.clone())).map_err(failed)?;
        Ok(metric)
    }
}

/// Bounds of buckets, in seconds, for what takes up to two minutes, as most histograms of Thanos
/// have them.
pub const SECONDS: [f64; 14] =
    [0.001, 0.01, 0.1, 0.3, 0.6, 1.0, 3.0, 6.0, 9.0, 20.0, 30.0, 60.0, 90.0, 120.0];

/// The same for waiting at a gate, which may take longer.
pub const GATE_SECONDS: [f64; 17] = [
    0.01, 0.1, 0.3, 0.6, 1.0, 2.0, 3.0, 6.0, 9.0, 20.0, 30.0, 60.0, 90.0, 120.0, 240.0, 360.0,
    720.0,
];

/// `count` bounds of buckets: `first`, and each next one `factor` times as large.
pub fn exponential(first: f64, factor: f64, count: usize) -> Vec<f64> {
    std::iter::successors(Some(first), |bound| Some(bound * factor)).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_in_the_registry() {
        let registry = Registry::new();
        let new = Registrar::new(&registry);
        new.counter("a_total", "A.").unwrap().inc();
        new.gauges("b", "B.", &["of"]).unwrap().with_label_values(&["x"]).set(2.0);
        new.histogram("c", "C.", &exponential(1.0, 2.0, 3)).unwrap().observe(3.0);
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in
            ["a_total 1\n", "b{of=\"x\"} 2\n", "c_bucket{le=\"2\"} 0\nc_bucket{le=\"4\"} 1\n"]
        {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn errors_name_the_metric() {
        let registry = Registry::new();
        let new = Registrar::new(&registry);
        new.gauge("a", "A.").unwrap();
        let twice = new.gauge("a", "A.").unwrap_err();
        assert_eq!(twice.kind(), crate::Kind::Internal);
        let text = model::error::in_one_line(&twice).to_string();
        assert!(text.starts_with("register metric a: "), "{text}");
    }
}
