use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::{BlockId, Resolution};
use object_store::path::Path;
use prometheus::Registry;
use proptest::prelude::*;
use tsdb::meta::{BlockDesc, BlockMeta, Compaction, Downsample, File, Thanos};

use super::format::EncodedCatalog;
use super::*;
use crate::layout::BlockLocation;
use crate::marker::{DeletionMark, NoCompactMark};
use crate::sync::ObjectVersion;
use crate::{Bucket, Kind, SyncMetrics, testing};

fn id(n: u64) -> BlockId {
    BlockId::from_parts(1_769_000_000_000 + n, u128::from(n))
}

fn meta(n: u64, sources: &[u64]) -> BlockMeta {
    let labels = BTreeMap::from([("cluster".to_owned(), format!("eu-{}", n % 3))]);
    let start = 1_768_000_000_000 + i64::try_from(n).unwrap() * 7_200_000;
    let file = |name: &str, size_bytes| File { rel_path: name.into(), size_bytes, hash: None };
    BlockMeta {
        ulid: id(n),
        min_time: start,
        max_time: start + 7_200_000,
        stats: Default::default(),
        compaction: Compaction {
            level: 1,
            sources: sources.iter().map(|s| id(*s)).collect(),
            parents: (sources.len() > 1)
                .then(|| BlockDesc { ulid: id(sources[0]), min_time: start, max_time: start + 1 })
                .into_iter()
                .collect(),
            ..Compaction::default()
        },
        version: 1,
        thanos: Some(Thanos {
            labels,
            source: "sidecar".into(),
            files: vec![file("chunks/000001", 1 << 20), file("index", 5_000)],
            ..Thanos::default()
        }),
        format: None,
        unknown: Default::default(),
    }
}

fn version(n: u64) -> ObjectVersion {
    ObjectVersion {
        size: n,
        modified_ms: 1_769_000_000_000,
        e_tag: n.is_multiple_of(2).then(|| format!("\"{n}\"")),
    }
}

fn entry(n: u64, sources: &[u64]) -> CatalogEntry {
    CatalogEntry {
        location: BlockLocation::tsdb(id(n)),
        meta_version: Some(version(n)),
        meta: Some(Arc::new(meta(n, sources))),
        left_out: None,
        marks: CatalogMarks::default(),
        tombstones: None,
        newest_ms: 1_769_000_000_000,
        bytes: 1_053_576,
        unknown: Unknown::default(),
    }
}

fn header() -> CatalogHeader {
    CatalogHeader {
        writer: "compact".into(),
        written_ms: 1_769_904_000_500,
        listed_ms: 1_769_904_000_000,
        ..CatalogHeader::default()
    }
}

/// One of everything.
fn varied() -> Catalog {
    let mut marked = entry(2, &[2]);
    let mark = DeletionMark::new(id(2), model::TimestampMs(1_769_000_000_000), "old");
    marked.marks.deletion = Some(CatalogMark { version: version(7), read: Some(Some(mark)) });
    marked.marks.no_compact = Some(CatalogMark { version: version(8), read: Some(None) });
    marked.marks.no_downsample = Some(CatalogMark { version: version(9), read: None });
    marked.tombstones = Some(version(3));
    let partial = CatalogEntry { meta_version: None, meta: None, ..entry(3, &[]) };
    let unread = CatalogEntry { meta: None, ..entry(4, &[]) };
    let mut parquet = entry(5, &[1]);
    let mut of_parquet = meta(5, &[1]);
    of_parquet.format = Some("parquet/2".into());
    of_parquet.thanos.as_mut().unwrap().downsample = Downsample { resolution: 300_000 };
    let labels = of_parquet.external_labels();
    parquet.location = BlockLocation::parquet(&labels, Resolution::FiveMinutes, id(5));
    parquet.meta = Some(Arc::new(of_parquet));
    let entries = vec![entry(6, &[61, 62, 63]), marked, partial, unread, parquet, entry(1, &[1])];
    Catalog::new(header(), entries)
}

fn decoded(encoded: &EncodedCatalog) -> crate::Result<Catalog> {
    Catalog::decode(&encoded.bytes, Some(&encoded.hash))
}

fn packed(text: &str) -> Vec<u8> {
    zstd::encode_all(text.as_bytes(), 1).unwrap()
}

#[test]
fn what_is_written_comes_back() {
    let catalog = varied();
    let left_out: Vec<bool> = catalog.entries.iter().map(|e| e.left_out.is_some()).collect();
    assert_eq!(left_out, [false, false, false, false, false, true]);
    assert_eq!(decoded(&catalog.encode().unwrap()).unwrap(), catalog);
    let empty = Catalog::new(header(), Vec::new());
    assert_eq!(decoded(&empty.encode().unwrap()).unwrap(), empty);
}

