//! Blocks that claim more than there is, or more than can be read. Their files are sparse, so that
//! they take no room.
//!
//! Whoever reads something new of a block whose size a block may claim adds a row.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use model::{BlockId, Labels, TimeRange};
use tsdb::block_builder::{BlockBuilder, BlockIdentity};
use tsdb::chunk::XorEncoder;
use tsdb::meta::{BlockMeta, File as ListedFile};
use tsdb::segment::SegmentWriter;

use crate::odd_index::{OddSeries, odd_index};

const HOUR_MS: i64 = 3_600_000;
const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// What must become of the data of a hostile block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockHolds {
    /// It is left out and named, and a line says this.
    LeftOut(&'static str),
    /// It is read like that of any other block.
    Read,
}

/// A block among sound ones, which must be read whatever is wrong with it.
#[derive(Clone, Copy, Debug)]
pub struct HostileBlock {
    pub name: &'static str,
    pub holds: BlockHolds,
    write: fn(&HostileFolder<'_>) -> io::Result<()>,
}

/// Every kind of hostile block of Thanos' format.
pub const BLOCKS: [HostileBlock; 12] = [
    HostileBlock {
        name: "an index of 65 GiB with a table of contents of valid checksum",
        holds: BlockHolds::LeftOut("symbols and offsets of postings take 69"),
        write: |folder| folder.sound()?.write_index_claiming_symbols(65 * GIB),
    },
    HostileBlock {
        name: "postings of 50 GiB",
        holds: BlockHolds::LeftOut("postings"),
        write: |folder| folder.sound()?.write_index_claiming_postings(50 * GIB),
    },
    HostileBlock {
        name: "64 series entries of 32 MiB",
        holds: BlockHolds::LeftOut("takes 33554424 bytes"),
        write: |folder| folder.sound()?.write_index_claiming_entries(64, 32 * MIB),
    },
    HostileBlock {
        name: "500 series entries of 2 MiB",
        holds: BlockHolds::LeftOut("checksum"),
        write: |folder| folder.sound()?.write_index_claiming_entries(500, 2 * MIB),
    },
    HostileBlock {
        name: "75 chunks of 32 MiB",
        holds: BlockHolds::LeftOut("long chunks take 2"),
        write: |folder| folder.sound()?.write_claiming_chunks(75),
    },
    HostileBlock {
        name: "124 million samples in 1,900 chunks",
        holds: BlockHolds::Read,
        write: |folder| folder.sound()?.write_dense_chunks(1900),
    },
    HostileBlock {
        name: "a chunk that is named 400,000 times",
        holds: BlockHolds::LeftOut("names a chunk more than once"),
        write: |folder| folder.sound()?.write_repeated_chunk(400_000),
    },
    HostileBlock {
        name: "a deletion mark of 3 GiB",
        holds: BlockHolds::Read,
        write: |folder| folder.sound()?.sparse("deletion-mark.json", 3 * GIB).map(drop),
    },
    HostileBlock {
        name: "a meta.json of 3 GiB",
        holds: BlockHolds::LeftOut("meta.json: it has 3221225472 bytes"),
        write: |folder| folder.sound()?.sparse("meta.json", 3 * GIB).map(drop),
    },
    HostileBlock {
        name: "tombstones of 3 GiB",
        holds: BlockHolds::LeftOut("tombstones: it has 3221225472 bytes"),
        write: |folder| folder.sound()?.sparse("tombstones", 3 * GIB).map(drop),
    },
    HostileBlock {
        name: "tombstones of 22 million spans in 64 MiB",
        holds: BlockHolds::LeftOut("more than 4194304 are not read"),
        write: |folder| folder.sound()?.write_tombstones(64 * MIB, |n| vec![n as u8 % 64, 0, 0]),
    },
    HostileBlock {
        name: "tombstones of 4 million series in 64 MiB",
        holds: BlockHolds::Read,
        write: |folder| folder.sound()?.write_tombstones(64 * MIB, tombstone),
    },
];

impl HostileBlock {
    /// Hours that the block spans, and the sound ones beside it.
    pub const HOURS: [i64; 6] = [2, 0, 4, 6, 8, 10];

