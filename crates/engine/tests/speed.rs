//! How fast queries run, by hand: `cargo test --release -p engine --test speed -- --ignored --nocapture`.

mod common;

use std::sync::Arc;

use engine::source::memory::MemorySource;
use engine::{Dedup, Grid, SeriesSource};
use model::{Labels, Sample, SampleValue};

const SERIES: usize = 2000;
const SAMPLES: i64 = 24 * 240;

fn counters() -> Arc<dyn SeriesSource> {
    let series = (0..SERIES).map(|i| {
        let labels = Labels::from_pairs([
            ("__name__", "http_requests_total".to_owned()),
            ("namespace", format!("ns-{}", i % 20)),
            ("pod", format!("pod-{i}")),
        ]);
        let mut total = 0.0;
        let samples = (0..SAMPLES).map(|k| {
            total += ((k * 7 + i as i64 * 13) % 23) as f64;
            let jitter = (k * 31 + i as i64) % 5;
            Sample { t: k * 15_000 + jitter, value: SampleValue::Float(total) }
        });
        (labels, samples.collect())
    });
    Arc::new(MemorySource::new(series).unwrap())
}

#[test]
#[ignore = "a measurement, not a check"]
fn samples_per_second() {
    let source = counters();
    let grid = Grid { start_ms: 300_000, end_ms: 86_340_000, step_ms: 60_000 };
    for threads in [1, 2] {
        let engine = common::engine(threads, false);
        for text in [
            "sum by (namespace) (rate(http_requests_total[5m]))",
            "rate(http_requests_total[5m])",
            "sum by (namespace) (rate(http_requests_total[1h]))",
            "max_over_time(http_requests_total[1h])",
            "avg_over_time(http_requests_total[1h])",
            "http_requests_total",
            "topk(5, rate(http_requests_total[5m]))",
        ] {
            let runs = (0..3).map(|_| common::run(&engine, &source, text, (grid, Dedup::Off)).unwrap().stats);
            let best = runs.min_by(|a, b| a.eval_seconds.total_cmp(&b.eval_seconds)).unwrap();
            let rate = best.decoded_samples as f64 / best.eval_seconds / 1e6;
            println!("{threads} threads, {text}: {:.0} ms, {rate:.1} M samples/s", best.eval_seconds * 1e3);
        }
    }
}
