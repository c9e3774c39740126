//! A series as it travels from sidecars and gateways to the engine: labels and still-encoded
//! chunks.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use model::{Labels, Resolution};
use tsdb::chunk::{self, Aggregate, Encoding};

/// One encoded chunk without length, encoding byte and checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkBytes {
    pub encoding: Encoding,
    pub data: Bytes,
}

/// Raw samples, or the aggregates of downsampled ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkContent {
    Raw(ChunkBytes),
    /// Indexed by [`Aggregate`]; `None` where an aggregate was not asked for or does not exist.
    /// Never `Encoding::Aggregate` inside.
    Aggregates(Box<[Option<ChunkBytes>; 5]>),
}

/// A chunk and the closed span `[min_time, max_time]` of its samples, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesChunk {
    pub min_time: i64,
    pub max_time: i64,
    /// How long the windows of a downsampled chunk are; `None` where that is not known, and for raw
    /// chunks.
    pub resolution: Option<Resolution>,
    /// Which of the replicas that became one series it belongs to, where that is known: a hash of
    /// the labels by which they differed, so equal numbers are one replica.
    pub replica: Option<u64>,
    /// For downsampled chunks, when the first and the last sample of each window were taken, where
    /// that is known: a sample for each window, at the time of the window's last sample, whose
    /// value is how many milliseconds before it the first one was taken. Blocks do not have it.
    /// Behind a pointer, because raw chunks, of which there are many more, do not have it either.
    pub times: Option<Box<Bytes>>,
    /// The server that sent it, for messages; `None` where nobody did.
    pub origin: Option<Arc<str>>,
    pub content: ChunkContent,
}

impl SeriesChunk {
    /// A chunk whose resolution, replica and times are not known.
    pub fn new(min_time: i64, max_time: i64, content: ChunkContent) -> SeriesChunk {
        SeriesChunk {
            min_time,
            max_time,
            resolution: None,
            replica: None,
            times: None,
            origin: None,
            content,
        }
    }

    /// The same chunk, known to be of a resolution if it is a downsampled one.
    #[must_use]
    pub fn with_resolution(self, resolution: Resolution) -> SeriesChunk {
        let downsampled = matches!(self.content, ChunkContent::Aggregates(_));
        SeriesChunk { resolution: downsampled.then_some(resolution), ..self }
    }

    /// The same chunk as one of a replica.
    #[must_use]
    pub fn with_replica(self, replica: Option<u64>) -> SeriesChunk {
        SeriesChunk { replica, ..self }
    }

    /// The same chunk with [`times`](Self::times), if it is a downsampled one.
    #[must_use]
    pub fn with_times(self, times: Option<Bytes>) -> SeriesChunk {
        let downsampled = matches!(self.content, ChunkContent::Aggregates(_));
        SeriesChunk { times: times.filter(|_| downsampled).map(Box::new), ..self }
    }

    /// Whether both are known to be of the same replica.
    pub(crate) fn is_of_replica_of(&self, other: &SeriesChunk) -> bool {
        self.replica.is_some() && self.replica == other.replica
    }

    /// How long the windows of a downsampled chunk are; `Raw` for raw ones. Where that is not
    /// known, as with Thanos' stores, it is guessed from the distance of windows: a chunk with a
    /// single one counts as five minutes.
    pub fn resolution(&self) -> Resolution {
        let ChunkContent::Aggregates(parts) = &self.content else { return Resolution::Raw };
        self.resolution.unwrap_or_else(|| self.guess(parts))
    }

    /// The same, where no store was asked for windows longer than `most_ms`: a store that does not
    /// say how long they are does not send longer ones.
    pub fn resolution_within(&self, most_ms: i64) -> Resolution {
        let most = Resolution::coarsest_within(most_ms);
        let known = self.resolution.is_some() || most == Resolution::Raw;
        if known { self.resolution() } else { self.resolution().min(most) }
    }

    fn guess(&self, parts: &[Option<ChunkBytes>; 5]) -> Resolution {
        let samples =
            |part: &ChunkBytes| chunk::num_samples(part.encoding, &part.data).unwrap_or(0);
        let counter = parts[Aggregate::Counter as usize].as_ref();
        let others = parts[..Aggregate::Counter as usize].iter().flatten().next();
        // a counter of floats has its first and its last raw sample besides one for each window
        let windows = match (others, counter) {
            (Some(part), _) => samples(part),
            (None, Some(part)) if part.encoding.is_histogram() => samples(part),
            (None, Some(part)) => samples(part).saturating_sub(2),
            (None, None) => 0,
        };
        let gaps = i64::try_from(windows).unwrap_or(i64::MAX) - 1;
        if gaps < 1 {
            return Resolution::FiveMinutes;
        }
        let apart = self.max_time.saturating_sub(self.min_time) / gaps;
        if apart >= Resolution::OneHour.millis() / 2 {
            Resolution::OneHour
        } else {
            Resolution::FiveMinutes
        }
    }

    /// A chunk as a segment holds it; an AggrChunk is split without copying.
    ///
    /// # Errors
    /// A damaged AggrChunk.
    pub fn from_stored(
        min_time: i64,
        max_time: i64,
        encoding: Encoding,
        data: Bytes,
    ) -> Result<SeriesChunk, tsdb::Error> {
        let content = match encoding {
            Encoding::Aggregate => {
                let parts = chunk::split_aggregates(&data)?;
                let owned = parts.map(|part| {
                    part.map(|(encoding, bytes)| ChunkBytes {
                        encoding,
                        data: data.slice_ref(bytes),
                    })
                });
                ChunkContent::Aggregates(Box::new(owned))
            }
            _ => ChunkContent::Raw(ChunkBytes { encoding, data }),
        };
        Ok(SeriesChunk::new(min_time, max_time, content))
    }

    /// The encoding and bytes with which a segment holds the chunk, which has no times.
    pub fn stored_form(&self) -> (Encoding, Cow<'_, [u8]>) {
        match &self.content {
            ChunkContent::Raw(raw) => (raw.encoding, Cow::Borrowed(&raw.data[..])),
            ChunkContent::Aggregates(parts) => {
                let borrowed =
                    parts.each_ref().map(|p| p.as_ref().map(|p| (p.encoding, &p.data[..])));
                (Encoding::Aggregate, Cow::Owned(chunk::join_aggregates(&borrowed)))
            }
        }
    }

    pub fn aggregate(&self, aggregate: Aggregate) -> Option<&ChunkBytes> {
        match &self.content {
            ChunkContent::Raw(_) => None,
            ChunkContent::Aggregates(parts) => parts[aggregate as usize].as_ref(),
        }
    }

    /// Bytes of encoded samples.
    pub fn size(&self) -> usize {
        match &self.content {
            ChunkContent::Raw(chunk) => chunk.data.len(),
            ChunkContent::Aggregates(parts) => parts
                .iter()
                .flatten()
                .map(|c| &c.data)
                .chain(self.times.as_deref())
                .map(Bytes::len)
                .sum(),
        }
    }
}

/// One series. Chunks are sorted by `(min_time, max_time)`; chunks of several replicas may overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    pub labels: Labels,
    pub chunks: Vec<SeriesChunk>,
}
