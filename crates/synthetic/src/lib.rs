//! A seeded fleet of Prometheus servers whose every answer is known.
//!
//! A [`Fleet`] is clusters × replicas × targets × series over a span of time. What a series would
//! read at any instant is a closed function of the seed and the instant, so the replicas of a
//! cluster watch the same truth with other scrape offsets, jitter and gaps, any stretch can be
//! generated on its own, and [`Truth`] needs no stored data.
//!
//! Two shapes: [`FleetShape::Kubernetes`] looks like a kube-prometheus-stack and gives every query
//! of [`kubernetes_queries`] data; [`FleetShape::Bench`] is 10,000 steady series for measurements.
//!
//! What this is not: it writes no block and knows no file format; `tsdb` does. Units: milliseconds
//! since the epoch for times, per second for rates. The same settings give the same bytes on every
//! machine of one architecture.

mod bench;
mod fleet;
mod kubernetes;
mod rng;
mod schedule;
mod server_scrapes;
mod signal;
mod truth;

pub use fleet::{
    Cluster, Error, ErrorKind, Fleet, FleetShape, Kind, Replica, SeriesSpec, Settings,
};
pub use rng::Rng;
pub use server_scrapes::{GeneratedSamples, ServerScrapes};
pub use truth::{MetricCounts, Truth};

#[cfg(test)]
mod tests;

/// The length of a raw block in milliseconds.
pub const BLOCK_MS: i64 = 2 * 3_600_000;

/// What operators of a kube-prometheus-stack ask every day: panels, recording rules, alerts,
/// objectives. The Kubernetes shape gives each of them data.
pub fn kubernetes_queries() -> impl Iterator<Item = &'static str> {
    include_str!("kubernetes_queries.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}
