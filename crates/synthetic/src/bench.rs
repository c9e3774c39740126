//! The shape for measurements, which resembles a large server's blocks. Pods come and go; otherwise
//! it is steady.

use std::sync::Arc;

use model::{Labels, TimeRange};

use crate::fleet::{ClusterBuilder, TargetRef};
use crate::signal::{Flow, FlowShare, Native, Signal, Starts, Wave};

const INSTANCES: usize = 100;
const NAMESPACES: usize = 10;
const GAUGE_NAMES: usize = 48;
/// The number of pods at any time.
const PODS: usize = 200;
const HOUR_MS: i64 = 3_600_000;
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
    let starts: Starts = Arc::from([builder.range.start - 24 * HOUR_MS]);
    for i in 0..INSTANCES {
        let labels = Labels::from_pairs([
            ("instance", format!("10.2.{}.{}:8080", i / 50, i % 50)),
            ("job", "api".to_owned()),
            ("namespace", format!("team-{}", i % NAMESPACES)),
            ("pod", format!("api-{i:03}")),
        ]);
        let target = builder.target(labels, TimeRange::ALL, Vec::new());
        counters(builder, &target, &starts);
        buckets(builder, &target, &starts);
        native(builder, &target, &starts);
        gauges(builder, &target);
        node(builder, i);
    }
    pods(builder);
}

fn flow(builder: &mut ClusterBuilder, slowest: f64, fastest: f64) -> Flow {
    Flow {
        seed: builder.rng.next_u64(),
        rate: builder.rng.between(slowest, fastest),
        origin_ms: builder.range.start,
    }
}

fn counters(builder: &mut ClusterBuilder, target: &TargetRef, starts: &Starts) {
    for handler in HANDLERS {
        for status in STATUSES {
            let rate = if status == "200" { (200.0, 2000.0) } else { (5.0, 50.0) };
            let part = FlowShare { flow: flow(builder, rate.0, rate.1), scale: 1.0, quantum: 1.0 };
            let labels = [("handler", handler), ("status", status)];
            builder.series(
                target,
                "http_requests_total",
                &labels,
                Signal::Counter { part, starts: starts.clone() },
            );
        }
    }
}

fn buckets(builder: &mut ClusterBuilder, target: &TargetRef, starts: &Starts) {
    for handler in &HANDLERS[..2] {
        let flow = flow(builder, 200.0, 1000.0);
        for (le, share) in BOUNDS {
            let part = FlowShare { flow, scale: share, quantum: 1.0 };
            let labels = [("handler", *handler), ("le", le)];
            let signal = Signal::Counter { part, starts: starts.clone() };
            builder.series(target, "http_request_duration_seconds_bucket", &labels, signal);
        }
    }
}

/// 32 buckets of a factor of 1.09 each.
fn native(builder: &mut ClusterBuilder, target: &TargetRef, starts: &Starts) {
    const BUCKETS: i32 = 32;
    let bells = |middle: f64| {
        let bell = move |i: i32| (-((f64::from(i) - middle) / 6.0).powi(2)).exp();
        let whole: f64 = (0..BUCKETS).map(bell).sum();
        move |i: i32| bell(i) / whole
    };
    let (of_fast, of_slow) = (bells(12.0), bells(22.0));
    let native = Native {
        schema: 3,
        first_bucket: -40,
        shares: (0..BUCKETS).map(|i| (of_fast(i), of_slow(i))).collect(),
        fast: flow(builder, 200.0, 1000.0),
        slow: flow(builder, 20.0, 100.0),
    };
    let signal = Signal::Native { native: Box::new(native), starts: starts.clone() };
    builder.series(target, "rpc_duration_seconds", &[], signal);
}

fn node(builder: &mut ClusterBuilder, i: usize) {
    let labels = [
        ("instance", format!("10.1.0.{i}:9100")),
        ("job", "node".to_owned()),
        ("node", format!("node-{i:03}")),
    ];
    let target = builder.target(Labels::from_pairs(labels), TimeRange::ALL, Vec::new());
    let seed = builder.rng.next_u64();
    let mean = builder.rng.between(1.0, 12.0);
    let load = Wave {
        seed,
        mean,
        swing: mean * 0.4,
        drift: mean * 0.2,
        noise: mean * 0.1,
        min: 0.0,
        max: 64.0,
        quantum: 0.01,
    };
    builder.series(&target, "node_load1", &[], Signal::Gauge(load));
}

/// Pods of two containers that live between four and twelve hours; another takes the place of each
/// that ends.
fn pods(builder: &mut ClusterBuilder) {
    const MIB: f64 = (1u64 << 20) as f64;
    let mut target = |instance: &str, job: &str| {
        let labels = Labels::from_pairs([("instance", instance), ("job", job)]);
        builder.target(labels, TimeRange::ALL, Vec::new())
    };
    let (state, kubelet) =
        (target("10.3.0.1:8080", "kube-state-metrics"), target("10.3.0.2:10250", "kubelet"));
    for place in 0..PODS {
        let namespace = format!("team-{}", place % NAMESPACES);
        let mut start = builder.range.start - builder.rng.between_ms(0, 4 * HOUR_MS);
        while start < builder.range.end {
            let life =
                TimeRange::new(start, start + builder.rng.between_ms(4 * HOUR_MS, 12 * HOUR_MS));
            start = life.end;
            let pod = format!("worker-{place:03}-{:05x}", builder.rng.next_u64() & 0xf_ffff);
            let node = format!("node-{:03}", builder.rng.next_u64() % INSTANCES as u64);
            let of_pod = [("namespace", namespace.as_str()), ("pod", &pod)];
            let info = [&of_pod[..], &[("node", &node)]].concat();
            builder.push(&state, "kube_pod_info", &info, life, Signal::Constant(1.0));
            for container in ["main", "proxy"] {
                let seed = builder.rng.next_u64();
                let mean = builder.rng.between(32.0, 2048.0).round() * MIB;
                let (swing, drift, noise) = (mean * 0.2, mean * 0.1, mean * 0.02);
                let wave = Wave {
                    seed,
                    mean,
                    swing,
                    drift,
                    noise,
                    min: 0.0,
                    max: mean * 2.0,
                    quantum: 4096.0,
                };
                let labels = [&of_pod[..], &[("container", container)]].concat();
                builder.push(
                    &kubelet,
                    "container_memory_working_set_bytes",
                    &labels,
                    life,
                    Signal::Gauge(wave),
                );
            }
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
