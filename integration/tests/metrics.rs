//! The names of metrics that dashboards and alerts of Thanos ask for are served by our processes.

use std::collections::BTreeSet;

use crate::harness::binaries::binaries;
use crate::harness::bucket::Bucket;
use crate::harness::fleet::{Component, Maker, compact_args, query, sidecar_args, store_args};
use crate::harness::golden_server::{golden_prometheus, wait_for_upload};
use crate::harness::{http, scratch};

/// Metrics of every component.
const PROCESS: &[&str] = &[
    "process_resident_memory_bytes",
    "process_cpu_seconds_total",
    "thanos_status",
    "go_goroutines",
    "go_gc_duration_seconds",
    "go_memstats_alloc_bytes",
    "go_memstats_alloc_bytes_total",
    "go_memstats_heap_alloc_bytes",
    "go_memstats_heap_inuse_bytes",
    "go_memstats_stack_inuse_bytes",
];

/// Metrics of components that serve more than health and metrics over HTTP.
const HTTP: &[&str] = &[
    "http_requests_total",
    "http_request_duration_seconds_bucket",
    "http_request_duration_seconds_count",
    "http_request_duration_seconds_sum",
    "http_request_size_bytes_count",
    "http_request_size_bytes_sum",
    "http_inflight_requests",
];

/// Metrics of every component that serves gRPC.
const GRPC_SERVER: &[&str] = &[
    "grpc_server_handled_total",
    "grpc_server_started_total",
    "grpc_server_handling_seconds_bucket",
    "grpc_server_handling_seconds_count",
    "grpc_server_msg_received_total",
    "grpc_server_msg_sent_total",
    "thanos_store_server_series_requested_bucket",
    "thanos_store_server_chunks_requested_bucket",
    "thanos_store_server_pending_series_requests",
];

/// Metrics of every component that has a bucket.
const BUCKET: &[&str] = &[
    "thanos_objstore_bucket_operations_total",
    "thanos_objstore_bucket_operation_failures_total",
    "thanos_objstore_bucket_operation_duration_seconds_bucket",
    "thanos_objstore_bucket_operation_duration_seconds_count",
    "thanos_objstore_bucket_operation_duration_seconds_sum",
    "thanos_objstore_bucket_last_successful_upload_time",
    "thanos_objstore_bucket_operation_fetched_bytes_total",
    "thanos_objstore_bucket_operation_transferred_bytes",
];

/// Metrics of components that read the metas of all blocks.
const SYNC: &[&str] = &[
    "thanos_blocks_meta_syncs_total",
    "thanos_blocks_meta_sync_failures_total",
    "thanos_blocks_meta_sync_duration_seconds",
    "thanos_blocks_meta_synced",
];

const SIDECAR: &[&str] = &[
    "thanos_sidecar_prometheus_up",
    "thanos_shipper_uploads_total",
    "thanos_shipper_upload_failures_total",
    "thanos_shipper_dir_syncs_total",
    "thanos_shipper_dir_sync_failures_total",
    "thanos_shipper_corrupted_blocks_total",
    "thanos_shipper_upload_compacted_done",
];

const STORE: &[&str] = &[
    "thanos_bucket_store_block_loads_total",
    "thanos_bucket_store_block_load_failures_total",
    "thanos_bucket_store_block_drops_total",
    "thanos_bucket_store_block_drop_failures_total",
    "thanos_bucket_store_series_data_touched",
    "thanos_bucket_store_series_data_fetched",
    "thanos_bucket_store_series_blocks_queried",
    "thanos_bucket_store_series_result_series",
    "thanos_bucket_store_series_gate_duration_seconds",
    "thanos_bucket_store_series_gate_queries_duration_seconds",
    "thanos_bucket_store_series_get_all_duration_seconds",
    "thanos_bucket_store_series_merge_duration_seconds",
    "thanos_bucket_store_sent_chunk_size_bytes",
    "thanos_store_index_cache_requests_total",
    "thanos_store_index_cache_hits_total",
    "thanos_store_index_cache_items_added_total",
    "thanos_store_index_cache_items_evicted_total",
];

