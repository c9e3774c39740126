//! Series descriptions: `metric{label="value"} 1 2+3x4 _ stale {{schema:0 count:1}}x2`.

use std::sync::Arc;

use model::histogram::{BucketSpan, FloatHistogram, ResetHint};
use model::{Labels, STALE_NAN};

use crate::durations::parse_duration;
use crate::numbers::parse_number;
use crate::parser::series_labels;

/// More values than this in one series are refused.
const MAX_VALUES: usize = 1 << 20;

type Result<T> = std::result::Result<T, String>;

/// One value of a series, one interval after the one before it.
#[derive(Clone, Debug)]
pub enum SequenceValue {
    /// `_`: no sample.
    Omitted,
    Float(f64),
    Histogram(HistogramValue),
}

#[derive(Clone, Debug)]
pub struct HistogramValue {
    pub histogram: Arc<FloatHistogram>,
    /// Whether the hint of a counter reset was written; otherwise it is not compared.
    pub hint_written: bool,
}

#[derive(Clone, Debug)]
pub struct SeriesDescription {
    pub labels: Labels,
    pub values: Vec<SequenceValue>,
}

/// Parses one line of a series with its values.
///
/// # Errors
/// What is wrong, in one line.
pub fn parse_series_description(text: &str) -> Result<SeriesDescription> {
    let (labels, end) = series_labels(text).map_err(|e| e.to_string())?;
    let rest = &text[end..];
    if !rest.is_empty() && !rest.starts_with([' ', '\t']) {
        return Err(format!("unexpected {rest:?} behind the labels"));
    }
    let (mut values, mut items) = (Vec::new(), Items { rest });
    while items.skip_blanks() {
        items.item(&mut values)?;
        if values.len() > MAX_VALUES {
            return Err(format!("more than {MAX_VALUES} values"));
        }
        if !items.rest.is_empty() && !items.rest.starts_with([' ', '\t']) {
            return Err(format!("unexpected {:?} in series values", items.rest));
        }
    }
    Ok(SeriesDescription { labels, values })
}

struct Items<'a> {
    rest: &'a str,
}

impl<'a> Items<'a> {
    /// Whether anything follows.
    fn skip_blanks(&mut self) -> bool {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
        !self.rest.is_empty()
    }

