//! Variable-length integers as Go's `encoding/binary` writes them: seven bits per byte, low ones
//! first; signed ones in zigzag form.

/// The value and the number of bytes it took; `None` when the bytes end early or the value exceeds
/// 64 bits.
#[inline]
pub fn read_uvarint(bytes: &[u8]) -> Option<(u64, usize)> {
    match *bytes {
        [first, ..] if first < 0x80 => Some((u64::from(first), 1)),
        [first, second, ..] if second < 0x80 => {
            Some((u64::from(first & 0x7f) | u64::from(second) << 7, 2))
        }
        [first, second, third, ..] if third < 0x80 => Some((
            u64::from(first & 0x7f) | u64::from(second & 0x7f) << 7 | u64::from(third) << 14,
            3,
        )),
        _ => read_long_uvarint(bytes),
    }
}

fn read_long_uvarint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (i, &byte) in bytes.iter().enumerate().take(10) {
        if i == 9 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            return Some((value, i + 1));
        }
    }
    None
}

/// As [`read_uvarint`], for a zigzag number.
#[inline]
pub fn read_varint(bytes: &[u8]) -> Option<(i64, usize)> {
    let (raw, len) = read_uvarint(bytes)?;
    Some((zigzag_decode(raw), len))
}

pub(crate) fn zigzag_decode(raw: u64) -> i64 {
    (raw >> 1) as i64 ^ -((raw & 1) as i64)
}

pub fn put_uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub fn put_varint(out: &mut Vec<u8>, value: i64) {
    put_uvarint(out, ((value << 1) ^ (value >> 63)) as u64);
}
