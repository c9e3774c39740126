use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt;
use model::{Labels, Matcher, TimeRange};
use serve::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, tcp};

use super::*;
use crate::client::{ClientSettings, GrpcStore};
use crate::conformance::{Dataset, MemoryStore};
use crate::testing::process;
use crate::{Frame, Kind, SeriesRequest, Store};

const ALL: [Option<Compression>; 3] = [None, Some(Compression::Snappy), Some(Compression::Gzip)];

fn store() -> MemoryStore {
    let one = |i: usize| {
        let labels = Labels::from_pairs([
            ("__name__", "up"),
            ("pod", &format!("{i:04}")),
            ("image", &"registry.example/team/service".repeat(20)),
        ]);
        (labels, vec![(1000, i as f64)])
    };
    let external = Labels::from_pairs([("region", "eu")]);
    MemoryStore::new(&Dataset { external, series: (0..200).map(one).collect() })
}

/// Passes connections on and counts the bytes of answers.
async fn counting(server: &Server) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, to) = (listener.local_addr().unwrap(), server.grpc_addr().unwrap());
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        loop {
            let (near, _) = listener.accept().await.unwrap();
            let (near_read, near_write) = near.into_split();
            let (far_read, far_write) = TcpStream::connect(to).await.unwrap().into_split();
            tokio::spawn(pass_on(near_read, far_write, Arc::new(AtomicU64::new(0))));
            tokio::spawn(pass_on(far_read, near_write, Arc::clone(&counted)));
        }
    });
    (address.to_string(), count)
}

async fn pass_on(mut from: tcp::OwnedReadHalf, mut to: tcp::OwnedWriteHalf, count: Arc<AtomicU64>) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        count.fetch_add(read as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

fn request() -> SeriesRequest {
    let matchers = vec![Matcher::equal("__name__", "up")];
    SeriesRequest { batch_size: 50, ..SeriesRequest::new(TimeRange::new(0, 5000), matchers) }
}

async fn ask(store: &GrpcStore) -> crate::Result<Vec<String>> {
    let mut frames = store.series(request()).await?;
    let mut series = Vec::new();
    while let Some(frame) = frames.next().await {
        if let Frame::Series(some) = frame? {
            series.extend(some.iter().map(|one| format!("{one:?}")));
        }
    }
    Ok(series)
}

#[tokio::test]
async fn compressed_answers_are_the_same_and_shorter() {
    let server = process(Arc::new(store()), None, 0).await;
    let mut all = Vec::new();
    for compression in ALL {
        let (address, count) = counting(&server).await;
        let settings = ClientSettings { compression, ..ClientSettings::new(address) };
        let store = GrpcStore::new(&settings).unwrap();
        store.info().await.unwrap();
        all.push((ask(&store).await.unwrap(), count.load(Ordering::Relaxed)));
    }
    let [(plain, bytes), (snappy, snappy_bytes), (gzip, gzip_bytes)] = &all[..] else {
        panic!("{all:?}")
    };
    assert_eq!(plain.len(), 200);
    assert!(snappy == plain && gzip == plain);
    assert!(snappy_bytes < &(bytes / 4) && gzip_bytes < &(bytes / 4), "{bytes} {snappy_bytes}");
    server.stop().await;
}

#[tokio::test]
async fn errors_and_limits_are_those_of_plain_answers() {
    let server = process(Arc::new(store()), None, 0).await;
    let address = server.grpc_addr().unwrap().to_string();
    for compression in ALL {
        let plain = ClientSettings { compression, ..ClientSettings::new(&address) };
        let all_external =
            SeriesRequest::new(TimeRange::new(0, 5000), vec![Matcher::equal("region", "eu")]);
        let client = GrpcStore::new(&plain).unwrap();
        let error = client.series(all_external).await.err().unwrap();
        assert_eq!(error.kind(), Kind::Invalid, "{compression:?}");
        let small = ClientSettings { max_message_bytes: 10_000, ..plain };
        let error = ask(&GrpcStore::new(&small).unwrap()).await.unwrap_err();
        assert!(error.to_string().contains("10000"), "{compression:?}: {error}");
    }
    server.stop().await;
}
