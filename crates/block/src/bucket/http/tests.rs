//! Clients over an HTTP service that gives prepared answers and records requests.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use futures::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, RetryConfig};
use prometheus::Registry;

use super::*;
use crate::bucket::prefixed::Prefixed;
use crate::testing::TestClock;
use crate::{Bucket, BucketMetrics, BucketSettings, Kind, PutOutcome};

/// What was asked: `METHOD /path?query`; and the answers to come, as status and body.
#[derive(Clone, Debug, Default)]
struct Wire {
    asked: Arc<Mutex<Vec<String>>>,
    answers: Arc<Mutex<VecDeque<(u16, String)>>>,
    /// The header of all answers.
    retry_after: Arc<Mutex<Option<String>>>,
}

impl Wire {
    fn will_answer(&self, status: u16, body: &str) {
        self.answers.lock().unwrap().push_back((status, body.to_owned()));
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

impl HttpConnector for Wire {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Wire {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let line = format!("{} {}", request.method(), request.uri().path_and_query().unwrap());
        self.asked.lock().unwrap().push(line);
        let (status, body) =
            self.answers.lock().unwrap().pop_front().unwrap_or((200, String::new()));
        let length = body.len().to_string();
        let mut response = HttpResponse::new(body.into());
        *response.status_mut() = status.try_into().unwrap();
        let modified = "Thu, 01 Jan 2026 00:00:00 GMT";
        let headers = [
            ("etag", "\"e\""),
            ("x-goog-generation", "1"),
            ("content-length", length.as_str()),
            ("last-modified", modified),
        ];
        for (name, value) in headers {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        if let Some(asked) = &*self.retry_after.lock().unwrap() {
            response.headers_mut().insert("retry-after", asked.parse().unwrap());
        }
        Ok(response)
    }
}

fn connector(wire: &Wire, prefix: &str) -> Connector<Wire> {
    Connector { inner: wire.clone(), prefix: prefix.to_owned(), hints: Hints::default() }
}

fn s3(connector: Connector<Wire>) -> Arc<dyn ObjectStore> {
    let retry = RetryConfig { max_retries: 3, ..RetryConfig::default() };
    let builder = AmazonS3Builder::new()
        .with_bucket_name("b")
        .with_region("r")
        .with_endpoint("https://s3.test");
    let builder = builder.with_access_key_id("a").with_secret_access_key("s").with_retry(retry);
    Arc::new(builder.with_http_connector(connector).build().unwrap())
}

fn gcs(connector: Connector<Wire>) -> Arc<dyn ObjectStore> {
    let account = r#"{"gcs_base_url":"https://gcs.test","disable_oauth":true,"client_email":"","private_key":"","private_key_id":""}"#;
    let builder =
        GoogleCloudStorageBuilder::new().with_bucket_name("b").with_service_account_key(account);
    Arc::new(builder.with_http_connector(connector).build().unwrap())
}

fn azure(connector: Connector<Wire>) -> Arc<dyn ObjectStore> {
    let builder = MicrosoftAzureBuilder::new()
        .with_account("acc")
        .with_container_name("b")
        .with_access_key("a2V5");
    Arc::new(builder.with_http_connector(connector).build().unwrap())
}

/// What Thanos asks for below these prefixes: the prefix to the letter, a `/`, the name.
#[tokio::test]
async fn a_prefix_is_taken_to_the_letter_by_every_client() {
    let prefixes = [
        ("plain/p", "plain/p"),
        ("~ü%#*", "%7E%C3%BC%25%23%2A"),
        ("a//b", "a//b"),
        ("a b", "a%20b"),
    ];
    for make in [s3, gcs, azure] {
        for (prefix, encoded) in prefixes {
            let wire = Wire::default();
            let store = Prefixed::new(make(connector(&wire, prefix)), prefix).unwrap();
            store.put(&Path::from("x/y"), "z".into()).await.unwrap();
            let asked = wire.asked().concat();
            // which characters are encoded is the client's business
            let plain =
                |text: &str| text.replace("%2F", "/").replace("%7E", "~").replace("%2A", "*");
            let path = asked.split(['?', ' ']).nth(1).unwrap();
            assert_eq!(plain(path), plain(&format!("/b/{encoded}/x/y")), "{prefix}: {asked}");
        }
    }
    for refused in ["a/../b", ".", "a/./b", "a\nb"] {
        let error = Prefixed::new(s3(connector(&Wire::default(), refused)), refused).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{error}");
    }
}

const PAGE: &str = "<ListBucketResult><IsTruncated>false</IsTruncated>ENTRIES</ListBucketResult>";

fn entry(key: &str) -> String {
    format!(
        "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00Z</LastModified><Size>1</Size></Contents>"
    )
}

#[tokio::test]
async fn listings_come_without_the_prefix_and_without_bad_names() {
    for prefix in ["a//b", "p~"] {
        let wire = Wire::default();
        let connector = connector(&wire, prefix);
        let hints = connector.hints.clone();
        let store = Prefixed::new(s3(connector), prefix).unwrap();
        let keys = ["x/meta.json", "x/", "x/chunks/", "../x", "x//y", "x&#10;y"]
            .map(|k| entry(&format!("{prefix}/{k}")));
        wire.will_answer(200, &PAGE.replace("ENTRIES", &keys.concat()));
        let listed: Vec<String> = store
            .list(Some(&Path::from("x")))
            .map_ok(|o| o.location.to_string())
            .try_collect()
            .await
            .unwrap();
        assert_eq!(listed, ["x/meta.json"]);
        assert_eq!(hints.ignored_names(), 5);
        let asked = wire.asked().concat();
        let encoded = prefix.replace('/', "%2F");
        assert!(asked.replace("%7E", "~").contains(&format!("prefix={encoded}%2Fx%2F")), "{asked}");
        let markers: Vec<String> =
            hints.take_markers(&Path::from("x")).iter().map(Path::to_string).collect();
        assert_eq!(markers, ["x/chunks/", "x/"]);
    }
}

fn bucket(wire: &Wire, make: fn(Connector<Wire>) -> Arc<dyn ObjectStore>) -> Bucket {
    let connector = connector(wire, "");
    let settings = BucketSettings { hints: connector.hints.clone(), ..BucketSettings::default() };
    Bucket::new(
        make(connector),
        settings,
        BucketMetrics::new(&Registry::new()).unwrap(),
        TestClock::new(),
    )
}

fn code(code: &str) -> String {
    format!("<Error><Code>{code}</Code><Message>no</Message></Error>")
}

#[tokio::test]
async fn stores_without_create_only_writes_are_known_by_their_answer() {
    let refusals = [
        (501, code("NotImplemented")),
        (405, code("MethodNotAllowed")),
        (400, code("InvalidArgument")),
        (501, String::new()),
    ];
    for make in [s3, gcs, azure] {
        for (status, body) in &refusals {
            let wire = Wire::default();
            let bucket = bucket(&wire, make);
            wire.will_answer(*status, body);
            let error = bucket.put_if_absent(&Path::from("x"), "1".into()).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Unsupported, "{error}");
            assert_eq!(wire.asked().len(), 1, "not tried again");
            bucket.put_if_absent(&Path::from("x"), "1".into()).await.unwrap_err();
            assert!(wire.asked().is_empty(), "not asked again");
            wire.will_answer(404, "");
            let outcome = bucket.put_unless_there(&Path::from("x"), "1".into()).await.unwrap();
            assert_eq!(outcome, PutOutcome::Created);
            let asked = wire.asked();
            assert!(asked[0].starts_with("HEAD ") && asked[1].starts_with("PUT "), "{asked:?}");
            let outcome = bucket.put_unless_there(&Path::from("x"), "1".into()).await.unwrap();
            assert_eq!((outcome, wire.asked().len()), (PutOutcome::AlreadyExists, 1));
        }
    }
}

#[tokio::test]
async fn other_failures_of_create_only_writes_stay_what_they_are() {
    for (status, body, kind) in [
        (400, code("RequestTimeout"), Kind::Unavailable),
        (400, code("ExpiredToken"), Kind::Unavailable),
        (400, code("BadDigest"), Kind::Unavailable),
        (403, code("AccessDenied"), Kind::Denied),
    ] {
        let wire = Wire::default();
        let bucket = bucket(&wire, s3);
        wire.will_answer(status, &body);
        let error = bucket.put_if_absent(&Path::from("x"), "1".into()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(
            bucket.put_if_absent(&Path::from("x"), "1".into()).await.unwrap(),
            PutOutcome::Created
        );
    }
    // a plain write that gets a 501 says nothing about create-only ones
    let wire = Wire::default();
    let bucket = bucket(&wire, s3);
    wire.will_answer(405, "");
    let options = object_store::PutOptions { mode: PutMode::Overwrite, ..Default::default() };
    bucket.store().put_opts(&Path::from("x"), "1".into(), options).await.unwrap_err();
    assert_eq!(
        bucket.put_if_absent(&Path::from("x"), "1".into()).await.unwrap(),
        PutOutcome::Created
    );
}

/// Old Ceph ignores the condition.
#[tokio::test]
async fn a_store_that_ignores_the_condition_is_found_by_the_probe() {
    let wire = Wire::default();
    let bucket = bucket(&wire, gcs);
    bucket.probe_create_only().await;
    let asked = wire.asked();
    assert!(asked[0].starts_with("PUT /b/drumlin%2Dprobe%2F"), "{asked:?}");
    assert!(asked[2].starts_with("DELETE /b/drumlin%2Dprobe%2F"), "{asked:?}");
    assert_eq!(
        bucket.put_if_absent(&Path::from("x"), "1".into()).await.unwrap_err().kind(),
        Kind::Unsupported
    );

    let sound = Wire::default();
    let bucket = super::tests::bucket(&sound, gcs);
    sound.will_answer(200, "");
    sound.will_answer(412, "");
    bucket.probe_create_only().await;
    assert_eq!(sound.asked().len(), 3);
    assert_eq!(
        bucket.put_if_absent(&Path::from("x"), "1".into()).await.unwrap(),
        PutOutcome::Created
    );
}

/// The client would look for `x` among what it asked to delete, where there is only `x/`.
#[tokio::test]
async fn a_marker_that_may_not_be_deleted_is_an_error() {
    let wire = Wire::default();
    let bucket = bucket(&wire, s3);
    let answer = "<DeleteResult><Error><Key>x/</Key><Code>AccessDenied</Code><Message>no</Message></Error></DeleteResult>";
    for _ in 0..4 {
        wire.will_answer(200, answer);
    }
    bucket.hints().ignore(&["x/".to_owned()]);
    bucket.delete_markers(&Path::from("x")).await.unwrap_err();
    bucket.hints().ignore(&["x/".to_owned()]);
    wire.asked();
    wire.answers.lock().unwrap().clear();
    wire.will_answer(200, "<DeleteResult><Deleted><Key>x/</Key></Deleted></DeleteResult>");
    bucket.delete_markers(&Path::from("x")).await.unwrap();
    assert_eq!(wire.asked(), ["POST /b?delete"]);
}

#[tokio::test]
async fn a_busy_store_is_left_alone_for_as_long_as_it_asks() {
    for status in [429, 503] {
        let wire = Wire::default();
        let store = s3(connector(&wire, ""));
        let path = Path::from("a");
        wire.will_answer(status, "<Error><Code>SlowDown</Code></Error>");
        wire.will_answer(200, "body");
        *wire.retry_after.lock().unwrap() = Some("1".to_owned());
        let start = tokio::time::Instant::now();
        let fetched = store.get(&path).await.unwrap().bytes().await.unwrap();
        assert_eq!((fetched, wire.asked().len()), ("body".into(), 2));
        assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    }
}

#[test]
fn only_busy_stores_can_ask_for_a_pause_and_not_for_a_long_one() {
    let pause = |status: u16, asked: &str| {
        let mut response = HttpResponse::new(String::new().into());
        *response.status_mut() = status.try_into().unwrap();
        response.headers_mut().insert("retry-after", asked.parse().unwrap());
        asked_pause(&response)
    };
    assert_eq!(pause(503, "3"), Some(Duration::from_secs(3)));
    assert_eq!(pause(429, " 0 "), Some(Duration::ZERO));
    assert_eq!(pause(503, "86400"), Some(MOST_PAUSE));
    assert_eq!(pause(503, "18446744073709551616"), None);
    assert_eq!(pause(503, "Wed, 21 Oct 2026 07:28:00 GMT"), None);
    assert_eq!(pause(503, "-1"), None);
    assert_eq!(pause(404, "3"), None);
}
