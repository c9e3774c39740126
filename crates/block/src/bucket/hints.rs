//! What is learnt about a store besides its answers: names it holds that are not paths, and that it
//! has no create-only writes.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use object_store::path::Path;

/// The most directory markers that are remembered; a bucket with more keeps some of them a while
/// longer.
const MOST_MARKERS: usize = 100_000;

/// Shared by a bucket and the parts beneath it that see what the client of the store does not
/// report.
#[derive(Clone, Debug, Default)]
pub struct Hints(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    ignored: AtomicU64,
    /// Keys that end in `/`, as consoles make them for folders.
    markers: Mutex<BTreeSet<String>>,
    no_create_only: AtomicBool,
}

/// Whether a name can be a path here: no empty part, no `.` or `..`, no control character, no `/`
/// at either end.
pub(super) fn is_clean(name: &str) -> bool {
    // the client strips a leading or trailing `/`, which would name another object
    Path::parse(name).is_ok_and(|path| path.as_ref() == name && !name.is_empty())
}

impl Hints {
    /// How many names of listings were left out, each time they were met.
    pub fn ignored_names(&self) -> u64 {
        self.0.ignored.load(Ordering::Relaxed)
    }

    /// Records names left out of a listing; no component here or of Thanos writes such names.
    pub(super) fn ignore(&self, names: &[String]) {
        let Some(first) = names.first() else { return };
        self.0.ignored.fetch_add(names.len() as u64, Ordering::Relaxed);
        tracing::debug!(names = names.len(), first = ?first, "names in the bucket that are no \
            paths are ignored");
        let mut markers = self.markers();
        for name in names {
            let folder = name.strip_suffix('/').is_some_and(is_clean);
            if folder && markers.len() < MOST_MARKERS {
                markers.insert(name.clone());
            }
        }
    }

    /// The directory markers that listings showed of a folder: its own and those below. They are
    /// forgotten, because the caller removes them.
    pub(super) fn take_markers(&self, folder: &Path) -> Vec<Path> {
        let mut markers = self.markers();
        let first = format!("{folder}/");
        let found: Vec<String> = markers
            .range(first.clone()..)
            .take_while(|name| name.starts_with(&first))
            .cloned()
            .collect();
        for name in &found {
            markers.remove(name);
        }
        // deepest first; the empty part puts a `/` at the end
        let marker = |name: &String| Path::parse(name).ok().map(|path| path.join(""));
        found.iter().rev().filter_map(marker).collect()
    }

    /// Records that the store has no create-only writes; returns whether that is new.
    pub(super) fn lacks_create_only(&self) -> bool {
        !self.0.no_create_only.swap(true, Ordering::Relaxed)
    }

    pub(super) fn has_create_only(&self) -> bool {
        !self.0.no_create_only.load(Ordering::Relaxed)
    }

    fn markers(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.0.markers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mean_another_object_to_the_client_are_not_clean() {
        for name in ["a", "a/b", "ü/~/%2F/#*", "a b", "a/b.", "...", "%2E"] {
            assert!(is_clean(name), "{name:?}");
        }
        for name in
            ["", "/", "/a", "a/", "a//b", "a/./b", "..", "../a", "a/..", "a\nb", "a\u{1}", "\u{7f}"]
        {
            assert!(!is_clean(name), "{name:?}");
        }
    }

    #[test]
    fn markers_are_found_by_folder_and_forgotten() {
        let hints = Hints::default();
        let names =
            ["a/chunks/", "a/", "ab/", "a//", "/", "x\n/", "a/../", "bad\n"].map(str::to_owned);
        hints.ignore(&names);
        assert_eq!(hints.ignored_names(), 8);
        let found = hints.take_markers(&Path::from("a"));
        assert_eq!(found.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), ["a/chunks/", "a/"]);
        assert!(hints.take_markers(&Path::from("a")).is_empty());
        assert_eq!(hints.take_markers(&Path::from("ab")).len(), 1);
    }
}
