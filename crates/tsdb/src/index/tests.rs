use std::sync::Arc;

use bytes::Bytes;
use model::{MatchOp, Matcher, TimeRange};
use proptest::prelude::*;

use super::*;

const RAW: &[u8] = include_bytes!("../../tests/data/raw/01M81HXMY0XQF1A6MF7S68NK18/index");
const SMALL: &[u8] = include_bytes!("../../tests/data/raw/01M81HXTN290NJBH17178YSRJX/index");
const AGGR: &[u8] = include_bytes!("../../tests/data/aggr/01M81HXX0GS6A2F69HCM1Y84FY/index");

pub(super) const GOLDEN: [&[u8]; 3] = [RAW, SMALL, AGGR];

fn open(bytes: &'static [u8]) -> Index {
    Index::open(Bytes::from_static(bytes)).unwrap()
}

fn matcher(op: &str, name: &str, value: &str) -> Matcher {
    let op = match op {
        "=" => MatchOp::Equal,
        "!=" => MatchOp::NotEqual,
        "=~" => MatchOp::Regex,
        _ => MatchOp::NotRegex,
    };
    Matcher::new(op, name, value).unwrap()
}

#[test]
fn golden_indices_read_whole() {
    for (bytes, series) in [(SMALL, 72), (AGGR, 276)] {
        let index = open(bytes);
        let entries: Vec<SeriesEntry> =
            index.all_series().unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(entries.len(), series);
        assert_eq!(index.header().series_count(), series as u64);
        assert!(entries.windows(2).all(|w| w[0].labels < w[1].labels));
        assert!(entries.iter().all(|e| e.chunks.iter().all(|c| c.min_time <= c.max_time)));
    }
}

#[test]
fn label_names_and_values_are_those_of_the_series() {
    let index = open(RAW);
    let mut names =
        std::collections::BTreeMap::<Vec<u8>, std::collections::BTreeSet<Vec<u8>>>::new();
    for entry in index.all_series().unwrap() {
        for (name, value) in entry.unwrap().labels.iter() {
            names.entry(name.to_vec()).or_default().insert(value.to_vec());
        }
    }
    assert!(index.header().label_names().eq(names.keys()));
    for (name, values) in &names {
        assert!(index.header().label_values(name).map(|(v, _)| v).eq(values));
        for value in values {
            assert!(index.header().postings_range(name, value).is_some());
        }
        assert!(index.header().postings_range(name, b"no such value").is_none());
    }
    assert_eq!(index.header().postings_range(b"nope", b"x"), None);
}

/// Every combination of up to three of these, against the plain definition of a matcher.
#[test]
fn matchers_select_what_their_definition_says() {
    let zoo = [
        matcher("=", "__name__", "http_requests_total"),
        matcher("=", "job", "nope"),
        matcher("=", "nope", ""),
        matcher("=", "handler", ""),
        matcher("!=", "handler", ""),
        matcher("!=", "handler", "/login"),
        matcher("!=", "nope", "x"),
        matcher("=~", "handler", "/login|/cart"),
        matcher("=~", "handler", "/login|"),
        matcher("=~", "handler", ".*"),
        matcher("=~", "handler", ".+"),
        matcher("=~", "le", "0\\..*|"),
        matcher("!~", "handler", "/l.*"),
        matcher("!~", "handler", "/login|"),
        matcher("!~", "handler", ".+"),
        matcher("!~", "instance", ".*"),
    ];
    let index = open(RAW);
    let all = index.postings(&[]).unwrap();
    let labels: Vec<_> = all.iter().map(|id| index.series(*id).unwrap().labels).collect();
    let mut answers = 0;
    for a in &zoo {
        for b in &zoo {
            for c in &zoo {
                let matchers = [a.clone(), b.clone(), c.clone()];
                let satisfied = |l: &model::Labels| {
                    matchers.iter().all(|m| m.matches(l.get(&m.name).unwrap_or_default()))
                };
                let expected: Vec<u32> = all
                    .iter()
                    .zip(&labels)
                    .filter(|(_, l)| satisfied(l))
                    .map(|(id, _)| *id)
                    .collect();
                assert_eq!(index.postings(&matchers).unwrap(), expected, "{matchers:?}");
                answers += usize::from(!expected.is_empty());
            }
        }
    }
    assert!(answers > 500, "{answers} combinations with an answer");
}

