//! Numbers and histograms as Go prints them, where they become part of labels and messages.

use model::FloatHistogram;
use model::histogram::HistogramBucket;

use crate::format_float_general;

/// `strconv.FormatFloat(v, 'f', -1, 64)`: the shortest decimal without exponent.
pub fn plain(v: f64) -> String {
    if v.is_nan() {
        return "NaN".to_owned();
    }
    if v.is_infinite() {
        return if v > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let Some(Decimal { negative, digits, point }) = shortest(v) else { return v.to_string() };
    let sign = if negative { "-" } else { "" };
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    match usize::try_from(point) {
        Ok(0) | Err(_) => format!("{sign}0.{}{digits}", zeros(-point)),
        Ok(point) if point < digits.len() => {
            format!("{sign}{}.{}", &digits[..point], &digits[point..])
        }
        Ok(_) => format!("{sign}{digits}{}", zeros(point - digits.len() as i32)),
    }
}

/// A decimal: 0.`digits` times ten to the power of `point`.
pub(crate) struct Decimal {
    pub(crate) negative: bool,
    pub(crate) digits: String,
    pub(crate) point: i32,
}

/// The decimal with the fewest digits that reads back as `v`; of two that are equally near, the one
/// with an even last digit, where Rust's own choice differs from Go's; `None` if `v` is zero or not
/// finite.
pub(crate) fn shortest(v: f64) -> Option<Decimal> {
    if v == 0.0 || !v.is_finite() {
        return None;
    }
    let up = format!("{v:e}");
    let count = up.bytes().take_while(|b| *b != b'e').filter(u8::is_ascii_digit).count();
    let even = format!("{v:.*e}", count - 1);
    let text = if even.parse() == Ok(v) { even } else { up };
    let (mantissa, exponent) = text.split_once('e')?;
    let digits = mantissa.chars().filter(char::is_ascii_digit).collect();
    Some(Decimal { negative: v < 0.0, digits, point: exponent.parse::<i32>().ok()? + 1 })
}

/// A number as OpenMetrics writes it: with a point or an exponent, so that `1` is `1.0`. Zeros have
/// no sign.
pub fn open_metrics(v: f64) -> String {
    let v = if v == 0.0 { 0.0 } else { v };
    let text = format_float_general(v);
    if v.is_finite() && !text.contains(['e', '.']) { text + ".0" } else { text }
}

/// A histogram's count, sum and buckets that are not empty, from the lowest to the highest:
/// `{count:3, sum:2.5, [-0.001,0.001]:1, (0.5,1]:2}`.
pub fn histogram_text(histogram: &FloatHistogram) -> String {
    let (count, sum) = (format_float_general(histogram.count), format_float_general(histogram.sum));
    let mut text = format!("{{count:{count}, sum:{sum}");
    let mut buckets: Vec<HistogramBucket> = histogram.negative_buckets().collect();
    buckets.reverse();
    buckets.push(histogram.zero_bucket());
    buckets.extend(histogram.positive_buckets());
    for bucket in buckets.iter().filter(|b| b.count != 0.0) {
        text.push_str(", ");
        text.push_str(&bucket_text(bucket));
    }
    text + "}"
}

fn bucket_text(bucket: &HistogramBucket) -> String {
    let (open, close) = (
        if bucket.lower_inclusive { '[' } else { '(' },
        if bucket.upper_inclusive { ']' } else { ')' },
    );
    let [lower, upper, count] =
        [bucket.lower, bucket.upper, bucket.count].map(format_float_general);
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
        assert_eq!(open_metrics(-0.0), "0.0");
        assert_eq!(open_metrics(0.99), "0.99");
        assert_eq!(open_metrics(1e-7), "1e-07");
        assert_eq!(open_metrics(f64::INFINITY), "+Inf");
    }

    /// Lines of bits, `strconv.FormatFloat(v, 'f', -1, 64)` and the same with `'g'`, as Go printed
    /// them: ties between two shortest decimals, powers of two, and others.
    #[test]
    fn floats_print_the_digits_that_go_prints() {
        for line in include_str!("../../tests/data/go_floats.txt").lines() {
            let mut fields = line.split(' ');
            let [bits, fixed, general] = [(); 3].map(|()| fields.next().unwrap());
            let v = f64::from_bits(u64::from_str_radix(bits, 16).unwrap());
            assert_eq!(plain(v), fixed, "{bits}");
            assert_eq!(format_float_general(v), general, "{bits}");
        }
    }

    proptest::proptest! {
        #[test]
        fn printed_floats_read_back(v: f64) {
            proptest::prop_assume!(v.is_finite());
            proptest::prop_assert_eq!(plain(v).parse::<f64>().unwrap().to_bits(), v.to_bits());
            proptest::prop_assert_eq!(format_float_general(v).parse::<f64>().unwrap().to_bits(), v.to_bits());
        }
    }

    #[test]
    fn histograms_print_from_the_lowest_bucket_up() {
        let one = |length| vec![model::histogram::BucketSpan { offset: 0, length }];
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
