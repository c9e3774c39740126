//! Blocks of the synthetic fleet, whose every answer is known.

use std::path::{Path, PathBuf};

use model::TimeRange;
use synthetic::{Fleet, Replica, Settings};

/// 2026-01-01, a multiple of all block ranges up to 2 d.
pub(crate) const START_MS: i64 = 1_767_225_600_000;

/// One cluster with the given replicas over some raw blocks of 2 h.
pub(crate) struct Blocks {
    pub(crate) fleet: Fleet,
    /// Block folders, replica by replica.
    pub(crate) folders: Vec<PathBuf>,
}

impl Blocks {
    /// Writes the blocks into `folder`, with external labels in their `meta.json`.
    pub(crate) fn write(folder: &Path, seed: u64, blocks: i64, replicas: &[&str]) -> Blocks {
        let range = TimeRange::new(START_MS, START_MS + blocks * synthetic::BLOCK_MS);
        let settings = Settings {
            clusters: vec!["eu".to_owned()],
            replicas: replicas.iter().map(|name| (*name).to_owned()).collect(),
            ..Settings::kubernetes(seed, range)
        };
        let fleet = Fleet::new(settings).expect("a fleet of whole blocks");
        std::fs::create_dir_all(folder).expect("a folder for blocks");
        let metas: Vec<_> = fleet
            .replicas()
            .iter()
            .flat_map(|replica| testkit::write_fleet(folder, &fleet, replica))
            .collect();
        let folders = metas.iter().map(|meta| folder.join(meta.ulid.to_string())).collect();
        Blocks { fleet, folders }
    }

    pub(crate) fn replica(&self) -> &Replica {
        &self.fleet.replicas()[0]
    }

    /// The last instant of the data, in seconds.
    pub(crate) fn end(&self) -> f64 {
        (self.fleet.settings().range.end - 1) as f64 / 1000.0
    }
}
