use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt,
    PutMode, PutPayload, RetryConfig, UpdateVersion, WriteMultipart,
};

use super::*;

fn retries() -> RetryConfig {
    let backoff =
        BackoffConfig { init_backoff: Duration::from_millis(1), ..BackoffConfig::default() };
    RetryConfig { backoff, max_retries: 5, ..RetryConfig::default() }
}

fn s3(server: &ObjectServer) -> Arc<dyn ObjectStore> {
    let client = AmazonS3Builder::new()
        .with_bucket_name("test")
        .with_endpoint(server.url())
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_access_key_id("test")
        .with_secret_access_key("secret")
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(retries());
    Arc::new(client.build().unwrap())
}

fn gcs(server: &ObjectServer) -> Arc<dyn ObjectStore> {
    let client = GoogleCloudStorageBuilder::new()
        .with_bucket_name("test")
        .with_service_account_key(server.gcs_service_account())
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .with_retry(retries());
    Arc::new(client.build().unwrap())
}

/// Both clients over a server with `settings`, each with a bucket of its own.
async fn clients(
    settings: &ServerSettings,
) -> Vec<(&'static str, ObjectServer, Arc<dyn ObjectStore>)> {
    let start = || async {
        ObjectServer::start(Arc::new(InMemory::new()), settings.clone()).await.unwrap()
    };
    let (for_s3, for_gcs) = (start().await, start().await);
    let (s3, gcs) = (s3(&for_s3), gcs(&for_gcs));
    vec![("S3", for_s3, s3), ("GCS", for_gcs, gcs)]
}

fn payload(text: &'static str) -> PutPayload {
    PutPayload::from_static(text.as_bytes())
}

