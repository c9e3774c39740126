use model::{Labels, Matcher, TimeRange};
use storeapi::conformance::{MemoryStore, Options, run};

use super::*;

/// A store with a bug in every call.
struct Panicking;

#[async_trait]
impl Store for Panicking {
    async fn info(&self) -> Result<StoreInfo> {
        panic!("in info")
    }

    async fn series(&self, request: SeriesRequest) -> Result<FrameStream> {
        assert!(!request.matchers.is_empty(), "in series");
        let frames = stream::iter([Ok(Frame::Warning("first".to_owned()))]);
        let failing = stream::once(async { panic!("in a frame") });
        Ok(frames.chain(failing).boxed())
    }

    async fn label_names(&self, _: LabelNamesRequest) -> Result<Metadata> {
        panic!("{}", format!("in {}", "names"))
    }

    async fn label_values(&self, _: LabelValuesRequest) -> Result<Metadata> {
        panic!("in values")
    }
}

fn request(matchers: Vec<Matcher>) -> SeriesRequest {
    SeriesRequest::new(TimeRange::ALL, matchers)
}

#[tokio::test]
async fn a_panic_is_the_error_of_that_call() {
    let peer = LocalPeer(Arc::new(Panicking));
    let text = peer.endpoint_info().await.unwrap_err().to_string();
    assert!(text.contains("in info"), "{text}");
    let text = peer.series(request(Vec::new())).await.err().unwrap().to_string();
    assert!(text.contains("in series"), "{text}");
    let frames = peer.series(request(vec![Matcher::equal("a", "b")])).await.unwrap();
    let frames: Vec<_> = frames.collect().await;
    assert_eq!(frames.len(), 2, "nothing comes after the panic");
    assert_eq!(*frames[0].as_ref().unwrap(), Frame::Warning("first".to_owned()));
    assert!(frames[1].as_ref().unwrap_err().to_string().contains("in a frame"));
}

#[tokio::test]
async fn it_describes_its_store_and_has_no_connection() {
    let external = Labels::from_pairs([("cluster", "a")]);
    let peer = LocalPeer(Arc::new(MemoryStore::from_series(external.clone(), Vec::new())));
    let info = peer.endpoint_info().await.unwrap();
    assert_eq!(info.store.label_sets, [external]);
    assert_eq!(info.capabilities, Capabilities::STORE);
    assert!(peer.channel().is_err());
}

#[tokio::test]
async fn it_passes_the_suite_that_every_store_passes() {
    let options = Options { start: 0, refuses_external_matchers_only: true };
    run(options, |dataset| async move {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(&dataset));
        Arc::new(LocalPeer(store)) as Arc<dyn Store>
    })
    .await;
}
