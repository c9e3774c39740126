//! One series of all endpoints: chunks that count as a whole, and those of which a part counts.

use merge::{Series, SeriesChunk};
use model::{Labels, TimeRange};

use super::plan::KeptChunks;
use crate::{Error, Kind, ServedCoarse};

/// A chunk and the spans of it that count.
#[derive(Debug)]
struct Partial {
    chunk: SeriesChunk,
    spans: Vec<TimeRange>,
}

#[derive(Debug)]
pub(super) struct JoinedSeries {
    pub(super) labels: Labels,
    whole: Vec<SeriesChunk>,
    partial: Vec<Partial>,
    /// A chunk came, whether it is kept or not.
    had_chunks: bool,
    served: ServedCoarse,
}

/// What became of a series.
#[derive(Debug)]
pub(super) struct Finished {
    /// `None` if no part of it counts.
    pub(super) series: Option<Series>,
    pub(super) served: ServedCoarse,
    /// A chunk of it is left out.
    pub(super) error: Option<Error>,
}

impl JoinedSeries {
    pub(super) fn new(labels: Labels) -> JoinedSeries {
        let (whole, partial) = (Vec::new(), Vec::new());
        JoinedSeries { labels, whole, partial, had_chunks: false, served: ServedCoarse::default() }
    }

    /// Takes chunks of one endpoint; without `keep` all of them count.
    pub(super) fn add(&mut self, chunks: Vec<SeriesChunk>, keep: Option<&KeptChunks>) {
        self.had_chunks |= !chunks.is_empty();
        let Some(keep) = keep else { return self.whole.extend(chunks) };
        let counts = keep.of(&self.labels);
        for chunk in chunks {
            let (resolution, (from, to)) = (chunk.resolution(), merge::covered_span(&chunk));
            match counts
                .map(|counts| counts.of(resolution))
                .filter(|spans| !spans.cover_closed(from, to))
            {
                None => {
                    self.served.note(resolution, chunk.min_time, chunk.max_time);
                    self.whole.push(chunk);
                }
                Some(spans) => {
                    let spans: Vec<TimeRange> = spans.touching(from, to).collect();
                    if !spans.is_empty() {
                        self.partial.push(Partial { chunk, spans });
                    }
                }
            }
        }
    }

    /// Bytes of its chunks.
    pub(super) fn size(&self) -> usize {
        self.whole.iter().chain(self.partial.iter().map(|p| &p.chunk)).map(SeriesChunk::size).sum()
    }

    /// Whether chunks have to be decoded.
    pub(super) fn is_to_cut(&self) -> bool {
        !self.partial.is_empty()
    }

    /// Cuts the finest first: what is left of them gives the values of coarser counters.
    pub(super) fn finish(mut self) -> Finished {
        let mut error = None;
        self.partial.sort_by_key(|partial| partial.chunk.resolution());
        for Partial { chunk, spans } in std::mem::take(&mut self.partial) {
            let resolution = chunk.resolution();
            let mut beside = self.whole.clone();
            beside.sort_by_key(|chunk| (chunk.min_time, chunk.max_time));
            for span in spans {
                match merge::cut(&chunk, span, &beside) {
                    Ok(left) => {
                        left.iter()
                            .for_each(|c| self.served.note(resolution, c.min_time, c.max_time));
                        self.whole.extend(left);
                    }
                    Err(e) => {
                        let text = format!("a chunk of series {} is left out", self.labels);
                        error = Some(Error::caused(Kind::Corrupt, text, e));
                    }
                }
            }
        }
        let chunks = merge::merge_series_chunks(self.whole);
        let counts = !self.had_chunks || !chunks.is_empty();
        let series = counts.then_some(Series { labels: self.labels, chunks });
        Finished { series, served: self.served, error }
    }
}
