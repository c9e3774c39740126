//! JSON as Prometheus writes it, by hand: sample values are strings of the shortest decimal that
//! reads back the same, timestamps are seconds with up to three decimals.

use std::io::Write;

use model::{FloatHistogram, Labels};
use promql::format_float_general;
use promql::kernels::format::plain;
use promql::value::{Point, PointValue};

/// Appends to a buffer. Writing to memory cannot fail.
#[derive(Debug, Default)]
pub struct Json(pub(crate) Vec<u8>);

impl Json {
    /// What was written so far.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// How many bytes that is.
    pub fn written(&self) -> usize {
        self.0.len()
    }

    /// Text that is JSON already.
    pub fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    fn display(&mut self, value: impl std::fmt::Display) {
        // writing to a Vec cannot fail
        let _ = write!(self.0, "{value}");
    }

    pub fn integer(&mut self, value: i64) {
        self.display(value);
    }

    /// A finite number.
    pub fn number(&mut self, value: f64) {
        self.display(value);
    }

    /// A string; bytes that are not UTF-8 become U+FFFD.
    pub fn string(&mut self, bytes: &[u8]) {
        self.0.push(b'"');
        for chunk in bytes.utf8_chunks() {
            self.escaped(chunk.valid());
            if !chunk.invalid().is_empty() {
                self.raw("\u{fffd}");
            }
        }
        self.0.push(b'"');
    }

    fn escaped(&mut self, text: &str) {
        let mut plain_from = 0;
        for (at, byte) in text.bytes().enumerate() {
            if byte >= 0x20 && byte != b'"' && byte != b'\\' {
                continue;
            }
            self.raw(&text[plain_from..at]);
            plain_from = at + 1;
            match byte {
                b'"' => self.raw("\\\""),
                b'\\' => self.raw("\\\\"),
                b'\n' => self.raw("\\n"),
                b'\r' => self.raw("\\r"),
                b'\t' => self.raw("\\t"),
                other => self.display(format_args!("\\u{other:04x}")),
            }
        }
        self.raw(&text[plain_from..]);
    }

    /// `{"name":"value",…}` in order of names.
    pub fn labels(&mut self, labels: &Labels) {
        self.0.push(b'{');
        for (i, (name, value)) in labels.iter().enumerate() {
            self.comma(i);
            self.string(name);
            self.0.push(b':');
            self.string(value);
        }
        self.0.push(b'}');
    }

    /// A comma before all items but the first.
    pub fn comma(&mut self, index: usize) {
        if index > 0 {
            self.0.push(b',');
        }
    }

    /// `["…",…]`
    pub fn strings<S: AsRef<[u8]>>(&mut self, items: impl IntoIterator<Item = S>) {
        self.0.push(b'[');
        for (i, item) in items.into_iter().enumerate() {
            self.comma(i);
            self.string(item.as_ref());
        }
        self.0.push(b']');
    }

    /// Milliseconds as seconds: `1435781451.781`, `1435781451`.
    pub fn timestamp(&mut self, ms: i64) {
        if ms < 0 {
            self.0.push(b'-');
        }
        let ms = ms.unsigned_abs();
        let (seconds, fraction) = (ms / 1000, ms % 1000);
        self.display(seconds);
        if fraction != 0 {
            self.display(format_args!(".{fraction:03}"));
        }
    }

    /// A sample's value in quotes, as Go's `strconv.FormatFloat` writes it: an exponent only below
    /// 1e-6 and from 1e21.
    pub fn float(&mut self, value: f64) {
        self.0.push(b'"');
        let size = value.abs();
        if (1e-5..1e16).contains(&size) {
            // here the shortest text has no exponent
            let mut buffer = zmij::Buffer::new();
            let text = buffer.format_finite(value);
            self.raw(text.strip_suffix(".0").unwrap_or(text));
        } else if value.is_nan() {
            self.raw("NaN");
        } else if value.is_infinite() {
            self.raw(if value > 0.0 { "+Inf" } else { "-Inf" });
        } else if size != 0.0 && !(1e-6..1e21).contains(&size) {
            self.raw(&format_float_general(value));
        } else {
            self.raw(&plain(value));
        }
        self.0.push(b'"');
    }

