//! Numbers and histograms as Go prints them, where they become part of labels and messages.

use model::FloatHistogram;
use model::histogram::Bucket;

use crate::format_float_general;

/// `strconv.FormatFloat(v, 'f', -1, 64)`: the shortest decimal without exponent.
pub fn plain(v: f64) -> String {
    if v.is_nan() {
        return "NaN".to_owned();
    }
    if v.is_infinite() {
        return if v > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    format!("{v}")
}

/// A number as OpenMetrics writes it: with a point or an exponent, so that `1` is `1.0`.
pub fn open_metrics(v: f64) -> String {
    let text = format_float_general(v);
    if v.is_finite() && !text.contains(['e', '.']) { text + ".0" } else { text }
}

/// A histogram's count, sum and buckets that are not empty, from the lowest to the highest:
/// `{count:3, sum:2.5, [-0.001,0.001]:1, (0.5,1]:2}`.
pub fn histogram_text(histogram: &FloatHistogram) -> String {
    let (count, sum) = (format_float_general(histogram.count), format_float_general(histogram.sum));
    let mut text = format!("{{count:{count}, sum:{sum}");
    let mut buckets: Vec<Bucket> = histogram.negative_buckets().collect();
    buckets.reverse();
    buckets.push(histogram.zero_bucket());
    buckets.extend(histogram.positive_buckets());
    for bucket in buckets.iter().filter(|b| b.count != 0.0) {
        text.push_str(", ");
        text.push_str(&bucket_text(bucket));
    }
    text + "}"
}

fn bucket_text(bucket: &Bucket) -> String {
    let (open, close) =
        (if bucket.lower_inclusive { '[' } else { '(' }, if bucket.upper_inclusive { ']' } else { ')' });
    let [lower, upper, count] = [bucket.lower, bucket.upper, bucket.count].map(format_float_general);
    format!("{open}{lower},{upper}{close}:{count}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_as_go_prints_them() {
        assert_eq!(plain(1e21), "1000000000000000000000");
        assert_eq!(plain(f64::NEG_INFINITY), "-Inf");
        assert_eq!(open_metrics(1.0), "1.0");
        assert_eq!(open_metrics(0.99), "0.99");
        assert_eq!(open_metrics(1e-7), "1e-07");
        assert_eq!(open_metrics(f64::INFINITY), "+Inf");
    }

    #[test]
    fn histograms_print_from_the_lowest_bucket_up() {
        let one = |length| vec![model::histogram::Span { offset: 0, length }];
        let histogram = FloatHistogram {
            count: 6.0,
            sum: 1.5,
            zero_threshold: 0.001,
            zero_count: 1.0,
            positive_spans: one(2),
            positive_buckets: vec![2.0, 0.0],
            negative_spans: one(2),
            negative_buckets: vec![1.0, 2.0],
            ..FloatHistogram::default()
        };
        let text = "{count:6, sum:1.5, [-2,-1):2, [-1,-0.5):1, [-0.001,0.001]:1, (0.5,1]:2}";
        assert_eq!(histogram_text(&histogram), text);
    }
}
