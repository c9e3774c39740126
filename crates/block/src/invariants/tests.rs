use tsdb::meta::{BlockDesc, BlockStats, Compaction, Downsample, File, Thanos};

use super::*;

fn id(n: u128) -> BlockId {
    BlockId::from_parts(1_769_000_000_000, n)
}

fn labels() -> Labels {
    Labels::from_pairs([("cluster", "a")])
}

/// A block of level 1 over an hour.
fn input(n: u128) -> BlockMeta {
    let hour = 3_600_000 * i64::try_from(n).unwrap();
    BlockMeta {
        ulid: id(n),
        min_time: hour,
        max_time: hour + 3_600_000,
        stats: BlockStats {
            num_samples: 10,
            num_float_samples: 10,
            num_series: 2,
            num_chunks: 2,
            ..BlockStats::default()
        },
        compaction: Compaction { level: 1, sources: vec![id(n)], ..Compaction::default() },
        version: 1,
        thanos: Some(Thanos { labels: labels().to_text(), ..Thanos::default() }),
        format: None,
        unknown: Default::default(),
    }
}

fn file(name: &str, size_bytes: u64) -> File {
    File { rel_path: name.into(), size_bytes, hash: None }
}

/// What a compaction of the inputs 1 and 2 makes.
fn merged() -> BlockMeta {
    let parent =
        |m: BlockMeta| BlockDesc { ulid: m.ulid, min_time: m.min_time, max_time: m.max_time };
    let compaction = Compaction {
        level: 2,
        sources: vec![id(1), id(2)],
        parents: vec![parent(input(1)), parent(input(2))],
        ..Compaction::default()
    };
    let thanos = Thanos {
        labels: labels().to_text(),
        segment_files: vec!["000001".into()],
        files: vec![file("chunks/000001", 9), file("index", 9), file(META_FILE, 0)],
        ..Thanos::default()
    };
    let stats = BlockStats {
        num_samples: 20,
        num_float_samples: 20,
        num_series: 2,
        num_chunks: 4,
        ..BlockStats::default()
    };
    BlockMeta {
        ulid: id(9),
        max_time: input(2).max_time,
        stats,
        compaction,
        thanos: Some(thanos),
        ..input(1)
    }
}

/// What downsampling of the input 1 makes.
fn downsampled() -> BlockMeta {
    let thanos = Thanos {
        labels: labels().to_text(),
        downsample: Downsample { resolution: 300_000 },
        files: vec![file("series.parquet", 9)],
        ..Thanos::default()
    };
    let stats = BlockStats {
        num_samples: 3,
        num_float_samples: 2,
        num_histogram_samples: 1,
        ..BlockStats::default()
    };
    let format = Some("parquet/1".to_owned());
    BlockMeta { ulid: id(9), thanos: Some(thanos), stats, format, ..input(1) }
}

fn check_merged(meta: &BlockMeta) -> Result<(), Unmet> {
    let location = BlockLocation::tsdb(id(9));
    let inputs = [&input(1), &input(2)];
    Made { location: &location, meta, labels: &labels(), inputs: &inputs }.check()
}

fn check_downsampled(meta: &BlockMeta) -> Result<(), Unmet> {
    let location = BlockLocation::parquet(&labels(), Resolution::FiveMinutes, id(9));
    let inputs = [&input(1)];
    Made { location: &location, meta, labels: &labels(), inputs: &inputs }.check()
}

fn thanos(meta: &mut BlockMeta) -> &mut Thanos {
    meta.thanos.as_mut().unwrap()
}

#[test]
fn what_is_made_well_passes() {
    assert_eq!(check_merged(&merged()), Ok(()));
    assert_eq!(check_downsampled(&downsampled()), Ok(()));
}

type Spoil = fn(&mut BlockMeta);