    /// `[seconds,"value"]` or `[seconds,{…}]`.
    pub fn point(&mut self, point: &Point) {
        self.0.push(b'[');
        self.timestamp(point.t_ms);
        self.0.push(b',');
        match &point.value {
            PointValue::Float(value) => self.float(*value),
            PointValue::Histogram(histogram) => self.histogram(histogram),
        }
        self.0.push(b']');
    }

    /// Count, sum and every bucket that holds anything: `[boundaries,"lower","upper","count"]`,
    /// where boundaries say which ends belong to the bucket: 0 the upper, 1 the lower, 2 none, 3
    /// both.
    fn histogram(&mut self, histogram: &FloatHistogram) {
        self.raw(r#"{"count":"#);
        self.float(histogram.count);
        self.raw(r#","sum":"#);
        self.float(histogram.sum);
        let mut written = 0;
        for bucket in histogram.all_buckets().into_iter().filter(|bucket| bucket.count != 0.0) {
            self.raw(if written == 0 { ",\"buckets\":[" } else { "," });
            written += 1;
            let boundaries = match (bucket.lower_inclusive, bucket.upper_inclusive) {
                (false, true) => "[0,",
                (true, false) => "[1,",
                (false, false) => "[2,",
                (true, true) => "[3,",
            };
            self.raw(boundaries);
            self.float(bucket.lower);
            self.0.push(b',');
            self.float(bucket.upper);
            self.0.push(b',');
            self.float(bucket.count);
            self.0.push(b']');
        }
        if written > 0 {
            self.0.push(b']');
        }
        self.0.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Json)) -> String {
        let mut json = Json::default();
        write(&mut json);
        String::from_utf8(json.0).unwrap()
    }

    #[test]
    fn floats_are_those_of_go() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1 + 0.2, "0.30000000000000004"),
            (-1e-9, "-1e-09"),
            (1.5e-7, "1.5e-07"),
            (0.000001, "0.000001"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.7976931348623157e308, "1.7976931348623157e+308"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(written(|json| json.float(value)), format!("\"{text}\""));
        }
    }

    #[test]
    fn the_fast_way_writes_as_short() {
        use proptest::prelude::*;
        let sizes = prop_oneof![
            proptest::num::f64::NORMAL,
            -1e17..1e17,
            -1e-4..1e-4,
            any::<i64>().prop_map(|v| v as f64),
            any::<i32>().prop_map(|v| f64::from(v) / 1000.0),
        ];
        proptest!(|(value in sizes)| {
            prop_assume!((1e-6..1e21).contains(&value.abs()));
            let (own, shortest) = (written(|json| json.float(value)), format!("\"{value}\""));
            prop_assert_eq!(own.len(), shortest.len(), "{} {}", &own, &shortest);
            prop_assert_eq!(own.trim_matches('"').parse::<f64>().unwrap().to_bits(), value.to_bits());
        });
        // of two shortest texts that are equally near, Go takes the even one
        assert_eq!(written(|json| json.float(1_859_237_040_333_799.3)), r#""1859237040333799.2""#);
    }

    #[test]
    fn timestamps_are_seconds_with_three_decimals_or_none() {
        for (ms, text) in [
            (1_435_781_451_781, "1435781451.781"),
            (5000, "5"),
            (50, "0.050"),
            (-1500, "-1.500"),
            (0, "0"),
        ] {
            assert_eq!(written(|json| json.timestamp(ms)), text);
        }
    }

    #[test]
    fn strings_are_escaped_and_always_utf8() {
        assert_eq!(
            written(|json| json.string(b"a\"\\\n\x01\xff\xc3\xa9<")),
            "\"a\\\"\\\\\\n\\u0001\u{fffd}é<\""
        );
    }

    #[test]
    fn any_string_reads_back() {
        use proptest::prelude::*;
        proptest!(|(text in ".*")| {
            let json = written(|json| json.string(text.as_bytes()));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        });
    }

    #[test]
    fn any_finite_float_reads_back() {
        use proptest::prelude::*;
        proptest!(|(value in proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL | proptest::num::f64::ZERO)| {
            let json = written(|json| json.float(value));
            prop_assert_eq!(json.trim_matches('"').parse::<f64>().unwrap().to_bits(), value.to_bits());
        });
    }
}
