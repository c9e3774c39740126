use std::sync::Arc;

use proptest::prelude::*;
use tsdb::meta::{BlockDesc, BlockMeta, BlockStats, Compaction, Rewrite, Thanos};

use super::*;
use crate::Kind;
use crate::sync::UnseenBlock;

const NOW: TimestampMs = TimestampMs(1_769_904_000_000);

/// A block in few words; ids, sources and parents are small numbers.
#[derive(Clone, Debug, Default)]
struct Make {
    id: u64,
    sources: Vec<u64>,
    parents: Vec<u64>,
    rewrites: usize,
    level: u32,
    marked: bool,
    labels: &'static str,
    /// Empty for a TSDB block.
    format: &'static str,
    span: (i64, i64),
    samples: u64,
}

fn id(n: u64) -> BlockId {
    BlockId::from_parts(1_769_000_000_000 + n, u128::from(n))
}

fn block(make: &Make) -> SyncedBlock {
    let parent = |n: &u64| BlockDesc { ulid: id(*n), min_time: 0, max_time: 1 };
    let compaction = Compaction {
        level: make.level,
        sources: make.sources.iter().copied().map(id).collect(),
        parents: make.parents.iter().map(parent).collect(),
        ..Compaction::default()
    };
    let rewrites = vec![Rewrite::default(); make.rewrites];
    let labels = [("a".to_owned(), make.labels.to_owned())].into();
    let meta = BlockMeta {
        ulid: id(make.id),
        min_time: make.span.0,
        max_time: make.span.1,
        stats: BlockStats { num_samples: make.samples, ..BlockStats::default() },
        compaction,
        version: 1,
        thanos: Some(Thanos { labels, rewrites, ..Thanos::default() }),
        format: (!make.format.is_empty()).then(|| make.format.to_owned()),
        unknown: Default::default(),
    };
    let mark = || DeletionMark::new(id(make.id), NOW, "test");
    SyncedBlock {
        location: BlockLocation::tsdb(meta.ulid),
        labels: meta.external_labels(),
        meta: Arc::new(meta),
        deletion_mark: make.marked.then(mark),
        no_compact_mark: None,
        no_downsample_mark: None,
        tombstones: None,
        bytes: 0,
    }
}

/// The numbers of the blocks that are kept by those who find out whether claims are true.
fn kept(makes: &[Make]) -> Vec<u64> {
    kept_by(&Deduplicate, makes)
}

/// The numbers of the blocks that are served.
fn shown(makes: &[Make]) -> Vec<u64> {
    kept_by(&HideCovered, makes)
}

fn kept_by(filter: &dyn Filter, makes: &[Make]) -> Vec<u64> {
    let mut synced = Synced { blocks: makes.iter().map(block).collect(), ..Synced::default() };
    filter.apply(&mut synced, NOW);
    assert_eq!(synced.blocks.len() + synced.duplicates.len(), makes.len());
    assert_eq!(synced.states[state::DUPLICATE], synced.duplicates.len() as u64);
    let mut kept: Vec<u64> = synced.blocks.iter().map(number).collect();
    kept.sort_unstable();
    kept
}

fn number(block: &SyncedBlock) -> u64 {
    block.id().time_ms() - 1_769_000_000_000
}

fn of(id: u64, sources: &[u64]) -> Make {
    Make { id, sources: sources.to_vec(), level: 1, ..Make::default() }
}

fn marked(make: Make) -> Make {
    Make { marked: true, ..make }
}

#[test]
fn a_marked_block_covers_nothing() {
    assert_eq!(kept(&[of(1, &[1]), of(2, &[2]), marked(of(3, &[1, 2]))]), [1, 2, 3]);
    assert_eq!(
        kept(&[marked(of(1, &[1])), of(2, &[2]), of(3, &[1, 2])]),
        [3],
        "but it is covered as any other"
    );
    assert_eq!(
        kept(&[marked(of(1, &[1])), marked(of(2, &[1]))]),
        [1, 2],
        "not even what is marked too"
    );
    assert_eq!(kept(&[of(1, &[1]), marked(of(2, &[1, 2])), of(3, &[1, 2, 3])]), [3]);
    assert_eq!(kept(&[of(1, &[1]), marked(of(2, &[1, 2, 3])), of(3, &[1, 2])]), [2, 3]);
}

#[test]
fn of_equals_the_one_in_the_older_version_of_its_format_is_kept() {
    let in_format = |id, sources: &[u64], format| Make { format, ..of(id, sources) };
    let (one, two, ten) = ("parquet/1", "parquet/2", "parquet/10");
    assert_eq!(kept(&[in_format(1, &[1], two), in_format(2, &[1], one)]), [2]);
    assert_eq!(kept(&[in_format(1, &[1], ten), in_format(2, &[1], two)]), [2], "by number");
    assert_eq!(kept(&[in_format(1, &[1], "parquet"), in_format(2, &[1], ten)]), [2]);
    assert_eq!(kept(&[in_format(1, &[1], one), in_format(2, &[1], one)]), [1]);
    let rewritten = Make { level: 9, rewrites: 3, ..in_format(1, &[1], two) };
    assert_eq!(kept(&[rewritten, in_format(2, &[1], one)]), [2], "whatever else they say");
    assert_eq!(kept(&[in_format(1, &[1], one), in_format(2, &[1, 2], two)]), [2], "with more data");
    assert_eq!(kept(&[marked(in_format(1, &[1], one)), in_format(2, &[1], two)]), [2]);
}

