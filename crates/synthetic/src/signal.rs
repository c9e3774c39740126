//! What a series would read at an instant: closed functions of a seed and a time.
//!
//! Curves are straight between knots five minutes apart; a knot is a daily wave plus noise that
//! depends on the seed and the knot's number. Between knots a second, finer noise moves from one
//! 15-second slot to the next.

use std::sync::Arc;

use model::histogram::{BucketSpan, Histogram};

use crate::rng;

const KNOT_MS: i64 = 300_000;
const SLOT_MS: i64 = 15_000;
const DAY_S: f64 = 86_400.0;

/// How strongly a flow's speed moves, as shares of its mean speed. Together below 1, so that it
/// never runs backwards.
const FLOW_WAVE: f64 = 0.5;
const FLOW_KNOT_NOISE: f64 = 0.2;
const FLOW_SLOT_NOISE: f64 = 0.25;

/// Something that only ever grows: requests served, seconds used. Its zero is at `origin_ms` and
/// means nothing; a counter reads the growth since its process started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    pub(crate) seed: u64,
    /// Mean growth per second.
    pub(crate) rate: f64,
    pub(crate) origin_ms: i64,
}

impl Flow {
    fn knot(&self, j: i64) -> f64 {
        let seconds = (j * KNOT_MS) as f64 / 1000.0;
        let phase = rng::hash_unit(self.seed, -1) * std::f64::consts::TAU;
        let turn = std::f64::consts::TAU / DAY_S;
        let wave = FLOW_WAVE / turn * (seconds * turn + phase).sin();
        let noise = FLOW_KNOT_NOISE * (KNOT_MS as f64 / 1000.0) * rng::hash_unit(self.seed, j);
        self.rate * (seconds + wave + noise)
    }

    /// Reads the flow at `t_ms`.
    pub(crate) fn at(&self, t_ms: i64) -> f64 {
        FlowCursor::new(*self).at(t_ms)
    }
}

/// Reads a flow at rising instants; keeps the knots around the last one.
struct FlowCursor {
    flow: Flow,
    slot_seed: u64,
    knot: i64,
    base: f64,
    slope: f64,
}

impl FlowCursor {
    fn new(flow: Flow) -> FlowCursor {
        FlowCursor {
            flow,
            slot_seed: flow.seed ^ 0x0073_6c6f_7473_0000,
            knot: i64::MIN,
            base: 0.0,
            slope: 0.0,
        }
    }

    #[inline]
    fn at(&mut self, t_ms: i64) -> f64 {
        let t = t_ms - self.flow.origin_ms;
        let knot = t.div_euclid(KNOT_MS);
        if knot != self.knot {
            self.knot = knot;
            self.base = self.flow.knot(knot);
            self.slope = (self.flow.knot(knot + 1) - self.base) / KNOT_MS as f64;
        }
        let slot = t.div_euclid(SLOT_MS);
        let (a, b) =
            (rng::hash_unit(self.slot_seed, slot), rng::hash_unit(self.slot_seed, slot + 1));
        let along = t.rem_euclid(SLOT_MS) as f64 / SLOT_MS as f64;
        let noise =
            FLOW_SLOT_NOISE * self.flow.rate * (SLOT_MS as f64 / 1000.0) * (a + (b - a) * along);
        self.base + self.slope * t.rem_euclid(KNOT_MS) as f64 + noise
    }
}

/// A share of a flow as a counter shows it: growth since the process started × `scale`, rounded
/// down to whole `quantum`s.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlowShare {
    pub(crate) flow: Flow,
    pub(crate) scale: f64,
    pub(crate) quantum: f64,
}

impl FlowShare {
    #[inline]
    fn reading(&self, growth: f64) -> f64 {
        (growth * self.scale / self.quantum).floor() * self.quantum
    }
}

/// When the process behind a counter started, sorted; the first start lies before anything that is
/// read.
pub(crate) type Starts = Arc<[i64]>;

/// Calls `read(i, growth)` with the growth of `flow` since the last start at or before `ts[i]`.
#[inline]
fn grow(flow: Flow, starts: &[i64], ts: &[i64], mut read: impl FnMut(usize, f64)) {
    let mut cursor = FlowCursor::new(flow);
    let (mut next_start, mut zero) = (i64::MIN, 0.0);
    for (i, &t) in ts.iter().enumerate() {
        if t >= next_start {
            let after = starts.partition_point(|s| *s <= t);
            next_start = starts.get(after).copied().unwrap_or(i64::MAX);
            zero = flow.at(starts[after.saturating_sub(1)]);
        }
        read(i, cursor.at(t) - zero);
    }
}

/// A value that moves up and down within bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wave {
    pub(crate) seed: u64,
    pub(crate) mean: f64,
    /// The swing of the daily wave, of the knots' noise and of the slots' noise.
    pub(crate) swing: f64,
    pub(crate) drift: f64,
    pub(crate) noise: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) quantum: f64,
}

