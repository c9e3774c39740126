//! Why text is not PromQL.

use std::fmt;

use crate::ast::Span;

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The text is wrong.
    Invalid,
    /// The text nests deeper or is longer than this parser takes.
    Limit,
}

/// The first thing wrong with a text. Prints as `1:7: parse error: unexpected …`: line, column in
/// bytes, both from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ParseError {
    pub message: String,
    pub span: Span,
    /// Line and column of the span's start; `None` in an empty text.
    pub position: Option<(usize, usize)>,
    kind: Kind,
}

impl ParseError {
    pub(crate) fn new(
        kind: Kind,
        text: &str,
        span: Span,
        message: impl Into<String>,
    ) -> ParseError {
        let before = &text.as_bytes()[..span.start.min(text.len())];
        let line = 1 + before.iter().filter(|&&b| b == b'\n').count();
        let column = 1 + before.iter().rev().take_while(|&&b| b != b'\n').count();
        let position = (!text.is_empty()).then_some((line, column));
        ParseError { message: message.into(), span, position, kind }
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some((line, column)) => write!(f, "{line}:{column}: parse error: {}", self.message),
            None => write!(f, "unknown position: parse error: {}", self.message),
        }
    }
}