    pub fn id() -> BlockId {
        HostileBlock::id_at(HostileBlock::HOURS[0])
    }

    /// The id of the block that begins at such an hour.
    pub fn id_at(hour: i64) -> BlockId {
        id(hour)
    }

    /// The MiB that it may take of whoever reads it: few, except for the longest file of deleted
    /// spans, which is read whole, and for the most samples of a series that are downsampled.
    pub fn most_mib(&self) -> u64 {
        match self.name {
            name if name.ends_with("in 64 MiB") => 176,
            name if name.contains("million samples") => 128,
            _ => 64,
        }
    }

    /// Writes the block and sound ones of two hours into a folder, so that a compactor would merge
    /// it with the first three of them, and the two behind it without it. The metric of the one is
    /// `hostile`, that of the others `sound`.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let [hostile, sound @ ..] = HostileBlock::HOURS;
        sound.into_iter().try_for_each(|hour| save(folder, hour, "sound").map(drop))?;
        (self.write)(&HostileFolder { folder, hour: hostile })
    }
}

fn id(hour: i64) -> BlockId {
    BlockId::from_parts(((hour + 2) * HOUR_MS) as u64, hour as u128)
}

fn save(folder: &Path, hour: i64, name: &str) -> io::Result<BlockMeta> {
    let range = TimeRange::new(hour * HOUR_MS, (hour + 2) * HOUR_MS);
    let ts: Vec<i64> = (range.start..range.end).step_by(60_000).collect();
    let values: Vec<f64> = ts.iter().map(|t| *t as f64).collect();
    let mut builder = BlockBuilder::new();
    let labels = Labels::from_pairs([("__name__", name)]);
    builder.push_floats(&labels, &ts, &values).map_err(io::Error::other)?;
    let external_labels = Some(Labels::from_pairs([("cluster", "eu")]));
    let description = BlockIdentity { id: id(hour), range, external_labels };
    let files = builder.finish(description).map_err(io::Error::other)?;
    files.save(folder)?;
    Ok(files.meta)
}

/// Where the hostile block will be.
struct HostileFolder<'a> {
    folder: &'a Path,
    hour: i64,
}

/// A sound block that is about to be spoilt.
struct Sound {
    folder: std::path::PathBuf,
    meta: BlockMeta,
}

impl HostileFolder<'_> {
    fn sound(&self) -> io::Result<Sound> {
        let meta = save(self.folder, self.hour, "hostile")?;
        Ok(Sound { folder: self.folder.join(meta.ulid.to_string()), meta })
    }
}

impl Sound {
    /// A file of so many bytes, all zero.
    fn sparse(&self, name: &str, bytes: u64) -> io::Result<File> {
        let path = self.folder.join(name);
        let file = File::create(path)?;
        file.set_len(bytes)?;
        Ok(file)
    }

    /// Has `meta.json` say what is there now; it then knows nothing of the sizes of records.
    fn describe(mut self, files: &[(&str, u64)]) -> io::Result<()> {
        self.meta.stats = Default::default();
        if let Some(thanos) = &mut self.meta.thanos {
            let file = |(name, size): &(&str, u64)| ListedFile {
                rel_path: (*name).to_owned(),
                size_bytes: *size,
                hash: None,
            };
            thanos.files = files.iter().map(file).collect();
            thanos.index_stats = None;
        }
        std::fs::write(self.folder.join("meta.json"), self.meta.to_json())
    }

    fn write_index_claiming_symbols(self, bytes: u64) -> io::Result<()> {
        let mut index = self.sparse("index", bytes)?;
        index.write_all(&PREAMBLE)?;
        let end = bytes - TOC_BYTES - 1024;
        put_toc(&mut index, bytes, [5, end, end, end, end, end + 512])?;
        // whoever wants to know its size has to look
        self.describe(&[])
    }

