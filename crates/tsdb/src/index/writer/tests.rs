use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;

use super::super::tests::GOLDEN;
use super::super::{Index, SeriesEntry};
use super::*;

fn rewrite(index: &Index) -> Vec<u8> {
    let mut writer = IndexWriter::new(index.header().symbols().iter()).unwrap();
    let mut bytes = Vec::new();
    for entry in index.all_series().unwrap() {
        let SeriesEntry { labels, chunks, .. } = entry.unwrap();
        writer.push(&labels, &chunks).unwrap();
        bytes.extend(writer.take_output());
    }
    for piece in writer.finish() {
        bytes.extend(piece.unwrap());
    }
    bytes
}

#[test]
fn golden_indices_come_back_byte_for_byte() {
    for golden in GOLDEN {
        assert!(rewrite(&Index::open(Bytes::from_static(golden)).unwrap()) == golden);
    }
}

/// All golden blocks, if they lie beside the repository.
#[test]
fn shared_golden_indices_come_back_byte_for_byte() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/golden");
    let blocks = ["downsampled", "raw/eu-0", "raw/eu-1", "raw/us-0", "raw/us-1"]
        .into_iter()
        .filter_map(|folder| std::fs::read_dir(root.join(folder)).ok())
        .flat_map(|blocks| blocks.map(|b| b.unwrap().path().join("index")));
    for path in blocks {
        let golden = std::fs::read(&path).unwrap();
        assert!(
            rewrite(&Index::open(golden.clone().into()).unwrap()) == golden,
            "{}",
            path.display()
        );
    }
}

type Model = Vec<(Labels, Vec<ChunkMeta>)>;

fn model() -> impl Strategy<Value = Model> {
    let labels = proptest::collection::btree_map("[a-d]{1,2}", "[x-z]{1,3}", 1..5);
    let chunks = proptest::collection::vec((any::<i32>(), 0..10_000i64, any::<u32>()), 0..5);
    proptest::collection::btree_map(labels, chunks, 0..40).prop_map(|series| {
        let mut series: Model = series
            .into_iter()
            .map(|(labels, chunks)| {
                let chunk = |(min, span, reference): (i32, i64, u32)| ChunkMeta {
                    reference: u64::from(reference) << 20,
                    min_time: i64::from(min),
                    max_time: i64::from(min) + span,
                };
                (Labels::from_pairs(labels), chunks.into_iter().map(chunk).collect())
            })
            .collect();
        series.sort_by(|a, b| a.0.cmp(&b.0));
        series
    })
}

fn write(model: &Model) -> (Vec<u8>, u64) {
    let symbols: BTreeSet<Vec<u8>> = model
        .iter()
        .flat_map(|(labels, _)| {
            labels.iter().flat_map(|(n, v)| [n.to_vec(), v.to_vec()]).collect::<Vec<_>>()
        })
        .collect();
    let mut writer = IndexWriter::new(symbols).unwrap();
    for (labels, chunks) in model {
        writer.push(labels, chunks).unwrap();
    }
    let mut bytes = writer.take_output();
    let max = writer.max_series_size();
    bytes.extend(writer.finish().flat_map(Result::unwrap));
    (bytes, max)
}

