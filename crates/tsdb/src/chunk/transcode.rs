//! Chunks of the newer encodings in the form that every reader of the wire understands.

use model::FloatHistogram;
use model::histogram::{Histogram, ResetHint};

use super::{
    Encoding, FloatHistogramEncoder, HistogramEncoder, Pushed, XorEncoder, decode_floats,
    decode_histograms, decode_integer_histograms, reset_hint,
};
use crate::error::{Case, Error};

/// A chunk encoded again, in an encoding that every peer reads, with the closed span of its samples
/// in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcoded {
    pub encoding: Encoding,
    pub data: Vec<u8>,
    pub min_time: i64,
    pub max_time: i64,
}

/// Rewrites a chunk of encoding 4, 5 or 6 as chunks of encoding 1, 2 or 3; start times are lost. No
/// samples give no chunks.
///
/// # Errors
/// Corrupt data, and chunks that [need no transcoding](Encoding::needs_transcoding).
pub fn transcode(encoding: Encoding, data: &[u8]) -> Result<Vec<Transcoded>, Error> {
    let mut ts = Vec::new();
    match encoding {
        Encoding::Xor2 => {
            let mut values = Vec::new();
            decode_floats(encoding, data, &mut ts, &mut values)?;
            Ok(floats(&ts, &values))
        }
        Encoding::HistogramSt => {
            let mut values = Vec::new();
            decode_integer_histograms(encoding, data, &mut ts, &mut values)?;
            integer_histograms(reset_hint(encoding, data)?, &ts, &values)
        }
        Encoding::FloatHistogramSt => {
            let mut values = Vec::new();
            decode_histograms(encoding, data, &mut ts, &mut values)?;
            float_histograms(reset_hint(encoding, data)?, &ts, &values)
        }
        _ => Err(Error(Case::WrongEncoding { wanted: "what needs transcoding", encoding })),
    }
}

/// Floats as one chunk, or none.
pub(super) fn floats(ts: &[i64], values: &[f64]) -> Vec<Transcoded> {
    let mut encoder = XorEncoder::new();
    ts.iter().zip(values).for_each(|(t, value)| encoder.push(*t, *value));
    chunk(Encoding::Xor, ts, encoder.finish()).into_iter().collect()
}

/// `header` says what is known about a reset before the first.
pub(super) fn integer_histograms(
    header: ResetHint,
    ts: &[i64],
    values: &[Histogram],
) -> Result<Vec<Transcoded>, Error> {
    let push = |encoder: &mut HistogramEncoder, i: usize| encoder.push(ts[i], &values[i]);
    let coding = Coding {
        encoding: Encoding::Histogram,
        begin: HistogramEncoder::new,
        push,
        finish: HistogramEncoder::finish,
    };
    runs(coding, header, ts)
}

/// As [`integer_histograms`].
pub(super) fn float_histograms(
    header: ResetHint,
    ts: &[i64],
    values: &[FloatHistogram],
) -> Result<Vec<Transcoded>, Error> {
    let push = |encoder: &mut FloatHistogramEncoder, i: usize| encoder.push(ts[i], &values[i]);
    let coding = Coding {
        encoding: Encoding::FloatHistogram,
        begin: FloatHistogramEncoder::new,
        push,
        finish: FloatHistogramEncoder::finish,
    };
    runs(coding, header, ts)
}

/// What an encoder does, and the encoding of what it makes.
struct Coding<B, P, F> {
    encoding: Encoding,
    begin: B,
    /// Pushes the histogram with the given index.
    push: P,
    finish: F,
}

/// Encodes histograms into as many chunks as the encoder needs.
fn runs<E>(
    coding: Coding<
        impl Fn(ResetHint) -> E,
        impl Fn(&mut E, usize) -> Result<Pushed, Error>,
        impl Fn(E) -> Vec<u8>,
    >,
    header: ResetHint,
    ts: &[i64],
) -> Result<Vec<Transcoded>, Error> {
    let Coding { encoding, begin, push, finish } = coding;
    let mut chunks = Vec::new();
    let (mut encoder, mut first) = (begin(header), 0);
    for i in 0..ts.len() {
        if let Pushed::NewChunk(header) = push(&mut encoder, i)? {
            let full = std::mem::replace(&mut encoder, begin(header));
            chunks.extend(chunk(encoding, &ts[first..i], finish(full)));
            first = i;
            push(&mut encoder, i)?;
        }
    }
    chunks.extend(chunk(encoding, &ts[first..], finish(encoder)));
    Ok(chunks)
}

fn chunk(encoding: Encoding, ts: &[i64], data: Vec<u8>) -> Option<Transcoded> {
    let (min_time, max_time) = (*ts.first()?, *ts.last()?);
    Some(Transcoded { encoding, data, min_time, max_time })
}
