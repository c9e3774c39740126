//! Object stores over S3's protocol.

use super::{Body, HostileAnswer};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedObject {
    Listing,
    Whole,
    /// Its first ten bytes.
    FirstTen,
}

/// An answer of an object store. What must hold: the read fails, with this text, in little time and
/// with little memory.
#[derive(Clone, Debug)]
pub struct HostileObject {
    pub asked: AskedObject,
    pub answer: HostileAnswer,
    pub fails_with: &'static str,
}

/// So many attributes take a parser that compares each with all others minutes.
const ATTRIBUTES: usize = 60_000;

/// All of them.
pub fn objects() -> Vec<HostileObject> {
    let row =
        |asked, answer: HostileAnswer, fails_with| HostileObject { asked, answer, fails_with };
    let listing = |name| HostileAnswer::new(name, "200 OK", &[("content-type", "application/xml")]);
    let object = |name, status, more: &[(&str, &str)]| {
        let known = [("etag", "\"e\""), ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT")];
        HostileAnswer::new(name, status, &[&known[..], more].concat())
    };
    let tag = |attribute: &dyn Fn(usize) -> String| {
        let attributes: String = (0..ATTRIBUTES).map(attribute).collect();
        Body::whole(format!("<ListBucketResult{attributes}></ListBucketResult>").into_bytes())
    };
    let entry = "<Contents><Key>k</Key><Size>1</Size></Contents>".repeat(1000).into_bytes();
    vec![
        row(
            AskedObject::Listing,
            listing("a listing without end")
                .with(Body::endless(b"<ListBucketResult>".to_vec(), entry)),
            "a document of more than",
        ),
        row(
            AskedObject::Listing,
            listing("very many attributes").with(tag(&|i| format!(" a{i}=\"\""))),
            "attributes",
        ),
        row(
            AskedObject::Listing,
            listing("very many namespaces").with(tag(&|i| format!(" xmlns:a{i}=\"u\""))),
            "attributes",
        ),
        row(
            AskedObject::Listing,
            listing("very many tags within each other")
                .with(Body::whole("<a>".repeat(1_000_000).into_bytes())),
            "tags within each other",
        ),
        row(
            AskedObject::Listing,
            listing("a listing that is no text").with(Body::whole(vec![0xff; 1000])),
            "not UTF-8",
        ),
        row(AskedObject::Listing, listing("no listing"), "sent nothing for"),
        row(
            AskedObject::Whole,
            HostileAnswer::new("an error without end", "400 Bad Request", &[])
                .with(Body::endless(Vec::new(), vec![b'e'; 64 << 10])),
            "400 Bad Request",
        ),
        row(AskedObject::Whole, object("no object", "200 OK", &[]), "sent nothing for"),
        row(
            AskedObject::Whole,
            object("an object that stops", "200 OK", &[("content-length", "1000")])
                .with(Body::stalls(vec![0; 10])),
            "sent nothing for",
        ),
        row(
            AskedObject::FirstTen,
            object(
                "more than was asked for",
                "206 Partial Content",
                &[("content-range", "bytes 0-9/1000"), ("content-length", "1000000000000")],
            )
            .with(Body::endless(Vec::new(), vec![0; 64 << 10])),
            "more than the 10 bytes",
        ),
    ]
}