#[test]
fn names_and_values_with_matchers() {
    let index = open(RAW);
    let m = [matcher("=", "__name__", "up")];
    let names = index.label_names(&m).unwrap();
    assert!(names.contains(&b"job".to_vec()) && !names.contains(&b"handler".to_vec()), "{names:?}");
    assert!(!index.label_values("job", &m).unwrap().is_empty());
    assert!(index.label_values("handler", &m).unwrap().is_empty());
}

/// The header, and the ranges that were fetched for it.
fn load(mut loader: HeaderLoader, index: &[u8]) -> (IndexHeader, Vec<std::ops::Range<u64>>) {
    let mut fetched = Vec::new();
    while !loader.need().is_empty() {
        let need = loader.need();
        fetched.extend(need.clone());
        let bytes: Vec<Bytes> = need
            .iter()
            .map(|r| Bytes::copy_from_slice(&index[r.start as usize..r.end as usize]))
            .collect();
        loader.feed(&bytes).unwrap();
    }
    (loader.finish().unwrap(), fetched)
}

#[test]
fn the_header_needs_three_ranges_and_little_else() {
    let (header, fetched) = load(HeaderLoader::new(RAW.len() as u64).unwrap(), RAW);
    assert!(fetched.len() <= 3, "{fetched:?}");
    assert!(header.memory() < RAW.len());
}

#[test]
fn the_header_for_a_scan_knows_the_list_of_all_series_and_no_other() {
    for index in GOLDEN {
        let (whole, _) = load(HeaderLoader::new(index.len() as u64).unwrap(), index);
        let (header, fetched) =
            load(HeaderLoader::new(index.len() as u64).unwrap().for_scan(), index);
        assert!(fetched.len() <= 3, "{fetched:?}");
        assert_eq!(header.postings_range(b"", b""), whole.postings_range(b"", b""));
        assert_eq!(header.series_count(), whole.series_count());
        assert!(header.symbols().iter().eq(whole.symbols().iter()));
        assert_eq!(header.label_names().count(), 0);
        assert!(header.memory() < whole.memory());
    }
}

#[test]
fn the_header_for_a_scan_of_a_table_out_of_order_reads_the_table() {
    // exchange the first two entries of the table: that of all series and the one after it
    let mut index = SMALL.to_vec();
    let start = open(SMALL).header().toc().postings_offset_table as usize;
    let end = index.len() - Toc::SIZE as usize;
    let mut entries = cursor::Cursor::new("test", &SMALL[start + 8..end], 0);
    let mut ends = [0; 2];
    for end in &mut ends {
        entries.uvarint().unwrap();
        entries.string().unwrap();
        entries.string().unwrap();
        entries.uvarint().unwrap();
        *end = start + 8 + entries.position();
    }
    let swapped = [&SMALL[ends[0]..ends[1]], &SMALL[start + 8..ends[0]]].concat();
    index[start + 8..ends[1]].copy_from_slice(&swapped);
    let crc = crc32c::crc32c(&index[start + 4..end - 4]);
    index[end - 4..end].copy_from_slice(&crc.to_be_bytes());
    let (header, _) = load(HeaderLoader::new(index.len() as u64).unwrap().for_scan(), &index);
    assert_eq!(header.series_count(), open(SMALL).header().series_count());
    assert!(header.label_names().count() > 0);
}

/// Reads a list in pieces of so many bytes.
fn read_pieces(index: &[u8], range: std::ops::Range<u64>, bytes: u64) -> Result<Vec<u32>, Error> {
    let mut pieces = PostingsPieces::new(range);
    let mut ids = Vec::new();
    while let Some(need) = pieces.need(bytes) {
        let end = index.len().min(need.end as usize);
        ids.extend(pieces.feed(&index[end.min(need.start as usize)..end])?);
    }
    Ok(ids)
}

