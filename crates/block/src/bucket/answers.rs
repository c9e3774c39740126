//! Limits on what an object store may answer with before a client parses or keeps it.
//!
//! The clients read documents (listings, results of deletions and uploads, errors) whole, whatever
//! their length, and their parser of XML compares every attribute of a tag with every other one.

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use object_store::client::{HttpError, HttpErrorKind, HttpResponseBody};
use quick_xml::Reader;
use quick_xml::events::Event;

/// The longest document. A page of a listing has up to 5,000 names of up to 1 KiB, of which a
/// character may be written with six.
const MAX_DOCUMENT_BYTES: usize = 32 << 20;

/// How much of an error is kept.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// Documents of object stores have one or two.
const MAX_ATTRIBUTES: usize = 32;
const MAX_DEPTH: usize = 32;

#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("the object store answered with a document of more than {MAX_DOCUMENT_BYTES} bytes")]
    TooLong,
    #[error("the object store answered with a document that is not UTF-8")]
    NotText,
    #[error("the object store answered with a tag of more than {MAX_ATTRIBUTES} attributes")]
    TooManyAttributes,
    #[error("the object store answered with more than {MAX_DEPTH} tags within each other")]
    TooDeep,
}

fn unreadable(why: Unreadable) -> HttpError {
    // of this kind, which is not tried again
    HttpError::new(HttpErrorKind::Decode, why)
}

/// The whole of a document, once it is known that a client can read it at no great cost.
pub(super) async fn document(body: HttpResponseBody) -> Result<Bytes, HttpError> {
    let document =
        read(body, MAX_DOCUMENT_BYTES).await?.ok_or_else(|| unreadable(Unreadable::TooLong))?;
    let text = std::str::from_utf8(&document).map_err(|_| unreadable(Unreadable::NotText))?;
    check(text).map_err(unreadable)?;
    Ok(document)
}

/// The beginning of an error.
pub(super) async fn error(body: HttpResponseBody) -> Result<Bytes, HttpError> {
    let mut pieces = body.bytes_stream();
    let mut kept = BytesMut::new();
    while let Some(piece) = pieces.next().await {
        kept.extend_from_slice(&piece?);
        if kept.len() >= MAX_ERROR_BYTES {
            kept.truncate(MAX_ERROR_BYTES);
            break;
        }
    }
    Ok(kept.freeze())
}

/// `None` when it is longer than `most` bytes.
async fn read(body: HttpResponseBody, most: usize) -> Result<Option<Bytes>, HttpError> {
    let mut pieces = body.bytes_stream();
    let mut all = BytesMut::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        if all.len() + piece.len() > most {
            return Ok(None);
        }
        all.extend_from_slice(&piece);
    }
    Ok(Some(all.freeze()))
}

/// What is no XML from some place on is not read further than that by a client either.
fn check(text: &str) -> Result<(), Unreadable> {
    let mut reader = Reader::from_str(text);
    let mut depth = 0usize;
    loop {
        let tag = match reader.read_event() {
            Ok(Event::Start(tag)) => {
                depth += 1;
                tag
            }
            Ok(Event::Empty(tag)) => tag,
            Ok(Event::End(_)) => {
                depth = depth.saturating_sub(1);
                continue;
            }
            Ok(Event::Eof) | Err(_) => return Ok(()),
            Ok(_) => continue,
        };
        if depth > MAX_DEPTH {
            return Err(Unreadable::TooDeep);
        }
        if tag.attributes().with_checks(false).nth(MAX_ATTRIBUTES).is_some() {
            return Err(Unreadable::TooManyAttributes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_checked_wherever_they_are() {
        let attributes = |n: usize| (0..n).map(|i| format!(" a{i}='1'")).collect::<String>();
        let (few, many) = (attributes(MAX_ATTRIBUTES), attributes(MAX_ATTRIBUTES + 1));
        for tag in [format!("<a{few}>"), format!("<a{few}/>"), "no <tag".to_owned()] {
            assert!(check(&format!("<Contents><Key>k</Key>{tag}")).is_ok(), "{tag}");
        }
        for tag in [format!("<a{many}>"), format!("<a{many}/>")] {
            let refused = check(&format!("<Contents><Key>k</Key>{tag}"));
            assert!(matches!(refused, Err(Unreadable::TooManyAttributes)), "{tag}");
        }
        assert!(check(&"<a>".repeat(MAX_DEPTH)).is_ok());
        assert!(matches!(check(&"<a>".repeat(MAX_DEPTH + 1)), Err(Unreadable::TooDeep)));
    }
}