#[test]
fn blocks_without_sources_are_their_own() {
    assert_eq!(
        kept(&[of(1, &[]), of(2, &[]), of(3, &[2, 4])]),
        [1, 3],
        "the second went into the third"
    );
    assert_eq!(kept(&[of(1, &[]), of(2, &[]), of(3, &[4])]), [1, 2, 3]);
}

/// The input has the smaller id and lost what the output deleted on purpose.
#[test]
fn of_equals_the_one_that_was_made_of_the_other_is_kept() {
    let rewritten = |id: u64, parent: u64| Make { parents: vec![parent], level: 2, ..of(id, &[1]) };
    assert_eq!(kept(&[of(1, &[1]), rewritten(2, 1)]), [2]);
    assert_eq!(kept(&[of(2, &[1]), rewritten(1, 2)]), [1], "whichever id is smaller");
    assert_eq!(
        kept(&[marked(of(1, &[1])), rewritten(2, 1)]),
        [2],
        "the input is marked, as it goes"
    );
    assert_eq!(
        kept(&[of(1, &[1]), marked(rewritten(2, 1))]),
        [1],
        "the output is marked: it is no cover"
    );
    assert_eq!(kept(&[of(1, &[1]), rewritten(2, 1), rewritten(3, 2)]), [3]);
    let way = [of(1, &[1]), marked(rewritten(2, 1)), rewritten(3, 2)];
    assert_eq!(kept(&way), [3], "by way of a marked one too");
    let low = Make { level: 1, ..rewritten(3, 2) };
    assert_eq!(kept(&[Make { level: 5, ..of(1, &[1]) }, marked(rewritten(2, 1)), low]), [3]);
}

#[test]
fn then_rewrites_then_level_then_the_smaller_id() {
    let base = of(1, &[1, 2]);
    assert_eq!(
        kept(&[
            base.clone(),
            Make { rewrites: 1, ..of(2, &[2, 1]) },
            Make { level: 9, ..of(3, &[1, 2]) }
        ]),
        [2]
    );
    assert_eq!(kept(&[base.clone(), Make { level: 2, ..of(2, &[1, 2]) }]), [2]);
    assert_eq!(kept(&[of(7, &[1, 2]), base, of(4, &[1, 2, 2])]), [1]);
    // metas may say anything
    let cycle = |id: u64, parent: u64| Make { parents: vec![parent, id], ..of(id, &[1]) };
    assert_eq!(kept(&[cycle(1, 2), cycle(2, 1)]), [1]);
    let made_of_itself = [of(1, &[4]), Make { level: 2, ..cycle(6, 7) }, marked(cycle(7, 6))];
    let same_sources = made_of_itself.map(|make| Make { sources: vec![4], ..make });
    assert_eq!(kept(&same_sources), [6], "that is no reason to leave it out");
}

/// A block of some hours with so many samples.
fn holding(make: Make, span: (i64, i64), samples: u64) -> Make {
    Make { span, samples, ..make }
}

#[test]
fn a_block_that_cannot_hold_what_it_claims_hides_nothing() {
    let real = [holding(of(1, &[1]), (0, 2), 90), holding(of(2, &[2]), (2, 4), 50)];
    let shown_beside = |span, samples| {
        let claiming = holding(of(3, &[1, 2]), span, samples);
        let all = [&real[..], &[claiming]].concat();
        assert_eq!(kept(&all), [3]);
        shown(&all)
    };
    assert_eq!(shown_beside((0, 4), 140), [3]);
    assert_eq!(shown_beside((-1, 5), 7), [3], "what it lacks may be deleted");
    assert_eq!(shown_beside((0, 3), 140), [2, 3]);
    assert_eq!(shown_beside((1, 3), 140), [1, 2, 3]);
    assert_eq!(shown_beside((0, 4), 0), [1, 2, 3]);
}

#[test]
fn a_false_claim_does_not_keep_a_true_one_from_counting() {
    let real = holding(of(1, &[1]), (0, 2), 90);
    let (merged, empty) =
        (holding(of(2, &[1, 2]), (0, 4), 100), holding(of(3, &[1, 2]), (0, 4), 0));
    let larger = holding(of(4, &[1, 2, 3]), (1, 9), 900);
    assert_eq!(shown(&[real.clone(), merged.clone(), larger.clone()]), [2, 4]);
    let better = Make { rewrites: 1, ..empty };
    assert_eq!(shown(&[real.clone(), merged.clone(), better.clone()]), [2, 3]);
    assert_eq!(shown(&[real, marked(merged), better, larger]), [1, 2, 3, 4]);
}

