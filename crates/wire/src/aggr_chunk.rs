//! `thanos.AggrChunk` as it is in memory: a raw chunk is a quarter of what the generated message
//! takes, and there are as many of them as an answer has chunks.

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{self, DecodeContext, WireType, skip_field};
use prost::{DecodeError, Message};

use crate::thanos::Chunk;

/// A chunk of a series: raw, or aggregates of windows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AggrChunk {
    /// The first and the last time of its samples, in milliseconds.
    pub min_time: i64,
    pub max_time: i64,
    pub raw: Option<Chunk>,
    /// What a downsampled chunk has.
    pub windows: Option<Box<WindowChunks>>,
    /// See `replica` in the `.proto` file.
    pub replica: u64,
}

/// The aggregates of a downsampled chunk.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WindowChunks {
    /// Count, sum, min, max and counter.
    pub aggregates: [Option<Chunk>; 5],
    /// See `resolution_ms` and `times` in the `.proto` file.
    pub resolution_ms: i64,
    pub times: Bytes,
}

const MIN_TIME: u32 = 1;
const MAX_TIME: u32 = 2;
const RAW: u32 = 3;
const FIRST_AGGREGATE: u32 = 4;
const LAST_AGGREGATE: u32 = 8;
const RESOLUTION: u32 = 10000;
const REPLICA: u32 = 10001;
const TIMES: u32 = 10002;

impl AggrChunk {
    fn windows(&mut self) -> &mut WindowChunks {
        self.windows.get_or_insert_default()
    }
}

impl WindowChunks {
    /// The aggregates that there are, by their field numbers.
    fn numbered(&self) -> impl Iterator<Item = (u32, &Chunk)> {
        let aggregates = (FIRST_AGGREGATE..).zip(&self.aggregates);
        aggregates.filter_map(|(tag, chunk)| Some((tag, chunk.as_ref()?)))
    }
}

