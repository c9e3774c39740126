use std::sync::Arc;

use model::histogram::ResetHint;
use model::{FloatHistogram, Sample, SampleValue};
use proptest::prelude::*;

use super::*;
use crate::column::Floats;

fn floats(samples: &[(i64, f64)]) -> Floats {
    let (ts, values) = samples.iter().copied().unzip();
    Floats { ts, values }
}

#[test]
fn one_replica_and_identical_ones_pass_untouched() {
    let a = floats(&[(1, 1.0), (2, model::STALE_NAN), (3, 3.0)]);
    let out = penalty(vec![a.clone(), a.clone()]);
    assert!(out.same_floats(&a) && model::is_stale_nan(out.values[1]));
    assert!(penalty(vec![Floats::default(), a.clone()]).same_floats(&a));
    assert!(chain(vec![a.clone(), a.clone()]).same_floats(&a));
    assert!(penalty::<Floats>(vec![]).is_empty());
}

#[test]
fn the_other_replica_fills_a_gap_after_its_penalty() {
    let a = floats(&[
        (10_000, 1.0),
        (20_000, 1.0),
        (30_000, 1.0),
        (80_000, 1.0),
        (90_000, 1.0),
        (100_000, 1.0),
    ]);
    let b = floats(&[
        (12_000, 2.0),
        (22_000, 2.0),
        (32_000, 2.0),
        (42_000, 2.0),
        (52_000, 2.0),
        (62_000, 2.0),
    ]);
    let out = penalty(vec![a, b]);
    // After 30 s the other one is tried from 50 s on; the 22 s gap then bars the first one until 96
    // s.
    let expected =
        [(10_000, 1.0), (20_000, 1.0), (30_000, 1.0), (52_000, 2.0), (62_000, 2.0), (100_000, 1.0)];
    assert_eq!(out, floats(&expected));
}

#[test]
fn equal_times_go_to_the_first_replica() {
    let a = floats(&[(0, 1.0), (10_000, 1.0)]);
    let b = floats(&[(0, 2.0), (10_000, 2.0), (20_000, 2.0), (30_000, 2.0), (40_000, 2.0)]);
    // B was sought past 20 s + 1 ms while A was alive.
    assert_eq!(penalty(vec![a, b]), floats(&[(0, 1.0), (10_000, 1.0), (40_000, 2.0)]));
}

#[test]
fn histograms_lose_their_hint_where_the_replica_changes() {
    let h = |t, hint| {
        let value = SampleValue::Histogram(Arc::new(FloatHistogram {
            hint,
            count: t as f64,
            ..Default::default()
        }));
        Sample { t, value }
    };
    let a = vec![
        h(10_000, ResetHint::Unknown),
        h(20_000, ResetHint::NotReset),
        h(30_000, ResetHint::NotReset),
    ];
    let b = vec![
        h(11_000, ResetHint::Reset),
        h(62_000, ResetHint::NotReset),
        h(72_000, ResetHint::Gauge),
    ];
    let hints = |samples: Vec<Sample>| -> Vec<(i64, ResetHint)> {
        let hint = |s: &Sample| match &s.value {
            SampleValue::Histogram(h) => (s.t, h.hint),
            SampleValue::Float(_) => panic!("a float at {}", s.t),
        };
        samples.iter().map(hint).collect()
    };
    use ResetHint::*;
    let merged = penalty(vec![a.clone(), b.clone()]);
    let expected = [
        (10_000, Unknown),
        (20_000, NotReset),
        (30_000, NotReset),
        (62_000, Unknown),
        (72_000, Gauge),
    ];
    assert_eq!(hints(merged), expected);
    let expected = [
        (10_000, Unknown),
        (11_000, Unknown),
        (20_000, Unknown),
        (30_000, NotReset),
        (62_000, Unknown),
        (72_000, Gauge),
    ];
    assert_eq!(hints(chain(vec![a, b])), expected);
}

/// Thanos' iterator for two replicas that are not counters, exactly by its rules: seek both past
/// the last time and their penalties, take the earlier, punish the other.
fn naive_penalty(a: &Floats, b: &Floats) -> Floats {
    let seek = |c: &Floats, t: i64| c.ts.iter().position(|x| *x >= t);
    let (mut out, mut last, mut pen_a, mut pen_b) = (Floats::default(), None::<i64>, 0, 0);
    let (mut min_a, mut min_b) = (i64::MIN, i64::MIN);
    loop {
        let from = last.map_or(i64::MIN, |t| t + 1);
        // An iterator that was sought forward does not come back.
        min_a = min_a.max(from.saturating_add(pen_a));
        min_b = min_b.max(from.saturating_add(pen_b));
        let (ia, ib) = (seek(a, min_a), seek(b, min_b));
        let take_a = match (ia, ib) {
            (None, None) => return out,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(x), Some(y)) => a.ts[x] <= b.ts[y],
        };
        let (c, i) = if take_a { (a, ia.unwrap()) } else { (b, ib.unwrap()) };
        let t = c.ts[i];
        let punish = last.map_or(5000, |l| 2 * (t - l));
        match (take_a, ia.is_some() && ib.is_some()) {
            (true, true) => (pen_a, pen_b) = (0, punish),
            (false, true) => (pen_a, pen_b) = (punish, 0),
            (true, false) => pen_a = 0,
            (false, false) => pen_b = 0,
        }
        out.push(t, c.values[i]);
        last = Some(t);
    }
}

fn column(replica: usize) -> impl Strategy<Value = Floats> {
    proptest::collection::vec((1..40_000i64, 0..3u8), 0..40).prop_map(move |steps| {
        let (mut out, mut t, mut v) = (Floats::default(), 0, 0.0);
        for (step, grow) in steps {
            t += if step % 7 == 0 { step * 5 } else { 10_000 + step % 300 };
            v += f64::from(grow);
            out.push(t, v + replica as f64 / 4.0);
        }
        out
    })
}

proptest! {
    #[test]
    fn penalty_equals_the_rules_told(a in column(0), b in column(1)) {
        prop_assert_eq!(penalty(vec![a.clone(), b.clone()]), naive_penalty(&a, &b));
        // Without counters, a stack of pairs is the fold.
        let c = naive_penalty(&b, &a);
        let folded = naive_penalty(&naive_penalty(&a, &b), &c);
        prop_assert_eq!(penalty(vec![a, b, c]), folded);
    }

    #[test]
    fn chain_keeps_every_time_once(a in column(0), b in column(1), c in column(2)) {
        let mut times: Vec<i64> = a.ts.iter().chain(&b.ts).chain(&c.ts).copied().collect();
        times.sort_unstable();
        times.dedup();
        prop_assert_eq!(chain(vec![a, b, c]).ts, times);
    }
}