#[test]
fn a_block_with_an_unread_mark_is_kept_and_covers_nothing() {
    let unseen = |make: &Make| {
        let block = block(make);
        let error = crate::Error::new(Kind::Unavailable, "503");
        UnseenBlock { location: block.location.clone(), error, known: Some(block) }
    };
    let nothing = UnseenBlock { known: None, ..unseen(&of(9, &[9])) };
    let blocks = vec![block(&of(1, &[1]))];
    let mut synced =
        Synced { blocks, unseen: vec![unseen(&of(2, &[1, 2])), nothing], ..Synced::default() };
    UnreadMarks.apply(&mut synced, NOW);
    Deduplicate.apply(&mut synced, NOW);
    assert_eq!(synced.blocks.iter().map(number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(synced.unseen.iter().map(|u| u.location.id()).collect::<Vec<_>>(), [id(9)]);
}

fn sources_of(make: &Make) -> BTreeSet<u64> {
    if make.sources.is_empty() { [make.id].into() } else { make.sources.iter().copied().collect() }
}

/// Whether `other` may hold `one`, as their metas say.
fn may_hold(other: &Make, one: &Make) -> bool {
    let spans = other.span.0 <= one.span.0 && one.span.1 <= other.span.1;
    spans && (other.samples > 0 || one.samples == 0)
}

/// Whether `other` stands for `one`, by the rule as documented.
fn covers(other: &Make, one: &Make, all: &[Make]) -> bool {
    let (theirs, ours) = (sources_of(other), sources_of(one));
    if other.id == one.id || other.marked || other.labels != one.labels || !ours.is_subset(&theirs)
    {
        return false;
    }
    if theirs != ours || one.marked {
        return true;
    }
    let equals: Vec<&Make> =
        all.iter().filter(|m| m.labels == one.labels && sources_of(m) == ours).collect();
    let rank = |m: &Make| {
        let replaced =
            equals.iter().any(|e| !e.marked && e.id != m.id && made_of(e, m.id, &equals, 20));
        (replaced, m.format, std::cmp::Reverse((m.rewrites, m.level)), m.id)
    };
    rank(other) < rank(one)
}

fn made_of(make: &Make, ancestor: u64, equals: &[&Make], depth: usize) -> bool {
    depth > 0
        && make.parents.iter().filter(|p| **p != make.id).any(|parent| {
            let next = equals.iter().find(|e| e.id == *parent);
            next.is_some_and(|next| {
                next.id == ancestor || made_of(next, ancestor, equals, depth - 1)
            })
        })
}

fn any_block() -> impl Strategy<Value = Make> {
    let few = || prop::collection::vec(1..6u64, 0..4);
    let parents = prop::collection::vec(1..12u64, 0..2);
    (
        few(),
        parents,
        0..2usize,
        1..3u32,
        prop::bool::weighted(0.3),
        prop::sample::select(vec!["x", "y"]),
        prop::sample::select(vec!["", "parquet/1", "parquet/2"]),
        (0..2i64, 2..4i64, 0..2u64),
    )
        .prop_map(|(sources, parents, rewrites, level, marked, labels, format, holds)| Make {
            id: 0,
            sources,
            parents,
            rewrites,
            level,
            marked,
            labels,
            format,
            span: (holds.0, holds.1),
            samples: holds.2,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_source_of_an_unmarked_block_is_lost(makes in prop::collection::vec(any_block(), 0..12), turn in 0..12usize) {
        let mut makes = makes;
        for (make, id) in makes.iter_mut().zip(1..) {
            make.id = id;
        }
        let (kept, shown) = (kept(&makes), shown(&makes));
        let is_kept = |m: &&Make| kept.contains(&m.id);
        for make in makes.iter().filter(|m| !m.marked) {
            for source in sources_of(make) {
                let holder = |m: &&Make| !m.marked && m.labels == make.labels && sources_of(m).contains(&source);
                prop_assert!(makes.iter().filter(is_kept).any(|m| holder(&m)), "{source} of {make:?}");
            }
        }
        for make in &makes {
            let covered = makes.iter().any(|other| covers(other, make, &makes));
            prop_assert_eq!(!covered, kept.contains(&make.id), "{:?}", make);
            let hidden = makes.iter().any(|other| may_hold(other, make) && covers(other, make, &makes));
            prop_assert_eq!(!hidden, shown.contains(&make.id), "{:?}", make);
        }
        // the order in which blocks are found does not matter
        if !makes.is_empty() {
            let at = turn % makes.len();
            makes.rotate_left(at);
            makes.reverse();
            prop_assert_eq!(super::tests::kept(&makes), kept);
            prop_assert_eq!(super::tests::shown(&makes), shown);
        }
    }
}