    fn eat(&mut self, prefix: &str) -> bool {
        let rest = self.rest.strip_prefix(prefix);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !accept(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    /// `xN`, if it follows.
    fn times(&mut self) -> Result<Option<usize>> {
        if !self.eat("x") {
            return Ok(None);
        }
        let digits = self.take_while(|c| c.is_ascii_digit());
        match digits.parse() {
            Ok(n) if n <= MAX_VALUES => Ok(Some(n)),
            _ => Err(format!("invalid repetition in series values: {digits:?}")),
        }
    }

    fn item(&mut self, values: &mut Vec<SequenceValue>) -> Result<()> {
        if self.eat("_") {
            let count = self.times()?.unwrap_or(1);
            values.extend(std::iter::repeat_n(SequenceValue::Omitted, count));
            return Ok(());
        }
        if self.rest.starts_with("{{") {
            return self.histogram_item(values);
        }
        let mut value = self.number()?;
        let step = if self.rest.starts_with(['+', '-']) { self.number()? } else { 0.0 };
        let times = match self.times()? {
            None if step != 0.0 => return Err("an increment needs a repetition".to_owned()),
            times => times.unwrap_or(0),
        };
        for _ in 0..=times {
            values.push(SequenceValue::Float(value));
            value += step;
        }
        Ok(())
    }

    /// A number with or without sign, or `stale`.
    fn number(&mut self) -> Result<f64> {
        let negative = self.eat("-");
        if !negative {
            self.eat("+");
        }
        let word = self.take_while(|c| c.is_ascii_alphabetic());
        let value = match word {
            "stale" => return Ok(STALE_NAN),
            "" => {
                let mut digits =
                    self.take_while(|c| matches!(c, '0'..='9' | '.' | '_' | 'e' | 'E')).to_owned();
                if digits.ends_with(['e', 'E']) && self.rest.starts_with(['+', '-']) {
                    let (sign, rest) = self.rest.split_at(1);
                    self.rest = rest;
                    digits = digits + sign + self.take_while(|c| c.is_ascii_digit());
                }
                parse_number(&digits)?
            }
            word if word.eq_ignore_ascii_case("inf") || word.eq_ignore_ascii_case("nan") => {
                parse_number(word)?
            }
            word => {
                return Err(format!(
                    "unexpected identifier {word:?} in series values, expected number or \"stale\""
                ));
            }
        };
        Ok(if negative { -value } else { value })
    }

    fn histogram_item(&mut self, values: &mut Vec<SequenceValue>) -> Result<()> {
        let (mut histogram, mut hint_written) = self.histogram()?;
        let subtract = self.rest.starts_with("-{{");
        let mut step = None;
        if self.rest.starts_with("+{{") || subtract {
            self.rest = &self.rest[1..];
            let (by, hint) = self.histogram()?;
            hint_written = hint;
            step = Some(by);
        }
        let times = match (self.times()?, &step) {
            (None, Some(_)) => return Err("an increment needs a repetition".to_owned()),
            (times, _) => times.unwrap_or(0),
        };
        for i in 0..=times {
            if let Some(step) = step.as_ref().filter(|_| i > 0) {
                if histogram.schema > step.schema {
                    let (from, to) = (step.schema, histogram.schema);
                    return Err(format!(
                        "error combining histograms: cannot merge from schema {from} to {to}"
                    ));
                }
                let combined = if subtract { histogram.sub(step) } else { histogram.add(step) };
                combined.map_err(|e| e.to_string())?;
            }
            let histogram = Arc::new(histogram.clone());
            values.push(SequenceValue::Histogram(HistogramValue { histogram, hint_written }));
        }
        Ok(())
    }

    /// `{{…}}` and whether it holds a hint of a counter reset.
    fn histogram(&mut self) -> Result<(FloatHistogram, bool)> {
        let inner = self.rest.strip_prefix("{{").unwrap_or(self.rest);
        let Some((inner, rest)) = inner.split_once("}}") else {
            return Err("histogram description is not closed".to_owned());
        };
        self.rest = rest;
        let mut draft = HistogramDraft::default();
        let mut fields = Items { rest: inner };
        let mut seen = Vec::new();
        while fields.skip_blanks() {
            let key = fields.take_while(|c| c.is_ascii_alphabetic() || c == '_');
            if !fields.eat(":") {
                return Err(format!("bad histogram descriptor found: {key:?}"));
            }
            if seen.contains(&key) {
                return Err(format!("duplicate key {key:?} in histogram"));
            }
            seen.push(key);
            let value = if fields.rest.starts_with('[') {
                let list = fields.take_while(|c| c != ']');
                if !fields.eat("]") {
                    return Err(format!("list of {key:?} is not closed"));
                }
                &list[1..]
            } else {
                fields.take_while(|c| !matches!(c, ' ' | '\t'))
            };
            draft.set(key, value)?;
        }
        Ok((draft.finish(), seen.contains(&"counter_reset_hint")))
    }
}

/// A histogram whose buckets and their offsets may come in any order.
#[derive(Default)]
struct HistogramDraft {
    histogram: FloatHistogram,
    offset: i32,
    negative_offset: i32,
}

impl HistogramDraft {
    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let histogram = &mut self.histogram;
        match key {
            "schema" => histogram.schema = integer(value)?,
            "sum" => histogram.sum = number(value)?,
            "count" => histogram.count = number(value)?,
            "z_bucket" => histogram.zero_count = number(value)?,
            "z_bucket_w" => histogram.zero_threshold = number(value)?,
            "custom_values" => histogram.custom_values = numbers(value)?,
            "buckets" => histogram.positive_buckets = numbers(value)?,
            "n_buckets" => histogram.negative_buckets = numbers(value)?,
            "offset" => self.offset = integer(value)?,
            "n_offset" => self.negative_offset = integer(value)?,
            "counter_reset_hint" => {
                histogram.hint = match value {
                    "unknown" => ResetHint::Unknown,
                    "reset" => ResetHint::Reset,
                    "not_reset" => ResetHint::NotReset,
                    "gauge" => ResetHint::Gauge,
                    other => return Err(format!("unknown counter_reset_hint {other:?}")),
                }
            }
            other => return Err(format!("bad histogram descriptor found: {other:?}")),
        }
        Ok(())
    }

    fn finish(self) -> FloatHistogram {
        let spans = |offset, buckets: &[f64]| match u32::try_from(buckets.len()) {
            Ok(length) if length > 0 => vec![BucketSpan { offset, length }],
            _ => Vec::new(),
        };
        let mut histogram = self.histogram;
        histogram.positive_spans = spans(self.offset, &histogram.positive_buckets);
        histogram.negative_spans = spans(self.negative_offset, &histogram.negative_buckets);
        histogram
    }
}

fn integer(text: &str) -> Result<i32> {
    text.parse().map_err(|_| format!("invalid integer {text:?} in histogram description"))
}

fn number(text: &str) -> Result<f64> {
    let mut items = Items { rest: text };
    let value = items.number()?;
    if items.rest.is_empty() {
        Ok(value)
    } else {
        Err(format!("invalid number {text:?} in histogram description"))
    }
}

fn numbers(text: &str) -> Result<Vec<f64>> {
    text.split([' ', '\t']).filter(|word| !word.is_empty()).map(number).collect()
}

/// Start timestamps relative to their samples, in milliseconds: `_`, `_x3`, `-1m`, `-1mx3`,
/// `-30s-1mx2`.
pub(super) fn parse_start_offsets(text: &str) -> Result<Vec<Option<i64>>> {
    let mut offsets = Vec::new();
    let mut items = Items { rest: text };
    while items.skip_blanks() {
        if items.eat("_") {
            offsets.extend(std::iter::repeat_n(None, items.times()?.unwrap_or(1)));
            continue;
        }
        let mut offset = signed_duration(&mut items)?;
        let step =
            if items.rest.starts_with(['+', '-']) { signed_duration(&mut items)? } else { 0 };
        for _ in 0..=items.times()?.unwrap_or(0) {
            offsets.push(Some(offset));
            offset += step;
        }
    }
    Ok(offsets)
}

fn signed_duration(items: &mut Items<'_>) -> Result<i64> {
    let negative = items.eat("-");
    if !negative {
        items.eat("+");
    }
    let text = items.take_while(|c| c.is_ascii_digit() || (c.is_ascii_alphabetic() && c != 'x'));
    let millis = parse_duration(text).map_err(|e| e.to_string())?;
    Ok(if negative { -millis } else { millis })
}
