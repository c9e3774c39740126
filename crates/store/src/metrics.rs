//! The metrics of a gateway, under the names Thanos' dashboards and alerts know.

use prometheus::core::Collector;
use prometheus::{
    Counter, CounterVec, Gauge, Histogram, HistogramOpts, HistogramVec, Opts, Registry, exponential_buckets,
};

use crate::Result;

/// What the index cache holds; stands in the label `item_type`.
const HEADER: &str = "IndexHeader";

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) loads: Counter,
    pub(crate) load_failures: Counter,
    pub(crate) drops: Counter,
    /// Dropping a block forgets it, which cannot fail; dashboards divide by the sum all the same.
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
    pub(crate) gate_seconds: Histogram,
    pub(crate) gate_total: Counter,
    pub(crate) gate_in_flight: Gauge,
    pub(crate) gate_max: Gauge,
    pub(crate) cache_requests: Counter,
    pub(crate) cache_hits: Counter,
    pub(crate) cache_added: Counter,
    pub(crate) cache_evicted: Counter,
    pub(crate) cache_items: Gauge,
    pub(crate) cache_bytes: Gauge,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> Result<Metrics> {
        let r = Registrar(registry);
        let seconds = vec![0.001, 0.01, 0.1, 0.3, 0.6, 1.0, 3.0, 6.0, 9.0, 20.0, 30.0, 60.0, 90.0, 120.0];
        let things = exponential_buckets(1.0, 2.0, 28)?;
        let bytes = exponential_buckets(1024.0, 4.0, 14)?;
        let cache = |name, help| r.counter_vec(name, help, "item_type").map(|vec| vec.with_label_values(&[HEADER]));
        let metrics = Metrics {
            loads: r.counter("thanos_bucket_store_block_loads_total", "Blocks taken into service.")?,
            load_failures: r.counter(
                "thanos_bucket_store_block_load_failures_total",
                "Blocks left out of service or of an answer because they are broken or could not be read.",
            )?,
            drops: r.counter("thanos_bucket_store_block_drops_total", "Blocks taken out of service.")?,
            _drop_failures: r.counter(
                "thanos_bucket_store_block_drop_failures_total",
                "Blocks that could not be taken out of service.",
            )?,
            loaded: r.gauge("thanos_bucket_store_blocks_loaded", "Blocks in service.")?,
            last_loaded: r.gauge(
                "thanos_bucket_store_blocks_last_loaded_timestamp_seconds",
                "When the blocks of the bucket were last found, in Unix seconds.",
            )?,
            data_touched: r.histogram_vec(
                ("thanos_bucket_store_series_data_touched", "Items of a kind that a request looked at."),
                "data_type",
                things.clone(),
            )?,
            data_fetched: r.histogram_vec(
                ("thanos_bucket_store_series_data_fetched", "Items of a kind that a request fetched."),
                "data_type",
                things,
            )?,
            size_touched: r.histogram_vec(
                ("thanos_bucket_store_series_data_size_touched_bytes", "Bytes of a kind that a request looked at."),
                "data_type",
                bytes.clone(),
            )?,
            size_fetched: r.histogram_vec(
                ("thanos_bucket_store_series_data_size_fetched_bytes", "Bytes of a kind that a request fetched."),
                "data_type",
                bytes,
            )?,
            blocks_queried: r.histogram(
                "thanos_bucket_store_series_blocks_queried",
                "Blocks that a series request read.",
                exponential_buckets(1.0, 2.0, 10)?,
            )?,
            result_series: r.histogram(
                "thanos_bucket_store_series_result_series",
                "Series in the answer to a request.",
                exponential_buckets(1.0, 2.0, 15)?,
            )?,
            get_all: r.histogram(
                "thanos_bucket_store_series_get_all_duration_seconds",
                "Seconds until every block gave its first series.",
                seconds.clone(),
            )?,
            merge: r.histogram(
                "thanos_bucket_store_series_merge_duration_seconds",
                "Seconds it took to merge the series of all blocks, chunks fetched.",
                seconds.clone(),
            )?,
            chunk_size: r.histogram(
                "thanos_bucket_store_sent_chunk_size_bytes",
                "Bytes of the chunks sent.",
                vec![32.0, 256.0, 512.0, 1024.0, 32.0 * 1024.0, 256.0 * 1024.0, 512.0 * 1024.0],
            )?,
            dropped: r.counter_vec(
                "thanos_bucket_store_queries_dropped_total",
                "Requests that were ended because they exceeded a limit.",
                "reason",
            )?,
            gate_seconds: r.histogram(
                "thanos_bucket_store_series_gate_duration_seconds",
                "Seconds requests waited at the gate.",
                vec![0.01, 0.1, 0.3, 0.6, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0],
            )?,
            gate_total: r.counter("thanos_bucket_store_series_gate_queries_total", "Requests that passed the gate.")?,
            gate_in_flight: r
                .gauge("thanos_bucket_store_series_gate_queries_in_flight", "Requests being answered now.")?,
            gate_max: r.gauge(
                "thanos_bucket_store_series_gate_queries_max",
                "Most requests that are answered at once; more wait.",
            )?,
            cache_requests: cache("thanos_store_index_cache_requests_total", "Look-ups in the index cache.")?,
            cache_hits: cache("thanos_store_index_cache_hits_total", "Look-ups that found what they wanted.")?,
            cache_added: cache("thanos_store_index_cache_items_added_total", "Items put into the index cache.")?,
            cache_evicted: cache("thanos_store_index_cache_items_evicted_total", "Items the cache had no room for.")?,
            cache_items: r.gauge_of("thanos_store_index_cache_items", "Items in the index cache.", HEADER)?,
            cache_bytes: r.gauge_of(
                "thanos_store_index_cache_items_size_bytes",
                "Bytes in the index cache.",
                HEADER,
            )?,
        };
        metrics.dropped.with_label_values(&["bytes"]);
        for kind in ["postings", "series", "chunks"] {
            for vec in [&metrics.data_touched, &metrics.data_fetched, &metrics.size_touched, &metrics.size_fetched] {
                vec.with_label_values(&[kind]);
            }
        }
        Ok(metrics)
    }
}

struct Registrar<'a>(&'a Registry);

impl Registrar<'_> {
    fn add<C: Collector + Clone + 'static>(&self, metric: C) -> Result<C> {
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counter(&self, name: &str, help: &str) -> Result<Counter> {
        self.add(Counter::new(name, help)?)
    }

    fn counter_vec(&self, name: &str, help: &str, label: &str) -> Result<CounterVec> {
        self.add(CounterVec::new(Opts::new(name, help), &[label])?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<Gauge> {
        self.add(Gauge::new(name, help)?)
    }

    fn gauge_of(&self, name: &str, help: &str, item_type: &str) -> Result<Gauge> {
        let vec = prometheus::GaugeVec::new(Opts::new(name, help), &["item_type"])?;
        Ok(self.add(vec)?.with_label_values(&[item_type]))
    }

    fn histogram(&self, name: &str, help: &str, buckets: Vec<f64>) -> Result<Histogram> {
        self.add(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?)
    }

    fn histogram_vec(&self, (name, help): (&str, &str), label: &str, buckets: Vec<f64>) -> Result<HistogramVec> {
        self.add(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), &[label])?)
    }
}
