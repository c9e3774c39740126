//! Folders of TSDB blocks filled from `synthetic`.

use std::path::Path;

use model::BlockId;
use synthetic::{Fleet, GeneratedSamples, Replica, Rng, ServerScrapes};
use tsdb::block_builder::{BlockBuilder, BlockIdentity};
use tsdb::meta::BlockMeta;

/// Writes what `window` holds as the block `<folder>/<ULID>`.
///
/// # Panics
/// When the folder cannot be written.
pub fn write_block(
    folder: &Path,
    window: &ServerScrapes<'_>,
    description: BlockIdentity,
) -> BlockMeta {
    let mut builder = BlockBuilder::new();
    let mut samples = GeneratedSamples::default();
    for series in window.series() {
        window.samples(series, &mut samples);
        let pushed = if samples.histograms.is_empty() {
            builder.push_floats(series.labels(), &samples.ts, &samples.floats)
        } else {
            builder.push_histograms(series.labels(), &samples.ts, &samples.histograms)
        };
        pushed.expect("synthetic samples fit into chunks");
    }
    let files = builder.finish(description).expect("synthetic series come in order");
    files
        .save(folder)
        .unwrap_or_else(|e| panic!("write block {} to {}: {e}", files.meta.ulid, folder.display()));
    files.meta
}

/// Writes all 2h blocks of `replica` into `folder`, with its external labels; ids are a function of
/// fleet and span.
///
/// # Panics
/// When the folder cannot be written.
pub fn write_fleet(folder: &Path, fleet: &Fleet, replica: &Replica) -> Vec<BlockMeta> {
    let write = |range: model::TimeRange| {
        let mut rng = Rng::new(
            fleet.settings().seed ^ replica.external_labels().hash64() ^ range.start as u64,
        );
        let entropy = u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
        let description = BlockIdentity {
            id: BlockId::from_parts(range.end as u64, entropy),
            range,
            external_labels: Some(replica.external_labels().clone()),
        };
        write_block(folder, &ServerScrapes::new(fleet, replica, range), description)
    };
    fleet.block_ranges().map(write).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::TimeRange;
    use synthetic::{BLOCK_MS, Settings};

    #[test]
    fn the_blocks_of_a_fleet_hold_what_the_fleet_counts() {
        let folder = tempfile::tempdir().unwrap();
        let fleet = Fleet::new(Settings::kubernetes(5, TimeRange::new(0, 2 * BLOCK_MS))).unwrap();
        let replica = &fleet.replicas()[3];
        let metas = write_fleet(folder.path(), &fleet, replica);
        assert_eq!(metas.len(), 2);
        let counted: u64 = fleet
            .counts(replica, TimeRange::ALL)
            .values()
            .map(|c| c.samples + c.stale_markers)
            .sum();
        assert_eq!(metas.iter().map(|m| m.stats.num_samples).sum::<u64>(), counted);
        for meta in &metas {
            let text =
                std::fs::read(folder.path().join(meta.ulid.to_string()).join("meta.json")).unwrap();
            assert_eq!(&BlockMeta::from_json(&text).unwrap(), meta);
            assert_eq!(meta.external_labels(), *replica.external_labels());
        }
        let again = tempfile::tempdir().unwrap();
        assert_eq!(write_fleet(again.path(), &fleet, replica), metas);
    }
}
