use prometheus::Registry;
use proptest::prelude::*;

use super::*;
use crate::testing::{self, CountedReads};
use crate::{Bucket, Kind};

const OBJECT: &str = "block/index";

fn cache(capacity: u64) -> RangeCache {
    let most = RangeCacheBytes { index: capacity, data: capacity };
    RangeCache::new(most, RangeCacheMetrics::new(&Registry::new()).unwrap())
}

fn contents(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 3) as u8).collect()
}

/// A bucket with one object of this length, and the count of reads from it.
async fn bucket(len: usize, cache: &RangeCache) -> (Bucket, CountedReads) {
    let (bucket, reads) = testing::counted_bucket();
    bucket.put(&Path::from(OBJECT), contents(len).into()).await.unwrap();
    (bucket.caching(cache.clone()), reads)
}

fn expected(len: usize, range: &Range<u64>) -> Vec<u8> {
    let place = |at: u64| (at as usize).min(len);
    contents(len)[place(range.start)..place(range.end)].to_vec()
}

#[tokio::test]
async fn what_was_asked_for_once_costs_no_request_again() {
    let cache = cache(1 << 20);
    let (bucket, reads) = bucket(10_000, &cache).await;
    let path = Path::from(OBJECT);
    let ranges = [100..200, 250..300, 9_000..9_100, 9_990..20_000];
    for reads_after in [3, 3] {
        let parts = bucket.get_ranges_within(&path, &ranges, 100).await.unwrap();
        for (range, part) in ranges.iter().zip(parts) {
            assert_eq!(part, expected(10_000, range), "{range:?}");
        }
        assert_eq!(reads.count(), reads_after);
    }
    // what lay between was fetched too
    assert_eq!(bucket.get_range(&path, 150..260).await.unwrap(), expected(10_000, &(150..260)));
    assert_eq!(reads.count(), 3);
    assert_eq!(bucket.get_range(&path, 150..301).await.unwrap(), expected(10_000, &(150..301)));
    assert_eq!(reads.count(), 4);
}

#[tokio::test]
async fn those_who_ask_at_the_same_time_share_a_request() {
    let cache = cache(1 << 20);
    let (bucket, reads) = bucket(10_000, &cache).await;
    let path = Path::from(OBJECT);
    let ask = || bucket.get_range(&path, 5..50);
    let answers = futures::future::join_all([ask(), ask(), ask()]).await;
    assert!(answers.into_iter().all(|part| part.unwrap() == expected(10_000, &(5..50))));
    assert_eq!(reads.count(), 1);
}

#[tokio::test]
async fn it_keeps_no_more_than_its_capacity_and_knows_what_went() {
    let capacity = 64 << 10;
    let cache = cache(capacity);
    let (bucket, reads) = bucket(1 << 20, &cache).await;
    let path = Path::from(OBJECT);
    for start in (0..1 << 20).step_by(10_000) {
        bucket.get_range(&path, start..start + 9_000).await.unwrap();
        assert!(cache.bytes() <= capacity, "{}", cache.bytes());
    }
    let known = lock(&cache.known).0.get(&path).map_or(0, BTreeMap::len);
    assert!((1..=7).contains(&known), "{known}");
    let before = reads.count();
    // the last one is here, the first one is not
    bucket.get_range(&path, 1_040_000..1_049_000).await.unwrap();
    assert_eq!(reads.count(), before);
    bucket.get_range(&path, 0..9_000).await.unwrap();
    assert_eq!(reads.count(), before + 1);
    // larger than all of it
    assert_eq!(bucket.get_range(&path, 0..1 << 20).await.unwrap(), contents(1 << 20));
    assert!(cache.bytes() <= capacity, "{}", cache.bytes());
}

#[tokio::test]
async fn a_block_that_is_forgotten_is_read_anew() {
    let cache = cache(1 << 20);
    let (bucket, _) = bucket(100, &cache).await;
    let (path, beside) = (Path::from(OBJECT), Path::from("block2/index"));
    bucket.put(&beside, contents(50).into()).await.unwrap();
    for object in [&path, &beside] {
        bucket.get_range(object, 0..10).await.unwrap();
        bucket.put(object, vec![9; 100].into()).await.unwrap();
    }
    cache.forget_below(&Path::from("block")).await;
    assert_eq!(bucket.get_range(&path, 0..10).await.unwrap(), [9; 10].as_slice());
    assert_eq!(bucket.get_range(&beside, 0..10).await.unwrap(), contents(50)[..10]);
}

#[tokio::test]
async fn a_failure_is_not_kept() {
    let cache = cache(1 << 20);
    let (bucket, _) = bucket(100, &cache).await;
    let missing = Path::from("block/chunks/000001");
    let error = bucket.get_range(&missing, 0..10).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    bucket.put(&missing, contents(20).into()).await.unwrap();
    assert_eq!(bucket.get_range(&missing, 0..10).await.unwrap(), contents(20)[..10]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn answers_are_those_of_the_object(
        questions in proptest::collection::vec(
            proptest::collection::vec((0..3_000u64, 0..400u64), 1..8), 1..12),
        gap in 0..200u64,
        capacity in 0..8_000u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let cache = cache(capacity);
            let (bucket, _) = bucket(2_500, &cache).await;
            let path = Path::from(OBJECT);
            for question in questions {
                let ranges: Vec<Range<u64>> =
                    question.into_iter().map(|(start, len)| start..start + len).collect();
                let parts = bucket.get_ranges_within(&path, &ranges, gap).await.unwrap();
                for (range, part) in ranges.iter().zip(parts) {
                    assert_eq!(part, expected(2_500, range), "{range:?}");
                }
            }
        });
    }
}
