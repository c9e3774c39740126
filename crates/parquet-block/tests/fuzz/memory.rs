//! A bucket in memory, and what is known of a block in it before its files are.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use block::{BlockLocation, Bucket, BucketMetrics, BucketSettings};
use model::{BlockId, Clock, Labels, Resolution, TimestampMs};
use object_store::ObjectStore;
use parquet_block::FormatVersion;
use tsdb::meta::BlockMeta;

/// Of the one block.
pub(crate) fn id() -> BlockId {
    BlockId::from_parts(1_768_435_200_000, 7)
}

pub(crate) fn location() -> BlockLocation {
    BlockLocation::parquet(&Labels::empty(), Resolution::FiveMinutes, id())
}

pub(crate) fn bucket(store: Arc<dyn ObjectStore>) -> Bucket {
    let metrics = BucketMetrics::new(&prometheus::Registry::new()).expect("metrics");
    Bucket::new(store, BucketSettings::default(), metrics, Arc::new(StoppedClock))
}

pub(crate) fn empty_meta(version: FormatVersion) -> BlockMeta {
    let json = format!(
        r#"{{"ulid":"{}","minTime":0,"maxTime":1,"version":1,"format":"{}","thanos":{{"version":1,"labels":{{}},"downsample":{{"resolution":300000}},"source":"compactor"}}}}"#,
        id(),
        version.as_str(),
    );
    BlockMeta::from_json(json.as_bytes()).expect("a sound meta.json")
}

#[derive(Debug)]
struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> TimestampMs {
        TimestampMs(0)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn sleep(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::ready(()))
    }
}