#[test]
fn corruption_is_an_error_that_names_section_and_offset() {
    let broken = |at: usize| {
        let mut bytes = RAW.to_vec();
        bytes[at] ^= 0x10;
        Index::open(bytes.into())
            .and_then(|i| i.all_series()?.collect::<Result<Vec<_>, _>>().map(|_| ()))
    };
    let toc = *open(RAW).header().toc();
    let text = |at: u64| broken(at as usize).unwrap_err().to_string();
    assert!(text(0).contains("magic number"), "{}", text(0));
    assert!(text(4).contains("version"), "{}", text(4));
    assert!(
        text(toc.symbols + 20).contains("index symbols: checksum mismatch at offset 5"),
        "{}",
        text(toc.symbols + 20)
    );
    assert!(
        text(toc.series + 20).contains("index series: checksum mismatch at offset"),
        "{}",
        text(toc.series + 20)
    );
    assert!(text(toc.postings + 10).contains("index postings"), "{}", text(toc.postings + 10));
    let table = toc.postings_offset_table + 30;
    assert!(text(table).contains("index postings offset table"), "{}", text(table));
    let end = RAW.len() as u64 - 20;
    assert!(text(end).contains("index table of contents"), "{}", text(end));
}

#[test]
fn every_truncation_is_an_error() {
    for len in (0..SMALL.len()).step_by(7) {
        assert!(Index::open(Bytes::from_static(&SMALL[..len])).is_err(), "{len}");
    }
}

proptest! {
    /// Checksums are repaired, so that the code behind them is reached.
    #[test]
    fn arbitrary_damage_neither_panics_nor_over_allocates(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = SMALL.to_vec();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let len = bytes.len();
        let toc_crc = crc32c::crc32c(&bytes[len - 52..len - 4]);
        bytes[len - 4..].copy_from_slice(&toc_crc.to_be_bytes());
        for at in [5usize, 5684] {
            let section = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
            if let Some(content) = bytes.get(at + 4..at.saturating_add(4).saturating_add(section)) {
                let crc = crc32c::crc32c(content).to_be_bytes();
                if let Some(stored) = bytes.get_mut(at + 4 + section..at + 8 + section) {
                    stored.copy_from_slice(&crc);
                }
            }
        }
        if let Ok(index) = Index::open(bytes.into()) {
            if let Ok(series) = index.all_series() {
                series.for_each(drop);
            }
            let _ = index.postings(&[matcher("=~", "job", ".+"), matcher("!=", "handler", "x")]);
        }
    }

    #[test]
    fn pieces_of_postings_make_the_list(
        deltas in proptest::collection::vec(1..1000u32, 0..60),
        bytes in 0..100u64,
        padding in 0..9u64,
        flip in any::<Option<prop::sample::Index>>(),
    ) {
        let ids: Vec<u32> = deltas.iter().scan(0, |id, delta| { *id += delta; Some(*id) }).collect();
        let content: Vec<u8> = [ids.len() as u32].iter().chain(&ids).flat_map(|n| n.to_be_bytes()).collect();
        let mut list = vec![7; 24];
        list.extend_from_slice(&(content.len() as u32).to_be_bytes());
        list.extend_from_slice(&content);
        list.extend_from_slice(&crc32c::crc32c(&content).to_be_bytes());
        let end = list.len() as u64;
        let range = 24..end + padding;
        list.resize(range.end as usize + 3, 0);
        prop_assert_eq!(read_pieces(&list, range.clone(), bytes).unwrap(), ids);
        for len in 24..end as usize {
            prop_assert!(read_pieces(&list[..len], range.clone(), bytes).is_err(), "cut off at {}", len);
        }
        if let Some(at) = flip {
            list[24 + at.index(end as usize - 24)] ^= 0x40;
            prop_assert!(read_pieces(&list, range, bytes).is_err());
        }
    }

    #[test]
    fn arbitrary_series_bytes_do_not_panic(body in proptest::collection::vec(any::<u8>(), 0..60)) {
        let index = open(SMALL);
        let mut bytes = Vec::new();
        crate::varint::put_uvarint(&mut bytes, body.len() as u64);
        bytes.extend_from_slice(&body);
        bytes.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
        let _ = SeriesParser::new(Arc::new(index.header().clone())).parse(1, &bytes);
    }
}

