//! The bucket layout at the start of a histogram chunk, shared by all its samples.
//!
//! ```text
//! zero threshold: byte 0 | byte 1..=254: 2^(byte - 244) | byte 255 + f64
//! varbit_int schema | spans positive | spans negative | custom bounds, of schema -53 only
//! spans:          varbit_uint n | n * ( varbit_uint length | varbit_int offset )
//! custom bounds:  varbit_uint n | n * ( varbit_uint 1000 * bound + 1  or  0 bit + f64 )
//! ```

use model::histogram::{BucketSpan, CUSTOM_BUCKETS_SCHEMA, bucket_count, is_known_schema};

use super::bits::{BitReader, BitWriter};
use super::varbit;
use crate::error::{Case, Error};

/// Decoded samples repeat spans and bounds, which are in the chunk only once. Real chunks are far
/// below this.
const MAX_REPEATED: usize = 1 << 22;

/// Buckets of all samples together, of which a bit may say that there is one: 128 MiB once they are
/// decoded. As many samples as a chunk can hold, with 160 buckets each, are below this.
const MAX_BUCKETS: usize = 1 << 24;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ChunkLayout {
    pub(super) schema: i32,
    pub(super) zero_threshold: f64,
    pub(super) positive_spans: Vec<BucketSpan>,
    pub(super) negative_spans: Vec<BucketSpan>,
    pub(super) custom_values: Vec<f64>,
}

impl ChunkLayout {
    /// Reads the layout of a chunk of `samples` samples in `len` bytes.
    pub(super) fn read(
        reader: &mut BitReader<'_>,
        samples: usize,
        len: usize,
    ) -> Result<ChunkLayout, Error> {
        let zero_threshold = read_zero_threshold(reader);
        let schema = varbit::read_int(reader);
        let Some(schema) = i32::try_from(schema).ok().filter(|schema| is_known_schema(*schema))
        else {
            return Err(Error(Case::Unsupported {
                what: WHAT,
                reason: format!("histogram schema {schema}"),
            }));
        };
        let positive_spans = read_spans(reader, len)?;
        let negative_spans = read_spans(reader, len)?;
        let custom_values = if schema == CUSTOM_BUCKETS_SCHEMA {
            read_custom_bounds(reader, len)?
        } else {
            Vec::new()
        };
        let layout =
            ChunkLayout { schema, zero_threshold, positive_spans, negative_spans, custom_values };
        if layout.buckets() > len * 8 {
            return Err(Error::corrupt(
                WHAT,
                0,
                format!("{} buckets in {len} bytes", layout.buckets()),
            ));
        }
        let repeated =
            layout.positive_spans.len() + layout.negative_spans.len() + layout.custom_values.len();
        if repeated.saturating_mul(samples) > MAX_REPEATED {
            let reason = format!("{samples} histograms of {repeated} spans and bounds each");
            return Err(Error(Case::Limit { what: WHAT, reason }));
        }
        if layout.buckets().saturating_mul(samples) > MAX_BUCKETS {
            let reason = format!("{samples} histograms of {} buckets each", layout.buckets());
            return Err(Error(Case::Limit { what: WHAT, reason }));
        }
        Ok(layout)
    }

    pub(super) fn put(&self, out: &mut BitWriter) {
        put_zero_threshold(out, self.zero_threshold);
        varbit::put_int(out, i64::from(self.schema));
        for spans in [&self.positive_spans, &self.negative_spans] {
            varbit::put_uint(out, spans.len() as u64);
            for span in spans {
                varbit::put_uint(out, u64::from(span.length));
                varbit::put_int(out, i64::from(span.offset));
            }
        }
        if self.schema == CUSTOM_BUCKETS_SCHEMA {
            varbit::put_uint(out, self.custom_values.len() as u64);
            for &bound in &self.custom_values {
                put_custom_bound(out, bound);
            }
        }
    }

    /// Buckets of both sides.
    pub(super) fn buckets(&self) -> usize {
        bucket_count(&self.positive_spans).saturating_add(bucket_count(&self.negative_spans))
    }
}

const WHAT: &str = "histogram chunk";

fn read_spans(reader: &mut BitReader<'_>, len: usize) -> Result<Vec<BucketSpan>, Error> {
    let count = varbit::read_uint(reader);
    // a span takes at least two bits
    if count > len as u64 * 4 {
        return Err(Error::corrupt(WHAT, 0, format!("{count} spans in {len} bytes")));
    }
    let mut spans = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let (length, offset) = (varbit::read_uint(reader), varbit::read_int(reader));
        let (Ok(length), Ok(offset)) = (u32::try_from(length), i32::try_from(offset)) else {
            return Err(Error::corrupt(
                WHAT,
                0,
                format!("span of offset {offset} and length {length}"),
            ));
        };
        spans.push(BucketSpan { offset, length });
    }
    Ok(spans)
}

fn read_custom_bounds(reader: &mut BitReader<'_>, len: usize) -> Result<Vec<f64>, Error> {
    let count = varbit::read_uint(reader);
    // a bound takes at least five bits
    if count > len as u64 * 2 {
        return Err(Error::corrupt(WHAT, 0, format!("{count} custom bounds in {len} bytes")));
    }
    let bound = |reader: &mut BitReader<'_>| match varbit::read_uint(reader) {
        0 => f64::from_bits(reader.read(64)),
        thousandths => (thousandths - 1) as f64 / 1000.0,
    };
    Ok((0..count).map(|_| bound(reader)).collect())
}

/// Bounds are mostly decimals written by people, hence the short form for thousandths.
fn put_custom_bound(out: &mut BitWriter, bound: f64) {
    let thousandths = bound * 1000.0;
    let rounded = thousandths.round();
    if (0.0..=33_554_430.0).contains(&thousandths) && rounded / 1000.0 == bound {
        varbit::put_uint(out, rounded as u64 + 1);
    } else {
        out.put(0, 1);
        out.put(bound.to_bits(), 64);
    }
}

fn read_zero_threshold(reader: &mut BitReader<'_>) -> f64 {
    match reader.read(8) {
        0 => 0.0,
        255 => f64::from_bits(reader.read(64)),
        byte => power_of_two(byte as i64 - 244),
    }
}

fn put_zero_threshold(out: &mut BitWriter, threshold: f64) {
    if threshold == 0.0 {
        return out.put(0, 8);
    }
    let exponent = (threshold.to_bits() >> 52) as i64 - 1023;
    let short = (-243..=10).contains(&exponent) && threshold == power_of_two(exponent);
    if short {
        out.put((exponent + 244) as u64, 8);
    } else {
        out.put(255, 8);
        out.put(threshold.to_bits(), 64);
    }
}

/// `2^exponent` for normal floats.
fn power_of_two(exponent: i64) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn chunks_that_would_decode_to_gigabytes_are_refused() {
        let positive_spans = vec![BucketSpan { offset: 0, length: 1 << 20 }];
        let layout = ChunkLayout { positive_spans, ..ChunkLayout::default() };
        let mut out = BitWriter::from_bytes(Vec::new());
        layout.put(&mut out);
        let bytes = out.finish();
        let read = |samples| ChunkLayout::read(&mut BitReader::new(&bytes), samples, 1 << 20);
        assert_eq!(read(16).unwrap(), layout);
        assert_eq!(read(17).unwrap_err().kind(), Kind::Limit);
    }
}
