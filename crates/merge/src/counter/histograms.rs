//! Counter stitching for native histograms.

use std::sync::Arc;

use model::histogram::ResetHint;
use model::{FloatHistogram, Resolution, Sample, SampleValue};

#[cfg(test)]
mod tests;

/// A counter does not hold more than this many windows' growth at the end of the window in which it
/// was reset.
const MOST_WINDOWS: f64 = 3.0;

/// Joins the chunks of a downsampled counter of native histograms, so that a reset shows where
/// there was one.
///
/// A chunk holds the running total since its batch began, with resets added, and unlike one of
/// floats it has no last raw sample. So after a batch with a reset in it, the next one begins
/// lower, although the counter continued. Our batches end at a reset, and the header of the next
/// one says so; for others it is found by how much the counter grows in a window, see
/// [`EndedChunk::border`]. What follows such a border is lifted.
#[derive(Debug, Default)]
pub(crate) struct HistogramStitch {
    last: Option<LastHistogram>,
    lift: Option<FloatHistogram>,
}

#[derive(Debug)]
struct LastHistogram {
    t: i64,
    given: Arc<FloatHistogram>,
    /// How much growth the last returned sample counts as.
    growth: Option<FloatHistogram>,
    resolution: Resolution,
    ended: EndedChunk,
}

/// What is known about a chunk besides its samples.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChunkKind {
    pub(crate) header: ResetHint,
    pub(crate) resolution: Resolution,
}

/// How a chunk ended.
#[derive(Clone, Debug)]
pub(crate) struct EndedChunk {
    /// Its last histogram, as the chunk holds it.
    last: FloatHistogram,
    /// How much the counter grew between its last two histograms.
    growth: Option<FloatHistogram>,
    is_raw: bool,
}

/// What happened between the end of a chunk and the first histogram of the next one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Border {
    /// The counter continued.
    None,
    Reset,
    /// The counter continued and grew by this much, although the next chunk begins below the end of
    /// this one.
    Step(FloatHistogram),
}

impl EndedChunk {
    /// An ended chunk with these totals.
    pub(crate) fn of(totals: &[FloatHistogram]) -> Option<EndedChunk> {
        let (last, before) = totals.split_last()?;
        Some(EndedChunk {
            last: last.clone(),
            growth: before.last().and_then(|before| less(last, before)),
            is_raw: false,
        })
    }

    /// What happened between this chunk and one that begins with `first` and `second`.
    ///
    /// A counter that was reset at the border holds at the end of its first window no more than it
    /// grows in one. If it holds several times what it grows in the windows around, it continued,
    /// and a reset is in the total of the chunk before.
    pub(crate) fn border(
        &self,
        header: ResetHint,
        first: &FloatHistogram,
        second: Option<&FloatHistogram>,
    ) -> Border {
        if header == ResetHint::Reset {
            return Border::Reset;
        }
        if !first.is_below(&self.last) {
            return Border::None;
        }
        if self.is_raw {
            return Border::Reset;
        }
        let next = second
            .filter(|second| !second.detect_reset(first))
            .and_then(|second| less(second, first));
        let grown = next.iter().chain(&self.growth).map(|growth| growth.count).reduce(f64::max);
        match (grown, next.or_else(|| self.growth.clone())) {
            (Some(grown), Some(growth)) if first.count > grown * MOST_WINDOWS => {
                Border::Step(growth)
            }
            _ => Border::Reset,
        }
    }
}

