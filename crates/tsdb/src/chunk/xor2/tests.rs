use model::STALE_NAN;
use proptest::prelude::*;

use super::super::bits::BitWriter;
use super::super::{Encoding, cut, decode_floats, num_samples, transcode, varbit};
use super::*;
use crate::varint::{put_uvarint, put_varint};

/// The format implemented as simply as possible: values and start times as Prometheus' encoder
/// chooses them.
struct Naive {
    out: BitWriter,
    window: Option<(u32, u32)>,
    before: f64,
}

/// Bits that say what follows.
struct Prefix {
    bits: u64,
    len: u32,
}

impl Naive {
    fn window(&mut self, delta: u64, reuse: Prefix, fresh: Prefix) {
        let (leading, trailing) = (delta.leading_zeros().min(31), delta.trailing_zeros());
        match self.window {
            Some((l, t)) if leading >= l && trailing >= t => {
                self.out.put(reuse.bits, reuse.len);
                self.out.put(delta >> t, 64 - l - t);
            }
            _ => {
                self.window = Some((leading, trailing));
                self.out.put(fresh.bits, fresh.len);
                self.out.put(u64::from(leading), 5);
                self.out.put(u64::from(64 - leading - trailing), 6);
                self.out.put(delta >> trailing, 64 - leading - trailing);
            }
        }
    }

    fn value(&mut self, value: f64) {
        match value.to_bits() ^ self.before.to_bits() {
            _ if model::is_stale_nan(value) => self.out.put(0b111, 3),
            0 => self.out.put(0, 1),
            delta => {
                let (reuse, fresh) =
                    (Prefix { bits: 0b10, len: 2 }, Prefix { bits: 0b110, len: 3 });
                self.window(delta, reuse, fresh);
            }
        }
    }

    fn joint(&mut self, dod: i64, value: f64) {
        let delta = value.to_bits() ^ self.before.to_bits();
        match dod {
            0 if model::is_stale_nan(value) => return self.out.put(0b11111, 5),
            0 if delta == 0 => return self.out.put(0, 1),
            0 => {
                self.out.put(0b10, 2);
                let (reuse, fresh) = (Prefix { bits: 0, len: 1 }, Prefix { bits: 1, len: 1 });
                return self.window(delta, reuse, fresh);
            }
            -4096..=4095 => self.out.put(0b110 << 13 | dod as u64 & 0x1fff, 16),
            -524_288..=524_287 => self.out.put(0b1110 << 20 | dod as u64 & 0xf_ffff, 24),
            _ => {
                self.out.put(0b11110, 5);
                self.out.put(dod as u64, 64);
            }
        }
        self.value(value);
    }
}

fn encode(samples: &[(i64, f64)], starts: &[i64]) -> Vec<u8> {
    let first_known = starts.first().is_some_and(|start| *start != 0);
    let changed_on =
        (1..samples.len()).find(|&i| starts[i] != starts[i - 1] || i == 127).unwrap_or(0);
    let mut header = (samples.len() as u16).to_be_bytes().to_vec();
    header.push(u8::from(first_known) << 7 | changed_on as u8);
    let mut naive = Naive { out: BitWriter::from_bytes(header), window: None, before: 0.0 };
    let (mut t_before, mut t_delta, mut start_diff) = (0i64, 0i64, 0i64);
    for (i, &(t, value)) in samples.iter().enumerate() {
        let delta = t.wrapping_sub(t_before);
        let mut varint = Vec::new();
        match i {
            0 => {
                put_varint(&mut varint, t);
                varint.extend(value.to_bits().to_be_bytes());
                if first_known {
                    put_varint(&mut varint, t.wrapping_sub(starts[0]));
                }
                naive.out.put_bytes(&varint);
            }
            1 => {
                put_uvarint(&mut varint, delta as u64);
                naive.out.put_bytes(&varint);
                naive.value(value);
            }
            _ => naive.joint(delta.wrapping_sub(t_delta), value),
        }
        if changed_on > 0 && i >= changed_on {
            let diff = t_before.wrapping_sub(starts[i]);
            varbit::put_int(&mut naive.out, diff.wrapping_sub(start_diff));
            start_diff = diff;
        }
        if !model::is_stale_nan(value) {
            naive.before = value;
        }
        (t_before, t_delta) = (t, delta);
    }
    naive.out.finish()
}

