//! The shapes of buckets, and what must be alive after a compactor.
//!
//! A line is a block that is alive: external labels, hours since 2026-10-22, level and number of
//! sources, samples.

use std::path::Path;

use super::case;
use super::made::{Content, Made, age, mark_deleted, mark_no_compact, stream};
use crate::harness::{block_ids, copy_folder};

/// A bucket before any compactor, and what must be alive after two runs.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) fill: fn(&Path),
    /// The arguments of both compactors, besides those of each.
    pub(super) args: &'static [&'static str],
    pub(super) our_args: &'static [&'static str],
    pub(super) their_args: &'static [&'static str],
    pub(super) ours: &'static [&'static str],
    pub(super) theirs: Theirs,
}

/// What is alive after Thanos' compactor.
#[derive(Debug)]
pub(super) enum Theirs {
    Same,
    /// Something else, and ours is right.
    Differs {
        leaves: &'static [&'static str],
        why: &'static str,
    },
    NeverEnds {
        why: &'static str,
    },
}

/// Downsampling is covered by other tests: raw blocks only, unless a shape is about it.
const RAW: &[&str] = &["--downsampling.disable"];
const VERTICAL: &[&str] = &["--downsampling.disable", "--compact.enable-vertical-compaction"];

const PLAIN: Shape = Shape {
    name: "",
    fill: |_| {},
    args: RAW,
    our_args: &[],
    their_args: &[],
    ours: &[],
    theirs: Theirs::Same,
};

fn copy(name: &str, bucket: &Path) {
    copy_folder(&case(name), bucket);
}

/// Copies a case, the marks of its blocks set as if some hours ago.
fn copy_marked(name: &str, bucket: &Path, hours_ago: i64) {
    copy(name, bucket);
    for id in block_ids(bucket) {
        if bucket.join(&id).join("deletion-mark.json").exists() {
            mark_deleted(bucket, id.parse().expect("a block id"), hours_ago);
        }
    }
}

