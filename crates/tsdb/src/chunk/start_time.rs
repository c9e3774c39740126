//! Start timestamps, which encodings 4 to 6 may store after each sample. They are skipped: nothing
//! here uses them.
//!
//! ```text
//! header byte: bit 7 first known | bits 0..=6 changed on
//! sample 0:             zigzag varint, if first known
//! sample i >= changed:  varbit_int, if changed on is not 0
//! ```

use super::bits::BitReader;
use super::varbit;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StartTimes {
    first_known: bool,
    changed_on: usize,
}

impl StartTimes {
    pub(super) fn from_header(byte: u8) -> StartTimes {
        StartTimes { first_known: byte & 0x80 != 0, changed_on: usize::from(byte & 0x7f) }
    }

    /// Skips what follows the sample `index`.
    #[inline]
    pub(super) fn skip(self, reader: &mut BitReader<'_>, index: usize) {
        let is_stored = if index == 0 {
            self.first_known
        } else {
            self.changed_on > 0 && index >= self.changed_on
        };
        if is_stored {
            *reader = skip_one(*reader, index);
        }
    }
}

/// By value, like all rare cases: see [`BitReader`].
#[cold]
fn skip_one(mut reader: BitReader<'_>, index: usize) -> BitReader<'_> {
    if index == 0 {
        reader.read_varint();
    } else {
        varbit::read_int(&mut reader);
    }
    reader
}
