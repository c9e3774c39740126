//! A bounded run of a fuzz target, the same every time: seeds, and many variants of each.

use std::path::Path;

/// A xorshift generator: the standard library has none.
struct Random(u64);

impl Random {
    /// A number below `limit`, which must not be 0.
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// The files of a folder of seeds, in order of their names.
pub(crate) fn files(folder: impl AsRef<Path>) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(folder).expect("a folder of seeds");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a seed").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| std::fs::read(path).expect("a readable seed")).collect()
}

/// Shows the target so many variants, of the seeds in turn.
pub(crate) fn variants(seeds: &[Vec<u8>], count: usize, mut target: impl FnMut(&[u8])) {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for seed in seeds.iter().cycle().take(count) {
        let other = &seeds[random.below(seeds.len())];
        let variant = mutated(seed, other, &mut random);
        let shown = ShownInPanic(&variant);
        target(shown.0);
    }
}

/// Bytes to be kept as a seed, where they make a target panic.
struct ShownInPanic<'a>(&'a [u8]);

impl Drop for ShownInPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
            eprintln!("the bytes, for `xxd -r -p`: {hex}");
        }
    }
}

/// Numbers that lengths and counts are overwritten with: varints and big-endian integers at the
/// ends of their ranges.
const NUMBERS: [&[u8]; 14] = [
    &[0],
    &[1],
    &[0x7f],
    &[0xff],
    &[0xff, 0x01],
    &[0xff, 0xff],
    &[0x00, 0x00, 0xff, 0xff],
    &[0x7f, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff],
    &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
];

/// `bytes` after one to three changes. Some put in parts of `other`, which are bytes of the same
/// format.
fn mutated(bytes: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(3) {
        change(&mut bytes, other, random);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let from = random.below(bytes.len() + 1);
    let to = from + random.below((bytes.len() - from).min(32) + 1);
    match random.below(18) {
        0..6 => {
            if let Some(byte) = bytes.get_mut(from) {
                *byte ^= 1 << random.below(8);
            }
        }
        6 | 7 => {
            if let Some(byte) = bytes.get_mut(from) {
                *byte = random.below(256) as u8;
            }
        }
        // over what is there, so that what follows stays where it is
        8..11 => {
            let number = NUMBERS[random.below(NUMBERS.len())];
            bytes.iter_mut().skip(from).zip(number).for_each(|(byte, new)| *byte = *new);
        }
        // in the place of one byte, as a longer varint
        11 => {
            let number = NUMBERS[random.below(NUMBERS.len())];
            let end = (from + 1).min(bytes.len());
            drop(bytes.splice(from..end, number.iter().copied()));
        }
        12 => drop(bytes.drain(from..to)),
        13 => bytes.truncate(from),
        14 => {
            let copy = bytes[from..to].to_vec();
            drop(bytes.splice(to..to, copy));
        }
        15 => {
            let at = random.below(other.len() + 1);
            bytes.truncate(from);
            bytes.extend_from_slice(&other[at..]);
        }
        // as many bytes from elsewhere
        _ => {
            let at = random.below(other.len() + 1);
            bytes[from..to].iter_mut().zip(&other[at..]).for_each(|(byte, new)| *byte = *new);
        }
    }
}
