//! The shape that measurements are taken on: what a large server's blocks look like, without any disturbance.

use std::sync::Arc;

use model::Labels;

use crate::fleet::{ClusterBuilder, TargetRef};
use crate::signal::{Flow, Part, Signal, Starts, Wave};

const INSTANCES: usize = 100;
const NAMESPACES: usize = 10;
const GAUGE_NAMES: usize = 56;
const HANDLERS: [&str; 4] = ["/", "/cart", "/checkout", "/search"];
const STATUSES: [&str; 5] = ["200", "204", "404", "500", "503"];
const BOUNDS: [(&str, f64); 12] = [
    ("0.005", 0.02),
    ("0.01", 0.08),
    ("0.025", 0.22),
    ("0.05", 0.45),
    ("0.1", 0.68),
    ("0.25", 0.86),
    ("0.5", 0.94),
    ("1", 0.975),
    ("2.5", 0.99),
    ("5", 0.996),
    ("10", 0.999),
    ("+Inf", 1.0),
];

pub(crate) fn build(builder: &mut ClusterBuilder) {
    let starts: Starts = Arc::from([builder.range.start - 86_400_000]);
    for i in 0..INSTANCES {
        let labels = Labels::from_pairs([
            ("instance", format!("10.2.{}.{}:8080", i / 50, i % 50)),
            ("job", "api".to_owned()),
            ("namespace", format!("team-{}", i % NAMESPACES)),
            ("pod", format!("api-{i:03}")),
        ]);
        let life = model::TimeRange::ALL;
        let target = builder.target(labels, life, Vec::new());
        counters(builder, &target, &starts);
        buckets(builder, &target, &starts);
        gauges(builder, &target);
    }
}

fn flow(builder: &mut ClusterBuilder, slowest: f64, fastest: f64) -> Flow {
    Flow { seed: builder.rng.next_u64(), rate: builder.rng.between(slowest, fastest), origin_ms: builder.range.start }
}

fn counters(builder: &mut ClusterBuilder, target: &TargetRef, starts: &Starts) {
    for handler in HANDLERS {
        for status in STATUSES {
            let rate = if status == "200" { (200.0, 2000.0) } else { (5.0, 50.0) };
            let part = Part { flow: flow(builder, rate.0, rate.1), scale: 1.0, quantum: 1.0 };
            let labels = [("handler", handler), ("status", status)];
            builder.series(target, "http_requests_total", &labels, Signal::Counter { part, starts: starts.clone() });
        }
    }
}

fn buckets(builder: &mut ClusterBuilder, target: &TargetRef, starts: &Starts) {
    for handler in &HANDLERS[..2] {
        let flow = flow(builder, 200.0, 1000.0);
        for (le, share) in BOUNDS {
            let part = Part { flow, scale: share, quantum: 1.0 };
            let labels = [("handler", *handler), ("le", le)];
            let signal = Signal::Counter { part, starts: starts.clone() };
            builder.series(target, "http_request_duration_seconds_bucket", &labels, signal);
        }
    }
}

/// Whole numbers, and every seventh a duration in seconds, which needs all the bits of a float.
fn gauges(builder: &mut ClusterBuilder, target: &TargetRef) {
    for i in 0..GAUGE_NAMES {
        let (mean, quantum) = match i % 7 {
            0 => (builder.rng.between(0.01, 2.0), 1e-6),
            _ => (builder.rng.between(10_000.0, 10_000_000.0).round(), 1.0),
        };
        let wave = Wave {
            seed: builder.rng.next_u64(),
            mean,
            swing: mean * 0.3,
            drift: mean * 0.1,
            noise: mean * 0.05,
            min: 0.0,
            max: mean * 2.0,
            quantum,
        };
        builder.series(target, &format!("app_gauge_{i:02}"), &[], Signal::Gauge(wave));
    }
}
