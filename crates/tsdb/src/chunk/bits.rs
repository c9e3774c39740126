//! Bit streams, highest bit first, as all chunk encodings use them.

use std::hint::select_unpredictable;

/// Reads bits from a slice. Past the end it reads zeros; [`BitReader::overrun`] reports it, so that
/// the hot path need not check every bit.
///
/// Rare cases are functions that take and return a reader by value: if its address were taken, it
/// would live in memory instead of registers, and reading would cost half as much again.
#[derive(Clone, Copy)]
pub(super) struct BitReader<'a> {
    /// The bytes still to be loaded.
    rest: &'a [u8],
    /// Bytes that were loaded as zeros, because there are no more.
    missing: usize,
    /// The next bits, the first one highest. Bits below `valid` are either zero or what the next
    /// load will bring.
    buffer: u64,
    valid: u32,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(data: &'a [u8]) -> BitReader<'a> {
        BitReader { rest: data, missing: 0, buffer: 0, valid: 0 }
    }

    /// Makes at least 56 bits valid.
    #[inline(always)]
    pub(super) fn refill(&mut self) {
        let bytes = ((63 - self.valid) >> 3) as usize & 7;
        let next = match self.rest.first_chunk() {
            Some(next) => {
                self.rest = &self.rest[bytes..];
                u64::from_be_bytes(*next)
            }
            None => {
                let next = tail(self.rest);
                let there = bytes.min(self.rest.len());
                self.rest = &self.rest[there..];
                self.missing += bytes - there;
                next
            }
        };
        self.buffer |= next >> self.valid;
        self.valid |= 56;
    }

    /// How many bits are valid.
    #[inline(always)]
    pub(super) fn valid(&self) -> u32 {
        self.valid
    }

    /// The next `n` of the valid bits, `1..=63`, without consuming them.
    #[inline(always)]
    pub(super) fn peek(&self, n: u32) -> u64 {
        self.buffer >> (64 - n)
    }

    /// Consumes `n` of the valid bits, `0..=63`.
    #[inline(always)]
    pub(super) fn consume(&mut self, n: u32) {
        debug_assert!(n <= self.valid);
        self.buffer <<= n;
        self.valid -= n;
    }

    /// Consumes one bit if that is 0, five if they begin with 10, nine if they begin with 11, of
    /// the valid bits. `length` says the same in a number.
    ///
    /// All three are tried and one is chosen: what is read next waits for few simple instructions,
    /// not for `length`. `zero` is 0, which the compiler must not know, or it would turn this into
    /// one shift by a chosen length.
    #[inline(always)]
    pub(super) fn consume_by_prefix(&mut self, length: u32, zero: u64) {
        let (long, longer) = (self.buffer >= 1 << 63, self.buffer >= 3 << 62);
        let buffer = select_unpredictable(long, self.buffer << 5 | zero, self.buffer << 1);
        self.buffer = select_unpredictable(longer, self.buffer << 9, buffer);
        self.valid -= length;
    }

    /// Reads `n` bits, `1..=64`.
    #[inline(always)]
    pub(super) fn read(&mut self, n: u32) -> u64 {
        if n > self.valid {
            self.refill();
            if n > self.valid {
                let (reader, bits) = self.read_wide(n);
                *self = reader;
                return bits;
            }
        }
        // at most 63 of the 64 bits are valid
        let bits = self.peek(n);
        self.consume(n);
        bits
    }

    #[cold]
    fn read_wide(mut self, n: u32) -> (BitReader<'a>, u64) {
        let high = self.peek(32);
        self.consume(32);
        self.refill();
        let low = self.peek(n - 32);
        self.consume(n - 32);
        (self, high << (n - 32) | low)
    }

    #[inline(always)]
    pub(super) fn read_bit(&mut self) -> bool {
        self.read(1) == 1
    }

    /// How many of the next bits are ones, at most `max` (up to 8), consuming them and the zero
    /// that ends them.
    #[inline(always)]
    pub(super) fn read_ones(&mut self, max: u32) -> u32 {
        if self.valid < 8 {
            self.refill();
        }
        let ones = self.buffer.leading_ones().min(max);
        self.consume(if ones == max { ones } else { ones + 1 });
        ones
    }

    /// A zigzag [varint](crate::varint) that need not begin on a byte.
    pub(super) fn read_varint(&mut self) -> i64 {
        crate::varint::zigzag_decode(self.read_uvarint())
    }

    pub(super) fn read_uvarint(&mut self) -> u64 {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let byte = self.read(8);
            if shift < 64 {
                value |= (byte & 0x7f) << shift;
            }
            if byte < 0x80 {
                break;
            }
        }
        value
    }

    /// Whether bits were read that `data` does not have.
    #[inline(always)]
    pub(super) fn overrun(&self) -> bool {
        self.missing * 8 > self.valid as usize
    }
}

/// Fewer than eight bytes, padded with zeros.
#[inline(never)]
fn tail(rest: &[u8]) -> u64 {
    rest.iter().rev().fold(0, |next, byte| next >> 8 | u64::from(*byte) << 56)
}

/// Appends bits to bytes; the last byte is padded with zeros.
#[derive(Clone, Debug, Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    /// Up to 63 bits that are not in `bytes` yet, the first one highest; the rest is zero.
    pending: u64,
    used: u32,
}

impl BitWriter {
    /// Begins with whole bytes.
    pub(super) fn from_bytes(bytes: Vec<u8>) -> BitWriter {
        BitWriter { bytes, pending: 0, used: 0 }
    }

    /// Appends the low `n` bits of `value`, `1..=64`.
    #[inline]
    pub(super) fn put(&mut self, value: u64, n: u32) {
        let value = value & (u64::MAX >> (64 - n));
        let free = 64 - self.used;
        if n < free {
            self.pending |= value << (free - n);
            self.used += n;
            return;
        }
        let rest = n - free;
        self.bytes.extend_from_slice(&(self.pending | value >> rest).to_be_bytes());
        self.pending = if rest == 0 { 0 } else { value << (64 - rest) };
        self.used = rest;
    }

    /// Appends whole bytes, which need not begin on a byte.
    pub(super) fn put_bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.put(u64::from(byte), 8);
        }
    }

    /// Bytes so far, including the padded last one.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() + self.used.div_ceil(8) as usize
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        let pending = self.pending.to_be_bytes();
        self.bytes.extend_from_slice(&pending[..self.used.div_ceil(8) as usize]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(fields in prop::collection::vec((any::<u64>(), 1u32..=64), 0..200)) {
            let mut writer = BitWriter::default();
            for &(value, n) in &fields {
                writer.put(value, n);
            }
            let (bits, len) = (fields.iter().map(|f| f.1 as usize).sum::<usize>(), writer.len());
            let bytes = writer.finish();
            prop_assert_eq!(bytes.len(), bits.div_ceil(8));
            prop_assert_eq!(bytes.len(), len);
            let mut reader = BitReader::new(&bytes);
            for &(value, n) in &fields {
                prop_assert_eq!(reader.read(n), value & (u64::MAX >> (64 - n)));
            }
            prop_assert!(!reader.overrun());
            reader.read(8);
            prop_assert!(reader.overrun());
        }
    }
}
