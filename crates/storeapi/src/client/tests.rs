use model::error::in_one_line;
use model::{Labels, Matcher, TimeRange};
use tokio::net::TcpListener;

use super::*;
use crate::conformance::{Dataset, MemoryStore};
use crate::info::Capabilities;
use crate::testing::{Faulty, StoreFault, served, served_as};

fn store(series: usize) -> MemoryStore {
    let one = |i: usize| {
        let labels = Labels::from_pairs([("__name__", "up"), ("pod", &format!("{i:04}"))]);
        (labels, vec![(1000, i as f64)])
    };
    MemoryStore::new(&Dataset {
        external: Labels::from_pairs([("region", "eu")]),
        series: (0..series).map(one).collect(),
    })
}

fn request() -> SeriesRequest {
    SeriesRequest::new(TimeRange::new(0, 5000), vec![Matcher::equal("__name__", "up")])
}

async fn frames(store: &GrpcStore, request: SeriesRequest) -> Vec<Result<Frame>> {
    store.series(request).await.unwrap().collect().await
}

#[tokio::test]
async fn series_are_batched_as_asked() {
    let remote = served(Arc::new(store(10))).await;
    for (batch_size, sizes) in
        [(0, vec![1; 10]), (1, vec![1; 10]), (4, vec![4, 4, 2]), (64, vec![10])]
    {
        let got = frames(&remote, SeriesRequest { batch_size, ..request() }).await;
        let got: Vec<usize> = got
            .into_iter()
            .map(|frame| match frame.unwrap() {
                Frame::Series(series) => series.len(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(got, sizes, "batch_size={batch_size}");
    }
}

#[tokio::test]
async fn a_panic_inside_the_store_is_a_warning() {
    let remote = served(Arc::new(Faulty { inner: store(3), fault: StoreFault::Panic })).await;
    let got = frames(&remote, request()).await;
    let Some(Ok(Frame::Warning(text))) = got.last() else { panic!("{got:?}") };
    assert_eq!(text, "the store panicked while it answered: a defect");
    assert_eq!(got.len(), 2);
}

#[tokio::test]
async fn errors_keep_their_kind_across_the_wire() {
    let remote = served(Arc::new(Faulty { inner: store(3), fault: StoreFault::BreakOff })).await;
    let got = frames(&remote, request()).await;
    let error = got.last().unwrap().as_ref().unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Unavailable, "connection lost"));
    let remote = served(Arc::new(Faulty { inner: store(3), fault: StoreFault::NoMemory })).await;
    let error = frames(&remote, request()).await.pop().unwrap().unwrap_err();
    assert_eq!(error.kind(), Kind::Memory);
    assert!(error.to_string().contains("of the memory budget are in use"), "{error}");
    let remote = served(Arc::new(store(3))).await;
    let all_external =
        SeriesRequest::new(TimeRange::new(0, 5000), vec![Matcher::equal("region", "eu")]);
    let error = remote.series(all_external).await.err().unwrap();
    assert_eq!(error.kind(), Kind::Invalid);
}

#[tokio::test]
async fn info_crosses_the_wire() {
    let local = store(1);
    let expected = local.info.clone();
    let remote = served(Arc::new(local)).await;
    assert_eq!(remote.info().await.unwrap(), expected);
}

#[tokio::test]
async fn an_endpoint_without_store_api_tells_what_it_offers() {
    let rules = Capabilities { rules: true, ..Capabilities::default() };
    let remote = served_as(Arc::new(store(1)), rules.clone()).await;
    assert_eq!(remote.endpoint_info().await.unwrap().capabilities, rules);
    let error = remote.info().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("offers no StoreAPI"), "{error}");
}

#[tokio::test]
async fn a_peer_that_is_away_is_an_error_of_the_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let away = GrpcStore::new(&ClientSettings::new(&address)).unwrap();
    let error = away.info().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.to_string().contains("onnect"), "{error}");
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    assert_eq!(
        GrpcStore::new(&ClientSettings::new("no such\thost")).unwrap_err().kind(),
        Kind::Invalid
    );
    let tls = TlsSettings { cert: Some("a.pem".into()), ..TlsSettings::default() };
    let half = ClientSettings { tls: Some(tls), ..ClientSettings::new("localhost:1") };
    let error = in_one_line(&GrpcStore::new(&half).unwrap_err()).to_string();
    assert_eq!(
        error,
        "endpoint localhost:1: a client certificate needs both its certificate and its key"
    );
    let tls = TlsSettings { ca: Some("/proc/self/absent.pem".into()), ..TlsSettings::default() };
    let absent = ClientSettings { tls: Some(tls), ..ClientSettings::new("localhost:1") };
    let error = in_one_line(&GrpcStore::new(&absent).unwrap_err()).to_string();
    assert!(
        error.starts_with("endpoint localhost:1: read ca certificate /proc/self/absent.pem: "),
        "{error}"
    );
}

#[tokio::test]
async fn certificates_of_nobody_are_believed_only_when_told_so() {
    let tls = TlsSettings { skip_verify: true, ..TlsSettings::default() };
    let settings = ClientSettings { tls: Some(tls), ..ClientSettings::new("localhost:1") };
    assert!(GrpcStore::new(&settings).is_ok());
}
