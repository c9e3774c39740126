//! Encoding 1, Gorilla's XOR with Prometheus' bit widths.
//!
//! ```text
//! u16 BE samples | varint t0 | f64 BE v0 | uvarint t1-t0 | xor v1 | ( dod ti | xor vi )* | zero padding
//! dod:  0                     0
//!       10    + 14 bits       -8191 ..= 8192
//!       110   + 17 bits       -65535 ..= 65536
//!       1110  + 20 bits       -524287 ..= 524288
//!       1111  + 64 bits
//! xor:  0                                          the bits of the value before
//!       10 + the bits inside the window before
//!       11 + 5 bits leading zeros + 6 bits length (0 is 64) + the bits inside that window
//! ```

use super::bits::{BitReader, BitWriter};
use crate::Error;
use crate::varint::{put_uvarint, put_varint, read_uvarint, read_varint};

const WHAT: &str = "XOR chunk";

/// The window of significant bits of an XOR run.
#[derive(Clone, Copy, Debug)]
pub(super) struct SignificantBits {
    length: u32,
    trailing: u32,
}

impl Default for SignificantBits {
    fn default() -> SignificantBits {
        SignificantBits { length: 64, trailing: 0 }
    }
}

impl SignificantBits {
    #[inline(always)]
    pub(super) fn length(self) -> u32 {
        self.length
    }

    fn leading(self) -> u32 {
        64 - self.length - self.trailing
    }

    /// Reads `5 bits leading | 6 bits length`, for which 11 bits must be valid; `None` if they
    /// exceed 64 bits.
    #[inline(always)]
    pub(super) fn read(reader: &mut BitReader<'_>) -> Option<SignificantBits> {
        let head = reader.peek(11) as u32;
        reader.consume(11);
        let (leading, length) = (head >> 6, head & 0x3f);
        let length = if length == 0 { 64 } else { length };
        Some(SignificantBits { length, trailing: 64u32.checked_sub(leading + length)? })
    }
}

/// The value before, as bits, and the window of its bits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct XorState {
    pub(super) bits: u64,
    pub(super) window: SignificantBits,
}

impl XorState {
    pub(super) fn new(value: f64) -> XorState {
        XorState { bits: value.to_bits(), window: SignificantBits::default() }
    }

    /// Reads the next value; 13 bits must be valid. `None` when the window is malformed.
    #[inline(always)]
    pub(super) fn read(&mut self, reader: &mut BitReader<'_>) -> Option<f64> {
        match reader.peek(2) {
            0 | 1 => reader.consume(1),
            control => {
                reader.consume(2);
                if control == 3 {
                    self.window = SignificantBits::read(reader)?;
                }
                self.read_inside(reader);
            }
        }
        Some(f64::from_bits(self.bits))
    }

    #[inline(always)]
    pub(super) fn read_inside(&mut self, reader: &mut BitReader<'_>) {
        self.bits ^= reader.read(self.window.length) << self.window.trailing;
    }
}

/// The writing side of [`XorState`]; no window is open at first.
#[derive(Clone, Copy, Debug)]
pub(super) struct XorWriter {
    bits: u64,
    window: Option<SignificantBits>,
}

impl XorWriter {
    pub(super) fn new(value: f64) -> XorWriter {
        XorWriter { bits: value.to_bits(), window: None }
    }

    pub(super) fn value(&self) -> f64 {
        f64::from_bits(self.bits)
    }

    #[inline]
    pub(super) fn put(&mut self, out: &mut BitWriter, value: f64) {
        let delta = value.to_bits() ^ self.bits;
        self.bits = value.to_bits();
        if delta == 0 {
            out.put(0, 1);
            return;
        }
        // the field has five bits: more leading zeros are written as value bits
        let (leading, trailing) = (delta.leading_zeros().min(31), delta.trailing_zeros());
        let fresh = SignificantBits { length: 64 - leading - trailing, trailing };
        match self.window {
            Some(open) if leading >= open.leading() && trailing >= open.trailing => {
                out.put(0b10, 2);
                out.put(delta >> open.trailing, open.length());
            }
            _ => {
                self.window = Some(fresh);
                out.put(
                    0b11 << 11 | u64::from(leading) << 6 | u64::from(fresh.length() & 0x3f),
                    13,
                );
                out.put(delta >> trailing, fresh.length());
            }
        }
    }
}

/// Appends all samples of the chunk; appends nothing when it fails.
pub(super) fn decode(data: &[u8], ts: &mut Vec<i64>, values: &mut Vec<f64>) -> Result<(), Error> {
    let count = super::sample_count(data, WHAT)?;
    if count == 0 {
        return Ok(());
    }
    let mut at = 2;
    let (mut t, len) = read_varint(&data[at..]).ok_or(Error::truncated(WHAT, at))?;
    at += len;
    let first = data.get(at..at + 8).ok_or(Error::truncated(WHAT, at))?;
    let first = f64::from_bits(u64::from_be_bytes(first.try_into().expect("eight bytes")));
    at += 8;
    if count == 1 {
        ts.push(t);
        values.push(first);
        return Ok(());
    }
    let (delta, len) = read_uvarint(&data[at..]).ok_or(Error::truncated(WHAT, at))?;
    at += len;
    // every further sample takes two bits or more: a larger count is wrong and must not be
    // allocated for
    if count - 2 > (data.len() - at) * 4 {
        return Err(Error::corrupt(WHAT, 0, format!("{count} samples in {} bytes", data.len())));
    }
    let (old_ts, old_values) = (ts.len(), values.len());
    ts.resize(old_ts + count, 0);
    values.resize(old_values + count, 0.0);
    let (new_ts, new_values) = (&mut ts[old_ts..], &mut values[old_values..]);
    let mut reader = BitReader::new(&data[at..]);
    let mut state = XorState::new(first);
    reader.refill();
    (new_ts[0], new_values[0]) = (t, first);
    t = t.wrapping_add(delta as i64);
    let second = state.read(&mut reader);
    (new_ts[1], new_values[1]) = (t, second.unwrap_or_default());
    let decoded = second.is_some()
        && decode_rest(
            &mut reader,
            Before { t, delta: delta as i64, value: state },
            &mut new_ts[2..],
            &mut new_values[2..],
        )
        && !reader.overrun();
    if !decoded {
        ts.truncate(old_ts);
        values.truncate(old_values);
        let reason = if reader.overrun() {
            "more samples than bits"
        } else {
            "more than 64 significant bits"
        };
        return Err(Error::corrupt(WHAT, at, reason));
    }
    Ok(())
}

