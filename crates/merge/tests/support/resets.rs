//! Where our downsampled blocks differ from Thanos'.

use merge::SeriesChunk;
use model::histogram::ResetHint;
use tsdb::chunk::{Aggregate, reset_hint};

/// Whether a counter of native histograms was reset: where Thanos' chunks continue over that, ours
/// end.
pub(crate) fn begins_after_reset(chunks: &[SeriesChunk]) -> bool {
    let counters = chunks.iter().filter_map(|chunk| chunk.aggregate(Aggregate::Counter));
    let mut histograms = counters.filter(|counter| counter.encoding.is_histogram());
    histograms.any(|counter| reset_hint(counter.encoding, &counter.data) == Ok(ResetHint::Reset))
}
