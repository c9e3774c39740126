//! Integers in one of nine widths, as histogram chunks store them.
//!
//! ```text
//! 0            0
//! 10           +  3 bits     signed -3 ..= 4, unsigned up to 7
//! 110          +  6 bits
//! 1110         +  9 bits
//! 11110        + 12 bits
//! 111110       + 18 bits
//! 1111110      + 25 bits
//! 11111110     + 56 bits
//! 11111111     + 64 bits
//! ```

use super::bits::{BitReader, BitWriter};
use super::xor::{fits, sign_extend};

/// The number of bits after a prefix of this many ones.
const WIDTHS: [u32; 8] = [0, 3, 6, 9, 12, 18, 25, 56];

/// How to read an integer that begins with a certain byte. It uses masks instead of widths, because
/// a shift by a width costs as much as three other instructions, and no comparisons, which the
/// compiler would turn into branches.
#[derive(Clone, Copy)]
struct Form {
    /// The bits of prefix and integer.
    length: u32,
    /// One for each bit of the integer.
    mask: u32,
}

/// The forms by the byte that an integer begins with. The two widest ones are longer than what can
/// be read at once.
const FORMS: [Form; 256] = {
    let mut forms = [Form { length: u32::MAX, mask: 0 }; 256];
    let mut byte = 0;
    while byte < 256 {
        let ones = (byte as u8).leading_ones();
        if ones <= 6 {
            let width = WIDTHS[ones as usize];
            forms[byte] = Form { length: ones + 1 + width, mask: (1 << width) - 1 };
        }
        byte += 1;
    }
    forms
};

#[inline(always)]
pub(super) fn read_int(reader: &mut BitReader<'_>) -> i64 {
    reader.refill();
    read_int_of_valid(reader)
}

/// The bits of the third form; that form and the two before it make up nearly all integers of
/// buckets.
const SMALL: u32 = 9;
/// This many small integers fit into the bits that one refill makes valid.
pub(super) const SMALL_PER_REFILL: usize = 6;
const _: () = assert!(SMALL as usize * SMALL_PER_REFILL <= 56);

/// A small integer.
#[derive(Clone, Copy)]
struct Small {
    /// The bits of prefix and integer.
    length: u8,
    value: i8,
}

/// Small integers by the bits that they begin with.
const SMALLS: [Small; 1 << SMALL] = {
    let mut smalls = [Small { length: 1, value: 0 }; 1 << SMALL];
    let mut bits = 1 << (SMALL - 1);
    while bits < smalls.len() {
        smalls[bits] = match bits as u64 >> (SMALL - 2) {
            0b10 => Small { length: 5, value: sign_extend(bits as u64 >> 4 & 0b111, 3) as i8 },
            _ => Small { length: 9, value: sign_extend(bits as u64 & 0b11_1111, 6) as i8 },
        };
        bits += 1;
    }
    smalls
};

/// Reads an integer that is probably small; nine bits must be valid, and as many are valid after it
/// as if it were small. For `zero` see [`BitReader::consume_by_prefix`].
#[inline(always)]
pub(super) fn read_small_int(reader: &mut BitReader<'_>, zero: u64) -> i64 {
    let bits = reader.peek(SMALL);
    if bits >> (SMALL - 3) == 0b111 {
        let (rest, value) = read_large(*reader);
        *reader = rest;
        return value;
    }
    let Small { length, value } = SMALLS[bits as usize];
    reader.consume_by_prefix(u32::from(length), zero);
    i64::from(value)
}

fn read_large(mut reader: BitReader<'_>) -> (BitReader<'_>, i64) {
    let value = read_int(&mut reader);
    reader.refill();
    (reader, value)
}

/// Reads an integer that is mostly among the valid bits.
///
/// Up to 25 bits there is no branch on the width, which no processor could predict. How far the
/// reader moves comes from one table look-up, because each integer waits for that.
#[inline(always)]
pub(super) fn read_int_of_valid(reader: &mut BitReader<'_>) -> i64 {
    // a prefix that is not entirely valid is longer than the valid bits, whatever follows
    let Form { length, mask } = FORMS[reader.peek(8) as usize];
    if length > reader.valid() {
        let (rest, value) = read_other(*reader);
        *reader = rest;
        return value;
    }
    let bits = reader.peek(length) as u32;
    reader.consume(length);
    // the least integer is that much below zero: those above half of the range are negative
    let bias = mask >> 1;
    i64::from(bits.wrapping_add(bias) & mask) - i64::from(bias)
}

