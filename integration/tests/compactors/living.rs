//! What is alive in a bucket: its blocks without a deletion mark, and how many samples their chunks
//! hold.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use model::Resolution;
use tsdb::chunk::{Encoding, decode_floats, decode_histograms, num_samples};
use tsdb::index::{Index, SeriesEntry};
use tsdb::meta::{BlockMeta, SOURCE_COMPACTOR};
use tsdb::segment::{ChunkRef, parse_record, segment_name};

use super::made::{DAY_MS, HOUR_MS};
use crate::harness::block_ids;

/// Bytes before the first chunk of a segment.
const SEGMENT_HEADER: usize = 8;

/// A block that is alive. Its id is not part of this: the id of a merged block depends on its
/// compactor.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Living {
    labels: BTreeMap<String, String>,
    range: (i64, i64),
    resolution: Resolution,
    level: u32,
    sources: Vec<String>,
    /// Samples in its chunks; windows where it is downsampled.
    pub(super) samples: u64,
    /// Samples that do not come after the one before them, which no reader can be expected to find.
    disorder: u64,
}

impl fmt::Display for Living {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels: Vec<String> =
            self.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let hours = |t: i64| (t - DAY_MS) / HOUR_MS;
        let (start, end) = (hours(self.range.0), hours(self.range.1));
        write!(f, "{} {start}h-{end}h", labels.join(","))?;
        if self.resolution != Resolution::Raw {
            write!(f, " {}", self.resolution)?;
        }
        write!(f, " level {} of {}: {}", self.level, self.sources.len(), self.samples)?;
        if self.disorder > 0 {
            write!(f, ", {} out of order", self.disorder)?;
        }
        Ok(())
    }
}

impl Living {
    /// The block with the ids of its sources.
    pub(super) fn in_full(&self) -> String {
        format!("{self} {:?}", self.sources)
    }

    pub(super) fn is_out_of_order(&self) -> bool {
        self.disorder > 0
    }
}

/// All blocks of a bucket that are alive, sorted.
pub(super) fn living(bucket: &Path) -> Vec<Living> {
    let there = |id: &String, file: &str| bucket.join(id).join(file).exists();
    let ids = block_ids(bucket).into_iter();
    let ids = ids.filter(|id| there(id, "meta.json") && !there(id, "deletion-mark.json"));
    let mut living: Vec<Living> = ids.map(|id| read(&bucket.join(id))).collect();
    living.sort();
    living
}

/// How many folders of a bucket are named like blocks but are not blocks.
pub(super) fn leftovers(bucket: &Path) -> usize {
    block_ids(bucket).iter().filter(|id| !bucket.join(id).join("meta.json").exists()).count()
}

fn read(block: &Path) -> Living {
    let bytes = std::fs::read(block.join("meta.json")).expect("read meta.json");
    let meta = BlockMeta::from_json(&bytes).unwrap_or_else(|e| panic!("{}: {e}", block.display()));
    let segments = segments(block);
    // A block that was not rewritten may have a wrong index; what its chunks hold is still there.
    let counted = if meta.source() == SOURCE_COMPACTOR {
        by_index(block, &segments)
    } else {
        by_segments(block, &segments)
    };
    let mut sources: Vec<String> =
        meta.compaction.sources.iter().map(ToString::to_string).collect();
    sources.sort();
    Living {
        labels: meta.thanos.as_ref().map(|thanos| thanos.labels.clone()).unwrap_or_default(),
        range: (meta.min_time, meta.max_time),
        resolution: meta.resolution(),
        level: meta.compaction.level,
        sources,
        samples: counted.samples,
        disorder: counted.disorder,
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    samples: u64,
    disorder: u64,
}

fn segments(block: &Path) -> Vec<Vec<u8>> {
    let file = |number: u32| block.join("chunks").join(segment_name(number));
    (0..)
        .map(file)
        .take_while(|file| file.exists())
        .map(|file| std::fs::read(file).expect("read a segment"))
        .collect()
}

/// Counts every chunk of the segments, one after the other.
fn by_segments(block: &Path, segments: &[Vec<u8>]) -> Counted {
    let mut samples = 0;
    for segment in segments {
        let mut rest = &segment[SEGMENT_HEADER..];
        while !rest.is_empty() {
            let record = parse_record(rest).unwrap_or_else(|e| panic!("{}: {e}", block.display()));
            samples +=
                num_samples(record.encoding, record.data).expect("the head of a chunk") as u64;
            rest = &rest[record.len..];
        }
    }
    Counted { samples, disorder: 0 }
}

/// Counts the chunks that the index names, series by series.
fn by_index(block: &Path, segments: &[Vec<u8>]) -> Counted {
    let bytes = std::fs::read(block.join("index")).expect("read the index");
    let index = Index::open(bytes.into()).unwrap_or_else(|e| panic!("{}: {e}", block.display()));
    let mut counted = Counted::default();
    for series in index.all_series().expect("the list of all series") {
        let series = series.unwrap_or_else(|e| panic!("{}: {e}", block.display()));
        count_series(&series, segments, &mut counted);
    }
    counted
}

fn count_series(series: &SeriesEntry, segments: &[Vec<u8>], counted: &mut Counted) {
    let (mut times, mut floats, mut histograms) = (Vec::new(), Vec::new(), Vec::new());
    for chunk in &series.chunks {
        let ChunkRef { segment, offset } = ChunkRef::from_raw(chunk.reference);
        let record = parse_record(&segments[segment as usize][offset as usize..])
            .expect("a chunk where the index says");
        let decoded = match record.encoding {
            Encoding::Aggregate => {
                counted.samples +=
                    num_samples(record.encoding, record.data).expect("the head of a chunk") as u64;
                Ok(())
            }
            encoding if encoding.is_histogram() => {
                decode_histograms(encoding, record.data, &mut times, &mut histograms)
            }
            encoding => decode_floats(encoding, record.data, &mut times, &mut floats),
        };
        decoded.expect("a sound chunk");
    }
    counted.samples += times.len() as u64;
    counted.disorder += times.windows(2).filter(|pair| pair[0] >= pair[1]).count() as u64;
}