async fn text(store: &dyn ObjectStore, key: &str) -> String {
    let bytes = store.get(&Path::parse(key).unwrap()).await.unwrap().bytes().await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn keys(store: &dyn ObjectStore, prefix: Option<&str>) -> Vec<String> {
    let prefix = prefix.map(Path::from);
    store
        .list(prefix.as_ref())
        .map_ok(|meta| meta.location.to_string())
        .try_collect()
        .await
        .unwrap()
}

#[tokio::test]
async fn objects_come_back_whole_and_in_ranges() {
    for (name, server, store) in clients(&ServerSettings::default()).await {
        let path = Path::from("dir/with space+plus/ü&<x>");
        store.put(&path, payload("0123456789")).await.unwrap();
        assert_eq!(text(&*store, path.as_ref()).await, "0123456789", "{name}");
        assert_eq!(&store.get_range(&path, 2..5).await.unwrap()[..], b"234");
        let ranges = store.get_ranges(&path, &[0..1, 9..10]).await.unwrap();
        assert_eq!(ranges, [Bytes::from_static(b"0"), Bytes::from_static(b"9")]);
        for (range, expected) in [(GetRange::Suffix(3), "789"), (GetRange::Offset(8), "89")] {
            let options = GetOptions { range: Some(range), ..GetOptions::default() };
            let bytes = store.get_opts(&path, options).await.unwrap().bytes().await.unwrap();
            assert_eq!(&bytes[..], expected.as_bytes(), "{name}");
        }
        store.get_range(&path, 20..30).await.unwrap_err();
        let meta = store.head(&path).await.unwrap();
        assert_eq!((meta.size, meta.location), (10, path.clone()));
        store.delete(&path).await.unwrap();
        assert!(matches!(store.get(&path).await.unwrap_err(), Error::NotFound { .. }), "{name}");
        assert!(matches!(store.head(&path).await.unwrap_err(), Error::NotFound { .. }), "{name}");
        let counts = server.counts();
        assert!(counts.puts == 1 && counts.heads == 2 && counts.bytes_in >= 10, "{counts:?}");
        assert!(counts.bytes_out >= 10 + 3 + 3 + 2, "{counts:?}");
    }
}

#[tokio::test]
async fn reads_are_conditional() {
    for (name, _server, store) in clients(&ServerSettings::default()).await {
        let path = Path::from("k");
        let tag = store.put(&path, payload("1")).await.unwrap().e_tag.unwrap();
        let get = |options: GetOptions| store.get_opts(&path, options);
        get(GetOptions { if_match: Some(tag.clone()), ..GetOptions::default() }).await.unwrap();
        let other = get(GetOptions { if_match: Some("\"other\"".into()), ..GetOptions::default() })
            .await
            .unwrap_err();
        assert!(matches!(other, Error::Precondition { .. }), "{name}: {other}");
        let same = get(GetOptions { if_none_match: Some(tag), ..GetOptions::default() })
            .await
            .unwrap_err();
        assert!(matches!(same, Error::NotModified { .. }), "{name}: {same}");
        let modified = store.head(&path).await.unwrap().last_modified;
        get(GetOptions { if_unmodified_since: Some(modified), ..GetOptions::default() })
            .await
            .unwrap();
        let since = get(GetOptions { if_modified_since: Some(modified), ..GetOptions::default() })
            .await
            .unwrap_err();
        assert!(matches!(since, Error::NotModified { .. }), "{name}: {since}");
    }
}

#[tokio::test]
async fn listings_have_pages_prefixes_and_folders() {
    let settings = ServerSettings { page_size: 3, ..ServerSettings::default() };
    for (name, server, store) in clients(&settings).await {
        let all = ["a/1", "a/2", "a/b/3", "ab/4", "b/5", "b/6", "c", "d"];
        for key in all {
            store.put(&Path::from(key), payload("x")).await.unwrap();
        }
        server.reset_counts();
        assert_eq!(keys(&*store, None).await, all, "{name}");
        assert_eq!(server.counts().lists, 3, "{name}: three pages");
        assert_eq!(keys(&*store, Some("a")).await, ["a/1", "a/2", "a/b/3"]);
        let offset: Vec<_> =
            store.list_with_offset(None, &Path::from("b/5")).try_collect().await.unwrap();
        assert_eq!(
            offset.iter().map(|m| m.location.to_string()).collect::<Vec<_>>(),
            ["b/6", "c", "d"]
        );
        let folders = store.list_with_delimiter(None).await.unwrap();
        assert_eq!(folders.common_prefixes, [Path::from("a"), Path::from("ab"), Path::from("b")]);
        assert_eq!(folders.objects.len(), 2);
        let inside = store.list_with_delimiter(Some(&Path::from("a"))).await.unwrap();
        assert_eq!((inside.common_prefixes, inside.objects.len()), (vec![Path::from("a/b")], 2));
        let odd = Path::from_iter(["a", "x/y", "z"]);
        store.put(&odd, payload("x")).await.unwrap();
        let inside = store.list_with_delimiter(Some(&Path::from_iter(["a", "x/y"]))).await.unwrap();
        assert_eq!(inside.objects.len(), 1, "{name}: a key with an encoded character");
        store.delete(&odd).await.unwrap();
        let paths = futures::stream::iter(all.map(|key| Ok(Path::from(key))));
        let deleted: Vec<Path> = store.delete_stream(Box::pin(paths)).try_collect().await.unwrap();
        assert_eq!(deleted.len(), all.len());
        assert!(keys(&*store, None).await.is_empty());
    }
}

#[tokio::test]
async fn writes_are_conditional() {
    for (name, _server, store) in clients(&ServerSettings::default()).await {
        let path = Path::from("meta.json");
        let first = store.put_opts(&path, payload("1"), PutMode::Create.into()).await.unwrap();
        let again = store.put_opts(&path, payload("2"), PutMode::Create.into()).await.unwrap_err();
        assert!(matches!(again, Error::AlreadyExists { .. }), "{name}: {again}");
        let update = |version: &object_store::PutResult, text| {
            let version =
                UpdateVersion { e_tag: version.e_tag.clone(), version: version.version.clone() };
            store.put_opts(&path, payload(text), PutMode::Update(version).into())
        };
        let second = update(&first, "3").await.unwrap();
        let late = update(&first, "4").await.unwrap_err();
        assert!(matches!(late, Error::Precondition { .. }), "{name}: {late}");
        assert_ne!(first.e_tag, second.e_tag);
        assert_eq!(text(&*store, "meta.json").await, "3");
        store.copy(&path, &Path::from("copy")).await.unwrap();
        assert_eq!(text(&*store, "copy").await, "3");
    }
}

#[tokio::test]
async fn only_one_of_many_creators_wins() {
    for (name, _server, store) in clients(&ServerSettings::default()).await {
        let creators = (0..8).map(|_| {
            let store = Arc::clone(&store);
            async move {
                store
                    .put_opts(&Path::from("once"), payload("x"), PutMode::Create.into())
                    .await
                    .is_ok()
            }
        });
        let won = futures::future::join_all(creators).await.into_iter().filter(|won| *won).count();
        assert_eq!(won, 1, "{name}");
    }
}

#[tokio::test]
async fn multipart_uploads_appear_at_once_and_whole() {
    for (name, server, store) in clients(&ServerSettings::default()).await {
        let path = Path::from("big");
        let body: Vec<u8> = (0..12_000_000u32).map(|i| (i / 7) as u8).collect();
        let upload = store.put_multipart(&path).await.unwrap();
        let mut writer = WriteMultipart::new_with_chunk_size(upload, 5 << 20);
        writer.write(&body);
        assert!(store.head(&path).await.is_err(), "{name}: not there before it is complete");
        writer.finish().await.unwrap();
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), body, "{name}");
        assert_eq!(server.counts().puts, 3);
        let mut abandoned = store.put_multipart(&Path::from("never")).await.unwrap();
        abandoned.put_part(payload("x")).await.unwrap();
        abandoned.abort().await.unwrap();
        assert_eq!(keys(&*store, None).await, ["big"]);
        assert!(server.shared.uploads.under_way() == 0, "{name}");
    }
}