const GOLDEN_HASH: &str = "e37d79542288138f";

/// The text of version 1.0, as released. Readers of all later versions must read it.
#[test]
fn the_golden_file_is_read_and_written_as_it_was() {
    let golden = include_bytes!("../../tests/data/catalog-v1.0.zst");
    let catalog = Catalog::decode(golden, Some(GOLDEN_HASH)).unwrap();
    assert_eq!(catalog, varied());
    let encoded = catalog.encode().unwrap();
    assert_eq!(encoded.hash, GOLDEN_HASH);
    let text = |bytes: &[u8]| String::from_utf8(zstd::decode_all(bytes).unwrap()).unwrap();
    assert_eq!(text(&encoded.bytes), text(golden));
}

#[test]
fn sources_stay_where_another_block_has_one_of_them() {
    let entries = vec![
        entry(1, &[11, 12, 13]),
        entry(2, &[13, 14, 15]),
        entry(3, &[16, 17, 18]),
        entry(4, &[19, 20]),
        entry(16, &[16]),
        entry(21, &[22, 23, 24]),
    ];
    let catalog = Catalog::new(header(), entries);
    for entry in &catalog.entries {
        let sources = &entry.meta.as_ref().unwrap().compaction.sources;
        match &entry.left_out {
            None => assert!(!sources.is_empty()),
            Some(left_out) => {
                assert_eq!(entry.location.id(), id(21));
                assert!(sources.is_empty());
                assert_eq!(*left_out, LeftOutSources::of(&[id(22), id(23), id(24)]));
            }
        }
    }
    assert_eq!(catalog.entries.iter().filter(|e| e.left_out.is_some()).count(), 1);
}

#[test]
fn fields_of_a_newer_minor_version_are_kept_byte_for_byte() {
    let newer = concat!(
        r#"{"drumlin_catalog":{"major":1,"minor":7},"writer":"x","written_ms":5,"listed_ms":4,"#,
        r#""blocks":1,"zone":{"b":1.50,"a":[ 1e3 ]}}"#,
        "\n",
        r#"{"at":"01KE0000000000000000000001","newest_ms":1,"bytes":2,"toc":[10, 2.0],"x":"\u00e9"}"#,
        "\n"
    );
    let catalog = Catalog::decode(&packed(newer), None).unwrap();
    let encoded = catalog.encode().unwrap();
    let text = String::from_utf8(zstd::decode_all(&*encoded.bytes).unwrap()).unwrap();
    assert_eq!(text, newer);
    // an own catalog of the same blocks takes them over
    let location = catalog.entries[0].location.clone();
    let mut own =
        Catalog::new(header(), vec![CatalogEntry { location, ..entry(1, &[1]) }, entry(2, &[2])]);
    own.keep_unknown_of(&catalog);
    assert_eq!(own.header.minor, 7);
    assert_eq!(own.header.unknown, catalog.header.unknown);
    let unknown: Vec<bool> = own.entries.iter().map(|e| e.unknown.is_empty()).collect();
    assert_eq!(unknown.iter().filter(|empty| !**empty).count(), 1);
}

