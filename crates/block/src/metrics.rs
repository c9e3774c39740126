//! The metrics of this crate, under the names that Thanos' dashboards and alerts use.

use prometheus::{Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramVec, Registry};
use serve::{Registrar, SECONDS, exponential};

use crate::{Error, Kind, Result};

fn registered<M>(
    registry: &Registry,
    register: impl FnOnce(Registrar<'_>) -> serve::Result<M>,
) -> Result<M> {
    register(Registrar::new(registry)).map_err(|e| Error::passed(Kind::Internal, e))
}

/// What is counted of the operations on a bucket.
#[derive(Clone, Debug)]
pub struct BucketMetrics {
    pub(crate) operations: CounterVec,
    pub(crate) failures: CounterVec,
    pub(crate) duration: HistogramVec,
    pub(crate) fetched_bytes: CounterVec,
    pub(crate) transferred_bytes: HistogramVec,
    pub(crate) last_upload: GaugeVec,
}

impl BucketMetrics {
    pub fn new(registry: &Registry) -> Result<BucketMetrics> {
        registered(registry, BucketMetrics::register)
    }

    fn register(new: Registrar<'_>) -> serve::Result<BucketMetrics> {
        let labels = ["bucket", "operation"];
        Ok(BucketMetrics {
            operations: new.counters(
                "thanos_objstore_bucket_operations_total",
                "Total number of all attempted operations against a bucket.",
                &labels,
            )?,
            failures: new.counters(
                "thanos_objstore_bucket_operation_failures_total",
                "Operations against a bucket that failed; an object that is not there is no \
                 failure.",
                &labels,
            )?,
            duration: new.histograms(
                "thanos_objstore_bucket_operation_duration_seconds",
                "How long successful operations against the bucket took.",
                &SECONDS,
                &labels,
            )?,
            fetched_bytes: new.counters(
                "thanos_objstore_bucket_operation_fetched_bytes_total",
                "Bytes fetched from the bucket, per operation.",
                &labels,
            )?,
            transferred_bytes: new.histograms(
                "thanos_objstore_bucket_operation_transferred_bytes",
                "Bytes transferred from or to the bucket, per operation.",
                &exponential(32768.0, 2.0, 16),
                &labels,
            )?,
            last_upload: new.gauges(
                "thanos_objstore_bucket_last_successful_upload_time",
                "Unix time in seconds of the last successful upload to the bucket.",
                &["bucket"],
            )?,
        })
    }
}

/// The values of the label `operation`.
const OPERATIONS: [&str; 7] =
    ["iter", "get", "get_range", "exists", "upload", "delete", "attributes"];

impl BucketMetrics {
    /// Shows every series of the bucket from the start, so that rates and alerts have a zero to
    /// begin with.
    pub(crate) fn show(&self, bucket: &str) {
        for operation in OPERATIONS {
            let labels = [bucket, operation];
            self.operations.with_label_values(&labels);
            self.failures.with_label_values(&labels);
            self.duration.with_label_values(&labels);
        }
        for operation in ["get", "get_range"] {
            self.fetched_bytes.with_label_values(&[bucket, operation]);
        }
        for operation in ["get", "get_range", "upload"] {
            self.transferred_bytes.with_label_values(&[bucket, operation]);
        }
        self.last_upload.with_label_values(&[bucket]);
    }
}

/// The metrics of syncs of block metas.
#[derive(Clone, Debug)]
pub struct SyncMetrics {
    pub(crate) syncs: Counter,
    pub(crate) failures: Counter,
    pub(crate) duration: Histogram,
    pub(crate) synced: GaugeVec,
    pub(crate) modified: GaugeVec,
}

impl SyncMetrics {
    pub fn new(registry: &Registry) -> Result<SyncMetrics> {
        registered(registry, SyncMetrics::register)
    }

    fn register(new: Registrar<'_>) -> serve::Result<SyncMetrics> {
        Ok(SyncMetrics {
            syncs: new.counter(
                "thanos_blocks_meta_syncs_total",
                "Total blocks metadata synchronization attempts.",
            )?,
            failures: new.counter(
                "thanos_blocks_meta_sync_failures_total",
                "Total blocks metadata synchronization failures.",
            )?,
            duration: new.histogram(
                "thanos_blocks_meta_sync_duration_seconds",
                "Duration of the blocks metadata synchronization in seconds.",
                &[0.01, 1.0, 10.0, 100.0, 300.0, 600.0, 1000.0],
            )?,
            synced: new.gauges(
                "thanos_blocks_meta_synced",
                "Number of block metadata synced, by what became of them.",
                &["state"],
            )?,
            modified: new.gauges(
                "thanos_blocks_meta_modified",
                "Number of blocks whose metadata was changed in memory.",
                &["modified"],
            )?,
        })
    }
}

/// The metrics of a shipper.
#[derive(Clone, Debug)]
pub struct ShipperMetrics {
    pub(crate) dir_syncs: Counter,
    pub(crate) dir_sync_failures: Counter,
    pub(crate) uploads: Counter,
    pub(crate) upload_failures: Counter,
    pub(crate) corrupted_blocks: Counter,
    pub(crate) upload_compacted_done: Gauge,
}

impl ShipperMetrics {
    /// # Errors
    /// `Internal` when they are registered already.
    pub fn new(registry: &Registry) -> Result<ShipperMetrics> {
        registered(registry, ShipperMetrics::register)
    }

    fn register(new: Registrar<'_>) -> serve::Result<ShipperMetrics> {
        Ok(ShipperMetrics {
            dir_syncs: new.counter(
                "thanos_shipper_dir_syncs_total",
                "Times the TSDB folder was looked through.",
            )?,
            dir_sync_failures: new.counter(
                "thanos_shipper_dir_sync_failures_total",
                "Times looking through the TSDB folder failed.",
            )?,
            uploads: new.counter("thanos_shipper_uploads_total", "Blocks uploaded.")?,
            upload_failures: new
                .counter("thanos_shipper_upload_failures_total", "Blocks whose upload failed.")?,
            corrupted_blocks: new.counter(
                "thanos_shipper_corrupted_blocks_total",
                "Blocks found to be corrupted.",
            )?,
            upload_compacted_done: new.gauge(
                "thanos_shipper_upload_compacted_done",
                "1 once all compacted blocks of the TSDB folder are uploaded.",
            )?,
        })
    }
}