#[tokio::test]
async fn clients_get_over_passing_faults() {
    let settings =
        ServerSettings { faults: FaultPlan::seeded(11, 150), ..ServerSettings::default() };
    for (name, server, store) in clients(&settings).await {
        for i in 0..40 {
            let path = Path::from(format!("{i:02}"));
            store.put(&path, payload("0123456789")).await.unwrap();
            assert_eq!(text(&*store, path.as_ref()).await, "0123456789", "{name}");
        }
        let counts = server.counts();
        assert!(counts.requests > 90, "{name}: some were tried again: {counts:?}");
    }
}

#[tokio::test]
async fn a_denied_write_was_done_all_the_same() {
    let faults = FaultPlan::new(|call| (call.number == 0).then_some(Fault::AppliedButUnavailable));
    let settings = ServerSettings { faults, ..ServerSettings::default() };
    for (name, server, store) in clients(&settings).await.into_iter().take(1) {
        let created = store.put_opts(&Path::from("k"), payload("1"), PutMode::Create.into()).await;
        assert!(created.is_err(), "{name}: {created:?}");
        assert_eq!(text(&*store, "k").await, "1");
        assert!(server.counts().puts >= 1);
    }
}

#[tokio::test]
async fn listings_can_be_stale() {
    let faults = FaultPlan::new(|call| {
        (call.op == Op::List && call.number < 12).then_some(Fault::StaleList)
    });
    let server = ObjectServer::start(
        Arc::new(InMemory::new()),
        ServerSettings { faults, ..Default::default() },
    );
    let server = server.await.unwrap();
    let store = s3(&server);
    for i in 0..11 {
        store.put(&Path::from(format!("{i:02}")), payload("x")).await.unwrap();
    }
    assert_eq!(keys(&*store, None).await, ["00", "01", "02"]);
    assert_eq!(keys(&*store, None).await.len(), 11);
}

#[tokio::test]
async fn every_request_takes_its_time() {
    let settings =
        ServerSettings { latency: Duration::from_millis(30), ..ServerSettings::default() };
    let server = ObjectServer::start(Arc::new(InMemory::new()), settings).await.unwrap();
    let before = tokio::time::Instant::now();
    assert!(s3(&server).head(&Path::from("k")).await.is_err());
    assert!(before.elapsed() >= Duration::from_millis(30));
}

#[tokio::test]
async fn a_folder_can_be_served() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("block")).unwrap();
    std::fs::write(folder.path().join("block/meta.json"), "{}").unwrap();
    let local = LocalFileSystem::new_with_prefix(folder.path()).unwrap();
    let server = ObjectServer::start(Arc::new(local), ServerSettings::default()).await.unwrap();
    for store in [s3(&server), gcs(&server)] {
        assert_eq!(keys(&*store, None).await, ["block/meta.json"]);
        assert_eq!(text(&*store, "block/meta.json").await, "{}");
    }
    s3(&server)
        .put_opts(&Path::from("block/index"), payload("i"), PutMode::Create.into())
        .await
        .unwrap();
    assert_eq!(std::fs::read(folder.path().join("block/index")).unwrap(), b"i");
}