#[test]
fn what_is_broken_is_refused_with_its_reason() {
    let header = |blocks: u32| {
        format!(
            r#"{{"drumlin_catalog":{{"major":1,"minor":0}},"written_ms":5,"listed_ms":4,"blocks":{blocks}}}"#
        )
    };
    let block = |n: u64| format!(r#"{{"at":"{}","newest_ms":1,"bytes":2}}"#, id(n));
    let other_major = header(0).replace("\"major\":1", "\"major\":2");
    for (text, kind, reason) in [
        (String::new(), Kind::Corrupt, "ends after 0 blocks"),
        (format!("{}\n", header(1)), Kind::Corrupt, "ends after 0 blocks"),
        (format!("{}\n{}", header(1), block(1)), Kind::Corrupt, "a line has no end"),
        (format!("{}\n{}\n{}\n", header(1), block(1), block(2)), Kind::Corrupt, "more than the 1"),
        (format!("{}\n{}\n{}\n", header(2), block(2), block(1)), Kind::Corrupt, "out of order"),
        (format!("{}\n{}\n{}\n", header(2), block(1), block(1)), Kind::Corrupt, "out of order"),
        (format!("{}\n{{}}\n", header(1)), Kind::Corrupt, "at"),
        (format!("{}\n", header(4_000_000_000)), Kind::Corrupt, "4000000000"),
        (format!("{other_major}\n"), Kind::Unsupported, "version 2.0"),
        ("[]\n".into(), Kind::Corrupt, "header"),
    ] {
        let error = Catalog::decode(&packed(&text), None).unwrap_err();
        assert_eq!(error.kind(), kind, "{text}");
        let shown = model::error::in_one_line(&error).to_string();
        assert!(shown.contains(reason), "{text}: {shown}");
    }
    for at in ["notes", "../x", "01KE0000000000000000000001/", "/01KE0000000000000000000001"] {
        let line = format!(r#"{{"at":"{at}","newest_ms":1,"bytes":2}}"#);
        let error = Catalog::decode(&packed(&format!("{}\n{line}\n", header(1))), None);
        assert!(error.unwrap_err().to_string().contains("is no block"), "{at}");
    }
    let encoded = varied().encode().unwrap();
    let error = Catalog::decode(&encoded.bytes, Some("0000000000000000")).unwrap_err();
    assert!(error.to_string().contains(&encoded.hash), "{error}");
    let cut = &encoded.bytes[..encoded.bytes.len() / 2];
    assert_eq!(Catalog::decode(cut, None).unwrap_err().kind(), Kind::Corrupt);
}

/// A meta that could not stand in a `meta.json` counts as not stated, and so does a mark.
#[test]
fn unusable_metas_and_marks_are_not_taken_over() {
    let strange = CatalogEntry { meta: Some(Arc::new(meta(9, &[9]))), ..entry(1, &[1]) };
    let mut future = entry(2, &[2]);
    let mut mark = NoCompactMark::new(id(2), model::TimestampMs(0), "manual", "");
    mark.version = 2;
    future.marks.no_compact = Some(CatalogMark { version: version(1), read: Some(Some(mark)) });
    let catalog = Catalog::new(header(), vec![strange, future]);
    let read = decoded(&catalog.encode().unwrap()).unwrap();
    assert_eq!(read.entries[0].meta, None);
    assert_eq!(read.entries[1].marks.no_compact.as_ref().unwrap().read, Some(None));
}

fn any_version() -> impl Strategy<Value = ObjectVersion> {
    (any::<u64>(), any::<i64>(), proptest::option::of(any::<String>()))
        .prop_map(|(size, modified_ms, e_tag)| ObjectVersion { size, modified_ms, e_tag })
}

fn any_entry() -> impl Strategy<Value = CatalogEntry> {
    let numbers = (1..50_u64, proptest::collection::vec(1..60_u64, 0..6), any::<i64>());
    let texts = (any::<String>(), any::<String>(), any::<bool>());
    let versions = (any_version(), proptest::option::of(any_version()), 0..4_u8);
    (numbers, texts, versions).prop_map(
        |((n, sources, time), (name, value, has_meta), versions)| {
            let (version, tombstones, mark) = versions;
            let mut entry = entry(n, &sources);
            let mut meta = meta(n, &sources);
            meta.thanos.as_mut().unwrap().labels.insert(name, value.clone());
            entry.meta = has_meta.then(|| Arc::new(meta));
            entry.meta_version = (has_meta || mark > 1).then(|| version.clone());
            let deletion = DeletionMark {
                details: value,
                ..DeletionMark::new(id(n), model::TimestampMs(time), "")
            };
            let read = [None, Some(None), Some(Some(deletion))];
            entry.marks.deletion =
                read.get(usize::from(mark)).map(|read| CatalogMark { version, read: read.clone() });
            CatalogEntry { tombstones, newest_ms: time, ..entry }
        },
    )
}

proptest! {
    #[test]
    fn every_catalog_comes_back(entries in proptest::collection::vec(any_entry(), 0..12)) {
        let by_location: BTreeMap<_, _> =
            entries.into_iter().map(|e| (e.location.clone(), e)).collect();
        let catalog = Catalog::new(header(), by_location.into_values().collect());
        prop_assert_eq!(decoded(&catalog.encode().unwrap()).unwrap(), catalog);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Catalog::decode(&bytes, None);
        let _ = Catalog::decode(&packed(&String::from_utf8_lossy(&bytes)), None);
    }

    #[test]
    fn no_change_of_a_catalog_panics(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let encoded = varied().encode().unwrap();
        let mut text = zstd::decode_all(&*encoded.bytes).unwrap();
        let at = at.index(text.len());
        let is_changed = std::mem::replace(&mut text[at], byte) != byte;
        let changed = zstd::encode_all(&*text, 1).unwrap();
        let read = Catalog::decode(&changed, Some(&encoded.hash));
        prop_assert_eq!(read.is_err(), is_changed);
        // whoever seals it anew is believed, or refused, but nothing panics
        if let Ok(catalog) = Catalog::decode(&changed, None) {
            catalog.encode().unwrap();
        }
    }
}

fn writer(bucket: &Bucket) -> CatalogWriter {
    let metrics = SyncMetrics::new(&Registry::new()).unwrap().catalog();
    CatalogWriter::new(bucket.clone(), metrics)
}

fn listed_at(listed_ms: i64) -> Catalog {
    let header = CatalogHeader { listed_ms, written_ms: listed_ms + 1, ..header() };
    Catalog::new(header, vec![entry(1, &[1])])
}

async fn sequences(bucket: &Bucket) -> Vec<u64> {
    let store = CatalogStore::new(bucket.clone());
    store.list().await.unwrap().iter().map(|g| g.sequence).collect()
}

#[tokio::test]
async fn generations_follow_each_other() {
    let bucket = testing::memory_bucket();
    let writer = writer(&bucket);
    let now = bucket.clock().now().0;
    assert!(writer.is_due(now));
    assert_eq!(writer.write(listed_at(now)).await, Some(WriteOutcome::Written));
    assert_eq!(writer.write(listed_at(now)).await, Some(WriteOutcome::NotDue));
    assert!(!writer.is_due(now + 1), "not twice in 30 seconds");
    bucket.clock().sleep(Duration::from_secs(30)).await;
    assert!(writer.is_due(now + 1) && !writer.is_due(now));
    assert_eq!(writer.write(listed_at(now + 1)).await, Some(WriteOutcome::Written));
    let store = CatalogStore::new(bucket.clone());
    let generations = store.list().await.unwrap();
    assert_eq!(generations.len(), 2);
    let newest = CatalogStore::newest(&generations);
    assert_eq!((newest.len(), newest[0].sequence), (1, 2));
    assert!(newest[0].path().to_string().starts_with("catalog/v1/00000000000000000002-"));
    assert_eq!(store.read(&newest[0]).await.unwrap(), listed_at(now + 1));
}

#[tokio::test]
async fn a_writer_yields_to_a_later_listing_and_to_newer_formats() {
    let bucket = testing::memory_bucket();
    let now = bucket.clock().now().0;
    let late = listed_at(now);
    assert_eq!(writer(&bucket).write(late).await, Some(WriteOutcome::Written));
    let mut early = listed_at(now - 1);
    early.header.written_ms = now + 2;
    assert_eq!(writer(&bucket).write(early).await, Some(WriteOutcome::Outdated));
    let next = format!("{CATALOG_ROOT}/{:020}-{}", 2, "0".repeat(16));
    let text = r#"{"drumlin_catalog":{"major":2,"minor":0}}"#.to_owned() + "\n";
    bucket.put(&Path::from(next.clone()), packed(&text).into()).await.unwrap();
    assert_eq!(writer(&bucket).write(listed_at(now + 5)).await, Some(WriteOutcome::NewerFormat));
    assert_eq!(sequences(&bucket).await, [1, 2]);
    // a damaged one is replaced
    bucket.put(&Path::from(next), "junk".into()).await.unwrap();
    assert_eq!(writer(&bucket).write(listed_at(now + 5)).await, Some(WriteOutcome::Written));
    assert_eq!(sequences(&bucket).await, [1, 2, 3]);
}

#[tokio::test]
async fn other_names_are_nobodys_business() {
    let bucket = testing::memory_bucket();
    for name in [
        "1-0000000000000000",
        "00000000000000000001",
        "00000000000000000001-xyz",
        "18446744073709551615-0000000000000000",
        "00000000000000000001-0000000000000000/more",
        "readme",
    ] {
        bucket.put(&Path::from(format!("{CATALOG_ROOT}/{name}")), "x".into()).await.unwrap();
    }
    assert!(sequences(&bucket).await.is_empty());
    assert_eq!(writer(&bucket).write(listed_at(1)).await, Some(WriteOutcome::Written));
    assert_eq!(sequences(&bucket).await, [1]);
}

#[tokio::test]
async fn old_generations_go_after_a_while() {
    let bucket = testing::memory_bucket();
    let store = CatalogStore::new(bucket.clone());
    for n in 1..=4 {
        store.write(n, listed_at(n.cast_signed())).await.unwrap();
    }
    let aged = |age_ms: i64| {
        let store = store.clone();
        async move {
            let mut generations = store.list().await.unwrap();
            let now = store.bucket().clock().now().0;
            generations.iter_mut().for_each(|g| g.modified_ms = now - age_ms);
            store.sweep(&generations).await.unwrap();
        }
    };
    aged(3_600_000).await;
    assert_eq!(sequences(&bucket).await, [1, 2, 3, 4]);
    aged(3_600_001).await;
    assert_eq!(sequences(&bucket).await, [3, 4], "the newest stay, however old");
}
