use axum::body::Bytes;
use merge::{ChunkBytes, ChunkContent, SeriesChunk};
use model::{Labels, Resolution, TimeRange};
use tsdb::chunk::{Aggregate, Encoding};

use super::*;

fn series(name: &str, min_time: i64) -> Series {
    let content = ChunkContent::Raw(ChunkBytes { encoding: Encoding::Xor, data: Bytes::new() });
    Series {
        labels: Labels::from_pairs([("__name__", name)]),
        chunks: vec![SeriesChunk::new(min_time, min_time + 1, content)],
    }
}

async fn collect(frames: Vec<storeapi::Result<Frame>>) -> Vec<Result<SourceEvent, engine::Error>> {
    whole_series(stream::iter(frames).boxed()).collect().await
}

#[tokio::test]
async fn a_series_over_several_frames_becomes_whole_and_sorted() {
    let events = collect(vec![
        Ok(Frame::Series(vec![series("a", 0), series("b", 20)])),
        Ok(Frame::Warning("w".to_owned())),
        Ok(Frame::Series(vec![series("b", 10)])),
        Ok(Frame::Series(vec![series("b", 0), series("c", 0)])),
        Ok(Frame::Info("i".to_owned())),
    ])
    .await;
    let mut found = Vec::new();
    let mut notes = Vec::new();
    for event in events {
        match event.unwrap() {
            SourceEvent::Series(batch) => found.extend(batch.into_iter().map(|s| {
                let name = String::from_utf8(s.labels.metric_name().unwrap().to_vec()).unwrap();
                (name, s.chunks.iter().map(|c| c.min_time).collect::<Vec<_>>())
            })),
            SourceEvent::Warning(text) | SourceEvent::Info(text) => notes.push(text),
        }
    }
    let expected = [("a", vec![0]), ("b", vec![0, 10, 20]), ("c", vec![0])];
    assert_eq!(found, expected.map(|(name, times)| (name.to_owned(), times)));
    assert_eq!(notes, ["w", "i"]);
}

#[tokio::test]
async fn only_data_that_the_user_does_not_allow_is_news() {
    let infos = ["served 5m data for a to b", "served 1h data for a to b", "other"];
    for (allowed_ms, left) in [(0, &infos[..]), (300_000, &infos[1..]), (3_600_000, &infos[2..])] {
        let frames = infos.map(|info| Ok(Frame::Info(info.to_owned())));
        let frames = without_expected(stream::iter(frames).boxed(), allowed_ms);
        let texts: Vec<String> = frames
            .map(|frame| match frame.unwrap() {
                Frame::Info(text) => text,
                other => panic!("{other:?}"),
            })
            .collect()
            .await;
        assert_eq!(texts, left, "{allowed_ms}");
    }
}

#[tokio::test]
async fn an_error_ends_the_stream_and_keeps_its_kind() {
    let error = storeapi::Error::new(Kind::Limit, "too much");
    let events = collect(vec![
        Ok(Frame::Series(vec![series("a", 0)])),
        Err(error),
        Ok(Frame::Series(vec![])),
    ])
    .await;
    assert_eq!(events.len(), 1);
    let error = events[0].as_ref().unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (engine::Kind::Execution, "too much".to_owned()));
}

#[test]
fn requests_carry_what_the_query_said() {
    let store: Arc<dyn Store> =
        Arc::new(storeapi::conformance::MemoryStore::from_series(Labels::empty(), Vec::new()));
    let reading = ReadOptions {
        replica_labels: vec!["replica".to_owned()],
        partial_response: PartialResponse::Abort,
        shard: None,
        allowed_resolution_ms: 0,
    };
    let select = Select {
        matchers: Vec::new(),
        range: TimeRange::new(0, 10),
        max_resolution_ms: 300_000,
        aggregates: vec![Aggregate::Counter],
        times_from_ms: 360_000,
        memory: model::Budget::unlimited(),
    };
    let memory = select.memory.clone();
    let request = StoreSource::new(store, reading, None).request(select);
    let held = request.memory.as_ref().unwrap().reserve("an answer").grow(10);
    assert!(held.is_ok() && memory.peak() == 10, "the share of the query is charged");
    assert_eq!(request.aggregates, [AggregateKind::Of(Aggregate::Counter)]);
    assert_eq!(request.without_replica_labels, ["replica"]);
    assert_eq!(
        (request.partial_response, request.max_resolution_ms),
        (PartialResponse::Abort, 300_000)
    );
    assert!(request.newer_encodings && request.coarser_fallback && !request.skip_chunks);
    let [five_minutes, hour] = [Resolution::FiveMinutes, Resolution::OneHour];
    assert!(request.wants_times_of(hour) && !request.wants_times_of(five_minutes));
}
