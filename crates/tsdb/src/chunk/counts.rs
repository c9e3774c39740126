//! The two forms of counts in histogram chunks: integers, coded as deltas of deltas, and floats,
//! coded as XOR.

use std::hint::black_box;

use model::histogram::ResetHint;

use super::bits::{BitReader, BitWriter};
use super::varbit;
use super::xor::{XorState, XorWriter};

/// A field that holds a count: the first value of totals and of buckets is coded differently.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CountField {
    /// The count of observations or of the zero bucket.
    Total,
    Bucket,
}

/// How the counts of one form are coded. What a bucket *stores* is its absolute count for floats,
/// and the difference to the bucket before it for integers.
pub(super) trait Count: Copy + Default + PartialOrd {
    /// What a reader keeps of a field from sample to sample.
    type Read;
    /// What a writer keeps of a field from sample to sample.
    type Write;

    /// The header that Prometheus' appender gives a new chunk that a counter begins after a gauge.
    const AFTER_GAUGE: ResetHint;

    fn to_stored(count: Self, before: Self) -> Self;
    fn from_stored(stored: Self, before: Self) -> Self;

    fn read_first(reader: &mut BitReader<'_>, field: CountField) -> Self::Read;
    /// The field in the next sample; `None` when it is malformed.
    fn read_next(reader: &mut BitReader<'_>, state: &mut Self::Read) -> Option<Self>;
    fn value(state: &Self::Read) -> Self;

    /// The absolute counts of one side's buckets in the next sample; `None` when one is malformed.
    #[inline(always)]
    fn read_side(
        reader: &mut BitReader<'_>,
        states: &mut [Self::Read],
        counts: &mut [Self],
    ) -> Option<()> {
        let mut before = Self::default();
        for (state, count) in states.iter_mut().zip(counts) {
            before = Self::from_stored(Self::read_next(reader, state)?, before);
            *count = before;
        }
        Some(())
    }

    fn put_first(out: &mut BitWriter, field: CountField, value: Self) -> Self::Write;
    fn put_next(out: &mut BitWriter, state: &mut Self::Write, value: Self);
    /// A total of a stale sample, which has no value.
    fn put_stale(out: &mut BitWriter, state: &mut Self::Write);
}

/// A value and its difference to the one before.
pub(super) struct Delta {
    value: i64,
    delta: i64,
}

impl Delta {
    #[inline(always)]
    fn advance(&mut self, change: i64) -> i64 {
        self.delta = self.delta.wrapping_add(change);
        self.value = self.value.wrapping_add(self.delta);
        self.value
    }
}

/// Totals are `u64` in chunks; here they share the type of buckets, bit for bit.
impl Count for i64 {
    type Read = Delta;
    type Write = Delta;

    const AFTER_GAUGE: ResetHint = ResetHint::NotReset;

    fn to_stored(count: i64, before: i64) -> i64 {
        count.wrapping_sub(before)
    }

    fn from_stored(stored: i64, before: i64) -> i64 {
        stored.wrapping_add(before)
    }

    fn read_first(reader: &mut BitReader<'_>, field: CountField) -> Delta {
        let value = match field {
            CountField::Total => varbit::read_uint(reader) as i64,
            CountField::Bucket => varbit::read_int(reader),
        };
        Delta { value, delta: 0 }
    }

    #[inline(always)]
    fn read_next(reader: &mut BitReader<'_>, state: &mut Delta) -> Option<i64> {
        Some(state.advance(varbit::read_int(reader)))
    }

    #[inline(always)]
    fn read_side(
        reader: &mut BitReader<'_>,
        states: &mut [Delta],
        counts: &mut [i64],
    ) -> Option<()> {
        let zero = black_box(0);
        let mut before = 0i64;
        let mut set = |state: &mut Delta, change: i64, count: &mut i64| {
            before = before.wrapping_add(state.advance(change));
            *count = before;
        };
        for (states, counts) in states
            .chunks_mut(varbit::SMALL_PER_REFILL)
            .zip(counts.chunks_mut(varbit::SMALL_PER_REFILL))
        {
            reader.refill();
            for (state, count) in states.iter_mut().zip(counts) {
                set(state, varbit::read_small_int(reader, zero), count);
            }
        }
        Some(())
    }

    fn value(state: &Delta) -> i64 {
        state.value
    }

    fn put_first(out: &mut BitWriter, field: CountField, value: i64) -> Delta {
        match field {
            CountField::Total => varbit::put_uint(out, value as u64),
            CountField::Bucket => varbit::put_int(out, value),
        }
        Delta { value, delta: 0 }
    }

    fn put_next(out: &mut BitWriter, state: &mut Delta, value: i64) {
        let delta = value.wrapping_sub(state.value);
        varbit::put_int(out, delta.wrapping_sub(state.delta));
        *state = Delta { value, delta };
    }

    fn put_stale(out: &mut BitWriter, _: &mut Delta) {
        varbit::put_int(out, 0);
    }
}

impl Count for f64 {
    type Read = XorState;
    type Write = XorWriter;

    const AFTER_GAUGE: ResetHint = ResetHint::Unknown;

    fn to_stored(count: f64, _: f64) -> f64 {
        count
    }

    fn from_stored(stored: f64, _: f64) -> f64 {
        stored
    }

    fn read_first(reader: &mut BitReader<'_>, _: CountField) -> XorState {
        XorState::new(f64::from_bits(reader.read(64)))
    }

    #[inline(always)]
    fn read_next(reader: &mut BitReader<'_>, state: &mut XorState) -> Option<f64> {
        reader.refill();
        state.read(reader)
    }

    fn value(state: &XorState) -> f64 {
        f64::from_bits(state.bits)
    }

    fn put_first(out: &mut BitWriter, _: CountField, value: f64) -> XorWriter {
        out.put(value.to_bits(), 64);
        XorWriter::new(value)
    }

    fn put_next(out: &mut BitWriter, state: &mut XorWriter, value: f64) {
        state.put(out, value);
    }

    fn put_stale(out: &mut BitWriter, state: &mut XorWriter) {
        state.put(out, 0.0);
    }
}
