//! Counter resets between two histograms of a series.

use super::arithmetic::{SignedBuckets, intersect};
use super::bounds::exponential_bound;
use super::side::{SideBuilder, indexed, reduced_index};
use super::{FloatHistogram, ResetHint};

impl FloatHistogram {
    /// Whether the counter was reset between `previous` and this histogram: the hint if it says so,
    /// otherwise whether this one [is below](Self::is_below). Gauges are treated as counters.
    pub fn detect_reset(&self, previous: &FloatHistogram) -> bool {
        match self.hint {
            ResetHint::Reset => true,
            ResetHint::NotReset => false,
            ResetHint::Unknown | ResetHint::Gauge => self.is_below(previous),
        }
    }

    /// Whether any count, but not the sum, is lower than in `previous`, or a populated bucket of it
    /// is gone. A finer schema, a narrower zero bucket, and a zero threshold that cuts through a
    /// populated bucket of `previous` occur only with a reset. The hint is ignored.
    pub fn is_below(&self, previous: &FloatHistogram) -> bool {
        if self.count < previous.count {
            return true;
        }
        if self.same_layout(previous) && self.no_bucket_fell(previous) {
            return false;
        }
        if self.uses_custom_buckets() {
            if !previous.uses_custom_buckets() {
                return true;
            }
            if self.custom_values != previous.custom_values {
                return self.reset_in_common_bounds(previous);
            }
        }
        if self.schema > previous.schema || self.zero_threshold < previous.zero_threshold {
            return true;
        }
        let (zero_count, threshold) = previous.zero_count_within(self.zero_threshold);
        if threshold != self.zero_threshold || self.zero_count < zero_count {
            return true;
        }
        self.side_reset(self.positive(), previous.schema, previous.positive())
            || self.side_reset(self.negative(), previous.schema, previous.negative())
    }

    /// Whether no count of `previous`, which has the same layout, went down.
    fn no_bucket_fell(&self, previous: &FloatHistogram) -> bool {
        let fell =
            |now: &[f64], before: &[f64]| now.iter().zip(before).any(|(now, before)| now < before);
        !(self.zero_count < previous.zero_count
            || fell(&self.positive_buckets, &previous.positive_buckets)
            || fell(&self.negative_buckets, &previous.negative_buckets))
    }

    /// Whether a bucket outside the zero bucket lost observations; `before` is merged to this
    /// schema first.
    fn side_reset(
        &self,
        now: SignedBuckets<'_>,
        before_schema: i32,
        before: SignedBuckets<'_>,
    ) -> bool {
        let mut coarse = SideBuilder::with_capacity(before.counts.len());
        let steps = before_schema.abs_diff(self.schema);
        coarse.extend(before.iter().map(|(index, count)| (reduced_index(index, steps), count)));
        let in_zero_bucket = |index: i32| {
            let zero = self.zero_threshold;
            !self.uses_custom_buckets()
                && zero != 0.0
                && exponential_bound(index, self.schema) <= zero
        };
        let mut now = now.iter().peekable();
        for (index, count) in
            indexed(&coarse.spans, &coarse.counts).skip_while(|&(index, _)| in_zero_bucket(index))
        {
            while now.next_if(|&(i, _)| i < index).is_some() {}
            let lost = match now.peek() {
                Some(&(i, current)) if i == index => current < count,
                _ => count != 0.0,
            };
            if lost {
                return true;
            }
        }
        false
    }

    /// If the bounds differ, only the counts between bounds that both have can be compared.
    fn reset_in_common_bounds(&self, previous: &FloatHistogram) -> bool {
        let bounds = intersect(&self.custom_values, &previous.custom_values);
        let rolled_up = |histogram: &FloatHistogram| {
            let mut counts = vec![0.0; bounds.len() + 1];
            for bucket in histogram.positive_buckets() {
                counts[bounds.partition_point(|bound| *bound < bucket.upper)] += bucket.count;
            }
            counts
        };
        rolled_up(self).iter().zip(rolled_up(previous)).any(|(now, before)| *now < before)
    }
}
