//! Encoding 4, XOR2: timestamp and value share one control prefix. Only read here.
//!
//! ```text
//! u16 BE samples | start time header | varint t0 | f64 BE v0 | uvarint t1-t0 | value v1 | joint samples
//! joint:  0                  dod 0, value unchanged
//!         10   + changed     dod 0
//!         110  + 13 bits dod + value
//!         1110 + 20 bits dod + value
//!         11110 + 64 bits dod + value
//!         11111              dod 0, stale
//! value:  0 unchanged | 10 + bits inside the window | 110 + new window | 111 stale
//! changed:  0 + bits inside the window | 1 + new window
//! ```
//! Each sample may be followed by its [start time](super::start_time). A stale value does not
//! become the one that the next is compared with.

use model::STALE_NAN;

use super::bits::BitReader;
use super::start_time::StartTimes;
use super::xor::{SignificantBits, XorState};
use crate::Error;

const WHAT: &str = "XOR2 chunk";

/// Appends all samples of the chunk; appends nothing when it fails.
pub(super) fn decode(data: &[u8], ts: &mut Vec<i64>, values: &mut Vec<f64>) -> Result<(), Error> {
    let count = super::sample_count(data, WHAT)?;
    let (Some(header), Some(body)) = (data.get(2), data.get(3..)) else {
        return Err(Error::truncated(WHAT, data.len()));
    };
    // every sample takes at least one bit: a larger count is wrong and must not be allocated for
    if count > body.len() * 8 {
        return Err(Error::corrupt(WHAT, 0, format!("{count} samples in {} bytes", data.len())));
    }
    let (old_ts, old_values) = (ts.len(), values.len());
    ts.reserve(count);
    values.reserve(count);
    let mut decoder =
        Decoder { reader: BitReader::new(body), t: 0, delta: 0, state: XorState::default() };
    let start_times = StartTimes::from_header(*header);
    let mut malformed = false;
    for index in 0..count {
        let Some(value) = decoder.next(index) else {
            malformed = true;
            break;
        };
        start_times.skip(&mut decoder.reader, index);
        ts.push(decoder.t);
        values.push(value);
    }
    if malformed || decoder.reader.overrun() {
        ts.truncate(old_ts);
        values.truncate(old_values);
        let reason =
            if malformed { "more than 64 significant bits" } else { "more samples than bits" };
        return Err(Error::corrupt(WHAT, 3, reason));
    }
    Ok(())
}

struct Decoder<'a> {
    reader: BitReader<'a>,
    t: i64,
    delta: i64,
    /// The state after the last value that was not stale.
    state: XorState,
}

impl Decoder<'_> {
    #[inline]
    fn next(&mut self, index: usize) -> Option<f64> {
        match index {
            0 => {
                self.t = self.reader.read_varint();
                let first = f64::from_bits(self.reader.read(64));
                if !model::is_stale_nan(first) {
                    self.state = XorState::new(first);
                }
                return Some(first);
            }
            1 => {
                self.delta = self.reader.read_uvarint() as i64;
                self.t = self.t.wrapping_add(self.delta);
                return self.value();
            }
            _ => {}
        }
        let control = self.reader.read_ones(5);
        if let 2..=4 = control {
            let width = [13, 20, 64][control as usize - 2];
            let dod = (self.reader.read(width) << (64 - width)) as i64 >> (64 - width);
            self.delta = self.delta.wrapping_add(dod);
        }
        self.t = self.t.wrapping_add(self.delta);
        match control {
            0 => Some(self.last()),
            1 => {
                let new_window = self.reader.read_bit();
                self.changed(new_window)
            }
            5 => Some(STALE_NAN),
            _ => self.value(),
        }
    }

    fn value(&mut self) -> Option<f64> {
        match self.reader.read_ones(3) {
            0 => Some(self.last()),
            1 => self.changed(false),
            2 => self.changed(true),
            _ => Some(STALE_NAN),
        }
    }

    #[inline]
    fn changed(&mut self, new_window: bool) -> Option<f64> {
        if new_window {
            self.reader.refill();
            self.state.window = SignificantBits::read(&mut self.reader)?;
        }
        self.state.read_inside(&mut self.reader);
        Some(self.last())
    }

    fn last(&self) -> f64 {
        f64::from_bits(self.state.bits)
    }
}

#[cfg(test)]
mod tests;