impl Wave {
    fn knot(&self, j: i64) -> f64 {
        let phase = rng::hash_unit(self.seed, -1);
        let days = (j * KNOT_MS) as f64 / 1000.0 / DAY_S;
        let wave = ((days + phase) * std::f64::consts::TAU).sin();
        self.mean + self.swing * wave + self.drift * (2.0 * rng::hash_unit(self.seed, j) - 1.0)
    }

    fn fill(&self, ts: &[i64], out: &mut Vec<f64>) {
        let slot_seed = self.seed ^ 0x0073_6c6f_7473_0000;
        let (mut knot, mut base, mut slope) = (i64::MIN, 0.0, 0.0);
        out.extend(ts.iter().map(|&t| {
            let j = t.div_euclid(KNOT_MS);
            if j != knot {
                knot = j;
                base = self.knot(j);
                slope = (self.knot(j + 1) - base) / KNOT_MS as f64;
            }
            let noise = self.noise * (2.0 * rng::hash_unit(slot_seed, t.div_euclid(SLOT_MS)) - 1.0);
            let value = base + slope * t.rem_euclid(KNOT_MS) as f64 + noise;
            ((value / self.quantum).round() * self.quantum).clamp(self.min, self.max)
        }));
    }
}

/// A native histogram with exponential buckets of one schema: the fast and the slow part of a flow
/// of observations, spread over fixed buckets.
#[derive(Clone, Debug)]
pub(crate) struct Native {
    pub(crate) schema: i32,
    /// The index of the first bucket; bucket `i` ends at `2^(i / 2^schema)`.
    pub(crate) first_bucket: i32,
    /// Per bucket, what share of the fast and of the slow part falls into it.
    pub(crate) shares: Vec<(f64, f64)>,
    pub(crate) fast: Flow,
    pub(crate) slow: Flow,
}

impl Native {
    fn histogram(&self, fast: f64, slow: f64) -> Histogram {
        let part = |flow, scale| FlowShare { flow, scale, quantum: 1.0 };
        let (mut count, mut sum, mut before) = (0, 0.0, 0);
        let mut deltas = Vec::with_capacity(self.shares.len());
        for (i, (of_fast, of_slow)) in self.shares.iter().enumerate() {
            let in_bucket =
                part(self.fast, *of_fast).reading(fast) + part(self.slow, *of_slow).reading(slow);
            let middle =
                (f64::from(self.first_bucket + i as i32) - 0.5) / f64::from(self.schema).exp2();
            sum += in_bucket * middle.exp2();
            let in_bucket = in_bucket as i64;
            count += in_bucket as u64;
            deltas.push(in_bucket - before);
            before = in_bucket;
        }
        Histogram {
            schema: self.schema,
            zero_threshold: f64::from_bits(0x37f0_0000_0000_0000), // 2^-128, what client libraries start with
            count,
            sum,
            positive_spans: vec![BucketSpan {
                offset: self.first_bucket,
                length: deltas.len() as u32,
            }],
            positive_buckets: deltas,
            ..Histogram::default()
        }
    }

    pub(crate) fn fill(&self, starts: &[i64], ts: &[i64], out: &mut Vec<Histogram>) {
        let mut growths = vec![(0.0, 0.0); ts.len()];
        grow(self.fast, starts, ts, |i, growth| growths[i].0 = growth);
        grow(self.slow, starts, ts, |i, growth| growths[i].1 = growth);
        out.extend(growths.into_iter().map(|(fast, slow)| self.histogram(fast, slow)));
    }
}

/// The function behind a series.
#[derive(Clone, Debug)]
pub(crate) enum Signal {
    Constant(f64),
    /// 1 when the scrape went well, 0 when the target did not answer.
    Up,
    /// How often the process started again.
    Restarts(Starts),
    /// The time of the last start, in seconds.
    StartTime(Starts),
    Counter {
        part: FlowShare,
        starts: Starts,
    },
    /// The sum of two counters: a fast and a slow part of one histogram bucket.
    Mixture {
        parts: [FlowShare; 2],
        starts: Starts,
    },
    Gauge(Wave),
    Native {
        native: Box<Native>,
        starts: Starts,
    },
}

impl Signal {
    /// Appends the readings at `ts`, which rise. `Up` reads 1; `Native` reads nothing here.
    pub(crate) fn fill(&self, ts: &[i64], out: &mut Vec<f64>) {
        let from = out.len();
        match self {
            Signal::Constant(value) => out.resize(from + ts.len(), *value),
            Signal::Up => out.resize(from + ts.len(), 1.0),
            Signal::Restarts(starts) => {
                out.extend(
                    ts.iter().map(|t| starts.partition_point(|s| s <= t).saturating_sub(1) as f64),
                );
            }
            Signal::StartTime(starts) => out.extend(ts.iter().map(|t| {
                let at = starts.partition_point(|s| s <= t).saturating_sub(1);
                starts[at] as f64 / 1000.0
            })),
            Signal::Counter { part, starts } => {
                out.reserve(ts.len());
                grow(part.flow, starts, ts, |_, growth| out.push(part.reading(growth)));
            }
            Signal::Mixture { parts: [fast, slow], starts } => {
                out.reserve(ts.len());
                grow(fast.flow, starts, ts, |_, growth| out.push(fast.reading(growth)));
                grow(slow.flow, starts, ts, |i, growth| out[from + i] += slow.reading(growth));
            }
            Signal::Gauge(wave) => wave.fill(ts, out),
            Signal::Native { .. } => {}
        }
    }

