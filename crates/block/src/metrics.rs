//! The metrics of this crate, under the names that Thanos' dashboards and alerts use.

use bytes::Bytes;
use object_store::path::Path;
use prometheus::{Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramVec, Registry};
use serve::{Registrar, SECONDS, exponential};

use crate::bucket::hedged::HedgeCounts;
use crate::layout::INDEX_FILE;
use crate::sync::FULL_LOOK_REASONS;
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
    hedges_sent: CounterVec,
    hedges_won: CounterVec,
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
            hedges_sent: new.counters(
                "drumlin_objstore_bucket_hedged_requests_total",
                "Reads that were sent again because the first answer took longer than most.",
                &["bucket"],
            )?,
            hedges_won: new.counters(
                "drumlin_objstore_bucket_hedged_requests_won_total",
                "Reads sent again that were answered before the first one.",
                &["bucket"],
            )?,
        })
    }
}

/// The values of the label `operation`.
const OPERATIONS: [&str; 7] =
    ["iter", "get", "get_range", "exists", "upload", "delete", "attributes"];

impl BucketMetrics {
    pub(crate) fn hedges(&self, bucket: &str) -> HedgeCounts {
        HedgeCounts {
            sent: self.hedges_sent.with_label_values(&[bucket]),
            won: self.hedges_won.with_label_values(&[bucket]),
        }
    }

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

/// What is counted of the parts of objects that are kept in memory, under the names of Thanos'
/// caching bucket.
#[derive(Clone, Debug)]
pub struct RangeCacheMetrics {
    requests: CounterVec,
    hits: CounterVec,
    requested_bytes: CounterVec,
    fetched_bytes: CounterVec,
    items: Gauge,
    bytes: Gauge,
}

/// The files that [`RangeCacheMetrics`] tells apart: the values of the label `config`.
const CACHED_FILES: [&str; 3] = ["index", "chunks", "parquet"];

impl RangeCacheMetrics {
    /// # Errors
    /// `Internal` when they are registered already.
    pub fn new(registry: &Registry) -> Result<RangeCacheMetrics> {
        registered(registry, RangeCacheMetrics::register)
    }

    fn register(new: Registrar<'_>) -> serve::Result<RangeCacheMetrics> {
        let metrics = RangeCacheMetrics {
            requests: new.counters(
                "thanos_store_bucket_cache_operation_requests_total",
                "Parts of objects that were looked up in the cache.",
                &["operation", "config"],
            )?,
            hits: new.counters(
                "thanos_store_bucket_cache_operation_hits_total",
                "Parts of objects that were found in the cache.",
                &["operation", "config"],
            )?,
            requested_bytes: new.counters(
                "thanos_store_bucket_cache_getrange_requested_bytes_total",
                "Bytes of parts of objects that were asked for.",
                &["config"],
            )?,
            fetched_bytes: new.counters(
                "thanos_store_bucket_cache_getrange_fetched_bytes_total",
                "Bytes of parts of objects by where they came from.",
                &["origin", "config"],
            )?,
            items: new
                .gauge("drumlin_store_bucket_cache_items", "Parts of objects in the cache.")?,
            bytes: new.gauge(
                "drumlin_store_bucket_cache_bytes",
                "Bytes that the parts of objects in the cache take.",
            )?,
        };
        for file in CACHED_FILES {
            metrics.requests.with_label_values(&["get_range", file]);
            metrics.hits.with_label_values(&["get_range", file]);
            metrics.requested_bytes.with_label_values(&[file]);
            for origin in ["cache", "bucket"] {
                metrics.fetched_bytes.with_label_values(&[origin, file]);
            }
        }
        Ok(metrics)
    }

    pub(crate) fn looked_up(&self, object: &Path, found: &[Option<Bytes>]) {
        let file = cached_file(object);
        let hits = found.iter().flatten().count();
        let bytes: usize = found.iter().flatten().map(Bytes::len).sum();
        let labels = ["get_range", file];
        self.requests.with_label_values(&labels).inc_by(found.len() as f64);
        self.hits.with_label_values(&labels).inc_by(hits as f64);
        self.requested_bytes.with_label_values(&[file]).inc_by(bytes as f64);
        self.fetched_bytes.with_label_values(&["cache", file]).inc_by(bytes as f64);
    }

    pub(crate) fn fetched(&self, object: &Path, bytes: usize) {
        let file = cached_file(object);
        self.fetched_bytes.with_label_values(&["bucket", file]).inc_by(bytes as f64);
        self.requested_bytes.with_label_values(&[file]).inc_by(bytes as f64);
    }

    pub(crate) fn holds(&self, bytes: u64, items: u64) {
        self.bytes.set(bytes as f64);
        self.items.set(items as f64);
    }
}

fn cached_file(object: &Path) -> &'static str {
    match object.filename() {
        Some(INDEX_FILE) => CACHED_FILES[0],
        _ if object.extension() == Some("parquet") => CACHED_FILES[2],
        _ => CACHED_FILES[1],
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
    pub(crate) catalog: CatalogMetrics,
}

/// The metrics of the catalog of a bucket.
#[derive(Clone, Debug)]
pub struct CatalogMetrics {
    pub(crate) age: Gauge,
    pub(crate) rebuilds: Counter,
    pub(crate) full_looks: CounterVec,
    pub(crate) writes: Counter,
    pub(crate) write_failures: Counter,
}

impl CatalogMetrics {
    fn register(new: Registrar<'_>) -> serve::Result<CatalogMetrics> {
        let age = new.gauge(
            "drumlin_catalog_age_seconds",
            "How long ago the listing began that the catalog in use was made from; NaN without a \
             catalog, and in processes that read none.",
        )?;
        age.set(f64::NAN);
        let full_looks = new.counters(
            "drumlin_catalog_full_listings_total",
            "Listings of the whole bucket by processes that read the catalog, by reason.",
            &["reason"],
        )?;
        for reason in FULL_LOOK_REASONS {
            full_looks.with_label_values(&[reason]);
        }
        Ok(CatalogMetrics {
            age,
            full_looks,
            rebuilds: new.counter(
                "drumlin_catalog_rebuilds_total",
                "Catalogs that could not be used, so that the bucket was listed instead.",
            )?,
            writes: new.counter("drumlin_catalog_writes_total", "Catalogs written.")?,
            write_failures: new.counter(
                "drumlin_catalog_write_failures_total",
                "Catalogs that could not be written.",
            )?,
        })
    }
}

impl SyncMetrics {
    pub fn new(registry: &Registry) -> Result<SyncMetrics> {
        registered(registry, SyncMetrics::register)
    }

    /// Those of the catalog, which who syncs may also write.
    pub fn catalog(&self) -> CatalogMetrics {
        self.catalog.clone()
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
            catalog: CatalogMetrics::register(new)?,
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