    fn write_index_claiming_postings(self, bytes: u64) -> io::Result<()> {
        let mut index = self.sparse("index", bytes)?;
        index.write_all(&PREAMBLE)?;
        index.write_all(&section(&symbols()))?;
        let (postings, middle, table) = (4096, bytes / 2, bytes - TOC_BYTES - 1024);
        index.seek(SeekFrom::Start(table))?;
        index.write_all(&section(&offsets([postings, middle])))?;
        put_toc(&mut index, bytes, [5, 1024, postings, postings, postings, table])?;
        self.describe(&[("index", bytes)])
    }

    fn write_index_claiming_entries(self, entries: u64, each: u64) -> io::Result<()> {
        let lists = (entries + 1) * each;
        let bytes = lists + 64 * 1024;
        let mut index = self.sparse("index", bytes)?;
        index.write_all(&PREAMBLE)?;
        index.write_all(&section(&symbols()))?;
        let ids: Vec<u32> = (1..=entries).map(|n| (n * each / 16) as u32).collect();
        for n in 1..=entries {
            index.seek(SeekFrom::Start(n * each))?;
            index.write_all(&uvarint(each - 16))?;
        }
        let list = section(&postings(&ids));
        let second = lists + list.len().next_multiple_of(4) as u64;
        for at in [lists, second] {
            index.seek(SeekFrom::Start(at))?;
            index.write_all(&list)?;
        }
        let table = second + list.len().next_multiple_of(4) as u64;
        index.seek(SeekFrom::Start(table))?;
        index.write_all(&section(&offsets([lists, second])))?;
        put_toc(&mut index, bytes, [5, 1024, lists, lists, lists, table])?;
        self.describe(&[("index", bytes)])
    }

    fn write_claiming_chunks(self, chunks: u64) -> io::Result<()> {
        const EACH: u64 = 32 * MIB;
        const PER_SEGMENT: u64 = 15;
        let segments = chunks.div_ceil(PER_SEGMENT);
        for segment in 0..segments {
            let name = format!("chunks/{:06}", segment + 1);
            let mut file = self.sparse(&name, PER_SEGMENT * EACH + 64)?;
            for at in 0..PER_SEGMENT {
                file.seek(SeekFrom::Start(8 + at * EACH))?;
                file.write_all(&uvarint(EACH - 16))?;
            }
        }
        let (start, minute) = (self.meta.min_time, 60_000);
        let chunk = |n: u64| {
            let t = start + n as i64 * minute;
            (((n / PER_SEGMENT) << 32) | (8 + n % PER_SEGMENT * EACH), t, t + 1)
        };
        self.write_odd_index((0..chunks).map(chunk).collect())
    }

    fn write_dense_chunks(self, chunks: i64) -> io::Result<()> {
        const SAMPLES: i64 = u16::MAX as i64;
        let mut segments = SegmentWriter::new();
        let mut metas = Vec::new();
        let mut encoder = XorEncoder::new();
        // all times have as many bytes, so that only the first one has to be replaced
        let base = self.meta.min_time;
        (0..SAMPLES).for_each(|i| encoder.push(base + i, 1.0));
        let mut data = encoder.finish();
        for n in 0..chunks {
            let first = base + n * SAMPLES;
            let t = uvarint((first << 1).cast_unsigned());
            data[2..2 + t.len()].copy_from_slice(&t);
            let pushed = segments.push(tsdb::chunk::Encoding::Xor, &data);
            let reference = pushed.map_err(io::Error::other)?.to_raw();
            metas.push((reference, first, first + SAMPLES - 1));
        }
        let mut file = self.sparse("chunks/000001", 0)?;
        while let Some(piece) = segments.take() {
            file.write_all(&piece.bytes)?;
        }
        let range = (base, base + chunks * SAMPLES);
        let mut dense = self;
        (dense.meta.min_time, dense.meta.max_time) = range;
        dense.write_odd_index(metas)
    }

