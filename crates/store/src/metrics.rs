//! The metrics of a gateway, under the names that Thanos' dashboards and alerts use.

use prometheus::{Counter, CounterVec, Gauge, Histogram, HistogramVec, Registry};
use serve::{GATE_SECONDS, GateMetrics, Registrar, SECONDS, exponential};

use crate::Result;

const WAITED: &str = "Seconds requests waited at the gate.";

/// What the index cache holds: the value of the label `item_type`.
const HEADER: &str = "IndexHeader";

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) loads: Counter,
    pub(crate) load_failures: Counter,
    pub(crate) drops: Counter,
    /// Dropping a block cannot fail; but dashboards divide by the sum.
    _drop_failures: Counter,
    pub(crate) loaded: Gauge,
    pub(crate) last_loaded: Gauge,
    pub(crate) data_touched: HistogramVec,
    pub(crate) data_fetched: HistogramVec,
    pub(crate) size_touched: HistogramVec,
    pub(crate) size_fetched: HistogramVec,
    pub(crate) blocks_queried: Histogram,
    pub(crate) result_series: Histogram,
    pub(crate) get_all: Histogram,
    pub(crate) merge: Histogram,
    pub(crate) chunk_size: Histogram,
    pub(crate) dropped: CounterVec,
    pub(crate) gate: GateMetrics,
    pub(crate) cache_requests: Counter,
    pub(crate) cache_hits: Counter,
    pub(crate) cache_added: Counter,
    pub(crate) cache_evicted: Counter,
    pub(crate) cache_items: Gauge,
    pub(crate) cache_bytes: Gauge,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> Result<Metrics> {
        let r = Registrar::new(registry);
        let things = exponential(1.0, 2.0, 28);
        let bytes = exponential(1024.0, 4.0, 14);
        let cache = |name, help| {
            r.counters(name, help, &["item_type"]).map(|vec| vec.with_label_values(&[HEADER]))
        };
        let cache_gauge = |name, help| {
            r.gauges(name, help, &["item_type"]).map(|vec| vec.with_label_values(&[HEADER]))
        };
        let metrics = Metrics {
            loads: r
                .counter("thanos_bucket_store_block_loads_total", "Blocks taken into service.")?,
            load_failures: r.counter(
                "thanos_bucket_store_block_load_failures_total",
                "Blocks left out of service or of an answer because they are broken or could not \
                 be read.",
            )?,
            drops: r
                .counter("thanos_bucket_store_block_drops_total", "Blocks taken out of service.")?,
            _drop_failures: r.counter(
                "thanos_bucket_store_block_drop_failures_total",
                "Blocks that could not be taken out of service.",
            )?,
            loaded: r.gauge("thanos_bucket_store_blocks_loaded", "Blocks in service.")?,
            last_loaded: r.gauge(
                "thanos_bucket_store_blocks_last_loaded_timestamp_seconds",
                "When the blocks of the bucket were last found, in Unix seconds.",
            )?,
            data_touched: r.histograms(
                "thanos_bucket_store_series_data_touched",
                "Items of a kind that a request looked at.",
                &things,
                &["data_type"],
            )?,
            data_fetched: r.histograms(
                "thanos_bucket_store_series_data_fetched",
                "Items of a kind that a request fetched.",
                &things,
                &["data_type"],
            )?,
            size_touched: r.histograms(
                "thanos_bucket_store_series_data_size_touched_bytes",
                "Bytes of a kind that a request looked at.",
                &bytes,
                &["data_type"],
            )?,
            size_fetched: r.histograms(
                "thanos_bucket_store_series_data_size_fetched_bytes",
                "Bytes of a kind that a request fetched.",
                &bytes,
                &["data_type"],
            )?,
            blocks_queried: r.histogram(
                "thanos_bucket_store_series_blocks_queried",
                "Blocks that a series request read.",
                &exponential(1.0, 2.0, 10),
            )?,
            result_series: r.histogram(
                "thanos_bucket_store_series_result_series",
                "Series in the answer to a request.",
                &exponential(1.0, 2.0, 15),
            )?,
            get_all: r.histogram(
                "thanos_bucket_store_series_get_all_duration_seconds",
                "Seconds until every block gave its first series.",
                &SECONDS,
            )?,
            merge: r.histogram(
                "thanos_bucket_store_series_merge_duration_seconds",
                "Seconds it took to merge the series of all blocks, chunks fetched.",
                &SECONDS,
            )?,
            chunk_size: r.histogram(
                "thanos_bucket_store_sent_chunk_size_bytes",
                "Bytes of the chunks sent.",
                &[32.0, 256.0, 512.0, 1024.0, 32.0 * 1024.0, 256.0 * 1024.0, 512.0 * 1024.0],
            )?,
            dropped: r.counters(
                "thanos_bucket_store_queries_dropped_total",
                "Requests that were ended because they exceeded a limit.",
                &["reason"],
            )?,
            gate: GateMetrics {
                // the name that it has, and the one that dashboards still ask for
                seconds: vec![
                    r.histogram(
                        "thanos_bucket_store_series_gate_queries_duration_seconds",
                        WAITED,
                        &GATE_SECONDS,
                    )?,
                    r.histogram(
                        "thanos_bucket_store_series_gate_duration_seconds",
                        WAITED,
                        &GATE_SECONDS,
                    )?,
                ],
                total: r.counter(
                    "thanos_bucket_store_series_gate_queries_total",
                    "Requests that passed the gate.",
                )?,
                in_flight: r.gauge(
                    "thanos_bucket_store_series_gate_queries_in_flight",
                    "Requests being answered now.",
                )?,
                max: r.gauge(
                    "thanos_bucket_store_series_gate_queries_max",
                    "Most requests that are answered at once; more wait.",
                )?,
            },
            cache_requests: cache(
                "thanos_store_index_cache_requests_total",
                "Look-ups in the index cache.",
            )?,
            cache_hits: cache(
                "thanos_store_index_cache_hits_total",
                "Look-ups that found what they wanted.",
            )?,
            cache_added: cache(
                "thanos_store_index_cache_items_added_total",
                "Items put into the index cache.",
            )?,
            cache_evicted: cache(
                "thanos_store_index_cache_items_evicted_total",
                "Items the cache had no room for.",
            )?,
            cache_items: cache_gauge(
                "thanos_store_index_cache_items",
                "Items in the index cache.",
            )?,
            cache_bytes: cache_gauge(
                "thanos_store_index_cache_items_size_bytes",
                "Bytes in the index cache.",
            )?,
        };
        metrics.dropped.with_label_values(&["bytes"]);
        for kind in ["postings", "series", "chunks"] {
            for vec in [
                &metrics.data_touched,
                &metrics.data_fetched,
                &metrics.size_touched,
                &metrics.size_fetched,
            ] {
                vec.with_label_values(&[kind]);
            }
        }
        Ok(metrics)
    }
}