impl HistogramStitch {
    /// Lifts the samples of the next chunk, and removes those that reach back before the end of the
    /// one before it. True if the last returned sample has to be removed: it is the part of a
    /// window before a reset, which the first of the samples then also holds. Windows that are
    /// closer together than others would distort the rates around them.
    pub(crate) fn stitch(&mut self, samples: &mut Vec<Sample>, chunk: ChunkKind) -> bool {
        let from = self
            .last
            .as_ref()
            .map_or(0, |last| samples.partition_point(|sample| sample.t <= last.t));
        let own = samples[..from].iter().rev().find_map(counted).cloned();
        samples.drain(..from);
        if chunk.header == ResetHint::Gauge {
            (self.last, self.lift) = (None, None);
            return false;
        }
        let Some(at) = samples.iter().position(|sample| counted(sample).is_some()) else {
            return false;
        };
        let mut following = samples[at..].iter().filter_map(counted);
        let (first, second) = (following.next().cloned(), following.next().map(|h| &**h));
        let mut takes_back = false;
        if let (Some(last), Some(first)) = (&self.last, first) {
            let border = match &own {
                // its own sample before shows how much the counter grew
                Some(own) if first.detect_reset(own) => Border::Reset,
                Some(own) => less(&first, own).map_or(Border::None, Border::Step),
                None => last.ended.border(chunk.header, &first, second),
            };
            let hint = if border == Border::Reset { ResetHint::Reset } else { ResetHint::NotReset };
            self.lift = match border {
                Border::None => self.lift.take(),
                Border::Reset => {
                    let part =
                        last.growth.clone().filter(|_| last.is_in_window_of(samples[at].t, chunk));
                    takes_back = part.is_some();
                    part
                }
                Border::Step(growth) => lift_over(&last.given, &growth, &first),
            };
            samples[at].value = SampleValue::Histogram(with_hint(&first, hint));
        }
        self.note_end(samples, chunk.resolution);
        takes_back
    }

    /// Lifts the samples and remembers how they end.
    fn note_end(&mut self, samples: &mut [Sample], resolution: Resolution) {
        let mut ended = samples.iter().rev().filter_map(counted);
        let (last, before) = (ended.next().cloned(), ended.next().cloned());
        let Some(last) = last else { return };
        let growth = before
            .filter(|before| !last.detect_reset(before))
            .and_then(|before| less(&last, &before));
        if let Some(lift) = &self.lift {
            for sample in samples.iter_mut() {
                if let Some(lifted) = counted(sample)
                    .and_then(|h| plus(h, lift).map(|l| with_hint(&l.into(), h.hint)))
                {
                    sample.value = SampleValue::Histogram(lifted);
                }
            }
        }
        let mut given = samples.iter().rev().filter_map(counted).cloned();
        let (Some(end), Some(t)) = (given.next(), samples.last().map(|sample| sample.t)) else {
            return;
        };
        let before = given.next().or_else(|| self.last.take().map(|last| last.given));
        let counts_as = match before {
            _ if end.hint == ResetHint::Reset => Some((*end).clone()),
            Some(before) => less(&end, &before),
            None => None,
        };
        let ended =
            EndedChunk { last: (*last).clone(), growth, is_raw: resolution == Resolution::Raw };
        self.last = Some(LastHistogram { t, given: end, growth: counts_as, resolution, ended });
    }
}

impl LastHistogram {
    /// Whether the last returned sample and a sample at `t` of the next chunk are parts of one
    /// window.
    fn is_in_window_of(&self, t: i64, chunk: ChunkKind) -> bool {
        let length = chunk.resolution.millis();
        chunk.resolution != Resolution::Raw
            && chunk.resolution == self.resolution
            && self.t.div_euclid(length) == t.div_euclid(length)
    }
}

/// What lifts `first` to the last returned sample plus the growth since.
pub(crate) fn lift_over(
    given: &FloatHistogram,
    growth: &FloatHistogram,
    first: &FloatHistogram,
) -> Option<FloatHistogram> {
    let lift = less(&plus(given, growth)?, first)?;
    let is_nothing = lift.count == 0.0
        && lift.positive_buckets.iter().chain(&lift.negative_buckets).all(|c| *c == 0.0);
    (!is_nothing).then_some(lift)
}

/// The histogram of a sample that is not a stale marker.
fn counted(sample: &Sample) -> Option<&Arc<FloatHistogram>> {
    match &sample.value {
        SampleValue::Histogram(h) if !h.is_stale() => Some(h),
        _ => None,
    }
}

fn with_hint(histogram: &Arc<FloatHistogram>, hint: ResetHint) -> Arc<FloatHistogram> {
    if histogram.hint == hint {
        return Arc::clone(histogram);
    }
    Arc::new(FloatHistogram { hint, ..(**histogram).clone() })
}

/// The difference of two histograms; `None` where buckets cannot be compared.
fn less(histogram: &FloatHistogram, other: &FloatHistogram) -> Option<FloatHistogram> {
    let mut difference = histogram.clone();
    difference.sub(other).ok().map(|_| difference)
}

pub(crate) fn plus(histogram: &FloatHistogram, other: &FloatHistogram) -> Option<FloatHistogram> {
    let mut sum = histogram.clone();
    sum.add(other).ok().map(|_| sum)
}