/// What a sample is coded against.
struct Before {
    t: i64,
    delta: i64,
    value: XorState,
}

/// Decodes the samples from the third on; false when a window is malformed.
#[inline(always)]
fn decode_rest(
    reader: &mut BitReader<'_>,
    before: Before,
    ts: &mut [i64],
    values: &mut [f64],
) -> bool {
    let Before { mut t, mut delta, value: mut state } = before;
    for (t_slot, value_slot) in ts.iter_mut().zip(values) {
        reader.refill();
        // scrapes are regular, or jitter by less than eight seconds
        match reader.peek(16) {
            0..0x8000 => reader.consume(1),
            bits @ 0x8000..0xc000 => {
                reader.consume(16);
                delta = delta.wrapping_add(sign_extend(bits & 0x3fff, 14));
            }
            _ => {
                let (rest, dod) = read_dod(*reader);
                *reader = rest;
                delta = delta.wrapping_add(dod);
                reader.refill();
            }
        }
        t = t.wrapping_add(delta);
        *t_slot = t;
        let Some(value) = state.read(reader) else { return false };
        *value_slot = value;
    }
    true
}

/// Reads a delta of deltas of a rare width.
#[cold]
fn read_dod(mut reader: BitReader<'_>) -> (BitReader<'_>, i64) {
    let n = match reader.read_ones(4) {
        2 => 17,
        3 => 20,
        _ => 64,
    };
    let bits = reader.read(n);
    (reader, if n == 64 { bits as i64 } else { sign_extend(bits, n) })
}

/// In `n` bits, only values *above* half are negative: Prometheus' ranges are `-(2^(n-1)-1) ..=
/// 2^(n-1)`.
#[inline]
pub(super) const fn sign_extend(bits: u64, n: u32) -> i64 {
    let bits = bits as i64;
    if bits > 1 << (n - 1) { bits - (1 << n) } else { bits }
}

/// Whether [`sign_extend`] can restore `value` from `n` bits.
pub(super) fn fits(value: i64, n: u32) -> bool {
    -((1 << (n - 1)) - 1) <= value && value <= 1 << (n - 1)
}

fn put_dod(out: &mut BitWriter, dod: i64) {
    match dod {
        0 => out.put(0, 1),
        _ if fits(dod, 14) => out.put(0b10 << 14 | (dod as u64 & 0x3fff), 16),
        _ if fits(dod, 17) => out.put(0b110 << 17 | (dod as u64 & 0x1_ffff), 20),
        _ if fits(dod, 20) => out.put(0b1110 << 20 | (dod as u64 & 0xf_ffff), 24),
        _ => {
            out.put(0b1111, 4);
            out.put(dod as u64, 64);
        }
    }
}

/// Writes one XOR chunk, byte for byte as Prometheus does.
#[derive(Clone, Debug)]
pub struct XorEncoder {
    out: BitWriter,
    count: u16,
    t: i64,
    delta: i64,
    state: XorWriter,
}

impl Default for XorEncoder {
    fn default() -> XorEncoder {
        XorEncoder::new()
    }
}

impl XorEncoder {
    pub fn new() -> XorEncoder {
        XorEncoder {
            out: BitWriter::from_bytes(vec![0, 0]),
            count: 0,
            t: 0,
            delta: 0,
            state: XorWriter::new(0.0),
        }
    }

    /// Appends a sample at `t` milliseconds.
    ///
    /// # Panics
    /// When the chunk already holds `u16::MAX` samples, which is all its header can count.
    #[inline]
    pub fn push(&mut self, t: i64, value: f64) {
        assert!(self.count < u16::MAX, "an XOR chunk holds at most 65535 samples");
        let delta = t.wrapping_sub(self.t);
        match self.count {
            0 => self.put_first(t, value),
            1 => {
                let mut bytes = Vec::with_capacity(10);
                put_uvarint(&mut bytes, delta as u64);
                self.out.put_bytes(&bytes);
                self.state.put(&mut self.out, value);
            }
            _ => {
                put_dod(&mut self.out, delta.wrapping_sub(self.delta));
                self.state.put(&mut self.out, value);
            }
        }
        (self.t, self.delta) = (t, delta);
        self.count += 1;
    }

    fn put_first(&mut self, t: i64, value: f64) {
        let mut bytes = Vec::with_capacity(18);
        put_varint(&mut bytes, t);
        bytes.extend_from_slice(&value.to_bits().to_be_bytes());
        self.out.put_bytes(&bytes);
        self.state = XorWriter::new(value);
    }

    /// Samples so far.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes the chunk would have if it were finished now.
    pub fn bytes_len(&self) -> usize {
        self.out.len()
    }

    /// The chunk's data: the bytes between the encoding byte and the checksum in a segment.
    pub fn finish(self) -> Vec<u8> {
        let mut bytes = self.out.finish();
        bytes[..2].copy_from_slice(&self.count.to_be_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests;