/// Lists of a label that nearly all series share are not fetched where another matcher leaves few
/// series.
#[test]
fn long_lists_are_tested_on_the_series_instead() {
    let values: Vec<String> = (0..40_000).map(|i| format!("{i:05}")).collect();
    let mut symbols: Vec<&str> =
        values.iter().map(String::as_str).chain(["all", "common", "rare", "unique"]).collect();
    symbols.sort_unstable();
    let mut writer = IndexWriter::new(symbols).unwrap();
    for value in &values {
        let all = if value.ends_with("77") { "rare" } else { "common" };
        let labels = model::Labels::from_pairs([("all", all), ("unique", value)]);
        // those with "rare" come behind the others
        if all == "common" {
            writer.push(&labels, &[]).unwrap();
        }
    }
    for value in values.iter().filter(|v| v.ends_with("77")) {
        writer.push(&model::Labels::from_pairs([("all", "rare"), ("unique", value)]), &[]).unwrap();
    }
    let mut bytes = writer.take_output();
    bytes.extend(writer.finish().flat_map(Result::unwrap));
    let index = Index::open(bytes.into()).unwrap();
    assert_eq!(index.header().series_count(), 40_000);
    let found = |matchers: &[Matcher]| index.postings(matchers).unwrap().len();
    for (matchers, residual, expected) in [
        (vec![matcher("=~", "unique", "0017.|0018."), matcher("=", "all", "common")], 1, 19),
        (vec![matcher("=~", "unique", "0017.|0018."), matcher("!=", "all", "common")], 1, 1),
        (vec![matcher("=", "unique", "00177"), matcher("!~", "all", "comm.*")], 1, 1),
        (vec![matcher("=", "unique", "00178"), matcher("=", "all", "rare")], 0, 0),
        (vec![matcher("=", "all", "common")], 0, 39_600),
        (vec![matcher("!=", "all", "common")], 0, 400),
    ] {
        let plan = index.header().plan(&matchers).unwrap();
        assert_eq!(plan.residual().len(), residual, "{matchers:?}");
        assert_eq!(found(&matchers), expected, "{matchers:?}");
    }
}

#[test]
fn matchers_look_at_values_only_while_they_are_wanted_and_never_for_long() {
    let long = "ab".repeat(1 << 15);
    let mut values: Vec<String> = (0..4000).map(|i| format!("{i:05}")).collect();
    values.push(long.clone());
    let mut symbols: Vec<&str> = values.iter().map(String::as_str).chain(["unique"]).collect();
    symbols.sort_unstable();
    let mut writer = IndexWriter::new(symbols).unwrap();
    for value in &values {
        writer.push(&model::Labels::from_pairs([("unique", value)]), &[]).unwrap();
    }
    let mut bytes = writer.take_output();
    bytes.extend(writer.finish().flat_map(Result::unwrap));
    let index = Index::open(bytes.into()).unwrap();
    let error = index.postings(&[matcher("=~", "unique", ".*a.{900}")]).unwrap_err();
    assert_eq!(error.kind(), crate::Kind::Unsupported);
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.starts_with("a value of label unique has 65536 bytes, more than"), "{cause}");
    // which only matters where a regex is run over it
    assert_eq!(index.postings(&[matcher("=", "unique", &long)]).unwrap().len(), 1);
    assert_eq!(index.postings(&[matcher("=~", "unique", "0000.")]).unwrap().len(), 10);
    let asked = std::cell::Cell::new(0);
    let is_wanted = || {
        asked.set(asked.get() + 1);
        asked.get() < 2
    };
    index.header().plan_while(&is_wanted, &[matcher("=~", "unique", ".*a")]).unwrap();
    assert_eq!(asked.get(), 2);
}

/// An entry of labels, by their symbols, and chunks, as a writer that ignores order makes it.
fn odd_entry(labels: &[(u64, u64)], chunks: &[ChunkMeta]) -> Vec<u8> {
    use crate::varint::{put_uvarint, put_varint};
    let mut body = Vec::new();
    put_uvarint(&mut body, labels.len() as u64);
    for (name, value) in labels {
        put_uvarint(&mut body, *name);
        put_uvarint(&mut body, *value);
    }
    put_uvarint(&mut body, chunks.len() as u64);
    let mut before: Option<&ChunkMeta> = None;
    for chunk in chunks {
        match before {
            None => put_varint(&mut body, chunk.min_time),
            Some(before) => {
                put_uvarint(&mut body, chunk.min_time.wrapping_sub(before.max_time).cast_unsigned())
            }
        }
        put_uvarint(&mut body, (chunk.max_time - chunk.min_time).cast_unsigned());
        match before {
            None => put_uvarint(&mut body, chunk.reference),
            Some(before) => {
                put_varint(&mut body, chunk.reference.wrapping_sub(before.reference).cast_signed())
            }
        }
        before = Some(chunk);
    }
    let mut entry = Vec::new();
    put_uvarint(&mut entry, body.len() as u64);
    entry.extend_from_slice(&body);
    entry.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
    entry
}

