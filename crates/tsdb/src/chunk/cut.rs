//! Chunks without the samples that tombstones delete.

use model::histogram::ResetHint;

use super::transcode::{float_histograms, floats, integer_histograms};
use super::{
    Aggregate, Encoding, Transcoded, decode_floats, decode_histograms, decode_integer_histograms,
    histogram, join_aggregates, reset_hint, split_aggregates,
};
use crate::error::{Case, Error};
use crate::tombstones::{Interval, covers};

/// What is left of a chunk without the samples in the `deleted` spans, which ascend; `None` when
/// that is all of it.
///
/// What is left is encoded again, usually as one chunk, or none where nothing is left. Encodings 4,
/// 5 and 6 become 1, 2 and 3, because start times are not used here. A window of an AggrChunk is
/// removed from all aggregates alike if its time is deleted.
///
/// # Errors
/// Corrupt data.
pub fn cut(
    encoding: Encoding,
    data: &[u8],
    deleted: &[Interval],
) -> Result<Option<Vec<Transcoded>>, Error> {
    let mut ts = Vec::new();
    match encoding {
        Encoding::Aggregate => cut_aggregates(data, deleted),
        Encoding::Xor | Encoding::Xor2 => {
            let mut values = Vec::new();
            decode_floats(encoding, data, &mut ts, &mut values)?;
            Ok(retain(&mut ts, &mut values, |t| !covers(deleted, t)).map(|_| floats(&ts, &values)))
        }
        Encoding::Histogram | Encoding::HistogramSt => {
            let mut values = Vec::new();
            decode_integer_histograms(encoding, data, &mut ts, &mut values)?;
            let Some(begin) = retain(&mut ts, &mut values, |t| !covers(deleted, t)) else {
                return Ok(None);
            };
            integer_histograms(begin.header(encoding, data)?, &ts, &values).map(Some)
        }
        Encoding::FloatHistogram | Encoding::FloatHistogramSt => {
            let mut values = Vec::new();
            decode_histograms(encoding, data, &mut ts, &mut values)?;
            let Some(begin) = retain(&mut ts, &mut values, |t| !covers(deleted, t)) else {
                return Ok(None);
            };
            float_histograms(begin.header(encoding, data)?, &ts, &values).map(Some)
        }
    }
}

/// A histogram chunk whose header no longer says that no counter was reset before it, for when the
/// chunk it refers to is gone; `None` when it does not say so.
pub fn forget_reset(encoding: Encoding, data: &[u8]) -> Option<Vec<u8>> {
    if !encoding.is_histogram() || reset_hint(encoding, data) != Ok(ResetHint::NotReset) {
        return None;
    }
    let mut data = data.to_vec();
    *data.get_mut(histogram::flags_at(encoding))? &= 0x3f;
    Some(data)
}

/// How what is left of a chunk begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    AsBefore,
    Later,
}

impl Begin {
    /// What the header may still say about a reset before the first sample. There is no reset
    /// between the samples inside a chunk, so only those removed from the front matter.
    fn header(self, encoding: Encoding, data: &[u8]) -> Result<ResetHint, Error> {
        Ok(match (self, reset_hint(encoding, data)?) {
            (Begin::AsBefore, hint) | (_, hint @ ResetHint::Gauge) => hint,
            (Begin::Later, _) => ResetHint::Unknown,
        })
    }
}

/// Keeps only the samples for which `keep` is true; `None` when that is all of them.
fn retain<V>(ts: &mut Vec<i64>, values: &mut Vec<V>, keep: impl Fn(i64) -> bool) -> Option<Begin> {
    let first_gone = ts.iter().position(|t| !keep(*t))?;
    let mut kept = ts.iter().map(|t| keep(*t));
    values.retain(|_| kept.next().unwrap_or(true));
    ts.retain(|t| keep(*t));
    Some(if first_gone == 0 { Begin::Later } else { Begin::AsBefore })
}

