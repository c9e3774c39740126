//! Several equivalent servers behind one name: any of them may answer.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use storeapi::client::Channel;
use storeapi::info::EndpointInfo;
use storeapi::{
    FrameStream, Kind, LabelNamesRequest, LabelValuesRequest, Metadata, Result, SeriesRequest,
    Store, StoreInfo,
};

use super::Peer;

/// Asks its servers in turn, and the next one in place of one that is not there.
pub(crate) struct EndpointGroup {
    /// At least one.
    servers: Vec<Arc<dyn Peer>>,
    turn: AtomicUsize,
}

impl EndpointGroup {
    /// One peer that stands for all; `None` without servers.
    pub(crate) fn of(servers: Vec<Arc<dyn Peer>>) -> Option<Arc<dyn Peer>> {
        match servers.len() {
            0 | 1 => servers.into_iter().next(),
            _ => Some(Arc::new(EndpointGroup { servers, turn: AtomicUsize::new(0) })),
        }
    }

    fn next(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed) % self.servers.len()
    }

    async fn any<T, Answer>(&self, ask: impl Fn(Arc<dyn Peer>) -> Answer) -> Result<T>
    where
        Answer: Future<Output = Result<T>>,
    {
        let (first, count) = (self.next(), self.servers.len());
        let mut answer = ask(Arc::clone(&self.servers[first])).await;
        for offset in 1..count {
            match &answer {
                Err(error) if error.kind() == Kind::Unavailable => {
                    answer = ask(Arc::clone(&self.servers[(first + offset) % count])).await;
                }
                _ => break,
            }
        }
        answer
    }
}

#[async_trait]
impl Store for EndpointGroup {
    async fn info(&self) -> Result<StoreInfo> {
        self.any(|server| async move { server.info().await }).await
    }

    async fn series(&self, request: SeriesRequest) -> Result<FrameStream> {
        let ask = |server: Arc<dyn Peer>| {
            let request = request.clone();
            async move { server.series(request).await }
        };
        self.any(ask).await
    }

    async fn label_names(&self, request: LabelNamesRequest) -> Result<Metadata> {
        let ask = |server: Arc<dyn Peer>| {
            let request = request.clone();
            async move { server.label_names(request).await }
        };
        self.any(ask).await
    }

    async fn label_values(&self, request: LabelValuesRequest) -> Result<Metadata> {
        let ask = |server: Arc<dyn Peer>| {
            let request = request.clone();
            async move { server.label_values(request).await }
        };
        self.any(ask).await
    }
}

#[async_trait]
impl Peer for EndpointGroup {
    async fn endpoint_info(&self) -> Result<EndpointInfo> {
        self.any(|server| async move { server.endpoint_info().await }).await
    }

    fn channel(&self) -> Result<Channel> {
        self.servers[self.next()].channel()
    }
}

#[cfg(test)]
mod tests {
    use model::Labels;
    use storeapi::Error;
    use storeapi::conformance::MemoryStore;

    use super::*;
    use crate::endpoints::testing::unconnected;

    /// A server that cannot be asked, for the reason given.
    struct Failing(Kind);

    impl Failing {
        fn error(&self) -> Error {
            Error::new(self.0, "no answer")
        }
    }

    #[async_trait]
    impl Store for Failing {
        async fn info(&self) -> Result<StoreInfo> {
            Err(self.error())
        }

        async fn series(&self, _: SeriesRequest) -> Result<FrameStream> {
            Err(self.error())
        }

        async fn label_names(&self, _: LabelNamesRequest) -> Result<Metadata> {
            Err(self.error())
        }

        async fn label_values(&self, _: LabelValuesRequest) -> Result<Metadata> {
            Err(self.error())
        }
    }

    #[async_trait]
    impl Peer for Failing {
        async fn endpoint_info(&self) -> Result<EndpointInfo> {
            Err(self.error())
        }

        fn channel(&self) -> Result<Channel> {
            Ok(unconnected())
        }
    }

    fn store(cluster: &str) -> Arc<dyn Peer> {
        let external = Labels::from_pairs([("cluster", cluster)]);
        Arc::new(MemoryStore::from_series(external, Vec::new()))
    }

    async fn clusters(group: &Arc<dyn Peer>, times: usize) -> Vec<String> {
        let mut found = Vec::new();
        for _ in 0..times {
            let info = group.endpoint_info().await.unwrap();
            found.push(info.store.label_sets[0].to_string());
        }
        found
    }

    #[tokio::test]
    async fn servers_take_turns_and_stand_in_for_those_that_are_gone() {
        let group = EndpointGroup::of(vec![store("a"), store("b")]).unwrap();
        let [a, b] = [r#"{cluster="a"}"#, r#"{cluster="b"}"#];
        assert_eq!(clusters(&group, 3).await, [a, b, a]);
        let gone: Arc<dyn Peer> = Arc::new(Failing(Kind::Unavailable));
        let group = EndpointGroup::of(vec![store("a"), gone.clone(), gone.clone()]).unwrap();
        assert_eq!(clusters(&group, 4).await, [a, a, a, a]);
        let group = EndpointGroup::of(vec![gone.clone(), gone]).unwrap();
        assert_eq!(group.endpoint_info().await.unwrap_err().kind(), Kind::Unavailable);
    }

    #[tokio::test]
    async fn what_one_server_refuses_the_others_are_not_asked() {
        let refusing: Arc<dyn Peer> = Arc::new(Failing(Kind::Invalid));
        let group = EndpointGroup::of(vec![refusing, store("a")]).unwrap();
        assert_eq!(group.endpoint_info().await.unwrap_err().kind(), Kind::Invalid);
    }
}
