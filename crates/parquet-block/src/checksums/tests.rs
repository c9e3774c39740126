use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::builder::WORTHWHILE_BYTES;
use super::*;

/// A file as lengths of its pages, of which the last is the footer.
#[derive(Clone, Debug)]
struct Layout {
    pages: Vec<u64>,
    /// Lengths of the pieces in which the file is pushed.
    pieces: Vec<usize>,
    /// Whether borders are only said when all bytes before them are pushed.
    late: bool,
}

impl Layout {
    fn borders(&self) -> Vec<u64> {
        let start = |at: &mut u64, len: &u64| {
            *at += len;
            Some(*at - len)
        };
        self.pages.iter().scan(0, start).collect()
    }

    fn bytes(&self) -> Vec<u8> {
        let len: u64 = self.pages.iter().sum();
        (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
    }

    fn build(&self, name: &str) -> FileChecksums {
        let (bytes, borders) = (self.bytes(), self.borders());
        let mut builder = ChecksumBuilder::new(name);
        let mut pieces = self.pieces.iter().cycle();
        let (mut at, mut said) = (0, 0);
        while at < bytes.len() {
            // the piece of a writer ends at the next border that the writer does not know yet
            let piece = (at + pieces.next().unwrap()).min(bytes.len());
            let unknown = borders.iter().copied().find(|b| self.late && *b > at as u64);
            let end = piece.min(unknown.map_or(usize::MAX, |b| b as usize));
            while said < borders.len() && (!self.late || borders[said] <= at as u64) {
                builder.border(borders[said]);
                said += 1;
            }
            builder.push(&bytes[at..end]);
            at = end;
        }
        builder.finish(*borders.last().unwrap_or(&0))
    }

    /// The ends of ranges, from all pages at once.
    fn expected_ends(&self) -> Vec<u64> {
        let (mut ends, mut start, mut at) = (Vec::new(), 0, 0);
        for len in self.pages.iter().copied().filter(|len| *len > 0) {
            let end = at + len;
            if end - start > MAX_RANGE_BYTES && at > start {
                ends.push(at);
                start = at;
            }
            if len > MAX_RANGE_BYTES {
                ends.extend((1..=len / MAX_RANGE_BYTES).map(|i| at + i * MAX_RANGE_BYTES));
                ends.push(end);
                ends.dedup();
                start = end;
            }
            at = end;
            if at - start >= WORTHWHILE_BYTES {
                ends.push(at);
                start = at;
            }
        }
        if at > start {
            ends.push(at);
        }
        ends
    }
}

fn layouts() -> impl Strategy<Value = Layout> {
    let max = MAX_RANGE_BYTES;
    let page = prop_oneof![
        4 => 0..2000u64,
        4 => 0..max,
        1 => (1..4u64).prop_map(move |times| times * max),
        1 => max - 2..max + 3,
        1 => max..4 * max,
    ];
    let piece = prop_oneof![1..100usize, 1000..200_000usize];
    let parts = (vec(page, 0..12), vec(piece, 1..4), any::<bool>());
    parts.prop_map(|(pages, pieces, late)| Layout { pages, pieces, late })
}

fn one(pages: &[u64]) -> Layout {
    Layout { pages: pages.to_vec(), pieces: vec![1 << 20], late: false }
}

fn ends(file: &FileChecksums) -> Vec<u64> {
    file.ranges().map(|(range, _)| range.end).collect()
}

fn is_border(file: &FileChecksums, offset: u64) -> bool {
    offset == 0 || ends(file).contains(&offset)
}

#[test]
fn ranges_end_at_the_first_border_after_eight_kib() {
    const K: u64 = 1 << 10;
    let cut = |pages: &[u64]| ends(&one(pages).build("a"));
    assert_eq!(cut(&[30 * K, 3 * K, 6 * K, 4 * K]), [30 * K, 39 * K, 43 * K]);
    assert_eq!(cut(&[7 * K, 63 * K, K]), [7 * K, 70 * K, 71 * K]);
    // the page of 130 KiB begins a range, and the page behind it another
    assert_eq!(cut(&[K, 130 * K, K, K]), [K, 65 * K, 129 * K, 131 * K, 133 * K]);
    // one of exactly 64 KiB is not cut, one of 128 KiB into two
    assert_eq!(cut(&[64 * K, 128 * K, 3]), [64 * K, 128 * K, 192 * K, 192 * K + 3]);
    assert_eq!(cut(&[]), [0; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// However the bytes arrive and whenever borders are known, the ranges are those of the rule,
    /// and their checksums those of their bytes.
    #[test]
    fn a_builder_cuts_as_the_rule_says(layout in layouts()) {
        let (file, bytes) = (layout.build("a"), layout.bytes());
        prop_assert_eq!(ends(&file), layout.expected_ends());
        prop_assert_eq!(file.size(), bytes.len() as u64);
        prop_assert_eq!(file.footer_start(), layout.borders().last().copied().unwrap_or(0));
        for (range, crc) in file.ranges() {
            prop_assert!(range.end - range.start <= MAX_RANGE_BYTES);
            prop_assert_eq!(crc, crc32c::crc32c(&bytes[range.start as usize..range.end as usize]));
        }
        prop_assert_eq!(file.verify(0, &bytes), Ok(()));
    }

    #[test]
    fn what_is_encoded_comes_back(layouts in vec(layouts(), 0..4)) {
        let build = |(i, layout): (usize, &Layout)| layout.build(&format!("{i}.samples.parquet"));
        let files = layouts.iter().enumerate().map(build).rev().collect();
        let checksums = Checksums::new(files).unwrap();
        prop_assert_eq!(Checksums::decode(&checksums.encode()), Ok(checksums.clone()));
        for file in checksums.files() {
            prop_assert_eq!(checksums.file(file.name()), Some(file));
        }
        prop_assert_eq!(checksums.file("9.series.parquet"), None);
    }

    #[test]
    fn covering_is_whole_ranges_and_no_more(
        layout in layouts(),
        from in any::<Index>(),
        to in any::<Index>(),
    ) {
        let file = layout.build("a");
        let size = file.size();
        let (from, to) = (from.index(size as usize + 1) as u64, to.index(size as usize + 1) as u64);
        let asked = from.min(to)..from.max(to);
        let covering = file.covering(asked.clone()).unwrap();
        prop_assert!(covering.start <= asked.start && asked.end <= covering.end || asked.is_empty());
        prop_assert!(is_border(&file, covering.start) && is_border(&file, covering.end));
        // a border nearer to what was asked for would give fewer bytes
        let borders = ends(&file);
        prop_assert!(!borders.iter().any(|b| (covering.start + 1..=asked.start).contains(b)));
        prop_assert!(!borders.iter().any(|b| (asked.end..covering.end).contains(b))
            || asked.is_empty());
        prop_assert_eq!(file.covering(asked.start..size + 1), None);
        let bytes = &layout.bytes()[covering.start as usize..covering.end as usize];
        prop_assert_eq!(file.verify(covering.start, bytes), Ok(()));
    }

    #[test]
    fn a_flipped_bit_of_the_file_is_noticed_in_its_range(
        layout in layouts(),
        at in any::<Index>(),
        bit in 0..8u32,
    ) {
        let (file, mut bytes) = (layout.build("a"), layout.bytes());
        prop_assume!(!bytes.is_empty());
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let hit = file.covering(at as u64..at as u64 + 1).unwrap();
        let damaged = BadRange::Damaged { file: "a".into(), range: hit.clone() };
        prop_assert_eq!(file.verify(0, &bytes), Err(damaged));
        let before = &bytes[..hit.start as usize];
        prop_assert_eq!(file.verify(0, before), Ok(()));
        prop_assert_eq!(file.verify(hit.end, &bytes[hit.end as usize..]), Ok(()));
    }
}

fn small() -> Checksums {
    let files = ["0.samples.parquet", "0.series.parquet", "1.series.parquet"];
    let layouts = [one(&[40_000, 40_000, 70_000, 300]), one(&[10, 20]), one(&[])];
    let built = files.iter().zip(&layouts).map(|(name, layout)| layout.build(name));
    Checksums::new(built.collect()).unwrap()
}

#[test]
fn every_flipped_bit_of_the_object_is_noticed_and_so_is_every_cut() {
    let bytes = small().encode();
    for bit in 0..8 * bytes.len() {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Checksums::decode(&flipped).is_err(), "bit {bit}");
    }
    for len in 0..bytes.len() {
        assert!(Checksums::decode(&bytes[..len]).is_err(), "cut to {len}");
    }
}

#[test]
fn every_flipped_bit_of_a_small_file_is_noticed() {
    let layout = one(&[100, 200, 50]);
    let (file, bytes) = (layout.build("a"), layout.bytes());
    for bit in 0..8 * bytes.len() {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(file.verify(0, &flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn bytes_that_are_no_whole_ranges_are_refused_as_such() {
    let layout = one(&[40_000, 40_000]);
    let (file, bytes) = (layout.build("a"), layout.bytes());
    let borders = |range: Range<u64>| Err(BadRange::Borders { file: "a".into(), range });
    assert_eq!(file.verify(0, &bytes[..39_999]), borders(0..39_999));
    assert_eq!(file.verify(1, &bytes[1..40_000]), borders(1..40_000));
    assert_eq!(file.verify(40_000, &bytes), borders(40_000..120_000));
    assert_eq!(file.verify(u64::MAX, &bytes), borders(u64::MAX..u64::MAX));
    assert_eq!(file.verify(40_000, &[]), Ok(()));
    let message = file.verify(0, &vec![0; 80_000]).unwrap_err().to_string();
    assert_eq!(message, "bytes 0..40000 of a do not match their checksum, the file is damaged");
}

/// The object around these bytes, with a checksum that matches.
fn sealed(content: &[u8]) -> Vec<u8> {
    let mut bytes = [b"DCRC\x01".as_slice(), content].concat();
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

fn reason(content: &[u8]) -> String {
    Checksums::decode(&sealed(content)).unwrap_err().to_string()
}

#[test]
fn what_breaks_a_rule_is_refused_with_what_it_breaks() {
    // one file of five bytes in ranges of two and three
    let sound = b"\x01\x01a\x05\x04\x02\x02aaaa\x03bbbb";
    let checksums = Checksums::decode(&sealed(sound)).unwrap();
    assert_eq!(ends(&checksums.files()[0]), [2, 5]);
    assert_eq!(checksums.files()[0].footer_start(), 4);
    let refused: [(&[u8], &str); 13] = [
        (b"\x02\x01a\x05\x04\x02\x02aaaa\x03bbbb", "they end too early"),
        (b"\x04\x01a\x05\x04\x02\x02aaaa\x03bbbb", "4 files in 15 bytes"),
        (b"\x01\x01a\x06\x04\x02\x02aaaa\x03bbbb", "6 bytes of a, its footer from 4"),
        (b"\x01\x01a\x05\x06\x02\x02aaaa\x03bbbb", "5 bytes of a, its footer from 6"),
        (b"\x01\x01a\x05\x04\x03\x02aaaa\x03bbbb", "3 ranges in 10 bytes"),
        (b"\x01\x01a\x05\x04\x02\x00aaaa\x05bbbb", "a range of 0 bytes of a"),
        (b"\x01\x01a\x81\x80\x04\x00\x01\x81\x80\x04aaaa", "a range of 65537 bytes of a"),
        (b"\x01\x01/\x05\x04\x02\x02aaaa\x03bbbb", "\"/\" is no name of a file"),
        (b"\x01\x02..\x05\x04\x02\x02aaaa\x03bbbb", "\"..\" is no name of a file"),
        (b"\x01\x00\x05\x04\x02\x02aaaa\x03bbbb", "\"\" is no name of a file"),
        (b"\x02\x01a\x00\x00\x00\x01a\x00\x00\x00", "a is out of order or there twice"),
        (b"\x01\x01a\x00\x00\x00\x00", "1 bytes behind the last file"),
        (b"\x01\x01a\x80\x00\x00\x00", "a number is too large, or longer than it has to be"),
    ];
    for (content, expected) in refused {
        let reason = reason(content);
        assert!(reason.contains(expected), "{reason:?} instead of {expected:?}");
    }
    let newer = [b"DCRC\x02".as_slice(), &[0; 5]].concat();
    let reason = Checksums::decode(&newer).unwrap_err().to_string();
    assert_eq!(reason, "checksums of a block: version 2 is not one this version reads");
}

#[test]
fn names_are_those_of_files_in_the_folder() {
    let named = |name: &str| Checksums::new(vec![ChecksumBuilder::new(name).finish(0)]);
    assert!(named("0.samples.parquet").is_ok() && named(&"a".repeat(255)).is_ok());
    for name in ["", ".", "..", ".hidden", "a/b", "a\\b", "a b", "ä", &"a".repeat(256)] {
        assert!(named(name).is_err(), "{name}");
    }
    let twice = ["a", "a"].map(|name| ChecksumBuilder::new(name).finish(0));
    assert!(Checksums::new(twice.into()).is_err());
}

#[test]
fn twelve_bytes_of_memory_per_range() {
    let ranges = |count: usize| one(&vec![MAX_RANGE_BYTES; count]).build("a").memory_size();
    assert_eq!(ranges(20) - ranges(10), 120);
    let small = small();
    let files: usize = small.files().iter().map(FileChecksums::memory_size).sum();
    assert!(small.memory_size() > files);
}
