use std::collections::BTreeSet;
use std::ops::Range;

use bytes::Bytes;
use model::{MatchOp, Matcher};
use tsdb::Error;
use tsdb::index::{
    HeaderLoader, Index, IndexHeader, IndexWriter, PostingsPieces, SeriesEntry, parse_postings,
};

use super::{meter, seal};

/// Every way of reading an index gives the same, what it gives is in order, and comes back when it
/// is written again.
pub(crate) fn index(bytes: &[u8]) -> Result<(), Error> {
    let _ = read(bytes);
    read(&seal::index(bytes))
}

fn read(bytes: &[u8]) -> Result<(), Error> {
    let bytes = Bytes::copy_from_slice(bytes);
    // an entry of the postings offset table takes four bytes, and a name of its own in memory
    let most = (64 << 10) + 200 * bytes.len();
    let scan = meter::within(most, || load_for_scan(&bytes));
    let opened = meter::within(most, || Index::open(bytes.clone()));
    let again = Index::open(bytes.clone());
    assert_eq!(again.as_ref().err(), opened.as_ref().err(), "the same bytes give the same");
    let index = opened?;
    let header = index.header();
    assert!(header.memory() <= most);
    check_lists(&bytes, header);
    // where a list ends the header for a scan takes from the next entry, whatever comes later
    let start = |header: &IndexHeader| header.postings_range(b"", b"").map(|range| range.start);
    assert_eq!(scan.map_or_else(|_| start(header), |scan| start(&scan)), start(header));
    check_queries(&index);
    let ids = index.postings(&[])?;
    let entries = read_series(&bytes, &index, &ids)?;
    assert_eq!(again.and_then(|again| read_series(&bytes, &again, &ids)).as_ref(), Ok(&entries));
    check_written_again(&entries);
    Ok(())
}

fn load_for_scan(bytes: &Bytes) -> Result<IndexHeader, Error> {
    let mut loader = HeaderLoader::new(bytes.len() as u64)?.for_scan();
    loop {
        let need = loader.need();
        if need.is_empty() {
            return loader.finish();
        }
        let fetched = need.into_iter().map(|r| bytes.slice(r.start as usize..r.end as usize));
        loader.feed(&fetched.collect::<Vec<_>>())?;
    }
}

/// The lists of all labels, each found by its label and read at once and in pieces.
fn check_lists(bytes: &[u8], header: &IndexHeader) {
    let names: Vec<&[u8]> = header.label_names().collect();
    assert!(names.is_sorted_by(|a, b| a < b));
    for name in names {
        let values: Vec<(&[u8], Range<u64>)> = header.label_values(name).collect();
        assert!(values.is_sorted_by(|a, b| a.0 < b.0));
        for (value, range) in values {
            assert!(range.start < range.end && range.end <= bytes.len() as u64);
            assert_eq!(header.postings_range(name, value).as_ref(), Some(&range));
            check_list(bytes, range);
        }
    }
    header.postings_range(b"", b"").into_iter().for_each(|range| check_list(bytes, range));
}

fn check_list(bytes: &[u8], range: Range<u64>) {
    let rest = &bytes[range.start as usize..];
    let most = 1024 + 4 * rest.len();
    let at_once = meter::within(most, || parse_postings(rest, range.start));
    if let Ok(ids) = &at_once {
        assert!(ids.is_sorted_by(|a, b| a < b));
    }
    let in_pieces = meter::within(most, || read_pieces(bytes, range));
    if in_pieces.is_ok() {
        assert_eq!(in_pieces, at_once);
    }
}

fn read_pieces(bytes: &[u8], range: Range<u64>) -> Result<Vec<u32>, Error> {
    let mut pieces = PostingsPieces::new(range.clone());
    let mut ids = Vec::new();
    let mut at = range.start;
    while let Some(need) = pieces.need(64) {
        assert!(need.start >= at && need.start < need.end && need.end <= range.end);
        at = need.start + 1;
        ids.extend(pieces.feed(&bytes[need.start as usize..need.end as usize])?);
    }
    Ok(ids)
}

/// Whatever matchers find is in order.
fn check_queries(index: &Index) {
    let names = index.header().label_names().filter_map(|name| std::str::from_utf8(name).ok());
    let Some(name) = names.last() else { return };
    let value =
        index.header().label_values(name.as_bytes()).next().map_or(&[][..], |first| first.0);
    let any = Matcher::new(MatchOp::Regex, name, ".+").expect("a regular expression");
    let not = Matcher::new(MatchOp::NotEqual, name, value).expect("a value");
    if let Ok(ids) = index.postings(&[any, not]) {
        assert!(ids.is_sorted_by(|a, b| a < b));
    }
    let equal = [Matcher::new(MatchOp::Equal, name, value).expect("a value")];
    for found in [index.label_values(name, &equal), index.label_names(&equal)].into_iter().flatten()
    {
        assert!(found.is_sorted_by(|a, b| a < b));
    }
}

/// The entries of these series, each in order.
fn read_series(bytes: &[u8], index: &Index, ids: &[u32]) -> Result<Vec<SeriesEntry>, Error> {
    let header = index.header();
    let longest = header.symbols().iter().map(<[u8]>::len).max().unwrap_or_default();
    let mut reader = index.series_reader();
    let mut entries = Vec::new();
    for id in ids {
        let at = usize::try_from(header.series_offset(*id)).unwrap_or(usize::MAX);
        let front = bytes.get(at..).unwrap_or_default();
        let len = header.series_len(*id, &front[..front.len().min(10)]);
        // a reference to a symbol takes a byte, and a chunk takes three
        let len_there = front.len().min(len.as_ref().map_or(0, |len| *len as usize));
        let most = 4096 + len_there * (8 * longest + 512);
        let entry = meter::within(most, || reader.series(*id))?;
        assert!(len.is_ok_and(|len| at as u64 + len <= bytes.len() as u64));
        let labels: Vec<(&[u8], &[u8])> = entry.labels.iter().collect();
        assert!(labels.is_sorted_by(|a, b| a.0 < b.0), "{}", entry.labels);
        assert!(labels.iter().all(|(_, value)| !value.is_empty()), "{}", entry.labels);
        assert!(entry.chunks.is_sorted_by_key(|chunk| (chunk.min_time, chunk.max_time)));
        entries.push(entry);
    }
    Ok(entries)
}

fn check_written_again(entries: &[SeriesEntry]) {
    // references differ by less than this, as writers say what follows by a signed difference
    const LARGEST: u64 = i64::MAX as u64;
    let in_order = entries.is_sorted_by(|a, b| a.labels < b.labels);
    let mut chunks = entries.iter().flat_map(|entry| &entry.chunks);
    if !in_order || chunks.any(|chunk| chunk.reference > LARGEST) {
        return;
    }
    let labels = entries.iter().flat_map(|entry| entry.labels.iter());
    let symbols: BTreeSet<&[u8]> = labels.flat_map(|(name, value)| [name, value]).collect();
    let mut writer = IndexWriter::new(symbols).expect("symbols in order");
    for entry in entries {
        writer.push(&entry.labels, &entry.chunks).expect("a series in order");
    }
    let mut written = writer.take_output();
    written.extend(writer.finish().flat_map(|piece| piece.expect("a small index")));
    let index = Index::open(written.into()).expect("what was written is read");
    let all = index.all_series().expect("a list of all series");
    let read: Result<Vec<SeriesEntry>, Error> = all.collect();
    let without_doubles = |entry: &SeriesEntry| SeriesEntry { has_doubles: false, ..entry.clone() };
    assert_eq!(read, Ok(entries.iter().map(without_doubles).collect()));
}