    /// As many entries as fit into so many bytes.
    fn write_tombstones(self, bytes: u64, entry: fn(u64) -> Vec<u8>) -> io::Result<()> {
        let mut file = vec![0x01, 0x30, 0xba, 0x30, 1];
        let begin = file.len();
        for n in 0.. {
            let entry = entry(n);
            if (file.len() + entry.len() + 4) as u64 > bytes {
                break;
            }
            file.extend_from_slice(&entry);
        }
        let crc = crc32c::crc32c(&file[begin..]);
        file.extend_from_slice(&crc.to_be_bytes());
        std::fs::write(self.folder.join("tombstones"), file)
    }

    /// The first chunk, so many times.
    fn write_repeated_chunk(self, times: i64) -> io::Result<()> {
        const FIRST: u64 = 8;
        let start = self.meta.min_time;
        self.write_odd_index((0..times).map(|n| (FIRST, start + n, start + n)).collect())
    }

    fn write_odd_index(self, chunks: Vec<(u64, i64, i64)>) -> io::Result<()> {
        let labels = vec![("__name__".to_owned(), "hostile".to_owned())];
        let index = odd_index(&[OddSeries { labels, chunks }]);
        std::fs::write(self.folder.join("index"), &index)?;
        self.describe(&[("index", index.len() as u64)])
    }
}

const PREAMBLE: [u8; 5] = [0xba, 0xaa, 0xd7, 0x00, 2];
/// Sixteen bytes that delete a day of a series that no block has.
fn tombstone(n: u64) -> Vec<u8> {
    const FROM: u64 = 1 << 21;
    const TO: u64 = 1 << 28;
    [(1 << 42) + n, FROM, TO].into_iter().flat_map(uvarint).collect()
}

const TOC_BYTES: u64 = 6 * 8 + 4;

fn put_toc(index: &mut File, bytes: u64, starts: [u64; 6]) -> io::Result<()> {
    let toc: Vec<u8> = starts.iter().flat_map(|at| at.to_be_bytes()).collect();
    index.seek(SeekFrom::Start(bytes - TOC_BYTES))?;
    index.write_all(&toc)?;
    index.write_all(&crc32c::crc32c(&toc).to_be_bytes())
}

/// Content between its length and its checksum.
fn section(content: &[u8]) -> Vec<u8> {
    let mut out = (content.len() as u32).to_be_bytes().to_vec();
    out.extend_from_slice(content);
    out.extend_from_slice(&crc32c::crc32c(content).to_be_bytes());
    out
}

/// The empty string, a name and a value.
fn symbols() -> Vec<u8> {
    let mut out = 3u32.to_be_bytes().to_vec();
    ["", "__name__", "hostile"].into_iter().for_each(|s| put_string(&mut out, s));
    out
}

/// Where the lists of all series and of the only metric lie.
fn offsets(starts: [u64; 2]) -> Vec<u8> {
    let mut out = 2u32.to_be_bytes().to_vec();
    for (label, start) in [["", ""], ["__name__", "hostile"]].into_iter().zip(starts) {
        out.push(2);
        label.into_iter().for_each(|s| put_string(&mut out, s));
        out.extend_from_slice(&uvarint(start));
    }
    out
}

fn postings(ids: &[u32]) -> Vec<u8> {
    let mut out = (ids.len() as u32).to_be_bytes().to_vec();
    ids.iter().for_each(|id| out.extend_from_slice(&id.to_be_bytes()));
    out
}

fn put_string(out: &mut Vec<u8>, string: &str) {
    out.extend_from_slice(&uvarint(string.len() as u64));
    out.extend_from_slice(string.as_bytes());
}

fn uvarint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}