impl Message for AggrChunk {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        let AggrChunk { min_time, max_time, raw, windows, replica } = self;
        if *min_time != 0 {
            encoding::int64::encode(MIN_TIME, min_time, buf);
        }
        if *max_time != 0 {
            encoding::int64::encode(MAX_TIME, max_time, buf);
        }
        if let Some(raw) = raw {
            encoding::message::encode(RAW, raw, buf);
        }
        for (tag, chunk) in windows.iter().flat_map(|windows| windows.numbered()) {
            encoding::message::encode(tag, chunk, buf);
        }
        let windows = windows.as_ref();
        if let Some(windows) = windows.filter(|windows| windows.resolution_ms != 0) {
            encoding::int64::encode(RESOLUTION, &windows.resolution_ms, buf);
        }
        if *replica != 0 {
            encoding::fixed64::encode(REPLICA, replica, buf);
        }
        if let Some(windows) = windows.filter(|windows| !windows.times.is_empty()) {
            encoding::bytes::encode(TIMES, &windows.times, buf);
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            MIN_TIME => encoding::int64::merge(wire_type, &mut self.min_time, buf, ctx),
            MAX_TIME => encoding::int64::merge(wire_type, &mut self.max_time, buf, ctx),
            RAW => encoding::message::merge(wire_type, self.raw.get_or_insert_default(), buf, ctx),
            FIRST_AGGREGATE..=LAST_AGGREGATE => {
                let at = (tag - FIRST_AGGREGATE) as usize;
                let chunk = self.windows().aggregates[at].get_or_insert_default();
                encoding::message::merge(wire_type, chunk, buf, ctx)
            }
            RESOLUTION => {
                let resolution = &mut self.windows().resolution_ms;
                encoding::int64::merge(wire_type, resolution, buf, ctx)
            }
            REPLICA => encoding::fixed64::merge(wire_type, &mut self.replica, buf, ctx),
            TIMES => encoding::bytes::merge(wire_type, &mut self.windows().times, buf, ctx),
            _ => skip_field(wire_type, tag, buf, ctx),
        }
    }

    fn encoded_len(&self) -> usize {
        let AggrChunk { min_time, max_time, raw, windows, replica } = self;
        let mut len = 0;
        if *min_time != 0 {
            len += encoding::int64::encoded_len(MIN_TIME, min_time);
        }
        if *max_time != 0 {
            len += encoding::int64::encoded_len(MAX_TIME, max_time);
        }
        if let Some(raw) = raw {
            len += encoding::message::encoded_len(RAW, raw);
        }
        if let Some(windows) = windows {
            let chunks = windows.numbered();
            len += chunks.map(|(tag, c)| encoding::message::encoded_len(tag, c)).sum::<usize>();
            if windows.resolution_ms != 0 {
                len += encoding::int64::encoded_len(RESOLUTION, &windows.resolution_ms);
            }
            if !windows.times.is_empty() {
                len += encoding::bytes::encoded_len(TIMES, &windows.times);
            }
        }
        if *replica != 0 {
            len += encoding::fixed64::encoded_len(REPLICA, replica);
        }
        len
    }

    fn clear(&mut self) {
        *self = AggrChunk::default();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is generated for the message.
    #[derive(Clone, PartialEq, Message)]
    struct Generated {
        #[prost(int64, tag = "1")]
        min_time: i64,
        #[prost(int64, tag = "2")]
        max_time: i64,
        #[prost(message, optional, tag = "3")]
        raw: Option<Chunk>,
        #[prost(message, optional, tag = "4")]
        count: Option<Chunk>,
        #[prost(message, optional, tag = "5")]
        sum: Option<Chunk>,
        #[prost(message, optional, tag = "6")]
        min: Option<Chunk>,
        #[prost(message, optional, tag = "7")]
        max: Option<Chunk>,
        #[prost(message, optional, tag = "8")]
        counter: Option<Chunk>,
        #[prost(int64, tag = "10000")]
        resolution_ms: i64,
        #[prost(fixed64, tag = "10001")]
        replica: u64,
        #[prost(bytes = "bytes", tag = "10002")]
        times: Bytes,
    }

    fn chunk() -> impl Strategy<Value = Option<Chunk>> {
        let chunk = (0..9i32, proptest::collection::vec(any::<u8>(), 0..200), any::<u64>());
        proptest::option::of(chunk.prop_map(|(kind, data, hash)| Chunk {
            r#type: kind,
            data: data.into(),
            hash,
        }))
    }

    fn small() -> impl Strategy<Value = i64> {
        prop_oneof![Just(0), any::<i64>()]
    }

    proptest! {
        #[test]
        fn it_is_on_the_wire_what_is_generated_for_it(
            times in (small(), small(), small()),
            chunks in (chunk(), chunk(), chunk(), chunk(), chunk(), chunk()),
            replica in prop_oneof![Just(0), any::<u64>()],
            taken in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let (raw, count, sum, min, max, counter) = chunks;
            let (min_time, max_time, resolution_ms) = times;
            let times = Bytes::from(taken);
            let generated = Generated {
                min_time, max_time, raw, count, sum, min, max, counter, resolution_ms, replica, times,
            };
            let bytes = generated.encode_to_vec();
            let ours = AggrChunk::decode(bytes.as_slice()).unwrap();
            prop_assert_eq!(ours.encoded_len(), bytes.len());
            prop_assert_eq!(ours.encode_to_vec(), bytes.clone());
            prop_assert_eq!(Generated::decode(ours.encode_to_vec().as_slice()).unwrap(), generated);
            // cut off anywhere it is an error, or a message with fewer fields
            for end in 0..bytes.len() {
                let theirs = Generated::decode(&bytes[..end]);
                prop_assert_eq!(AggrChunk::decode(&bytes[..end]).is_ok(), theirs.is_ok());
            }
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let theirs = Generated::decode(bytes.as_slice());
            prop_assert_eq!(AggrChunk::decode(bytes.as_slice()).is_ok(), theirs.is_ok());
        }
    }
}
