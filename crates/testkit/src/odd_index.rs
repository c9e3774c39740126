//! Indices that no writer of ours would write: series out of order, labels out of order or twice,
//! chunks out of order.

use std::collections::{BTreeMap, BTreeSet};

/// A series as the index should hold it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OddSeries {
    pub labels: Vec<(String, String)>,
    /// Reference, first and last time.
    pub chunks: Vec<(u64, i64, i64)>,
}

/// The bytes of an index of version 2 that has these series as they come, whatever their order.
pub fn odd_index(series: &[OddSeries]) -> Vec<u8> {
    let strings: BTreeSet<&str> =
        series.iter().flat_map(|s| &s.labels).flat_map(|(n, v)| [&**n, &**v]).collect();
    let symbol: BTreeMap<&str, u64> = strings.iter().copied().zip(0..).collect();
    let mut out = vec![0xba, 0xaa, 0xd7, 0x00, 2];
    let mut toc = [out.len() as u64, 0, 0, 0, 0, 0];
    let mut content = (strings.len() as u32).to_be_bytes().to_vec();
    strings.iter().for_each(|s| put_string(&mut content, s));
    put_section(&mut out, &content);
    toc[1] = out.len() as u64;
    let mut postings: BTreeMap<(&str, &str), Vec<u32>> = BTreeMap::new();
    for one in series {
        out.resize(out.len().next_multiple_of(16), 0);
        let id = (out.len() / 16) as u32;
        postings.entry(("", "")).or_default().push(id);
        one.labels.iter().for_each(|(n, v)| postings.entry((n, v)).or_default().push(id));
        let entry = entry(one, &symbol);
        put_uvarint(&mut out, entry.len() as u64);
        out.extend_from_slice(&entry);
        out.extend_from_slice(&crc32c::crc32c(&entry).to_be_bytes());
    }
    (toc[2], toc[3], toc[4]) = (out.len() as u64, out.len() as u64, out.len() as u64);
    let mut table = (postings.len() as u32).to_be_bytes().to_vec();
    for ((name, value), ids) in &postings {
        out.resize(out.len().next_multiple_of(4), 0);
        table.push(2);
        put_string(&mut table, name);
        put_string(&mut table, value);
        put_uvarint(&mut table, out.len() as u64);
        let mut list = (ids.len() as u32).to_be_bytes().to_vec();
        ids.iter().for_each(|id| list.extend_from_slice(&id.to_be_bytes()));
        put_section(&mut out, &list);
    }
    toc[5] = out.len() as u64;
    put_section(&mut out, &table);
    let toc: Vec<u8> = toc.iter().flat_map(|at| at.to_be_bytes()).collect();
    out.extend_from_slice(&toc);
    out.extend_from_slice(&crc32c::crc32c(&toc).to_be_bytes());
    out
}

fn entry(series: &OddSeries, symbol: &BTreeMap<&str, u64>) -> Vec<u8> {
    let mut entry = Vec::new();
    put_uvarint(&mut entry, series.labels.len() as u64);
    for (name, value) in &series.labels {
        put_uvarint(&mut entry, symbol[&**name]);
        put_uvarint(&mut entry, symbol[&**value]);
    }
    put_uvarint(&mut entry, series.chunks.len() as u64);
    let mut before: Option<(u64, i64)> = None;
    for (reference, min_time, max_time) in &series.chunks {
        match before {
            None => put_varint(&mut entry, *min_time),
            Some((_, end)) => put_uvarint(&mut entry, min_time.wrapping_sub(end).cast_unsigned()),
        }
        put_uvarint(&mut entry, max_time.wrapping_sub(*min_time).cast_unsigned());
        match before {
            None => put_uvarint(&mut entry, *reference),
            Some((last, _)) => put_varint(&mut entry, reference.wrapping_sub(last).cast_signed()),
        }
        before = Some((*reference, *max_time));
    }
    entry
}

fn put_section(out: &mut Vec<u8>, content: &[u8]) {
    out.extend_from_slice(&(content.len() as u32).to_be_bytes());
    out.extend_from_slice(content);
    out.extend_from_slice(&crc32c::crc32c(content).to_be_bytes());
}

fn put_string(out: &mut Vec<u8>, string: &str) {
    put_uvarint(out, string.len() as u64);
    out.extend_from_slice(string.as_bytes());
}

fn put_uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    put_uvarint(out, (value << 1 ^ value >> 63).cast_unsigned());
}
