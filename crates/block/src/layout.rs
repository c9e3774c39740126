//! Where the parts of a block lie in a bucket.
//!
//! ```text
//! <ULID>/meta.json │ index │ chunks/000001 …                       a TSDB block, Thanos' layout
//! <ULID>/statistics.parquet                                        what our compactor adds to those that it writes
//! parquet/v1/<hash of external labels>/<resolution>/<ULID>/…       a Parquet block; no ULID at the top, so that Go
//!                                                                  components do not see it
//! ```

use std::fmt;

use model::{BlockId, Labels, Resolution};
use object_store::path::{Path, PathPart};
use tsdb::meta::META_FILE;

/// The folder of all Parquet blocks.
pub const PARQUET_ROOT: &str = "parquet/v1";

/// The index of a TSDB block.
pub const INDEX_FILE: &str = "index";

/// A larger `meta.json` is broken; those of blocks with thousands of sources take some 100 KiB.
pub const MAX_META_BYTES: u64 = 4 << 20;

/// The deleted spans of a TSDB block; most blocks in buckets have none.
pub const TOMBSTONES_FILE: &str = "tombstones";

/// The folder of a block in a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockLocation {
    id: BlockId,
    dir: Path,
    parquet: bool,
}

impl BlockLocation {
    /// A block of chunks and index.
    pub fn tsdb(id: BlockId) -> BlockLocation {
        BlockLocation { id, dir: Path::from(id.to_string()), parquet: false }
    }

    pub fn parquet(external_labels: &Labels, resolution: Resolution, id: BlockId) -> BlockLocation {
        let dir = format!("{PARQUET_ROOT}/{:016x}/{resolution}/{id}", external_labels.hash64());
        BlockLocation { id, dir: Path::from(dir), parquet: true }
    }

    /// Which block an object belongs to, and its path within the block's folder; `None` for what
    /// belongs to no block.
    pub fn of_object(path: &Path) -> Option<(BlockLocation, String)> {
        let parts: Vec<PathPart<'_>> = path.parts().collect();
        let named = |at: usize| parts.get(at)?.as_ref().parse::<BlockId>().ok();
        let (id, depth, parquet) = match named(0) {
            Some(id) => (id, 1, false),
            None => {
                let in_root =
                    parts.len() > 5 && parts[0].as_ref() == "parquet" && parts[1].as_ref() == "v1";
                (named(4).filter(|_| in_root)?, 5, true)
            }
        };
        let file: Vec<&str> = parts.get(depth..)?.iter().map(AsRef::as_ref).collect();
        let dir = parts[..depth].iter().cloned().collect();
        Some((BlockLocation { id, dir, parquet }, file.join("/")))
    }

    pub fn id(&self) -> BlockId {
        self.id
    }

    pub fn is_parquet(&self) -> bool {
        self.parquet
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A file of the block by its path within the folder, such as `chunks/000001`.
    pub fn file(&self, relative: &str) -> Path {
        relative.split('/').fold(self.dir.clone(), |path, part| path.join(part))
    }

    pub fn meta(&self) -> Path {
        self.file(META_FILE)
    }

    pub fn index(&self) -> Path {
        self.file(INDEX_FILE)
    }

    pub fn tombstones(&self) -> Path {
        self.file(TOMBSTONES_FILE)
    }

    /// A chunk segment, counted from 1.
    pub fn segment(&self, number: u64) -> Path {
        self.file(&segment_file(number))
    }
}

impl fmt::Display for BlockLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.dir.fmt(f)
    }
}

/// The path of a chunk segment within a block's folder, counted from 1.
pub fn segment_file(number: u64) -> String {
    format!("chunks/{number:06}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01M81HXX0GS6A2F69HCM1Y84FY";

    #[test]
    fn objects_find_their_block_and_back() {
        let id: BlockId = ID.parse().unwrap();
        let tsdb = BlockLocation::tsdb(id);
        let parquet =
            BlockLocation::parquet(&Labels::from_pairs([("a", "b")]), Resolution::OneHour, id);
        assert!(
            parquet.to_string().starts_with("parquet/v1/")
                && parquet.to_string().ends_with(&format!("/1h/{ID}"))
        );
        for location in [tsdb, parquet] {
            assert_eq!(
                BlockLocation::of_object(&location.meta()),
                Some((location.clone(), "meta.json".into()))
            );
            let segment = location.segment(12);
            assert_eq!(
                BlockLocation::of_object(&segment),
                Some((location, "chunks/000012".into()))
            );
        }
    }

    #[test]
    fn other_objects_are_no_blocks() {
        for path in [
            "debug/metas/x.json",
            "parquet/v2/h/5m/01M81HXX0GS6A2F69HCM1Y84FY/meta.json",
            "lease/a/1",
            "notes",
        ] {
            assert_eq!(BlockLocation::of_object(&Path::from(path)), None, "{path}");
        }
    }
}
