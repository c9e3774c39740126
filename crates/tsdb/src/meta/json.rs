//! JSON with the layout and the escapes of Go's `encoding/json`.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Tabs,
    Compact,
}

pub(super) fn to_go_json<T: Serialize>(value: &T, style: Style) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let written = match style {
        Style::Tabs => write(value, &mut out, PrettyFormatter::with_indent(b"\t")),
        Style::Compact => write(value, &mut out, CompactFormatter),
    };
    // string keys and no I/O: nothing here can fail
    written.expect("plain data serialises");
    if style == Style::Tabs {
        out.push(b'\n');
    }
    out
}

fn write<T: Serialize, F: Formatter>(
    value: &T,
    out: &mut Vec<u8>,
    layout: F,
) -> serde_json::Result<()> {
    value.serialize(&mut serde_json::Serializer::with_formatter(out, GoEscapes(layout)))
}

/// Adds to a layout that Go escapes `<`, `>`, `&` and the two line separators of Unicode.
struct GoEscapes<F>(F);

impl<F: Formatter> Formatter for GoEscapes<F> {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let special = |c: char| matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}');
        let mut rest = fragment;
        while let Some(at) = rest.find(special) {
            let (before, after) = rest.split_at(at);
            let c = after.chars().next().unwrap_or_default();
            write!(writer, "{before}\\u{:04x}", u32::from(c))?;
            rest = &after[c.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}