fn cut_aggregates(data: &[u8], deleted: &[Interval]) -> Result<Option<Vec<Transcoded>>, Error> {
    let parts = split_aggregates(data)?;
    let windows = match parts[Aggregate::Count as usize].or(parts.iter().flatten().next().copied())
    {
        Some((encoding, data)) => times(encoding, data)?,
        None => return Ok(None),
    };
    let left: Vec<i64> = windows.iter().copied().filter(|t| !covers(deleted, *t)).collect();
    if left.len() == windows.len() {
        return Ok(None);
    }
    let (Some(min_time), Some(max_time)) = (left.first().copied(), left.last().copied()) else {
        return Ok(Some(Vec::new()));
    };
    // the times of the counter's first raw sample, and of its last window where it became NaN, are
    // before the end of their window
    let keep = |t: i64| match windows.get(windows.partition_point(|w| *w < t)) {
        Some(window) => !covers(deleted, *window),
        None => !covers(deleted, t),
    };
    let mut cut_parts: [Option<(Encoding, Vec<u8>)>; 5] = Default::default();
    for (aggregate, to) in Aggregate::ALL.into_iter().zip(&mut cut_parts) {
        if let Some((encoding, data)) = parts[aggregate as usize] {
            *to = cut_part(aggregate, encoding, data, keep)?;
        }
    }
    let borrowed = cut_parts
        .each_ref()
        .map(|part| part.as_ref().map(|(encoding, data)| (*encoding, &data[..])));
    let data = join_aggregates(&borrowed);
    Ok(Some(vec![Transcoded { encoding: Encoding::Aggregate, data, min_time, max_time }]))
}

fn times(encoding: Encoding, data: &[u8]) -> Result<Vec<i64>, Error> {
    let mut ts = Vec::new();
    match encoding.is_histogram() {
        true => decode_histograms(encoding, data, &mut ts, &mut Vec::new())?,
        false => decode_floats(encoding, data, &mut ts, &mut Vec::new())?,
    }
    Ok(ts)
}

/// One aggregate of the windows that are left; `None` when it has none of them.
fn cut_part(
    aggregate: Aggregate,
    encoding: Encoding,
    data: &[u8],
    keep: impl Fn(i64) -> bool,
) -> Result<Option<(Encoding, Vec<u8>)>, Error> {
    let mut ts = Vec::new();
    let encoded = if encoding.is_histogram() {
        let mut values = Vec::new();
        decode_histograms(encoding, data, &mut ts, &mut values)?;
        // counters of histograms have no raw samples around them
        let begin = retain(&mut ts, &mut values, keep).unwrap_or(Begin::AsBefore);
        float_histograms(begin.header(encoding, data)?, &ts, &values)?
    } else {
        let mut values = Vec::new();
        decode_floats(encoding, data, &mut ts, &mut values)?;
        match aggregate {
            Aggregate::Counter => retain_counter(&mut ts, &mut values, keep),
            _ => _ = retain(&mut ts, &mut values, keep),
        }
        floats(&ts, &values)
    };
    let mut encoded = encoded.into_iter();
    let first = encoded.next();
    if encoded.next().is_some() {
        let reason = "a counter histogram of an AggrChunk was reset inside the chunk".into();
        return Err(Error(Case::Unsupported { what: "deleting windows", reason }));
    }
    Ok(first.map(|chunk| (chunk.encoding, chunk.data)))
}

/// As [`retain`]. A counter has its first raw sample in front of its windows, and after them the
/// time of the last one again with the last raw value; where those are gone, the outermost
/// remaining windows take their place.
fn retain_counter(ts: &mut Vec<i64>, values: &mut Vec<f64>, keep: impl Fn(i64) -> bool) {
    let framed = ts.len() >= 3 && ts[ts.len() - 1] == ts[ts.len() - 2];
    if !framed {
        retain(ts, values, keep);
        return;
    }
    let (front_time, front_value) = (ts.remove(0), values.remove(0));
    let (back_time, back_value) = (ts.pop(), values.pop());
    retain(ts, values, &keep);
    let (Some(first), Some(last)) = (ts.first().copied(), ts.last().copied()) else { return };
    let (first_value, last_value) = (values[0], values[values.len() - 1]);
    let front = if keep(front_time) { (front_time, front_value) } else { (first, first_value) };
    ts.insert(0, front.0);
    values.insert(0, front.1);
    ts.push(last);
    values.push(back_value.filter(|_| back_time == Some(last)).unwrap_or(last_value));
}

#[cfg(test)]
mod tests;
