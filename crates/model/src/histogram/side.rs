//! One side (positive or negative) of a histogram as a list of `(index, count)`.

use std::ops::AddAssign;

use super::BucketSpan;

/// How many buckets the spans cover. Saturates on sums that no memory could hold.
pub fn bucket_count(spans: &[BucketSpan]) -> usize {
    spans.iter().fold(0usize, |sum, span| sum.saturating_add(span.length as usize))
}

/// The index of every bucket the spans cover, in order.
pub fn bucket_indices(spans: &[BucketSpan]) -> impl Iterator<Item = i32> + Clone + '_ {
    let mut next = 0i32;
    spans.iter().flat_map(move |span| {
        let first = next.wrapping_add(span.offset);
        next = first.wrapping_add(span.length as i32);
        (0..span.length).map(move |i| first.wrapping_add(i as i32))
    })
}

/// Every bucket with its index; ends with the shorter of spans and counts.
pub(super) fn indexed<'a, T: Copy>(
    spans: &'a [BucketSpan],
    counts: &'a [T],
) -> impl Iterator<Item = (i32, T)> + Clone + 'a {
    bucket_indices(spans).zip(counts.iter().copied())
}

/// As [`indexed`] when spans and counts agree, from the last bucket to the first.
pub(super) fn rev_indexed<'a>(
    spans: &'a [BucketSpan],
    counts: &'a [f64],
) -> impl Iterator<Item = (i32, f64)> + Clone + 'a {
    let after = |end: i32, span: &BucketSpan| {
        end.wrapping_add(span.offset).wrapping_add(span.length as i32)
    };
    let mut end = spans.iter().fold(0i32, after);
    let indices = spans.iter().rev().flat_map(move |span| {
        let last = end.wrapping_sub(1);
        end = end.wrapping_sub(span.length as i32).wrapping_sub(span.offset);
        (0..span.length).map(move |i| last.wrapping_sub(i as i32))
    });
    indices.zip(counts.iter().rev().copied())
}

/// The index that the bucket `index` has when the resolution is reduced by `steps` schemas.
pub(super) fn reduced_index(index: i32, steps: u32) -> i32 {
    (((i64::from(index) - 1) >> steps.min(62)) + 1) as i32
}

/// Builds spans and counts from buckets in ascending order of their index; equal indices add up.
pub(super) struct SideBuilder<T> {
    pub(super) spans: Vec<BucketSpan>,
    pub(super) counts: Vec<T>,
    last: i32,
}

impl<T: Copy + AddAssign> SideBuilder<T> {
    pub(super) fn with_capacity(buckets: usize) -> SideBuilder<T> {
        SideBuilder { spans: Vec::new(), counts: Vec::with_capacity(buckets), last: 0 }
    }

    pub(super) fn push(&mut self, index: i32, count: T) {
        let gap = index.wrapping_sub(self.last).wrapping_sub(1);
        match (self.spans.last_mut(), self.counts.last_mut()) {
            (Some(_), Some(last)) if index == self.last => {
                *last += count;
                return;
            }
            (Some(span), _) if gap == 0 => span.length += 1,
            (Some(_), _) => self.spans.push(BucketSpan { offset: gap, length: 1 }),
            (None, _) => self.spans.push(BucketSpan { offset: index, length: 1 }),
        }
        self.counts.push(count);
        self.last = index;
    }

    pub(super) fn extend(&mut self, buckets: impl IntoIterator<Item = (i32, T)>) {
        for (index, count) in buckets {
            self.push(index, count);
        }
    }
}

/// The spans of ascending bucket indices, adjacent ones joined.
pub fn spans_of(indices: impl IntoIterator<Item = i32>) -> Vec<BucketSpan> {
    let mut builder = SideBuilder::with_capacity(0);
    builder.extend(indices.into_iter().map(|index| (index, 0.0)));
    builder.spans
}