    /// When the process behind a counter that restarts from zero started; empty for everything
    /// else.
    pub(crate) fn starts(&self) -> &[i64] {
        match self {
            Signal::Counter { starts, .. }
            | Signal::Mixture { starts, .. }
            | Signal::Native { starts, .. } => starts,
            Signal::Constant(_)
            | Signal::Up
            | Signal::Restarts(_)
            | Signal::StartTime(_)
            | Signal::Gauge(_) => &[],
        }
    }

    /// How much a counter truly grew in `[start_ms, end_ms]`, resets or not, before rounding to
    /// quanta; `None` for what is not a counter. For a native histogram, its count of observations.
    pub(crate) fn growth(&self, start_ms: i64, end_ms: i64) -> Option<f64> {
        let grown = |part: &FlowShare| (part.flow.at(end_ms) - part.flow.at(start_ms)) * part.scale;
        match self {
            Signal::Counter { part, .. } => Some(grown(part)),
            Signal::Mixture { parts, .. } => Some(parts.iter().map(grown).sum()),
            Signal::Restarts(starts) => {
                let until = |t| starts.partition_point(|s| *s <= t) as f64;
                Some(until(end_ms) - until(start_ms))
            }
            Signal::Native { native, .. } => {
                let shares =
                    native.shares.iter().fold((0.0, 0.0), |sum, s| (sum.0 + s.0, sum.1 + s.1));
                let fast = FlowShare { flow: native.fast, scale: shares.0, quantum: 1.0 };
                let slow = FlowShare { flow: native.slow, scale: shares.1, quantum: 1.0 };
                Some(grown(&fast) + grown(&slow))
            }
            Signal::Constant(_) | Signal::Up | Signal::StartTime(_) | Signal::Gauge(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow() -> Flow {
        Flow { seed: 5, rate: 3.0, origin_ms: 1_000_000 }
    }

    #[test]
    fn flows_never_run_backwards_and_keep_their_mean() {
        let ts: Vec<i64> = (0..20_000).map(|i| 900_000 + i * 7_001).collect();
        let mut cursor = FlowCursor::new(flow());
        let readings: Vec<f64> = ts.iter().map(|t| cursor.at(*t)).collect();
        assert!(readings.windows(2).all(|w| w[0] < w[1]));
        let days = 30 * 86_400_000;
        let mean = (flow().at(days) - flow().at(0)) / (days as f64 / 1000.0);
        assert!((mean - 3.0).abs() < 0.01, "mean rate {mean}");
    }

    #[test]
    fn counters_restart_from_zero_and_their_growth_is_the_flow() {
        let starts: Starts = Arc::from([0, 500_000]);
        let part = FlowShare { flow: flow(), scale: 2.0, quantum: 1.0 };
        let signal = Signal::Counter { part, starts };
        let ts: Vec<i64> = (1..100).map(|i| i * 10_000).collect();
        let mut values = Vec::new();
        signal.fill(&ts, &mut values);
        let drops: Vec<i64> = ts
            .windows(2)
            .zip(values.windows(2))
            .filter(|(_, v)| v[1] < v[0])
            .map(|(t, _)| t[1])
            .collect();
        assert_eq!(drops, [500_000]);
        assert_eq!(values[49], 0.0);
        let gained: f64 =
            values.windows(2).map(|v| if v[1] < v[0] { v[1] } else { v[1] - v[0] }).sum();
        let truth = signal.growth(10_000, 990_000).unwrap();
        assert!((gained - truth).abs() < 3.0 * 2.0 * 10.0 * 2.0, "gained {gained}, truly {truth}");
    }

    #[test]
    fn gauges_stay_in_bounds_on_their_quanta() {
        let wave = Wave {
            seed: 1,
            mean: 50.0,
            swing: 40.0,
            drift: 20.0,
            noise: 5.0,
            min: 0.0,
            max: 96.0,
            quantum: 0.5,
        };
        let ts: Vec<i64> = (0..5000).map(|i| i * 30_000).collect();
        let mut values = Vec::new();
        Signal::Gauge(wave).fill(&ts, &mut values);
        assert!(values.iter().all(|v| (0.0..=96.0).contains(v) && (v * 2.0).fract() == 0.0));
        assert!(values.iter().any(|v| *v > 80.0) && values.iter().any(|v| *v < 20.0));
    }
}
