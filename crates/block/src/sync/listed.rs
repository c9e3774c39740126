//! What a listing shows of a block, and what was read of it.

use std::sync::Arc;

use object_store::ObjectMeta;
use tsdb::meta::{BlockMeta, META_FILE};

use super::ObjectVersion;
use crate::catalog::LeftOutSources;
use crate::layout::TOMBSTONES_FILE;
use crate::marker::{DeletionMark, Marker, NoCompactMark, NoDownsampleMark};

/// A file of tombstones that names none is magic number, version and checksum; Prometheus leaves it
/// in every block.
const EMPTY_TOMBSTONES: u64 = 9;

/// What the listing shows of one block. It stays in memory: what most blocks lack is boxed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Listed {
    pub(super) meta: Option<ObjectVersion>,
    pub(super) deletion: Option<Box<ObjectVersion>>,
    pub(super) no_compact: Option<Box<ObjectVersion>>,
    pub(super) no_downsample: Option<Box<ObjectVersion>>,
    pub(super) tombstones: Option<Box<ObjectVersion>>,
    pub(super) newest: i64,
    pub(super) bytes: u64,
}

impl Listed {
    /// Adds an object by its path within the block's folder.
    pub(super) fn add(&mut self, file: &str, object: &ObjectMeta) {
        self.newest = self.newest.max(object.last_modified.timestamp_millis());
        self.bytes += object.size;
        let boxed = || Some(Box::new(ObjectVersion::of(object)));
        match file {
            META_FILE => self.meta = Some(ObjectVersion::of(object)),
            DeletionMark::FILE => self.deletion = boxed(),
            NoCompactMark::FILE => self.no_compact = boxed(),
            NoDownsampleMark::FILE => self.no_downsample = boxed(),
            TOMBSTONES_FILE if object.size > EMPTY_TOMBSTONES => self.tombstones = boxed(),
            _ => {}
        }
    }
}

/// The marks of a block as they were last read.
#[derive(Clone, Debug, Default)]
pub(super) struct BlockMarks {
    pub(super) deletion: Option<ReadMark<DeletionMark>>,
    pub(super) no_compact: Option<ReadMark<NoCompactMark>>,
    pub(super) no_downsample: Option<ReadMark<NoDownsampleMark>>,
}

/// A mark and the version of it that was read; one that is not usable counts as none, as in Thanos.
#[derive(Clone, Debug)]
pub(super) struct ReadMark<M> {
    pub(super) version: ObjectVersion,
    pub(super) mark: Option<M>,
}

/// A meta and how it is known.
#[derive(Clone, Debug)]
pub(super) struct KnownMeta {
    pub(super) meta: Arc<BlockMeta>,
    /// How a catalog states it; `None` for one that was read.
    pub(super) stated: Option<Box<StatedMeta>>,
}

/// How a catalog states a meta.
#[derive(Clone, Debug)]
pub(super) struct StatedMeta {
    pub(super) version: ObjectVersion,
    pub(super) left_out: Option<LeftOutSources>,
}

impl KnownMeta {
    pub(super) fn read(meta: Arc<BlockMeta>) -> KnownMeta {
        KnownMeta { meta, stated: None }
    }

    /// Whether it is that of the block that is listed.
    pub(super) fn fits(&self, listed: &Listed) -> bool {
        let stated = self.stated.as_deref();
        stated.is_none_or(|stated| listed.meta.as_ref() == Some(&stated.version))
    }

    pub(super) fn left_out(&self) -> Option<&LeftOutSources> {
        self.stated.as_ref()?.left_out.as_ref()
    }
}
