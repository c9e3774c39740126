use std::sync::Arc;

use axum::body::Body;
use block::marker::{DeletionMark, Marker, NoCompactMark};
use block::object_store::memory::InMemory;
use block::{BucketMetrics, BucketSettings};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use model::{Resolution, SystemClock};
use prometheus::Registry;
use serde_json::{Value, json};
use tower::ServiceExt;
use tsdb::meta::BlockMeta;

use super::*;

const ID: &str = "01M81HXX0GS6A2F69HCM1Y84FY";
const ADMIN: BlocksApiSettings = BlocksApiSettings { label: String::new(), admin_operations: true };

fn api(settings: BlocksApiSettings) -> BlocksApi {
    let clock = SystemClock::new(|span| Box::pin(tokio::time::sleep(span)));
    let bucket = Bucket::new(
        Arc::new(InMemory::new()),
        BucketSettings::default(),
        BucketMetrics::new(&Registry::new()).unwrap(),
        Arc::new(clock),
    );
    BlocksApi::new(bucket, settings)
}

fn synced(id: &str, location: impl Fn(BlockId) -> BlockLocation) -> SyncedBlock {
    let meta = json!({
        "ulid": id, "minTime": 0, "maxTime": 7_200_000, "version": 1,
        "stats": {"numSamples": 7}, "compaction": {"level": 1, "sources": [id]},
        "thanos": {"version": 1, "labels": {"cluster": "a"}, "source": "sidecar"},
    });
    let meta = BlockMeta::from_json(meta.to_string().as_bytes()).unwrap();
    SyncedBlock::new(location(id.parse().unwrap()), Arc::new(meta))
}

fn block() -> SyncedBlock {
    synced(ID, BlockLocation::tsdb)
}

async fn ask(api: &BlocksApi, request: http::request::Builder, body: &str) -> (StatusCode, Value) {
    let request = request
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(body.to_owned()))
        .unwrap();
    let response = api.routes().oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap())
}

async fn view(api: &BlocksApi, view: &str) -> Value {
    let (status, body) = ask(api, Request::get(format!("/api/v1/blocks?view={view}")), "").await;
    assert_eq!((status, &body["status"]), (StatusCode::OK, &json!("success")), "{body}");
    body["data"].clone()
}

async fn mark(api: &BlocksApi, form: &str) -> (StatusCode, Value) {
    ask(api, Request::post("/api/v1/blocks/mark"), form).await
}

#[tokio::test]
async fn before_a_sync_views_are_empty() {
    let api = api(BlocksApiSettings { label: "cluster".to_owned(), ..ADMIN });
    let never = "0001-01-01T00:00:00Z";
    let empty = json!({
        "label": "cluster", "blocks": [], "refreshedAt": never, "err": null, "details": [],
    });
    assert_eq!(view(&api, "loaded").await, empty);
    assert_eq!(view(&api, "global").await, empty);
}

#[tokio::test]
async fn a_view_holds_metas_as_their_files_have_them_and_what_is_known_beside_them() {
    let api = api(ADMIN);
    let id = ID.parse().unwrap();
    let mut marked = SyncedBlock { bytes: 99, ..block() };
    marked.deletion_mark = Some(DeletionMark::new(id, TimestampMs(5000), "by hand"));
    let other = synced("01M81HXX0GS6A2F69HCM1Y84FZ", BlockLocation::tsdb);
    let mut found = Synced { blocks: vec![marked.clone(), other], ..Synced::default() };
    api.watch().apply(&mut found, TimestampMs(1500));
    assert_eq!(found.blocks.len(), 2, "it leaves out nothing");
    api.set_loaded(vec![block()]);

    let global = view(&api, "global").await;
    assert_eq!(global["refreshedAt"], "1970-01-01T00:00:01.5Z");
    let meta: Value = serde_json::from_slice(&marked.meta.to_json()).unwrap();
    assert_eq!(global["blocks"][0], meta);
    assert_eq!(global["blocks"].as_array().unwrap().len(), 2);
    let details = json!({
        "ulid": ID, "folder": ID, "bytes": 99, "hasTombstones": false,
        "marks": [{
            "file": "deletion-mark.json",
            "mark": {"id": ID, "version": 1, "details": "by hand", "deletion_time": 5},
        }],
    });
    assert_eq!(global["details"][0], details);
    assert_eq!(global["details"][1]["marks"], json!([]));
    assert_eq!(view(&api, "").await, global, "as in Thanos");
    assert_eq!(view(&api, "loaded").await["blocks"].as_array().unwrap().len(), 1);

    api.failed("listing failed");
    let failed = view(&api, "loaded").await;
    assert_eq!(failed["err"], "listing failed");
    assert_eq!(failed["blocks"].as_array().unwrap().len(), 1, "what was known stays");
}