proptest! {
    /// If a name occurs twice, the first value counts.
    #[test]
    fn labels_and_chunks_come_sorted_whatever_their_order(
        sets in proptest::collection::vec(
            (
                proptest::collection::vec((0u64..12, 0u64..60), 0..6),
                proptest::collection::vec((0i64..50, 0i64..30, 0u64..1 << 40), 0..5),
            ),
            1..6,
        ),
    ) {
        let header = Arc::new(open(SMALL).header().clone());
        let symbol = |reference: u64| header.symbols().get(reference).unwrap();
        // one parser, because it remembers the set before
        let mut parser = SeriesParser::new(Arc::clone(&header));
        for (labels, chunks) in sets {
            let mut chunks: Vec<ChunkMeta> = chunks
                .into_iter()
                .map(|(min_time, len, reference)| ChunkMeta { reference, min_time, max_time: min_time + len })
                .collect();
            let entry = parser.parse(1, &odd_entry(&labels, &chunks)).unwrap();
            let mut first = std::collections::BTreeMap::new();
            let named = labels.iter().map(|(n, v)| (symbol(*n), symbol(*v))).filter(|(_, v)| !v.is_empty());
            let mut count = 0;
            for (name, value) in named {
                first.entry(name).or_insert(value);
                count += 1;
            }
            prop_assert_eq!(entry.has_doubles, count > first.len());
            prop_assert!(entry.labels.iter().eq(first));
            chunks.sort_by_key(|c| (c.min_time, c.max_time));
            prop_assert_eq!(entry.chunks, chunks);
        }
    }

    #[test]
    fn a_span_of_time_gets_its_chunks_and_what_lies_behind_them(
        mut chunks in proptest::collection::vec((0i64..50, 0i64..30, 0u64..200), 0..8),
        ascend in any::<bool>(),
        span in (0i64..60, 0i64..30),
    ) {
        if ascend {
            chunks.sort_unstable();
            (0..).zip(&mut chunks).for_each(|(at, chunk)| chunk.2 += at * 200);
        }
        let chunks: Vec<ChunkMeta> = chunks
            .into_iter()
            .map(|(min_time, len, reference)| ChunkMeta { reference, min_time, max_time: min_time + len })
            .collect();
        let bytes = odd_entry(&[(1, 2)], &chunks);
        let mut parser = SeriesParser::new(Arc::new(open(SMALL).header().clone()));
        let whole = parser.parse(1, &bytes).unwrap();
        let range = TimeRange::new(span.0, span.0 + span.1);
        let TouchingEntry { entry, neighbours, repeats } =
            parser.parse_touching(1, &bytes, range).unwrap();
        let mut references: Vec<u64> = whole.chunks.iter().map(|c| c.reference).collect();
        references.sort_unstable();
        prop_assert_eq!(repeats, references.windows(2).any(|w| w[0] == w[1]));
        let touches = |c: &&ChunkMeta| range.overlaps_closed(c.min_time, c.max_time);
        prop_assert_eq!(&entry.chunks, &whole.chunks.iter().filter(touches).copied().collect::<Vec<_>>());
        prop_assert_eq!((&entry.labels, entry.has_doubles), (&whole.labels, whole.has_doubles));
        // what follows each of them is known
        let known: Vec<u64> =
            entry.chunks.iter().map(|c| c.reference).chain(neighbours.iter().copied()).collect();
        for chunk in &entry.chunks {
            let next = |among: &[u64]| among.iter().copied().filter(|r| *r > chunk.reference).min();
            prop_assert_eq!(next(&known), next(&references));
        }
        // and where the series begins, which is where the one before it ends
        prop_assert_eq!(known.iter().min(), references.first());
    }

    #[test]
    fn postings_come_sorted_and_once(mut ids in proptest::collection::vec(any::<u32>(), 0..20)) {
        let content: Vec<u8> =
            std::iter::once(ids.len() as u32).chain(ids.iter().copied()).flat_map(u32::to_be_bytes).collect();
        let section = [&(content.len() as u32).to_be_bytes()[..], &content, &crc32c::crc32c(&content).to_be_bytes()];
        ids.sort_unstable();
        ids.dedup();
        prop_assert_eq!(parse_postings(&section.concat(), 0).unwrap(), ids);
    }
}