/// The same series as an index of version 1: offsets instead of ordinals and ids, an unsorted
/// postings table.
fn write_v1(model: &Model) -> Vec<u8> {
    let mut out = vec![0xba, 0xaa, 0xd7, 0x00, 1];
    let section = |out: &mut Vec<u8>, content: &[u8]| {
        out.extend_from_slice(&(content.len() as u32).to_be_bytes());
        out.extend_from_slice(content);
        out.extend_from_slice(&crc32c::crc32c(content).to_be_bytes());
    };
    let mut symbols = std::collections::BTreeMap::new();
    let all = model.iter().flat_map(|(l, _)| {
        l.iter().flat_map(|(n, v)| [n.to_vec(), v.to_vec()]).collect::<Vec<_>>()
    });
    let all: BTreeSet<Vec<u8>> = all.collect();
    let mut content = (all.len() as u32).to_be_bytes().to_vec();
    for symbol in all {
        symbols.insert(symbol.clone(), 9 + content.len() as u64);
        put_uvarint(&mut content, symbol.len() as u64);
        content.extend_from_slice(&symbol);
    }
    section(&mut out, &content);
    let mut toc = Toc { symbols: 5, series: out.len() as u64, ..Toc::default() };
    let mut lists = std::collections::BTreeMap::<(Vec<u8>, Vec<u8>), Vec<u32>>::new();
    lists.insert(Default::default(), Vec::new());
    for (labels, chunks) in model {
        let id = out.len() as u32;
        lists.get_mut(&Default::default()).unwrap().push(id);
        let mut entry = Vec::new();
        put_uvarint(&mut entry, labels.len() as u64);
        for (name, value) in labels.iter() {
            put_uvarint(&mut entry, symbols[name]);
            put_uvarint(&mut entry, symbols[value]);
            lists.entry((name.to_vec(), value.to_vec())).or_default().push(id);
        }
        put_uvarint(&mut entry, chunks.len() as u64);
        let (mut end, mut reference) = (0i64, 0u64);
        for (i, chunk) in chunks.iter().enumerate() {
            let (start, r) = (chunk.min_time.wrapping_sub(end), chunk.reference);
            if i == 0 {
                put_varint(&mut entry, start)
            } else {
                put_uvarint(&mut entry, start as u64)
            }
            put_uvarint(&mut entry, (chunk.max_time - chunk.min_time) as u64);
            if i == 0 {
                put_uvarint(&mut entry, r)
            } else {
                put_varint(&mut entry, r.wrapping_sub(reference) as i64)
            }
            (end, reference) = (chunk.max_time, r);
        }
        put_uvarint(&mut out, entry.len() as u64);
        out.extend_from_slice(&entry);
        out.extend_from_slice(&crc32c::crc32c(&entry).to_be_bytes());
    }
    toc.label_indices = out.len() as u64;
    section(&mut out, b"label indices are not read");
    toc.postings = out.len() as u64;
    let mut table = (lists.len() as u32).to_be_bytes().to_vec();
    // last label first
    for ((name, value), ids) in lists.into_iter().rev() {
        put_uvarint(&mut table, 2);
        for text in [&name, &value] {
            put_uvarint(&mut table, text.len() as u64);
            table.extend_from_slice(text);
        }
        put_uvarint(&mut table, out.len() as u64);
        let mut content = (ids.len() as u32).to_be_bytes().to_vec();
        content.extend(ids.iter().flat_map(|id| id.to_be_bytes()));
        section(&mut out, &content);
    }
    toc.label_offset_table = out.len() as u64;
    section(&mut out, b"nor is their table");
    toc.postings_offset_table = out.len() as u64;
    section(&mut out, &table);
    toc.write(&mut out);
    out
}

/// Whatever the order of a series' chunks in the index, they are read in order of time.
fn in_order(model: &Model) -> Model {
    let mut model = model.clone();
    model.iter_mut().for_each(|(_, chunks)| chunks.sort_by_key(|c| (c.min_time, c.max_time)));
    model
}

proptest! {
    #[test]
    fn what_was_written_is_read(model in model()) {
        let (v2, max_series_size) = write(&model);
        let mut v3 = v2.clone();
        v3[4] = 3;
        let largest = model.len() as u64 * max_series_size;
        prop_assert!(largest >= model.len() as u64 * 16);
        for bytes in [v2, v3, write_v1(&model)] {
            let index = Index::open(bytes.into()).unwrap();
            let read: Model = index.all_series().unwrap().map(|e| e.unwrap()).map(|e| (e.labels, e.chunks)).collect();
            prop_assert_eq!(&read, &in_order(&model));
            for name in index.header().label_names() {
                for (value, range) in index.header().label_values(name) {
                    let expected = model.iter().filter(|(l, _)| l.get(name) == Some(value)).count() as u64;
                    prop_assert!(range.end - range.start >= 12 + 4 * expected);
                    let m = model::Matcher::equal(
                        String::from_utf8(name.to_vec()).unwrap(),
                        String::from_utf8(value.to_vec()).unwrap(),
                    );
                    prop_assert_eq!(index.postings(&[m]).unwrap().len() as u64, expected);
                }
            }
        }
    }
}

#[test]
fn misuse_is_an_error() {
    assert!(IndexWriter::new(["b", "a"]).is_err());
    let mut writer = IndexWriter::new(["a", "b"]).unwrap();
    let labels = Labels::from_pairs([("a", "b")]);
    writer.push(&labels, &[]).unwrap();
    assert!(writer.push(&labels, &[]).unwrap_err().to_string().contains("does not come after"));
    let unknown = writer.push(&Labels::from_pairs([("a", "c")]), &[]).unwrap_err();
    assert!(unknown.to_string().contains("not among the symbols"), "{unknown}");
    let backwards = ChunkMeta { reference: 0, min_time: 2, max_time: 1 };
    assert!(writer.push(&Labels::from_pairs([("b", "b")]), &[backwards]).is_err());
}