pub(super) const SHAPES: &[Shape] = &[
    Shape {
        name: "a block rewritten for its tombstones",
        fill: |bucket| copy("1-tombstone-rewrite", bucket),
        theirs: Theirs::NeverEnds {
            why: "we: theirs marks both the block and what it made from it, and makes that again \
                for ever",
        },
        ours: &[
            "cluster=a 0h-8h level 2 of 1: 384",
            "cluster=a 48h-56h level 3 of 1: 384",
            "cluster=a 96h-104h level 2 of 1: 384",
            "cluster=a 144h-152h level 2 of 1: 384",
        ],
        ..PLAIN
    },
    Shape {
        name: "chunks of one series out of order",
        fill: |bucket| copy("2-ooo-chunks", bucket),
        ours: &[
            "cluster=a 0h-8h level 2 of 4: 408",
            "cluster=a 8h-10h level 1 of 1: 96",
            "cluster=a 10h-12h level 1 of 1: 96",
        ],
        theirs: Theirs::Differs {
            leaves: &[
                "cluster=a 0h-2h level 1 of 1: 96",
                "cluster=a 2h-4h level 1 of 1: 96",
                "cluster=a 4h-6h level 1 of 1: 120",
                "cluster=a 6h-8h level 1 of 1: 96",
                "cluster=a 8h-10h level 1 of 1: 96",
                "cluster=a 10h-12h level 1 of 1: 96",
                "ends with an error",
            ],
            why: "we: sorted, the chunks are whole; theirs stops at the block until told to skip \
                it",
        },
        ..PLAIN
    },
    Shape {
        name: "a merge under a mark, its sources not",
        fill: |bucket| copy_marked("3-redo-compaction", bucket, 30),
        ours: &[
            "cluster=a 0h-8h level 2 of 4: 384",
            "cluster=a 8h-10h level 1 of 1: 96",
            "cluster=a 10h-12h level 1 of 1: 96",
        ],
        ..PLAIN
    },
    Shape {
        name: "a cover under a mark of 1 h",
        fill: |bucket| copy_marked("4-marked-cover", bucket, 1),
        ours: &[
            "cluster=a 0h-8h level 2 of 4: 384",
            "cluster=a 24h-26h level 1 of 1: 96",
            "cluster=a 26h-28h level 1 of 1: 96",
            "cluster=a 28h-30h level 1 of 1: 96",
        ],
        theirs: Theirs::Differs {
            leaves: &[
                "cluster=a 24h-26h level 1 of 1: 96",
                "cluster=a 26h-28h level 1 of 1: 96",
                "cluster=a 28h-30h level 1 of 1: 96",
            ],
            why: "we: what is deleted soon covers nothing; theirs takes the sources for its \
                duplicates, and all of 0 h to 8 h is lost",
        },
        ..PLAIN
    },
    Shape {
        name: "a cover under a mark of 30 h",
        fill: |bucket| copy_marked("4-marked-cover", bucket, 30),
        ours: &[
            "cluster=a 0h-8h level 2 of 4: 384",
            "cluster=a 24h-26h level 1 of 1: 96",
            "cluster=a 26h-28h level 1 of 1: 96",
            "cluster=a 28h-30h level 1 of 1: 96",
        ],
        ..PLAIN
    },
    Shape {
        name: "`sources: null`",
        fill: |bucket| copy("5-null-sources", bucket),
        ours: &[
            "cluster=a 0h-8h level 2 of 4: 408",
            "cluster=a 8h-10h level 1 of 1: 96",
            "cluster=a 10h-12h level 1 of 1: 96",
            "cluster=a 12h-14h level 1 of 1: 96",
            "cluster=a 14h-16h level 1 of 1: 96",
        ],
        theirs: Theirs::Differs {
            leaves: &[
                "cluster=a 0h-8h level 2 of 3: 288",
                "cluster=a 8h-10h level 1 of 1: 96",
                "cluster=a 10h-12h level 1 of 1: 96",
                "cluster=a 12h-14h level 1 of 1: 96",
                "cluster=a 14h-16h level 1 of 1: 96",
            ],
            why: "we: such a block is its own source; theirs takes it for a duplicate of any \
                other, and its 120 samples are lost",
        },
        ..PLAIN
    },
    Shape {
        name: "a list of all series that is short",
        fill: |bucket| copy("6-short-all-postings", bucket),
        ours: &[
            "cluster=a 0h-4h level 2 of 2: 192",
            "cluster=a 4h-6h level 1 of 1: 96",
            "cluster=a 6h-8h level 1 of 1: 96",
            "cluster=a 8h-10h level 1 of 1: 96",
            "cluster=a 10h-12h level 1 of 1: 96",
        ],
        theirs: Theirs::Differs {
            leaves: &[
                "cluster=a 0h-8h level 2 of 4: 288",
                "cluster=a 8h-10h level 1 of 1: 96",
                "cluster=a 10h-12h level 1 of 1: 96",
            ],
            why: "we: what was read is compared with `meta.json`, and the block is left alone; \
                theirs loses its 96 samples and reports success",
        },
        ..PLAIN
    },
    Shape {
        name: "`tombstones` files",
        fill: |bucket| copy("7-tombstones-file", bucket),
        ours: &["cluster=a 0h-48h level 3 of 6: 2159", "cluster=a 48h-56h level 2 of 1: 384"],
        ..PLAIN
    },
    Shape {
        name: "a mark without a block",
        fill: |bucket| {
            copy_marked("8-partial-with-mark", bucket, 100);
            age(bucket, "01M5GNE5V062J47AD0T5K545GC", 100);
        },
        ours: &["cluster=a 2h-4h level 1 of 1: 96", "cluster=a 4h-6h level 1 of 1: 96"],
        ..PLAIN
    },
    Shape {
        name: "series unsorted",
        fill: |bucket| copy("9-series-unsorted", bucket),
        ours: &[
            "cluster=a 0h-8h level 2 of 4: 648",
            "cluster=a 8h-10h level 1 of 1: 96",
            "cluster=a 10h-12h level 1 of 1: 96",
            "cluster=a 12h-14h level 1 of 1: 96",
            "cluster=a 14h-16h level 1 of 1: 96",
        ],
        theirs: Theirs::Differs {
            leaves: &[
                "cluster=a 0h-2h level 1 of 1: 96",
                "cluster=a 2h-4h level 1 of 1: 96",
                "cluster=a 4h-6h level 1 of 1: 360",
                "cluster=a 6h-8h level 1 of 1: 96",
                "cluster=a 8h-10h level 1 of 1: 96",
                "cluster=a 10h-12h level 1 of 1: 96",
                "cluster=a 12h-14h level 1 of 1: 96",
                "cluster=a 14h-16h level 1 of 1: 96",
                "ends with an error",
            ],
            why: "we: sorted, they are whole; theirs fails at the block in every run",
        },
        ..PLAIN
    },
    Shape {
        name: "`meta.json` states too few samples",
        fill: |bucket| copy("10-stats-too-small", bucket),
        ours: &[
            "cluster=a 0h-4h level 2 of 2: 192",
            "cluster=a 4h-6h level 1 of 1: 120",
            "cluster=a 6h-8h level 1 of 1: 96",
            "cluster=a 8h-10h level 1 of 1: 96",
            "cluster=a 10h-12h level 1 of 1: 96",
            "cluster=a 12h-14h level 1 of 1: 96",
            "cluster=a 14h-16h level 1 of 1: 96",
        ],
        theirs: Theirs::Differs {
            leaves: &[
                "cluster=a 0h-8h level 2 of 4: 408",
                "cluster=a 8h-10h level 1 of 1: 96",
                "cluster=a 10h-12h level 1 of 1: 96",
                "cluster=a 12h-14h level 1 of 1: 96",
                "cluster=a 14h-16h level 1 of 1: 96",
            ],
            why: "both keep every sample; we leave a block alone whose `meta.json` and data \
                disagree, theirs looks at neither",
        },
        ..PLAIN
    },
    Shape {
        name: "labels unsorted",
        fill: |bucket| copy("11-labels-unsorted", bucket),
        ours: &[
            "cluster=a 0h-8h level 2 of 4: 528",
            "cluster=a 8h-10h level 1 of 1: 96",
            "cluster=a 10h-12h level 1 of 1: 96",
            "cluster=a 12h-14h level 1 of 1: 96",
            "cluster=a 14h-16h level 1 of 1: 96",
        ],
        theirs: Theirs::Differs {
            leaves: &[
                "cluster=a 0h-2h level 1 of 1: 96",
                "cluster=a 2h-4h level 1 of 1: 96",
                "cluster=a 4h-6h level 1 of 1: 240",
                "cluster=a 6h-8h level 1 of 1: 96",
                "cluster=a 8h-10h level 1 of 1: 96",
                "cluster=a 10h-12h level 1 of 1: 96",
                "cluster=a 12h-14h level 1 of 1: 96",
                "cluster=a 14h-16h level 1 of 1: 96",
                "ends with an error",
            ],
            why: "we: sorted, the labels are those of a series like any other; theirs fails at the \
                block in every run",
        },
        ..PLAIN
    },
    Shape {
        name: "a label name twice",
        fill: |bucket| copy("12-label-name-twice", bucket),
        ours: &[
            "cluster=a 0h-8h level 2 of 4: 528",
            "cluster=a 8h-10h level 1 of 1: 96",
            "cluster=a 10h-12h level 1 of 1: 96",
            "cluster=a 12h-14h level 1 of 1: 96",
            "cluster=a 14h-16h level 1 of 1: 96",
        ],
        ..PLAIN
    },
    Shape {
        name: "index size misstated",
        fill: |bucket| copy("13-wrong-index-size", bucket),
        ours: &[
            "cluster=a 0h-8h level 2 of 4: 408",
            "cluster=a 8h-10h level 1 of 1: 96",
            "cluster=a 10h-12h level 1 of 1: 96",
            "cluster=a 12h-14h level 1 of 1: 96",
            "cluster=a 14h-16h level 1 of 1: 96",
        ],
        ..PLAIN
    },
    Shape {
        name: "an ended stream past its retention",
        fill: |bucket| copy("14-retention-ended-stream", bucket),
        args: &["--retention.resolution-raw=3d"],
        our_args: &["--downsample.format=thanos"],
        ours: &[],
        ..PLAIN
    },
    Shape {
        name: "three days of one stream",
        fill: |bucket| drop(stream(bucket, &Made::new(0..2), 36)),
        ours: &[
            "cluster=a 0h-48h level 3 of 24: 2304",
            "cluster=a 48h-56h level 2 of 4: 384",
            "cluster=a 56h-64h level 2 of 4: 384",
            "cluster=a 64h-66h level 1 of 1: 96",
            "cluster=a 66h-68h level 1 of 1: 96",
            "cluster=a 68h-70h level 1 of 1: 96",
            "cluster=a 70h-72h level 1 of 1: 96",
        ],
        ..PLAIN
    },
    Shape {
        name: "replicas, by penalty",
        fill: |bucket| {
            for (number, (replica, offset_s)) in (1..).zip([("x", 0), ("y", 130)]) {
                let first = Made::new(0..2).offset_s(offset_s).step_s(60).number(number);
                stream(bucket, &first.labels(&[("cluster", "a"), ("replica", replica)]), 5);
            }
        },
        args: &[
            "--downsampling.disable",
            "--deduplication.func=penalty",
            "--deduplication.replica-label=replica",
        ],
        ours: &["cluster=a 0h-8h level 3 of 8: 1920", "cluster=a 8h-10h level 2 of 2: 480"],
        ..PLAIN
    },
    Shape {
        name: "replicas with equal samples",
        fill: |bucket| {
            for (number, replica) in (1..).zip(["x", "y"]) {
                let first = Made::new(0..2).number(number);
                stream(bucket, &first.labels(&[("cluster", "a"), ("replica", replica)]), 5);
            }
        },
        args: &["--downsampling.disable", "--deduplication.replica-label=replica"],
        ours: &["cluster=a 0h-8h level 3 of 8: 384", "cluster=a 8h-10h level 2 of 2: 96"],
        ..PLAIN
    },
    Shape {
        name: "overlapping blocks",
        fill: |bucket| overlap(bucket),
        ours: &["cluster=a 0h-8h level 3 of 5: 480", "cluster=a 8h-10h level 1 of 1: 96"],
        theirs: Theirs::Differs {
            leaves: &[
                "cluster=a 0h-2h level 1 of 1: 96",
                "cluster=a 2h-4h level 1 of 1: 96",
                "cluster=a 3h-5h level 1 of 1: 96",
                "cluster=a 4h-6h level 1 of 1: 96",
                "cluster=a 6h-8h level 1 of 1: 96",
                "cluster=a 8h-10h level 1 of 1: 96",
                "ends with an error",
            ],
            why: "we: overlaps are merged without being asked to; theirs stops the whole bucket",
        },
        ..PLAIN
    },
    Shape {
        name: "overlapping blocks, vertical compaction on",
        fill: |bucket| overlap(bucket),
        args: VERTICAL,
        ours: &["cluster=a 0h-8h level 3 of 5: 480", "cluster=a 8h-10h level 1 of 1: 96"],
        ..PLAIN
    },
    Shape {
        name: "two servers with equal external labels",
        fill: |bucket| {
            stream(bucket, &Made::new(0..2), 5);
            stream(bucket, &Made::new(0..2).content(Content::OtherFloats).number(2), 5);
        },
        args: VERTICAL,
        ours: &[
            "cluster=a 0h-2h level 1 of 1: 96",
            "cluster=a 0h-2h level 1 of 1: 96",
            "cluster=a 2h-4h level 1 of 1: 96",
            "cluster=a 2h-4h level 1 of 1: 96",
            "cluster=a 4h-6h level 1 of 1: 96",
            "cluster=a 4h-6h level 1 of 1: 96",
            "cluster=a 6h-8h level 1 of 1: 96",
            "cluster=a 6h-8h level 1 of 1: 96",
            "cluster=a 8h-10h level 1 of 1: 96",
            "cluster=a 8h-10h level 1 of 1: 96",
        ],
        theirs: Theirs::Differs {
            leaves: &["cluster=a 0h-8h level 3 of 8: 384", "cluster=a 8h-10h level 2 of 2: 96"],
            why: "we: two servers are not one; theirs takes one of two values at every instant, \
                and 480 samples are lost",
        },
        ..PLAIN
    },
    Shape {
        name: "a gap in the middle",
        fill: |bucket| {
            stream(bucket, &Made::new(0..2), 2);
            stream(bucket, &Made::new(6..8), 2);
        },
        ours: &["cluster=a 0h-8h level 2 of 3: 288", "cluster=a 8h-10h level 1 of 1: 96"],
        ..PLAIN
    },
    Shape {
        name: "a single old block",
        fill: |bucket| _ = Made::new(0..2).write(bucket),
        ours: &["cluster=a 0h-2h level 1 of 1: 96"],
        ..PLAIN
    },
    Shape {
        name: "a merge whose sources are still there",
        fill: |bucket| {
            let parents = stream(bucket, &Made::new(0..2), 4);
            Made::new(0..8).parents(parents).number(2).write(bucket);
            Made::new(8..10).write(bucket);
        },
        ours: &["cluster=a 0h-8h level 2 of 4: 384", "cluster=a 8h-10h level 1 of 1: 96"],
        ..PLAIN
    },
    Shape {
        name: "a no-compact mark in the middle",
        fill: |bucket| {
            let blocks = stream(bucket, &Made::new(0..2), 9);
            mark_no_compact(bucket, blocks[1].ulid);
        },
        ours: &[
            "cluster=a 0h-2h level 1 of 1: 96",
            "cluster=a 2h-4h level 1 of 1: 96",
            "cluster=a 4h-8h level 2 of 2: 192",
            "cluster=a 8h-16h level 2 of 4: 384",
            "cluster=a 16h-18h level 1 of 1: 96",
        ],
        ..PLAIN
    },
    Shape {
        name: "a source under a mark of 1 h",
        fill: |bucket| {
            let blocks = stream(bucket, &Made::new(0..2), 5);
            mark_deleted(bucket, blocks[1].ulid, 1);
        },
        ours: &["cluster=a 0h-8h level 2 of 3: 288", "cluster=a 8h-10h level 1 of 1: 96"],
        theirs: Theirs::Differs {
            leaves: &["cluster=a 0h-8h level 2 of 4: 384", "cluster=a 8h-10h level 1 of 1: 96"],
            why: "we: what is marked is removed; theirs copies it into the merged block",
        },
        ..PLAIN
    },
    Shape {
        name: "an ended stream beside one that continues",
        fill: |bucket| {
            stream(bucket, &Made::new(0..2), 13);
            stream(bucket, &Made::new(0..2).labels(&[("cluster", "b")]).number(2), 3);
        },
        ours: &[
            "cluster=a 0h-8h level 2 of 4: 384",
            "cluster=a 8h-16h level 2 of 4: 384",
            "cluster=a 16h-24h level 2 of 4: 384",
            "cluster=a 24h-26h level 1 of 1: 96",
            "cluster=b 0h-2h level 1 of 1: 96",
            "cluster=b 2h-4h level 1 of 1: 96",
            "cluster=b 4h-6h level 1 of 1: 96",
        ],
        ..PLAIN
    },
    Shape {
        name: "an empty block among others",
        fill: |bucket| {
            stream(bucket, &Made::new(0..2), 2);
            Made::new(4..6).content(Content::Nothing).write(bucket);
            stream(bucket, &Made::new(6..8), 2);
        },
        ours: &["cluster=a 0h-8h level 2 of 4: 288", "cluster=a 8h-10h level 1 of 1: 96"],
        ..PLAIN
    },
    Shape {
        name: "native histograms",
        fill: |bucket| drop(stream(bucket, &Made::new(0..2).content(Content::Histograms), 5)),
        ours: &["cluster=a 0h-8h level 2 of 4: 384", "cluster=a 8h-10h level 1 of 1: 96"],
        ..PLAIN
    },
    Shape {
        name: "three days, downsampled",
        fill: |bucket| drop(stream(bucket, &Made::new(0..2).step_s(60), 36)),
        args: &[],
        our_args: &["--downsample.format=thanos"],
        ours: &[
            "cluster=a 0h-48h level 3 of 24: 11520",
            "cluster=a 0h-48h 5m level 3 of 24: 2304",
            "cluster=a 48h-56h level 2 of 4: 1920",
            "cluster=a 56h-64h level 2 of 4: 1920",
            "cluster=a 64h-66h level 1 of 1: 480",
            "cluster=a 66h-68h level 1 of 1: 480",
            "cluster=a 68h-70h level 1 of 1: 480",
            "cluster=a 70h-72h level 1 of 1: 480",
        ],
        ..PLAIN
    },
    Shape {
        name: "sixteen days, downsampled twice",
        fill: |bucket| drop(stream(bucket, &Made::new(0..8), 48)),
        args: &[],
        our_args: &["--downsample.format=thanos"],
        ours: &[
            "cluster=a 0h-336h level 3 of 42: 16128",
            "cluster=a 0h-336h 5m level 3 of 42: 16128",
            "cluster=a 0h-336h 1h level 3 of 42: 1352",
            "cluster=a 336h-344h level 1 of 1: 384",
            "cluster=a 344h-352h level 1 of 1: 384",
            "cluster=a 352h-360h level 1 of 1: 384",
            "cluster=a 360h-368h level 1 of 1: 384",
            "cluster=a 368h-376h level 1 of 1: 384",
            "cluster=a 376h-384h level 1 of 1: 384",
        ],
        ..PLAIN
    },
];

/// A stream, and a block of it that was filled in later.
fn overlap(bucket: &Path) {
    stream(bucket, &Made::new(0..2), 5);
    Made::new(3..5).offset_s(150).number(2).write(bucket);
}
