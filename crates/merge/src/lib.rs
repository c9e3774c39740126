//! What more than one process does to series: k-way merge ([`KWay`]), identical-chunk dedup,
//! penalty and chain replica dedup ([`counters`] of counters), counter stitching, the vertical
//! merge of the compactor, window aggregation for downsampling, cutting samples into chunks
//! ([`ChunkCutter`]), and how far sources agree ([`agreement`]).
//!
//! Synchronous and pure: chunks and columns in, chunks and columns out. No I/O, no labels of
//! replicas (callers drop those), no knowledge of blocks. Times are milliseconds; spans of chunks
//! are closed.

mod agreement;
mod chunks;
mod column;
mod counter;
mod cut;
mod cutter;
mod dedup;
mod downsample;
mod error;
mod kway;
mod loser_tree;
mod read;
mod replicas;
mod series;
mod times;
mod vertical;

pub use agreement::{Agreement, agreement};
pub use chunks::{merge_series_chunks, overlap_split};
pub use column::{Column, Floats, SampleColumn};
pub use counter::CounterStitch;
pub use cut::{covered_span, cut};
pub use cutter::{ChunkCutter, SAMPLES_PER_CHUNK, SampleRef};
pub use dedup::{
    CoarseSpan, CounterColumn, Dedup, SeriesReplica, chain, counters, deduplicated, penalty,
};
pub use downsample::{
    Batch, ChunkSelection, DownsampledSeries, Downsampler, HistogramWindows, NO_TIME, Windows,
    window_end,
};
pub use error::{Error, Kind};
pub use kway::{KWay, Step};
pub use loser_tree::LoserTree;
pub use read::{ValueOf, read_chunk, read_run};
pub use replicas::{GoesOn, ReplicaReading, read_replicas};
pub use series::{ChunkBytes, ChunkContent, Series, SeriesChunk};
pub use times::{SampleTime, sample_times};
pub use vertical::merge_vertically;
