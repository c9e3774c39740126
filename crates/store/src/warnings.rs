//! Warnings of an answer.

use std::collections::VecDeque;

use model::error::in_one_line;
use storeapi::{Error, Frame, Kind, PartialResponse, Result};

/// The most warnings per answer; further ones are only counted.
const MAX_WARNINGS: usize = 50;

/// Warnings to be sent; under `Abort` the first one ends the request.
#[derive(Debug)]
pub(crate) struct Warnings {
    strategy: PartialResponse,
    waiting: VecDeque<Frame>,
    given: usize,
}

impl Warnings {
    pub(crate) fn new(strategy: PartialResponse) -> Warnings {
        Warnings { strategy, waiting: VecDeque::new(), given: 0 }
    }

    pub(crate) fn warn(&mut self, text: String) -> Result<()> {
        if self.strategy == PartialResponse::Abort {
            return Err(Error::new(Kind::Aborted, text));
        }
        self.given += 1;
        if self.given <= MAX_WARNINGS {
            self.waiting.push_back(Frame::Warning(text));
        }
        Ok(())
    }

    /// A part failed: adds a warning, unless the request itself is to blame.
    pub(crate) fn fail(&mut self, error: Error) -> Result<()> {
        if matches!(error.kind(), Kind::Limit | Kind::Memory | Kind::Invalid) {
            return Err(error);
        }
        self.warn(in_one_line(&error).to_string())
    }

    pub(crate) fn take(&mut self) -> Vec<Frame> {
        self.waiting.drain(..).collect()
    }

    /// Adds the warnings of another.
    pub(crate) fn append(&mut self, mut other: Warnings) {
        self.given += other.given;
        self.waiting.append(&mut other.waiting);
    }

    /// For the end: how many were only counted.
    pub(crate) fn take_rest(&mut self) -> Option<Frame> {
        let more = self.given.checked_sub(MAX_WARNINGS).filter(|n| *n > 0)?;
        self.given = 0;
        Some(Frame::Warning(format!("{more} further warnings")))
    }
}
