//! The JSON of an answer, piece by piece.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use model::{FloatHistogram, Labels};
use promql::value::{Point, PointValue};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::histogram::{HistogramJson, from_json};

#[derive(serde::Deserialize)]
#[serde(expecting = "an answer with status and data")]
pub(super) struct AnswerBody {
    pub(super) status: String,
    #[serde(default)]
    pub(super) data: Option<Data>,
    #[serde(default, rename = "errorType")]
    pub(super) error_type: String,
    #[serde(default)]
    pub(super) error: String,
    #[serde(default)]
    pub(super) warnings: Option<Vec<String>>,
    #[serde(default)]
    pub(super) infos: Option<Vec<String>>,
}

/// The type of the result may come after the result.
#[derive(Default, serde::Deserialize)]
#[serde(default, expecting = "a result with its type")]
pub(super) struct Data {
    #[serde(rename = "resultType")]
    pub(super) result_type: String,
    pub(super) result: Vec<Item>,
}

/// What any kind of result is a list of.
pub(super) enum Item {
    Time(Seconds),
    Text(String),
    Series(Box<SeriesJson>),
}

/// A vector's series has `value` or `histogram`, a matrix's `values` and `histograms`.
#[derive(Default, serde::Deserialize)]
#[serde(default, expecting = "a series")]
pub(super) struct SeriesJson {
    pub(super) metric: Metric,
    pub(super) value: Option<FloatPoint>,
    pub(super) histogram: Option<HistogramPoint>,
    pub(super) values: Vec<FloatPoint>,
    pub(super) histograms: Vec<HistogramPoint>,
}

pub(super) struct Metric(pub(super) Labels);

/// A time in milliseconds, which is in seconds in the JSON.
pub(super) struct Seconds(pub(super) i64);

/// A number that is a text in the JSON, which has no NaN.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number(pub(super) f64);

#[derive(serde::Deserialize)]
#[serde(expecting = "a pair of a time and a value")]
pub(super) struct FloatPoint(pub(super) Seconds, pub(super) Number);

#[derive(serde::Deserialize)]
#[serde(expecting = "a pair of a time and a histogram")]
pub(super) struct HistogramPoint(Seconds, ReadHistogram);

#[derive(serde::Deserialize)]
#[serde(try_from = "HistogramJson")]
struct ReadHistogram(FloatHistogram);

impl TryFrom<HistogramJson> for ReadHistogram {
    type Error = String;

    fn try_from(json: HistogramJson) -> Result<ReadHistogram, String> {
        from_json(&json).map(ReadHistogram)
    }
}

impl From<HistogramPoint> for Point {
    fn from(HistogramPoint(time, histogram): HistogramPoint) -> Point {
        Point { t_ms: time.0, value: PointValue::Histogram(Arc::new(histogram.0)) }
    }
}

impl Default for Metric {
    fn default() -> Metric {
        Metric(Labels::empty())
    }
}

impl<'de> Deserialize<'de> for Metric {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Metric, D::Error> {
        let pairs = BTreeMap::<String, String>::deserialize(deserializer)?;
        Ok(Metric(Labels::from_pairs(pairs)))
    }
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Item, D::Error> {
        deserializer.deserialize_any(ItemVisitor)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a series, or a time and a text")
    }

    fn visit_u64<E: Error>(self, seconds: u64) -> Result<Item, E> {
        SecondsVisitor.visit_u64(seconds).map(Item::Time)
    }

    fn visit_i64<E: Error>(self, seconds: i64) -> Result<Item, E> {
        SecondsVisitor.visit_i64(seconds).map(Item::Time)
    }

    fn visit_f64<E: Error>(self, seconds: f64) -> Result<Item, E> {
        SecondsVisitor.visit_f64(seconds).map(Item::Time)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Item, E> {
        Ok(Item::Text(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Item, A::Error> {
        SeriesJson::deserialize(MapAccessDeserializer::new(map))
            .map(|series| Item::Series(Box::new(series)))
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Seconds, D::Error> {
        deserializer.deserialize_any(SecondsVisitor)
    }
}

struct SecondsVisitor;

impl Visitor<'_> for SecondsVisitor {
    type Value = Seconds;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time in seconds")
    }

    fn visit_u64<E: Error>(self, seconds: u64) -> Result<Seconds, E> {
        i64::try_from(seconds)
            .map_or_else(|_| Err(too_far(seconds)), |seconds| self.visit_i64(seconds))
    }

    fn visit_i64<E: Error>(self, seconds: i64) -> Result<Seconds, E> {
        seconds.checked_mul(1000).map(Seconds).ok_or_else(|| too_far(seconds))
    }

    fn visit_f64<E: Error>(self, seconds: f64) -> Result<Seconds, E> {
        // whole seconds and the rest separately: so far from the epoch that a float has no
        // milliseconds, they stay whole
        let whole = seconds.trunc();
        if whole.abs() >= i64::MAX as f64 / 1000.0 {
            return Err(too_far(seconds));
        }
        Ok(Seconds(whole as i64 * 1000 + (seconds.fract() * 1000.0).round() as i64))
    }
}

fn too_far<E: Error>(seconds: impl fmt::Display) -> E {
    E::custom(format_args!("the time {seconds} is too far from the epoch"))
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Number, D::Error> {
        deserializer.deserialize_str(NumberVisitor)
    }
}

struct NumberVisitor;

impl Visitor<'_> for NumberVisitor {
    type Value = Number;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number as text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Number, E> {
        // Rust reads every spelling that Go writes, including infinities and NaN
        text.parse().map(Number).map_err(|_| E::custom(format_args!("{text:?} is no number")))
    }
}
