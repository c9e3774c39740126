//! What one endpoint may send in one answer.

use merge::Series;
use model::{Budget, Labels, Notes, Reservation};

use crate::{Carried, Error, Frame, Kind, Result};

/// An endpoint that says more than this in warnings and infos is given up.
const MAX_TEXTS: u64 = 10_000;

/// A series may come in this many pieces; stores send one per block, if not one in all.
const MAX_PIECES: u64 = 100_000;

/// The series that an endpoint is sending may take one part in this many of the memory budget.
const SERIES_SHARE: u64 = 4;

/// Watches what an endpoint sends. A series is put together from its pieces, so they are charged
/// to the budget until the next series begins.
#[derive(Debug)]
pub(super) struct AnswerGuard {
    last: Labels,
    pieces: u64,
    held: Reservation,
    most_bytes: u64,
    warnings: Notes,
    infos: Notes,
    texts: u64,
}

impl AnswerGuard {
    pub(super) fn new(address: &str, budget: &Budget) -> AnswerGuard {
        AnswerGuard {
            last: Labels::empty(),
            pieces: 0,
            held: budget.reserve(format!("a series of {address}")),
            most_bytes: budget.limit() / SERIES_SHARE,
            warnings: Notes::of_server(),
            infos: Notes::of_server(),
            texts: 0,
        }
    }

    /// The frame to pass on; `None` if it says nothing new.
    ///
    /// # Errors
    /// `Unavailable` when series are out of order, or the endpoint does not come to an end;
    /// `Limit` when the budget is used up.
    pub(super) fn check(&mut self, frame: Frame) -> Result<Option<Frame>> {
        let (notes, text) = match &frame {
            Frame::Series(series) => {
                series.iter().try_for_each(|one| self.check_series(one))?;
                return Ok(Some(frame));
            }
            Frame::Warning(text) => (&mut self.warnings, text),
            Frame::Info(text) => (&mut self.infos, text),
        };
        self.texts += 1;
        if self.texts > MAX_TEXTS {
            let message = format!("it sent more than {MAX_TEXTS} warnings and infos");
            return Err(Error::new(Kind::Unavailable, message));
        }
        let admitted = notes.admit(text);
        Ok(admitted.map(|text| match frame {
            Frame::Warning(_) => Frame::Warning(text),
            _ => Frame::Info(text),
        }))
    }

    fn check_series(&mut self, series: &Series) -> Result<()> {
        let Series { labels, chunks } = series;
        if *labels < self.last {
            let message =
                format!("series {labels} came after {}, which sorts behind it", self.last);
            return Err(Error::new(Kind::Unavailable, message));
        }
        let weight = size_of::<Series>() as u64 + chunks.weight();
        if *labels == self.last {
            self.pieces += 1;
            self.held.grow(weight)?;
        } else {
            self.last = labels.clone();
            self.pieces = 1;
            self.held.resize(weight)?;
        }
        if self.pieces > MAX_PIECES {
            let message = format!("series {labels} came in more than {MAX_PIECES} pieces");
            return Err(Error::new(Kind::Unavailable, message));
        }
        let (bytes, most) = (self.held.bytes(), self.most_bytes);
        if bytes > most {
            let message = format!(
                "series {labels} takes more than {most} bytes, a quarter of the memory budget; \
                 raise --memory-budget or ask for less"
            );
            return Err(Error::new(Kind::Unavailable, message));
        }
        Ok(())
    }

    /// Says how many warnings and infos were not passed on.
    pub(super) fn rest(&self) -> Vec<Frame> {
        let (warnings, infos) = (self.warnings.left_out(), self.infos.left_out());
        let mut rest = Vec::new();
        if warnings > 0 {
            rest.push(Frame::Warning(format!("{warnings} further warnings")));
        }
        if infos > 0 {
            rest.push(Frame::Info(format!("{infos} further infos")));
        }
        rest
    }
}