fn samples() -> impl Strategy<Value = Vec<(i64, f64)>> {
    let step = prop_oneof![
        6 => Just(15_000i64),
        3 => 10_000..20_000i64,
        1 => -600_000..600_000i64,
        1 => any::<i64>(),
    ];
    let value = prop_oneof![
        4 => Just(1.0),
        2 => Just(STALE_NAN),
        3 => (0..100i32).prop_map(f64::from),
        1 => any::<u64>().prop_map(f64::from_bits),
    ];
    (any::<i64>(), prop::collection::vec((step, value), 0..200)).prop_map(|(start, steps)| {
        let mut t = start;
        let at = |(step, value): (i64, f64)| {
            t = t.wrapping_add(step);
            (t, value)
        };
        steps.into_iter().map(at).collect()
    })
}

proptest! {
    #[test]
    fn any_samples_come_back(samples in samples(), starts in prop::collection::vec(0..4i64, 200)) {
        let with_starts = encode(&samples, &starts);
        let without = encode(&samples, &[0; 200]);
        for data in [with_starts, without] {
            let (mut ts, mut values) = (vec![3], vec![3.0]);
            decode_floats(Encoding::Xor2, &data, &mut ts, &mut values).unwrap();
            prop_assert_eq!(num_samples(Encoding::Xor2, &data).unwrap(), samples.len());
            prop_assert_eq!(&ts[1..], samples.iter().map(|s| s.0).collect::<Vec<_>>());
            let bits: Vec<u64> = values[1..].iter().map(|v| v.to_bits()).collect();
            prop_assert_eq!(bits, samples.iter().map(|s| s.1.to_bits()).collect::<Vec<_>>());
            let chunks = transcode(Encoding::Xor2, &data).unwrap();
            prop_assert_eq!(chunks.len(), usize::from(!samples.is_empty()));
            for chunk in chunks {
                prop_assert_eq!(chunk.encoding, Encoding::Xor);
                let (mut ts_again, mut again) = (vec![3], vec![3.0]);
                decode_floats(Encoding::Xor, &chunk.data, &mut ts_again, &mut again).unwrap();
                prop_assert_eq!(&ts_again, &ts);
                prop_assert!(again.iter().zip(&values).all(|(a, b)| a.to_bits() == b.to_bits()));
            }
        }
    }

    #[test]
    fn what_is_not_deleted_comes_back(samples in samples(), starts in prop::collection::vec(0..4i64, 200), at: prop::sample::Index) {
        prop_assume!(!samples.is_empty());
        let gone = samples[at.index(samples.len())].0;
        let deleted = [crate::tombstones::Interval { min_time: gone, max_time: gone.saturating_add(20_000) }];
        let kept: Vec<(i64, u64)> = samples
            .iter()
            .filter(|s| !(deleted[0].min_time..=deleted[0].max_time).contains(&s.0))
            .map(|s| (s.0, s.1.to_bits()))
            .collect();
        let left = cut(Encoding::Xor2, &encode(&samples, &starts), &deleted).unwrap().unwrap();
        let (mut ts, mut values) = (Vec::new(), Vec::new());
        for chunk in &left {
            prop_assert_eq!(chunk.encoding, Encoding::Xor);
            decode_floats(Encoding::Xor, &chunk.data, &mut ts, &mut values).unwrap();
        }
        prop_assert!(ts.into_iter().zip(values.into_iter().map(f64::to_bits)).eq(kept));
    }

    #[test]
    fn arbitrary_bytes_never_panic_nor_overallocate(data in prop::collection::vec(any::<u8>(), 0..200)) {
        let (mut ts, mut values) = (Vec::new(), Vec::new());
        if decode(&data, &mut ts, &mut values).is_err() {
            prop_assert!(ts.is_empty() && values.is_empty());
        }
        prop_assert!(ts.capacity() <= 8 * data.len() + 8);
    }
}
