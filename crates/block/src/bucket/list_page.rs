//! A page of a listing as S3, GCS and Azure return it, reduced to names that are paths here.
//!
//! The client reads a page as a whole: one key with an empty part, `..` or a control character
//! makes it an error, and a key that ends in `/` becomes another object's. So such entries are
//! removed before the client sees the page. The prefix of the bucket is removed from the keys at
//! the same time, because a prefix such as `a//b` is not a path either.
//!
//! ```text
//! <Contents><Key>…   <CommonPrefixes><Prefix>…     S3, GCS
//! <Blob><Name>…      <BlobPrefix><Name>…           Azure
//! ```

use std::ops::Range;

use quick_xml::Reader;
use quick_xml::escape::{escape, resolve_xml_entity};
use quick_xml::events::{BytesRef, Event};

use super::hints::is_clean;

/// A page that the client accepts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) text: String,
    /// The names that were left out, without the prefix.
    pub(super) ignored: Vec<String>,
}

/// An object or a folder in a page.
#[derive(Debug, Default)]
struct PageEntry {
    /// Bytes of the page from its start tag to its end tag.
    whole: Range<usize>,
    /// The bytes between the tags of its name.
    name_at: Range<usize>,
    /// `None` where it holds characters that XML has no way to state.
    name: Option<String>,
    is_folder: bool,
}

/// Rewrites a page; `prefix` has no `/` at either end. `None` when the page is not XML: then the
/// client reports the error.
pub(super) fn clean(page: &str, prefix: &str) -> Option<Page> {
    let mut cleaned = Page { text: String::with_capacity(page.len()), ignored: Vec::new() };
    let mut done = 0;
    for entry in entries(page)? {
        let Some(name) = entry.name.as_deref() else {
            cleaned.text += &page[done..entry.whole.start];
            done = entry.whole.end;
            cleaned.ignored.push(page[entry.name_at].to_owned());
            continue;
        };
        let Some(relative) = below(name, prefix) else {
            cleaned.text += &page[done..entry.whole.start];
            done = entry.whole.end;
            continue;
        };
        let path =
            if entry.is_folder { relative.strip_suffix('/').unwrap_or(relative) } else { relative };
        if !is_clean(path) {
            cleaned.text += &page[done..entry.whole.start];
            done = entry.whole.end;
            cleaned.ignored.push(relative.to_owned());
        } else if !prefix.is_empty() {
            cleaned.text += &page[done..entry.name_at.start];
            cleaned.text += &escape(relative);
            done = entry.name_at.end;
        }
    }
    cleaned.text += &page[done..];
    Some(cleaned)
}

/// The rest of a name below the prefix.
fn below<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    if prefix.is_empty() {
        return Some(name);
    }
    name.strip_prefix(prefix)?.strip_prefix('/')
}

/// The names of entries of a kind, such as the `Key` of every `Error` in the answer to a deletion.
pub(super) fn names_of(page: &str, kind: &str) -> Vec<String> {
    let mut found = Vec::new();
    let all = walk(page, |element| (element == kind).then_some("Key"));
    found.extend(all.into_iter().flatten().filter_map(|entry| entry.name));
    found
}

fn entries(page: &str) -> Option<Vec<PageEntry>> {
    walk(page, |element| match element {
        "Contents" => Some("Key"),
        "CommonPrefixes" => Some("Prefix"),
        "Blob" | "BlobPrefix" => Some("Name"),
        _ => None,
    })
}

/// The elements for which `name_of` says which of their children holds the name.
fn walk(page: &str, name_of: impl Fn(&str) -> Option<&'static str>) -> Option<Vec<PageEntry>> {
    let mut reader = Reader::from_str(page);
    let mut entries = Vec::new();
    // the entry being read, the child that names it, and how many elements are open within it
    let mut open: Option<(PageEntry, &'static str, usize)> = None;
    loop {
        let start = usize::try_from(reader.buffer_position()).ok()?;
        let event = reader.read_event().ok()?;
        let end = usize::try_from(reader.buffer_position()).ok()?;
        match (&mut open, event) {
            (_, Event::Eof) => return Some(entries),
            (None, Event::Start(tag)) => {
                let name = std::str::from_utf8(tag.local_name().into_inner()).ok()?.to_owned();
                if let Some(child) = name_of(&name) {
                    let is_folder = matches!(name.as_str(), "CommonPrefixes" | "BlobPrefix");
                    let entry =
                        PageEntry { whole: start..start, name_at: end..end, name: None, is_folder };
                    open = Some((entry, child, 0));
                }
            }
            (Some((entry, child, depth)), Event::Start(tag)) => {
                if *depth == 0 && tag.local_name().into_inner() == child.as_bytes() {
                    entry.name = text_of(&mut reader, entry, end)?;
                } else {
                    *depth += 1;
                }
            }
            (Some((entry, _, depth)), Event::End(_)) => match depth.checked_sub(1) {
                Some(less) => *depth = less,
                None => {
                    entry.whole.end = end;
                    entries.extend(open.take().map(|(entry, ..)| entry));
                }
            },
            _ => {}
        }
    }
}

/// Reads to the end tag of the name. The outer `None`: the page is not XML.
fn text_of(
    reader: &mut Reader<&[u8]>,
    entry: &mut PageEntry,
    start: usize,
) -> Option<Option<String>> {
    let mut text = Some(String::new());
    loop {
        let before = usize::try_from(reader.buffer_position()).ok()?;
        match reader.read_event().ok()? {
            Event::Text(part) => {
                let part = part.decode().ok()?;
                text = text.map(|text| text + &part);
            }
            Event::CData(part) => {
                let part = part.decode().ok()?;
                text = text.map(|text| text + &part);
            }
            Event::GeneralRef(reference) => {
                text = text.and_then(|text| Some(text + &resolved(&reference)?));
            }
            Event::End(_) => {
                entry.name_at = start..before;
                return Some(text);
            }
            Event::Comment(_) => {}
            _ => return None,
        }
    }
}

fn resolved(reference: &BytesRef<'_>) -> Option<String> {
    if let Ok(Some(char)) = reference.resolve_char_ref() {
        return Some(char.to_string());
    }
    resolve_xml_entity(&reference.decode().ok()?).map(str::to_owned)
}

#[cfg(test)]
mod tests;