#[tokio::test]
async fn long_views_are_whole() {
    let api = api(ADMIN);
    api.set_loaded(vec![block(); 1000]);
    let loaded = view(&api, "loaded").await;
    assert_eq!(loaded["blocks"].as_array().unwrap().len(), 1000);
    assert_eq!(loaded["details"].as_array().unwrap().len(), 1000);
}

#[tokio::test]
async fn marks_are_written_once_where_the_block_is() {
    let api = api(ADMIN);
    let labels = model::Labels::from_pairs([("cluster", "a")]);
    let parquet = |id| BlockLocation::parquet(&labels, Resolution::FiveMinutes, id);
    let location = BlockLocation::tsdb(ID.parse().unwrap());
    api.shared.bucket.put(&location.meta(), "{}".into()).await.unwrap();
    let form = format!("id={ID}&action=DELETION&detail=too+old");
    let (status, body) = mark(&api, &form).await;
    let file = format!("{ID}/deletion-mark.json");
    let done = json!({"id": ID, "action": "DELETION", "file": file, "created": true});
    assert_eq!((status, &body["data"]), (StatusCode::OK, &done), "{body}");
    let written = DeletionMark::read(&api.shared.bucket, &location).await.unwrap().unwrap();
    assert_eq!(written.details, "too old");
    let (_, body) = mark(&api, &format!("id={ID}&action=DELETION&detail=again")).await;
    assert_eq!(body["data"]["created"], false, "{body}");
    let kept = DeletionMark::read(&api.shared.bucket, &location).await.unwrap().unwrap();
    assert_eq!(kept, written);

    // a downsampled block has its folder elsewhere, which the sync told
    let coarse = synced("01M81HXX0GS6A2F69HCM1Y84FZ", parquet);
    api.shared.bucket.put(&coarse.location.meta(), "{}".into()).await.unwrap();
    let mut found = Synced { blocks: vec![coarse.clone()], ..Synced::default() };
    api.watch().apply(&mut found, TimestampMs(0));
    let (status, body) = mark(&api, &format!("id={}&action=NO_COMPACTION", coarse.id())).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let mark = NoCompactMark::read(&api.shared.bucket, &coarse.location).await.unwrap().unwrap();
    assert_eq!(mark.reason, "manual");
}

#[tokio::test]
async fn what_cannot_be_marked_is_refused_with_a_reason() {
    let api = api(ADMIN);
    let long = format!("id={ID}&action=DELETION&detail={}", "x".repeat(5000));
    for (form, reason) in [
        ("", "ID cannot be empty"),
        (&format!("id={ID}"), "Action cannot be empty"),
        ("id=x&action=DELETION", "ULID \"x\" is not valid"),
        ("id=../../etc&action=DELETION", "is not valid"),
        (&format!("id={ID}&action=RENAME"), "not supported marker \"RENAME\""),
        (&long, "detail"),
        (&format!("id={ID}&action=DELETION"), "the bucket has no"),
    ] {
        let (status, body) = mark(&api, form).await;
        assert_eq!((status, &body["errorType"]), (StatusCode::BAD_REQUEST, &json!("bad_data")));
        assert!(body["error"].as_str().unwrap().contains(reason), "{body}");
    }
}

#[tokio::test]
async fn admin_operations_can_be_off() {
    let api = api(BlocksApiSettings::default());
    let location = BlockLocation::tsdb(ID.parse().unwrap());
    api.shared.bucket.put(&location.meta(), "{}".into()).await.unwrap();
    let (status, body) = mark(&api, &format!("id={ID}&action=DELETION")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body["error"].as_str().unwrap().starts_with("Admin operations are disabled"), "{body}");
    assert_eq!(DeletionMark::read(&api.shared.bucket, &location).await.unwrap(), None);
}
