//! Golden series for the tests of this crate and of `parquet-block`: what Thanos 0.42 compacted and
//! downsampled.

use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};
use merge::{ChunkBytes, ChunkContent, SeriesChunk};
use model::Labels;
use tsdb::chunk::{Aggregate, Encoding, split_aggregates};

/// One series at all three resolutions.
pub(crate) struct GoldenSeries {
    pub(crate) labels: Labels,
    pub(crate) raw: Vec<SeriesChunk>,
    pub(crate) five_minutes: Vec<SeriesChunk>,
    pub(crate) one_hour: Vec<SeriesChunk>,
}

/// Six series over 14 days, kept in this repository: a counter with resets, a gauge, a classic
/// bucket, and native histograms with integer, float gauge and custom buckets.
///
/// The file is a sequence of series. Each has a line of labels, as pairs of strings of `u16 length
/// | bytes` after a `u16` count, then for each resolution a `u32` count of chunks of `i64 min | i64
/// max | u8 encoding | u32 length | data`; integers are big endian.
pub(crate) fn excerpt() -> Vec<GoldenSeries> {
    let mut data = Bytes::from_static(include_bytes!("../data/downsampled.golden"));
    let mut all = Vec::new();
    while data.has_remaining() {
        let pairs: Vec<(Bytes, Bytes)> =
            (0..data.get_u16()).map(|_| (text(&mut data), text(&mut data))).collect();
        all.push(GoldenSeries {
            labels: Labels::from_pairs(pairs),
            raw: chunks(&mut data),
            five_minutes: chunks(&mut data),
            one_hour: chunks(&mut data),
        });
    }
    all
}

fn text(data: &mut Bytes) -> Bytes {
    let len = data.get_u16();
    data.split_to(usize::from(len))
}

fn chunks(data: &mut Bytes) -> Vec<SeriesChunk> {
    let count = data.get_u32();
    let chunk = |_| {
        let (min_time, max_time) = (data.get_i64(), data.get_i64());
        let encoding = Encoding::from_byte(data.get_u8()).unwrap();
        let len = data.get_u32() as usize;
        SeriesChunk::new(min_time, max_time, content(encoding, data.split_to(len)))
    };
    (0..count).map(chunk).collect()
}

fn content(encoding: Encoding, data: Bytes) -> ChunkContent {
    if encoding != Encoding::Aggregate {
        return ChunkContent::Raw(ChunkBytes { encoding, data });
    }
    let parts = split_aggregates(&data).unwrap();
    let parts = Aggregate::ALL.map(|a| {
        let (encoding, part) = parts[a as usize]?;
        Some(ChunkBytes { encoding, data: data.slice_ref(part) })
    });
    ChunkContent::Aggregates(Box::new(parts))
}

/// Whole blocks, if they lie beside the repository.
pub(crate) struct GoldenBlocks {
    pub(crate) series: Vec<GoldenSeries>,
    /// The 5m block.
    pub(crate) folder: PathBuf,
}

#[expect(clippy::print_stdout, reason = "tests report what they counted")]
pub(crate) fn blocks() -> Option<GoldenBlocks> {
    let folder =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/golden/downsampled");
    let read = |id: &str| {
        let folder = folder.join(id);
        folder.is_dir().then(|| block(&folder))
    };
    let five = "01M81HXWQFQ2GBAYGTHD5KSMEG";
    let Some(((raw, five_minutes), one_hour)) =
        read("01M81HXWNC0A0S5M3B3JFKCXKR").zip(read(five)).zip(read("01M81HXX0GS6A2F69HCM1Y84FY"))
    else {
        println!("skipped: the golden blocks are not here");
        return None;
    };
    assert_eq!((raw.len(), five_minutes.len(), one_hour.len()), (276, 276, 276));
    let series = raw.into_iter().zip(five_minutes).zip(one_hour).map(|((raw, five), hour)| {
        assert!(raw.0 == five.0 && raw.0 == hour.0);
        GoldenSeries { labels: raw.0, raw: raw.1, five_minutes: five.1, one_hour: hour.1 }
    });
    Some(GoldenBlocks { series: series.collect(), folder: folder.join(five) })
}

fn block(folder: &Path) -> Vec<(Labels, Vec<SeriesChunk>)> {
    let index = tsdb::index::Index::open(Bytes::from(std::fs::read(folder.join("index")).unwrap()))
        .unwrap();
    let segment = Bytes::from(std::fs::read(folder.join("chunks/000001")).unwrap());
    let chunk = |meta: &tsdb::index::ChunkMeta| {
        let record =
            tsdb::segment::parse_record(&segment[(meta.reference & 0xffff_ffff) as usize..])
                .unwrap();
        let content = content(record.encoding, segment.slice_ref(record.data));
        SeriesChunk::new(meta.min_time, meta.max_time, content)
    };
    let series = index.all_series().unwrap().map(|entry| {
        let entry = entry.unwrap();
        (entry.labels, entry.chunks.iter().map(chunk).collect())
    });
    series.collect()
}