const COMPACT: &[&str] = &[
    "thanos_compact_halted",
    "thanos_compact_iterations_total",
    "thanos_compact_retries_total",
    "thanos_compact_group_compactions_total",
    "thanos_compact_group_compactions_failures_total",
    "thanos_compact_group_vertical_compactions_total",
    "thanos_compact_group_compaction_runs_started_total",
    "thanos_compact_group_compaction_runs_completed_total",
    "thanos_compact_downsample_total",
    "thanos_compact_downsample_failures_total",
    "thanos_compact_garbage_collected_blocks_total",
    "thanos_compact_garbage_collection_total",
    "thanos_compact_garbage_collection_failures_total",
    "thanos_compact_garbage_collection_duration_seconds",
    "thanos_compact_blocks_cleaned_total",
    "thanos_compact_blocks_marked_total",
    "thanos_compact_block_cleanup_failures_total",
    "thanos_compact_todo_compactions",
    "thanos_compact_todo_compaction_blocks",
    "thanos_compact_todo_downsample_blocks",
    "thanos_compact_todo_deletion_blocks",
];

const QUERY: &[&str] = &[
    "thanos_store_nodes_grpc_connections",
    "thanos_query_store_apis_dns_lookups_total",
    "thanos_query_store_apis_dns_failures_total",
    "thanos_query_concurrent_gate_queries_in_flight",
    "thanos_query_concurrent_gate_queries_max",
    "thanos_query_concurrent_gate_queries_duration_seconds",
    "thanos_query_endpoints_dns_lookups_total",
    "thanos_query_endpoints_dns_failures_total",
    "grpc_client_handled_total",
    "grpc_client_started_total",
    "grpc_client_handling_seconds_bucket",
];

/// The names in the text format: those of families and of their samples.
fn names(text: &str) -> BTreeSet<&str> {
    let name = |line: &'_ str| -> Option<usize> { line.find(['{', ' ']) };
    let samples =
        text.lines().filter(|l| !l.starts_with('#')).filter_map(|l| name(l).map(|end| &l[..end]));
    let families = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next());
    samples.chain(families).collect()
}

#[track_caller]
fn missing(component: &Component, what: &str, wanted: &[&[&'static str]]) -> Vec<String> {
    let text = component.metrics();
    let served = names(&text);
    assert!(!served.is_empty(), "{what} serves no metrics");
    let wanted = wanted.iter().copied().flatten();
    wanted.filter(|name| !served.contains(**name)).map(|name| format!("{what}: {name}")).collect()
}

#[test]
fn every_name_is_in_the_live_metrics() {
    let Some(binaries) = binaries() else { return };
    let folder = scratch();
    let prometheus = golden_prometheus(binaries, folder.path());
    let bucket = Bucket::folder(folder.path());
    let args = sidecar_args(&prometheus, Some(&bucket.config));
    let sidecar = Component::start(binaries, Maker::Drumlin, folder.path(), "sidecar", &args);
    wait_for_upload(&bucket);
    let args = store_args(folder.path(), &bucket.config);
    let store = Component::start(binaries, Maker::Drumlin, folder.path(), "store", &args);
    let querier =
        query(binaries, Maker::Drumlin, folder.path(), &[&sidecar.grpc, &store.grpc], &[]);
    let mut args = compact_args(folder.path(), &bucket.config);
    args.push("--wait".to_owned());
    let compactor = Component::start(binaries, Maker::Drumlin, folder.path(), "compact", &args);
    // some series of requests exist only after one; a second querier asks the first over gRPC
    let outer =
        query(binaries, Maker::Drumlin, &folder.path().join("outer"), &[&querier.grpc], &[]);
    let answered = http::instant(&outer.http, "up", 1_767_234_600.0).expect("an answer");
    assert!(!answered.is_empty());

    let mut all = missing(&sidecar, "sidecar", &[PROCESS, GRPC_SERVER, BUCKET, SIDECAR]);
    all.extend(missing(&store, "store", &[PROCESS, GRPC_SERVER, BUCKET, SYNC, STORE]));
    all.extend(missing(&compactor, "compact", &[PROCESS, BUCKET, SYNC, COMPACT]));
    all.extend(missing(&querier, "query", &[PROCESS, HTTP, GRPC_SERVER, QUERY]));
    assert!(all.is_empty(), "not served: {all:#?}");
    // and their values are right
    let text = sidecar.metrics();
    for line in ["thanos_sidecar_prometheus_up 1", "thanos_shipper_uploads_total 2"] {
        assert!(text.lines().any(|l| l == line), "{line}");
    }
}
