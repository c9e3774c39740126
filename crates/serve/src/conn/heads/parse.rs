//! A head, as far as it must be understood.

use std::borrow::Cow;

use http::StatusCode;

use super::super::aside::{LONG_QUERY, Refusal};
use super::{MAX_FIELDS, MAX_TARGET, SHORT_TARGET};

/// As many header fields as the server behind takes.
const MAX_COUNT: usize = 100;

/// How long the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    None,
    Length(u64),
    Chunked,
    /// What the head says is not to be trusted.
    Unclear,
}

pub(super) struct Head<'a> {
    method: &'a [u8],
    target: &'a [u8],
    version: &'a [u8],
    /// The lines of its fields, with the empty one.
    fields: &'a [u8],
}

pub(super) fn too_long() -> Refusal {
    Refusal {
        status: StatusCode::URI_TOO_LONG,
        kind: "bad_data",
        text: format!(
            "the URL is longer than the limit of {MAX_TARGET} bytes, or its path than \
             {SHORT_TARGET}; send the parameters as the form of a POST"
        ),
    }
}

fn too_many_fields() -> Refusal {
    Refusal {
        status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        kind: "bad_data",
        text: format!(
            "the request has more than {MAX_COUNT} header fields, or more than {MAX_FIELDS} bytes \
             of them; send fewer"
        ),
    }
}

/// Refuses what is too long already while its end has not come. `first_line`: where that ends.
pub(super) fn check_length(len: usize, first_line: Option<usize>) -> Result<(), Refusal> {
    // the longest method and version, and what stands between them
    const AROUND: usize = 64;
    match first_line {
        None if len > MAX_TARGET + AROUND => Err(too_long()),
        Some(line) if len - line > MAX_FIELDS => Err(too_many_fields()),
        _ => Ok(()),
    }
}

/// A request in place of one that is refused.
pub(super) fn refused_request(id: u64) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n{LONG_QUERY}: {id}\r\n\r\n")
        .into_bytes()
}

impl<'a> Head<'a> {
    /// `None` for what does not look like the head of an ordinary request.
    pub(super) fn parse(head: &'a [u8]) -> Option<Head<'a>> {
        let start = head.iter().position(|byte| !b"\r\n".contains(byte))?;
        let head = &head[start..];
        let line = head.iter().position(|byte| *byte == b'\n')?;
        let (first, fields) = head.split_at(line + 1);
        let first = first.trim_ascii_end();
        let mut words = first.split(|byte| *byte == b' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        let is_ordinary = words.next().is_none()
            && !target.is_empty()
            && version.starts_with(b"HTTP/1.")
            && method != b"CONNECT";
        is_ordinary.then_some(Head { method, target, version, fields })
    }

    fn lines(&self) -> impl Iterator<Item = &'a [u8]> {
        let lines = self.fields.split(|byte| *byte == b'\n');
        lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line)).filter(|line| !line.is_empty())
    }

    pub(super) fn check(&self) -> Result<(), Refusal> {
        if self.target.len() > MAX_TARGET {
            return Err(too_long());
        }
        if self.fields.len() > MAX_FIELDS || self.lines().count() > MAX_COUNT {
            return Err(too_many_fields());
        }
        Ok(())
    }

    /// The target with `%` and two digits for bytes that may not stand in one.
    pub(super) fn escaped_target(&self) -> Cow<'a, [u8]> {
        let is_unescaped = |byte: &u8| matches!(byte, b'"' | b'<' | b'>' | b'`' | 0x7f..);
        if !self.target.iter().any(is_unescaped) {
            return Cow::Borrowed(self.target);
        }
        let mut escaped = Vec::with_capacity(self.target.len() + 64);
        for byte in self.target {
            if is_unescaped(byte) {
                escaped.extend(format!("%{byte:02X}").into_bytes());
            } else {
                escaped.push(*byte);
            }
        }
        Cow::Owned(escaped)
    }

    /// The head with another target, and a field that says what was put aside.
    pub(super) fn write(&self, target: &[u8], aside: Option<u64>, out: &mut Vec<u8>) {
        out.extend([self.method, b" ", target, b" ", self.version, b"\r\n"].concat());
        if let Some(id) = aside {
            out.extend(format!("{LONG_QUERY}: {id}\r\n").into_bytes());
        }
        out.extend(self.fields);
    }

    pub(super) fn framing(&self) -> Framing {
        let mut framing = Framing::None;
        for line in self.lines() {
            let Some(at) = line.iter().position(|byte| *byte == b':') else {
                return Framing::Unclear;
            };
            let (name, value) = (&line[..at], line[at + 1..].trim_ascii());
            let found = if name.eq_ignore_ascii_case(b"content-length") {
                let text = std::str::from_utf8(value).ok();
                let text = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
                text.and_then(|text| text.parse().ok()).map(Framing::Length)
            } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
                value.eq_ignore_ascii_case(b"chunked").then_some(Framing::Chunked)
            } else if name.eq_ignore_ascii_case(b"upgrade") || name != name.trim_ascii() {
                None
            } else {
                continue;
            };
            // a second one, or one that is continued on the next line
            framing = match (framing, found) {
                (Framing::None, Some(found)) => found,
                _ => return Framing::Unclear,
            };
        }
        framing
    }
}