#[cold]
fn read_other(mut reader: BitReader<'_>) -> (BitReader<'_>, i64) {
    reader.refill();
    let value = match reader.read_ones(8) {
        0 => 0,
        8 => reader.read(64) as i64,
        ones => {
            let width = WIDTHS[ones as usize];
            sign_extend(reader.read(width), width)
        }
    };
    (reader, value)
}

#[inline]
pub(super) fn read_uint(reader: &mut BitReader<'_>) -> u64 {
    match reader.read_ones(8) {
        0 => 0,
        8 => reader.read(64),
        ones => reader.read(WIDTHS[ones as usize]),
    }
}

pub(super) fn put_int(out: &mut BitWriter, value: i64) {
    put(out, value as u64, |width| if width == 0 { value == 0 } else { fits(value, width) });
}

pub(super) fn put_uint(out: &mut BitWriter, value: u64) {
    put(out, value, |width| value >> width == 0);
}

fn put(out: &mut BitWriter, value: u64, fits: impl Fn(u32) -> bool) {
    let ones = WIDTHS.iter().position(|&width| fits(width)).unwrap_or(8);
    match ones {
        0 => out.put(0, 1),
        8 => {
            out.put(0xff, 8);
            out.put(value, 64);
        }
        _ => {
            out.put((1 << (ones + 1)) - 2, ones as u32 + 1);
            out.put(value, WIDTHS[ones]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn integers_come_back(values in prop::collection::vec((any::<i64>(), 0u32..64), 0..100)) {
            let values: Vec<i64> = values.into_iter().map(|(value, shift)| value >> shift).collect();
            let mut out = BitWriter::default();
            for &value in &values {
                put_int(&mut out, value);
                put_uint(&mut out, value.unsigned_abs());
            }
            let bytes = out.finish();
            let mut reader = BitReader::new(&bytes);
            for &value in &values {
                prop_assert_eq!(read_int(&mut reader), value);
                prop_assert_eq!(read_uint(&mut reader), value.unsigned_abs());
            }
            prop_assert!(!reader.overrun());
        }

        #[test]
        fn whatever_is_valid_is_read(values in prop::collection::vec((any::<i64>(), 0u32..64), 0..200), per_refill in 1usize..12) {
            let values: Vec<i64> = values.into_iter().map(|(value, shift)| value >> shift).collect();
            let mut out = BitWriter::default();
            values.iter().for_each(|value| put_int(&mut out, *value));
            let bytes = out.finish();
            let mut reader = BitReader::new(&bytes);
            for values in values.chunks(per_refill) {
                reader.refill();
                for value in values {
                    prop_assert_eq!(read_int_of_valid(&mut reader), *value);
                }
            }
            prop_assert!(!reader.overrun());
        }
    }

    proptest! {
        #[test]
        fn small_integers_and_others_come_back(values in prop::collection::vec((any::<i64>(), 50u32..64), 0..200)) {
            let values: Vec<i64> = values.into_iter().map(|(value, shift)| value >> shift).collect();
            let mut out = BitWriter::default();
            values.iter().for_each(|value| put_int(&mut out, *value));
            let bytes = out.finish();
            let mut reader = BitReader::new(&bytes);
            for values in values.chunks(SMALL_PER_REFILL) {
                reader.refill();
                for value in values {
                    prop_assert_eq!(read_small_int(&mut reader, 0), *value);
                }
            }
            prop_assert!(!reader.overrun());
        }
    }

    #[test]
    fn ranges_are_lopsided() {
        let bits = |value| {
            let mut out = BitWriter::default();
            put_int(&mut out, value);
            out.finish().len()
        };
        assert_eq!((bits(32), bits(33), bits(-31), bits(-32)), (2, 2, 2, 2));
        assert_eq!((bits(4), bits(5), bits(-3), bits(-4)), (1, 2, 1, 2));
        assert_eq!((bits(1 << 24), bits((1 << 24) + 1)), (4, 8));
    }
}
