//! Random blocks against a naive evaluation.

use std::collections::{BTreeMap, BTreeSet};

use merge::Series;
use model::{Labels, Matcher};
use proptest::prelude::*;
use storeapi::conformance::float_series;
use storeapi::{SeriesRequest, Shard};

use super::support::*;

/// Names on both sides of the external ones, and those themselves.
const NAMES: [&str; 7] = ["a", "cluster", "job", "m", "replica", "s", "z"];

#[derive(Clone, Debug)]
struct Case {
    /// Per block: which of the groups, and its series as values per name (0 = absent).
    blocks: Vec<(usize, BTreeSet<Vec<u8>>)>,
    remove: Vec<usize>,
    limit: u64,
    shard: Option<u64>,
    skip_chunks: bool,
}

fn cases() -> impl Strategy<Value = Case> {
    let series = prop::collection::vec(0u8..3, NAMES.len());
    let block = (0usize..3, prop::collection::btree_set(series, 1..25));
    (
        prop::collection::vec(block, 1..6),
        prop::sample::subsequence((0..NAMES.len()).collect::<Vec<_>>(), 0..3),
        prop_oneof![Just(0u64), 1u64..12],
        prop::option::of(0u64..3),
        any::<bool>(),
    )
        .prop_map(|(blocks, remove, limit, shard, skip_chunks)| Case {
            blocks,
            remove,
            limit,
            shard,
            skip_chunks,
        })
}

fn external(group: usize) -> Labels {
    let replica = group.to_string();
    match group {
        0 => labels(&[("cluster", "eu"), ("replica", "0")]),
        1 => labels(&[("cluster", "eu"), ("replica", replica.as_str())]),
        _ => labels(&[("m", "external")]),
    }
}

fn inner(values: &[u8]) -> Labels {
    let pairs = NAMES.iter().zip(values).filter(|(_, v)| **v > 0).map(|(n, v)| (*n, v.to_string()));
    Labels::from_pairs([("__name__", "up".to_owned())].into_iter().chain(pairs))
}

async fn check(case: Case) {
    let bucket = TestBucket::new();
    let remove: Vec<String> = case.remove.iter().map(|i| NAMES[*i].to_owned()).collect();
    let shard =
        case.shard.map(|index| Shard { index, total: 3, by: false, labels: vec!["s".into()] });
    let mut expected: BTreeMap<Labels, BTreeSet<i64>> = BTreeMap::new();
    for (n, (group, series)) in case.blocks.iter().enumerate() {
        let from = 2 * n as i64;
        let mut stored: Vec<Series> = Vec::new();
        for values in series {
            let (labels, t) = (inner(values), START + from * HOUR + i64::from(values[0]));
            stored.push(float_series(labels.clone(), &[(t, 1.0)]));
            let finally = labels.overlaid(&external(*group)).without(&remove);
            let wanted = labels.overlaid(&external(*group)).get("a").is_none_or(|v| v != b"2");
            if wanted && shard.as_ref().is_none_or(|s| s.holds(&finally)) {
                expected.entry(finally).or_default().insert(t);
            }
        }
        let make = Make {
            external: external(*group),
            ..Make::raw(n as u128 + 1, hours(from, from + 2), stored)
        };
        bucket.tsdb(&make).await;
    }
    let not_two = Matcher::new(model::MatchOp::NotEqual, "a", "2").unwrap();
    let request = SeriesRequest {
        matchers: vec![Matcher::equal("__name__", "up"), not_two],
        without_replica_labels: remove,
        limit: case.limit,
        shard,
        skip_chunks: case.skip_chunks,
        ..everything(hours(0, 20))
    };
    let answer = ask(&bucket.served().await, request).await;
    let got: Vec<(Labels, BTreeSet<i64>)> = answer
        .series
        .iter()
        .map(|s| (s.labels.clone(), raw_samples(s).into_iter().map(|(t, _)| t).collect()))
        .collect();
    let limit = if case.limit == 0 { usize::MAX } else { case.limit as usize };
    let strip = |times: BTreeSet<i64>| if case.skip_chunks { BTreeSet::new() } else { times };
    let expected: Vec<_> = expected.into_iter().take(limit).map(|(l, t)| (l, strip(t))).collect();
    assert_eq!(got, expected);
    assert_eq!(answer.warnings, [""; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    /// Small limits make small batches, so that series change places over the borders of batches.
    #[test]
    fn any_blocks_are_merged_as_a_naive_store_would(case in cases()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check(case));
    }
}
