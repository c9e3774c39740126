//! Quantiles and fractions of classic histograms.

use std::cmp::Ordering;

/// A bucket of a classic histogram: its upper bound (`le`) and cumulative count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassicBucket {
    pub upper: f64,
    pub count: f64,
}

/// Counts that differ by less than this share of their sum are taken as equal.
const SMALL_DELTA: f64 = 1e-12;

/// How far bucket counts had to be raised so that they never fall.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ForcedMonotonicity {
    pub min_bucket: f64,
    pub max_bucket: f64,
    pub max_diff: f64,
}

/// The φ-quantile of the buckets, which are sorted and repaired in place. NaN without a `+Inf`
/// bucket, with fewer than two buckets, or without observations.
pub fn bucket_quantile(
    q: f64,
    buckets: &mut Vec<ClassicBucket>,
) -> (f64, Option<ForcedMonotonicity>) {
    if q.is_nan() || buckets.is_empty() {
        return (f64::NAN, None);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if !normalise(buckets) {
        return (f64::NAN, None);
    }
    let forced = make_monotonic(buckets);
    let last = buckets.len() - 1;
    let observations = buckets[last].count;
    if last == 0 || observations == 0.0 {
        return (f64::NAN, forced);
    }
    let rank = q * observations;
    // a rank that is NaN, because the count is NaN or the rank is 0 times infinity, is beyond all
    // of them
    let at = buckets[..last]
        .partition_point(|b| matches!(b.count.partial_cmp(&rank), None | Some(Ordering::Less)));
    if at == last {
        return (buckets[last - 1].upper, forced);
    }
    if at == 0 && buckets[0].upper <= 0.0 {
        return (buckets[0].upper, forced);
    }
    let ClassicBucket { upper, count } = buckets[at];
    if at == 0 {
        return (upper * (rank / count), forced);
    }
    let below = buckets[at - 1];
    let part = (rank - below.count) / (count - below.count);
    (below.upper + (upper - below.upper) * part, forced)
}

/// The share of the observations between two bounds; the buckets are sorted in place, not repaired.
/// NaN without a `+Inf` bucket or without observations.
///
/// The first bucket begins at 0 if it ends above. One without a lower bound counts as a whole for
/// any bound inside.
pub fn bucket_fraction(lower: f64, upper: f64, buckets: &mut Vec<ClassicBucket>) -> f64 {
    if buckets.is_empty() || !normalise(buckets) {
        return f64::NAN;
    }
    let count = buckets[buckets.len() - 1].count;
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let below = |v: f64| {
        let below = observations_below(v, buckets).unwrap_or(count);
        if below > count { count } else { below }
    };
    (below(upper) - below(lower)) / count
}

/// The observations below `v`; `None` if it is above all buckets.
fn observations_below(v: f64, buckets: &[ClassicBucket]) -> Option<f64> {
    let mut start = if buckets[0].upper <= 0.0 { f64::NEG_INFINITY } else { 0.0 };
    let mut rank = 0.0;
    for bucket in buckets {
        if start >= v {
            return Some(rank);
        }
        if bucket.upper > v {
            return Some(match start == f64::NEG_INFINITY {
                true => bucket.count,
                false => rank + (bucket.count - rank) * (v - start) / (bucket.upper - start),
            });
        }
        (start, rank) = (bucket.upper, bucket.count);
    }
    None
}

/// Sorts the buckets and adds up those with the same bound; returns whether the highest is `+Inf`.
fn normalise(buckets: &mut Vec<ClassicBucket>) -> bool {
    buckets.sort_by(|a, b| a.upper.total_cmp(&b.upper));
    if buckets.last().is_none_or(|last| last.upper != f64::INFINITY) {
        return false;
    }
    coalesce(buckets);
    true
}

/// Adds up buckets with the same bound.
fn coalesce(buckets: &mut Vec<ClassicBucket>) {
    let mut kept = 0;
    for i in 1..buckets.len() {
        if buckets[i].upper == buckets[kept].upper {
            buckets[kept].count += buckets[i].count;
        } else {
            kept += 1;
            buckets[kept] = buckets[i];
        }
    }
    buckets.truncate(kept + 1);
}

fn make_monotonic(buckets: &mut [ClassicBucket]) -> Option<ForcedMonotonicity> {
    let mut forced: Option<ForcedMonotonicity> = None;
    let mut before = buckets[0].count;
    for bucket in &mut buckets[1..] {
        let now = bucket.count;
        if now == before {
            continue;
        }
        if nearly_equal(before, now) {
            bucket.count = before;
            continue;
        }
        if now < before {
            let diff = before - now;
            let first = ForcedMonotonicity {
                min_bucket: bucket.upper,
                max_bucket: bucket.upper,
                max_diff: diff,
            };
            let entry = forced.get_or_insert(first);
            entry.max_bucket = bucket.upper;
            entry.max_diff = entry.max_diff.max(diff);
            bucket.count = before;
            continue;
        }
        before = now;
    }
    forced
}

/// Equal within [`SMALL_DELTA`] of the sum of magnitudes.
fn nearly_equal(a: f64, b: f64) -> bool {
    if (a.is_nan() && b.is_nan()) || a == b {
        return true;
    }
    let sum = a.abs() + b.abs();
    let diff = (a - b).abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return diff < SMALL_DELTA * f64::MIN_POSITIVE;
    }
    diff / sum.min(f64::MAX) < SMALL_DELTA
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quantile(q: f64, buckets: &[(f64, f64)]) -> (f64, Option<ForcedMonotonicity>) {
        bucket_quantile(
            q,
            &mut buckets
                .iter()
                .map(|(upper, count)| ClassicBucket { upper: *upper, count: *count })
                .collect(),
        )
    }

    #[test]
    fn interpolates_inside_the_bucket() {
        let buckets = [(f64::INFINITY, 4.0), (0.1, 2.0), (0.2, 4.0)];
        assert_eq!(quantile(0.75, &buckets).0, 0.15000000000000002);
        assert_eq!(quantile(0.25, &buckets).0, 0.05);
        assert_eq!(quantile(-1.0, &buckets).0, f64::NEG_INFINITY);
        assert!(quantile(0.5, &buckets[1..]).0.is_nan(), "no +Inf bucket");
    }

    fn fraction(lower: f64, upper: f64, buckets: &[(f64, f64)]) -> f64 {
        let mut buckets = buckets
            .iter()
            .map(|(upper, count)| ClassicBucket { upper: *upper, count: *count })
            .collect();
        bucket_fraction(lower, upper, &mut buckets)
    }

    #[test]
    fn fractions_interpolate_inside_the_buckets() {
        let inf = f64::INFINITY;
        let buckets = [(inf, 5.0), (0.1, 2.0), (0.2, 4.0)];
        assert_eq!(fraction(0.05, 0.1, &buckets), 0.2);
        assert!((fraction(0.05, 0.15, &buckets) - 0.4).abs() < 1e-12);
        assert_eq!((fraction(-inf, inf, &buckets), fraction(-1.0, 0.0, &buckets)), (1.0, 0.0));
        assert_eq!(fraction(0.2, 7.0, &buckets), 0.0, "the last bucket is not divided");
        assert_eq!((fraction(1.0, 0.0, &buckets), fraction(1.0, 1.0, &buckets)), (0.0, 0.0));
        let negative = [(-1.0, 2.0), (1.0, 6.0), (inf, 8.0)];
        assert_eq!(fraction(-inf, -5.0, &negative), 0.25, "nor the first without lower bound");
        assert_eq!(fraction(-1.0, 0.0, &negative), 0.25);
    }

    #[test]
    fn fractions_of_nothing_are_nan() {
        assert!(fraction(0.0, 1.0, &[(1.0, 2.0)]).is_nan(), "no +Inf bucket");
        assert!(fraction(0.0, 1.0, &[(f64::INFINITY, 0.0)]).is_nan());
        assert!(fraction(f64::NAN, 1.0, &[(f64::INFINITY, 3.0)]).is_nan());
        assert!(fraction(0.0, 1.0, &[]).is_nan());
    }

    #[test]
    fn falls_are_repaired_and_reported() {
        let (v, forced) = quantile(0.5, &[(1.0, 4.0), (2.0, 3.0), (f64::INFINITY, 8.0)]);
        assert_eq!(v, 1.0);
        assert_eq!(
            forced,
            Some(ForcedMonotonicity { min_bucket: 2.0, max_bucket: 2.0, max_diff: 1.0 })
        );
        let tiny = 10.0 * (1.0 - 1e-14);
        assert_eq!(quantile(0.5, &[(1.0, 10.0), (2.0, tiny), (f64::INFINITY, 12.0)]).1, None);
    }

    /// Bounds from -3 up with the observations of each bucket; the last bucket is `+Inf`.
    fn buckets() -> impl Strategy<Value = Vec<(f64, f64)>> {
        let observations = prop::collection::vec(0..6u8, 2..8);
        (observations, -3..3i32).prop_map(|(observations, first)| {
            let last = observations.len() - 1;
            let mut count = 0.0;
            let bucket = |(i, own): (usize, u8)| {
                count += f64::from(own);
                let upper =
                    if i == last { f64::INFINITY } else { f64::from(first) + i as f64 * 0.75 };
                (upper, count)
            };
            observations.into_iter().enumerate().map(bucket).collect()
        })
    }

    proptest! {
        #[test]
        fn quantiles_lie_in_the_bucket_of_their_rank(buckets in buckets(), q in 0.0..=1.0f64) {
            let last = buckets.len() - 1;
            let value = quantile(q, &buckets).0;
            let observations = buckets[last].1;
            if observations == 0.0 {
                prop_assert!(value.is_nan());
                return Ok(());
            }
            let at = buckets.iter().position(|(_, count)| *count >= q * observations).unwrap();
            if at == last {
                prop_assert_eq!(value, buckets[last - 1].0);
                return Ok(());
            }
            let lower = if at == 0 { 0.0f64.min(buckets[0].0) } else { buckets[at - 1].0 };
            prop_assert!(lower - 1e-9 <= value && value <= buckets[at].0 + 1e-9 || value.is_nan() && q == 0.0);
            // where the bucket is divided, the fraction below the quantile is q again
            let divided = at > 0 && buckets[at].1 > buckets[at - 1].1;
            if divided {
                let back = fraction(f64::NEG_INFINITY, value, &buckets);
                prop_assert!((back - q).abs() < 1e-9, "{} -> {} -> {}", q, value, back);
            }
        }

        #[test]
        fn fractions_add_up(buckets in buckets(), a in -5.0..8.0f64, b in -5.0..8.0f64) {
            prop_assume!(buckets[buckets.len() - 1].1 > 0.0);
            let (a, b, inf) = (a.min(b), a.max(b), f64::INFINITY);
            let whole = fraction(-inf, a, &buckets) + fraction(a, b, &buckets) + fraction(b, inf, &buckets);
            prop_assert!((whole - 1.0).abs() < 1e-9);
        }

        #[test]
        fn repaired_buckets_never_fall(counts in prop::collection::vec(0.0..100.0f64, 2..9), q in 0.0..=1.0f64) {
            let last = counts.len() - 1;
            let bound = |i: usize| if i == last { f64::INFINITY } else { i as f64 };
            let given: Vec<(f64, f64)> = counts.iter().enumerate().map(|(i, count)| (bound(i), *count)).collect();
            let mut highest = 0.0f64;
            let envelope: Vec<(f64, f64)> = given
                .iter()
                .map(|(upper, count)| {
                    highest = highest.max(*count);
                    (*upper, highest)
                })
                .collect();
            let (value, forced) = quantile(q, &given);
            let (repaired, unforced) = quantile(q, &envelope);
            prop_assert!(value == repaired || value.is_nan() && repaired.is_nan());
            prop_assert_eq!((forced.is_some(), unforced.is_some()), (given != envelope, false));
        }
    }
}