#[test]
fn each_predicate_finds_what_breaks_it() {
    let spoilt: [(&str, Spoil); 22] = [
        ("usable-fields", |m| m.version = 2),
        ("usable-fields", |m| m.min_time = m.max_time + 1),
        ("usable-fields", |m| thanos(m).downsample.resolution = 7),
        ("id-of-folder", |m| m.ulid = id(8)),
        ("format-of-folder", |m| m.format = Some("parquet/1".into())),
        ("files-listed", |m| m.thanos = None),
        ("files-listed", |m| thanos(m).files.push(file("index", 9))),
        ("files-listed", |m| thanos(m).files[1].size_bytes = 0),
        ("files-listed", |m| thanos(m).segment_files.clear()),
        ("files-listed", |m| drop(thanos(m).files.remove(1))),
        ("chunks-for-series", |m| m.stats.num_chunks = 1),
        ("samples-by-kind", |m| m.stats.num_histogram_samples = 1),
        ("labels-of-group", |m| drop(thanos(m).labels.insert("replica".into(), "1".into()))),
        ("range-of-inputs", |m| m.min_time += 1),
        ("range-of-inputs", |m| m.max_time -= 1),
        ("sources-of-inputs", |m| m.compaction.sources = vec![id(1)]),
        ("sources-of-inputs", |m| m.compaction.sources.push(id(3))),
        ("level-of-inputs", |m| m.compaction.level = 1),
        ("parents-of-inputs", |m| m.compaction.parents.clear()),
        ("parents-of-inputs", |m| m.compaction.parents[0].ulid = id(3)),
        ("samples-of-inputs", |m| {
            m.stats.num_samples = 21;
            m.stats.num_float_samples = 21;
        }),
        ("samples-of-inputs", |m| {
            m.stats.num_samples = u64::MAX;
            m.stats.num_float_samples = u64::MAX;
        }),
    ];
    for (at, (predicate, spoil)) in spoilt.into_iter().enumerate() {
        let mut meta = merged();
        spoil(&mut meta);
        let unmet = check_merged(&meta).unwrap_err();
        assert_eq!((unmet.predicate, unmet.block), (predicate, id(9)), "{at}: {unmet}");
    }
}

#[test]
fn downsampling_makes_nothing_finer_nor_of_another_format() {
    let spoilt: [(&str, Spoil); 3] = [
        ("format-of-folder", |m| m.format = None),
        ("files-listed", |m| thanos(m).files.clear()),
        ("samples-by-kind", |m| m.stats.num_samples = 4),
    ];
    for (predicate, spoil) in spoilt {
        let mut meta = downsampled();
        spoil(&mut meta);
        assert_eq!(check_downsampled(&meta).unwrap_err().predicate, predicate);
    }
    let (location, mut coarse) = (BlockLocation::tsdb(id(9)), input(1));
    thanos(&mut coarse).downsample.resolution = 3_600_000;
    let meta = BlockMeta {
        compaction: Compaction { parents: merged().compaction.parents, ..input(1).compaction },
        max_time: coarse.max_time,
        ..merged()
    };
    let made = Made { location: &location, meta: &meta, labels: &labels(), inputs: &[&coarse] };
    assert_eq!(made.check().unwrap_err().predicate, "resolution-of-inputs");
}

#[test]
fn what_others_wrote_may_be_odd() {
    let location = BlockLocation::tsdb(id(1));
    let mut odd = input(1);
    odd.stats = BlockStats::default();
    odd.compaction = Compaction::default();
    odd.max_time = odd.min_time;
    odd.thanos = None;
    assert_eq!(of_synced(&location, &odd), Ok(()));
    let unmet = of_upload(&location, &odd).unwrap_err();
    assert_eq!(unmet.predicate, "external-labels");
    let text = format!(
        "block={}: external-labels does not hold: section \"thanos\" names no external labels",
        id(1)
    );
    assert_eq!(unmet.to_string(), text);
}

#[test]
fn counts_that_are_not_stated_are_not_known() {
    let read = |series, samples| StoredCounts { series, samples };
    assert_eq!(of_read(&input(1), read(2, 10)), Ok(()));
    for counts in [read(1, 10), read(2, 9), read(3, 11)] {
        assert_eq!(of_read(&input(1), counts).unwrap_err().predicate, "counts-as-read");
    }
    let unstated = BlockMeta { stats: BlockStats::default(), ..input(1) };
    assert_eq!(of_read(&unstated, read(3, 7)), Ok(()));
}
