//! Whether a histogram is well formed.

use super::side::bucket_count;
use super::{BucketSpan, FloatHistogram, HistogramError, MAX_SCHEMA, MIN_SCHEMA};

impl FloatHistogram {
    /// Checks that spans and buckets agree, that no count is negative and that only fields of the
    /// schema are used. That `count` covers the buckets is not checked: rounding may break it.
    pub fn validate(&self) -> Result<(), HistogramError> {
        if self.uses_custom_buckets() {
            self.validate_custom()?;
        } else if (MIN_SCHEMA..=MAX_SCHEMA).contains(&self.schema) {
            validate_side("positive", &self.positive_spans, &self.positive_buckets)?;
            validate_side("negative", &self.negative_spans, &self.negative_buckets)?;
            if self.zero_count < 0.0 {
                return Err(HistogramError::NegativeBucket {
                    side: "zero",
                    number: 1,
                    count: self.zero_count,
                });
            }
            if !self.custom_values.is_empty() {
                return Err(HistogramError::UnexpectedBounds);
            }
        } else {
            return Err(HistogramError::Schema(self.schema));
        }
        if self.count < 0.0 {
            return Err(HistogramError::NegativeCount(self.count));
        }
        Ok(())
    }

    fn validate_custom(&self) -> Result<(), HistogramError> {
        let bounds = &self.custom_values;
        let reason = if bounds.iter().any(|b| b.is_nan()) {
            "histogram custom bounds must not be NaN"
        } else if bounds.windows(2).any(|pair| pair[1] <= pair[0]) {
            "histogram custom bounds must be in strictly increasing order"
        } else if bounds.last() == Some(&f64::INFINITY) {
            "histogram custom bounds must be finite"
        } else if self.zero_count != 0.0 {
            "must have zero count of 0"
        } else if self.zero_threshold != 0.0 {
            "must have zero threshold of 0"
        } else if !self.negative_spans.is_empty() {
            "must not have negative spans"
        } else if !self.negative_buckets.is_empty() {
            "must not have negative buckets"
        } else {
            validate_side("positive", &self.positive_spans, &self.positive_buckets)?;
            let first = self.positive_spans.first().map_or(0, |span| span.offset);
            if first < 0 {
                return Err(HistogramError::NegativeOffset {
                    side: "positive",
                    number: 1,
                    offset: first,
                });
            }
            let reach: u64 =
                self.positive_spans.iter().map(|s| s.offset as u64 + u64::from(s.length)).sum();
            if reach <= bounds.len() as u64 + 1 {
                return Ok(());
            }
            "histogram custom bounds are too few"
        };
        Err(HistogramError::CustomBuckets(reason))
    }
}

fn validate_side(
    side: &'static str,
    spans: &[BucketSpan],
    counts: &[f64],
) -> Result<(), HistogramError> {
    for (i, span) in spans.iter().enumerate().skip(1) {
        if span.offset < 0 {
            return Err(HistogramError::NegativeOffset {
                side,
                number: i + 1,
                offset: span.offset,
            });
        }
    }
    let named = bucket_count(spans);
    if named != counts.len() {
        return Err(HistogramError::BucketCount { side, named, given: counts.len() });
    }
    match counts.iter().position(|count| *count < 0.0) {
        Some(i) => Err(HistogramError::NegativeBucket { side, number: i + 1, count: counts[i] }),
        None => Ok(()),
    }
}
