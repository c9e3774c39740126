//! How fast a bucket answers, as it was lately: what decides whether two ranges are fetched by one
//! request, with what lies between them, or by two.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The weight of a new observation.
const WEIGHT: f64 = 0.1;

/// Shorter answers say nothing about throughput.
const MIN_BYTES: usize = 64 << 10;

/// What a request costs besides its part of the latency, in seconds: a processor's time here and
/// there.
const PER_REQUEST: f64 = 0.1e-3;

/// A gap is worth reading if it is shorter than this, however slow the bucket is.
const MIN_GAP: u64 = 16 << 10;

/// What is known of a bucket.
#[derive(Debug, Default)]
pub(super) struct Pace {
    in_flight: AtomicU32,
    known: Mutex<Known>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Seconds until the first byte; 0 before the first observation.
    latency: f64,
    /// Bytes a second over all requests in flight; 0 before the first observation.
    throughput: f64,
}

/// A request that is under way.
pub(super) struct UnderWay<'a> {
    pace: &'a Pace,
    requests: u32,
}

impl Pace {
    /// Counts a request until what is returned is dropped.
    pub(super) fn begin(&self) -> UnderWay<'_> {
        let requests = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        UnderWay { pace: self, requests }
    }

    /// The longest gap between two ranges that is worth reading, where so many requests are made
    /// at a time: they cost a part of the latency each, and what is read a part of the throughput.
    /// `None` as long as it is not known.
    pub(super) fn gap(&self, at_a_time: usize) -> Option<u64> {
        let Known { latency, throughput } =
            *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = throughput > 0.0;
        let saved = latency / at_a_time.max(1) as f64 + PER_REQUEST;
        is_known.then(|| ((saved * throughput) as u64).max(MIN_GAP))
    }
}

impl UnderWay<'_> {
    /// The first byte came after `latency`, and the rest of `bytes` in `body`.
    pub(super) fn ended(&self, answer: Answered) {
        let Answered { latency, body, bytes } = answer;
        let mut known = self.pace.known.lock().unwrap_or_else(PoisonError::into_inner);
        weigh(&mut known.latency, latency.as_secs_f64());
        if bytes >= MIN_BYTES {
            let rate = bytes as f64 / body.as_secs_f64().max(1e-6);
            weigh(&mut known.throughput, rate * f64::from(self.requests));
        }
    }
}

/// How a request was answered.
pub(super) struct Answered {
    pub(super) latency: Duration,
    pub(super) body: Duration,
    pub(super) bytes: usize,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.pace.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

fn weigh(known: &mut f64, observed: f64) {
    *known = if *known == 0.0 { observed } else { *known + WEIGHT * (observed - *known) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(latency_ms: u64, mb_per_second: f64) -> Pace {
        let pace = Pace::default();
        let bytes = 1_000_000;
        let body = Duration::from_secs_f64(bytes as f64 / (mb_per_second * 1e6));
        for _ in 0..50 {
            let latency = Duration::from_millis(latency_ms);
            pace.begin().ended(Answered { latency, body, bytes });
        }
        pace
    }

    #[test]
    fn a_slow_start_is_worth_a_long_gap() {
        assert_eq!(Pace::default().gap(64), None);
        let near = |pace: Pace, expected: u64| {
            let gap = pace.gap(64).unwrap();
            assert!(gap.abs_diff(expected) < expected / 100, "{gap}");
        };
        // an object store: 20 ms, 500 MB/s
        near(observed(20, 500.0), 156_250 + 50_000);
        near(observed(100, 500.0), 781_250 + 50_000);
        near(observed(0, 50.0), MIN_GAP);
    }

    #[test]
    fn requests_at_the_same_time_share_the_throughput() {
        let pace = Pace::default();
        // a second for 64 requests is worth a 64th of the throughput of both
        let first = pace.begin();
        let second = pace.begin();
        let one_second = || Answered {
            latency: Duration::from_secs(1),
            body: Duration::from_secs(1),
            bytes: 64_000_000,
        };
        second.ended(one_second());
        assert!(pace.gap(64).unwrap().abs_diff(2_012_800) < 2);
        drop((first, second));
        assert_eq!(pace.in_flight.load(Ordering::Relaxed), 0);
    }
}
