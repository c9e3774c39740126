//! What a bucket in a folder needs beyond the library: listings that do not fail on a bad name or a
//! loop of links, and the removal of files `name#n` that broken uploads leave and no listing shows.

use std::fmt;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryFutureExt};
use model::TimestampMs;
use model::error::in_one_line;
use object_store::local::LocalFileSystem;
use object_store::path::{Path as ObjectPath, PathPart};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};

use super::hints::Hints;
use crate::{Error, Kind, Result};

/// The most links followed on the way to a file; what lies behind more is ignored.
const MOST_LINKS: usize = 8;

/// The folder that a prefix below another names: Go's `filepath.Join`, which is Thanos' rule for
/// folders.
pub(crate) fn join(folder: &Path, prefix: &str) -> PathBuf {
    let mut joined = PathBuf::new();
    for component in
        folder.components().chain(Path::new(prefix).components().filter(|c| !is_root(*c)))
    {
        match component {
            Component::CurDir => {}
            Component::ParentDir if joined.file_name().is_some() => {
                joined.pop();
            }
            // there is nothing above the root
            Component::ParentDir if joined.has_root() => {}
            other => joined.push(other),
        }
    }
    joined
}

fn is_root(component: Component<'_>) -> bool {
    matches!(component, Component::RootDir | Component::Prefix(_))
}

/// A folder as an object store. Everything except listings is the library's.
#[derive(Debug)]
pub(crate) struct FolderStore {
    inner: LocalFileSystem,
    root: PathBuf,
    hints: Hints,
}

impl FolderStore {
    /// The folder must exist.
    pub(crate) fn new(root: &Path, hints: Hints) -> object_store::Result<FolderStore> {
        // empty folders of deleted blocks would look like blocks
        let inner = LocalFileSystem::new_with_prefix(root)?.with_automatic_cleanup(true);
        Ok(FolderStore { inner, root: root.to_path_buf(), hints })
    }

    /// Opening a pipe waits for somebody to write into it, on a thread that is lost by that.
    async fn must_be_file(&self, object: &ObjectPath) -> object_store::Result<()> {
        let path = self.inner.path_to_filesystem(object)?;
        match tokio::fs::metadata(&path).await {
            Ok(metadata) if !metadata.is_file() && !metadata.is_dir() => {
                let text = format!("reading {}: it is neither a file nor a folder", path.display());
                let source = Error::new(Kind::Corrupt, text).into();
                Err(object_store::Error::Generic { store: "folder", source })
            }
            // the library tells what is wrong with folders and with what is not there
            _ => Ok(()),
        }
    }

    /// Lists what lies below a folder of the bucket, or directly in it.
    fn look(
        &self,
        prefix: Option<&ObjectPath>,
        deep: bool,
    ) -> impl Future<Output = object_store::Result<ListResult>> + Send + use<> {
        let walk = FolderWalk {
            root: self.root.clone(),
            prefix: prefix.cloned().unwrap_or_default(),
            deep,
        };
        let hints = self.hints.clone();
        async move {
            let walked = tokio::task::spawn_blocking(move || walk.run()).await;
            let (found, ignored) =
                walked.map_err(|source| object_store::Error::JoinError { source })??;
            hints.ignore(&ignored);
            Ok(found)
        }
    }
}

impl fmt::Display for FolderStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for FolderStore {
    async fn put_opts(
        &self,
        path: &ObjectPath,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        let creates = options.mode == PutMode::Create;
        match self.inner.put_opts(path, payload, options).await {
            Err(e) if creates && needs_links(&e) => Err(object_store::Error::NotImplemented {
                operation: format!(
                    "create-only writes, as the filesystem has no hard links ({})",
                    in_one_line(&e)
                ),
                implementer: self.to_string(),
            }),
            other => other,
        }
    }

    async fn put_multipart_opts(
        &self,
        path: &ObjectPath,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(
        &self,
        path: &ObjectPath,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        self.must_be_file(path).await?;
        self.inner.get_opts(path, options).await
    }

    async fn get_ranges(
        &self,
        path: &ObjectPath,
        ranges: &[std::ops::Range<u64>],
    ) -> object_store::Result<Vec<bytes::Bytes>> {
        self.must_be_file(path).await?;
        self.inner.get_ranges(path, ranges).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<ObjectPath>>,
    ) -> BoxStream<'static, object_store::Result<ObjectPath>> {
        self.inner.delete_stream(paths)
    }

    fn list(
        &self,
        prefix: Option<&ObjectPath>,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let objects = self
            .look(prefix, true)
            .map_ok(|found| futures::stream::iter(found.objects.into_iter().map(Ok)));
        objects.try_flatten_stream().boxed()
    }

    async fn list_with_delimiter(
        &self,
        prefix: Option<&ObjectPath>,
    ) -> object_store::Result<ListResult> {
        self.look(prefix, false).await
    }

    async fn copy_opts(
        &self,
        from: &ObjectPath,
        to: &ObjectPath,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// A listing of files below a folder.
#[derive(Debug)]
struct FolderWalk {
    root: PathBuf,
    prefix: ObjectPath,
    /// Whether to enter folders.
    deep: bool,
}

/// A folder to list.
#[derive(Debug)]
struct ListedFolder {
    path: PathBuf,
    object: ObjectPath,
    /// Where links led on the way here, including the folders that hold them.
    behind_links: Vec<PathBuf>,
}

/// What was found under one name.
enum FoundEntry {
    File(std::fs::Metadata),
    Folder(ListedFolder),
    Nothing,
}

impl FolderWalk {
    /// What was found, and the names that were left out.
    fn run(self) -> object_store::Result<(ListResult, Vec<String>)> {
        let path =
            self.prefix.parts().fold(self.root.clone(), |path, part| path.join(part.as_ref()));
        let mut open =
            vec![ListedFolder { path, object: self.prefix.clone(), behind_links: Vec::new() }];
        let mut list = ListResult { common_prefixes: Vec::new(), objects: Vec::new() };
        let mut ignored = Vec::new();
        while let Some(folder) = open.pop() {
            let entries = match std::fs::read_dir(&folder.path) {
                Ok(entries) => entries,
                // nothing below this prefix, or removed meanwhile; but a bucket whose folder is
                // gone is not an empty bucket
                Err(e) if is_gone(&e) && folder.path != self.root => continue,
                Err(e) => return Err(failed(&folder.path, e)),
            };
            for entry in entries {
                let entry = entry.map_err(|e| failed(&folder.path, e))?;
                let name = entry.file_name();
                let Some(part) = name.to_str().and_then(|name| PathPart::parse(name).ok()) else {
                    ignored.push(entry.path().to_string_lossy().into_owned());
                    continue;
                };
                let object = folder.object.clone().join(part);
                match look_at(&entry, &folder, object.clone())? {
                    FoundEntry::Nothing => {
                        ignored.push(entry.path().to_string_lossy().into_owned())
                    }
                    FoundEntry::Folder(below) if self.deep => open.push(below),
                    FoundEntry::Folder(_) => list.common_prefixes.push(object),
                    FoundEntry::File(_) if name.to_str().is_some_and(is_torn_upload) => {}
                    FoundEntry::File(metadata) => list.objects.push(described(object, &metadata)),
                }
            }
        }
        Ok((list, ignored))
    }
}

fn look_at(
    entry: &std::fs::DirEntry,
    within: &ListedFolder,
    object: ObjectPath,
) -> object_store::Result<FoundEntry> {
    let path = entry.path();
    let kind = match entry.file_type() {
        Ok(kind) => kind,
        Err(e) if is_gone(&e) => return Ok(FoundEntry::Nothing),
        Err(e) => return Err(failed(&path, e)),
    };
    // the metadata of what a link leads to
    let metadata = match std::fs::metadata(&path) {
        Ok(metadata) => metadata,
        // it leads nowhere, or in a circle
        Err(e) if is_gone(&e) || kind.is_symlink() => return Ok(FoundEntry::Nothing),
        Err(e) => return Err(failed(&path, e)),
    };
    if metadata.is_file() {
        return Ok(FoundEntry::File(metadata));
    }
    if !metadata.is_dir() {
        return Ok(FoundEntry::Nothing);
    }
    let mut behind_links = within.behind_links.clone();
    if kind.is_symlink() {
        let (Ok(here), Ok(there)) =
            (std::fs::canonicalize(&within.path), std::fs::canonicalize(&path))
        else {
            return Ok(FoundEntry::Nothing);
        };
        behind_links.push(here);
        let is_loop = behind_links.iter().any(|passed| passed.starts_with(&there));
        if is_loop || behind_links.len() > MOST_LINKS {
            return Ok(FoundEntry::Nothing);
        }
    }
    Ok(FoundEntry::Folder(ListedFolder { path, object, behind_links }))
}

fn described(location: ObjectPath, metadata: &std::fs::Metadata) -> ObjectMeta {
    let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    let nanos = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let e_tag = Some(format!("{nanos:x}-{:x}", metadata.len()));
    ObjectMeta {
        location,
        last_modified: modified.into(),
        size: metadata.len(),
        e_tag,
        version: None,
    }
}

/// Whether a create-only write failed because the filesystem (FAT, some network mounts) has no hard
/// links.
fn needs_links(error: &object_store::Error) -> bool {
    const EPERM: i32 = 1;
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.kind() == io::ErrorKind::Unsupported
                || error.raw_os_error() == Some(EPERM);
        }
        cause = error.source();
    }
    false
}

/// Whether the file was removed by another process, or never existed.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn failed(path: &Path, error: io::Error) -> object_store::Error {
    let denied = error.kind() == io::ErrorKind::PermissionDenied;
    let source = Box::new(Error::local("listing", path, error));
    if denied {
        object_store::Error::PermissionDenied { path: path.display().to_string(), source }
    } else {
        object_store::Error::Generic { store: "folder", source }
    }
}

/// Removes files `name#<digits>` below `root` that were last written before `older_than`; returns
/// how many. Younger ones may belong to an upload of another process that is still under way.
pub(super) fn sweep_torn_uploads(root: &Path, older_than: TimestampMs) -> Result<usize> {
    let limit =
        SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(older_than.0).unwrap_or(0));
    let mut folders = vec![root.to_path_buf()];
    let mut swept = 0;
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            // removed by another process in the meantime
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && folder != root => continue,
            Err(e) => return Err(Error::local("listing", &folder, e)),
        };
        for entry in entries {
            let entry = entry.map_err(|e| Error::local("listing", &folder, e))?;
            // links are not followed
            let Ok(metadata) = entry.metadata() else { continue };
            let path = entry.path();
            if metadata.is_dir() {
                folders.push(path);
                continue;
            }
            let old = metadata.modified().is_ok_and(|at| at < limit);
            if old && is_torn_upload(&entry.file_name().to_string_lossy()) {
                std::fs::remove_file(&path).map_err(|e| Error::local("removing", &path, e))?;
                swept += 1;
            }
        }
    }
    Ok(swept)
}

fn is_torn_upload(name: &str) -> bool {
    let Some((_, suffix)) = name.split_once('#') else { return false };
    !suffix.is_empty() && suffix.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filesystem_without_links_is_known_by_its_error() {
        let failed = |code: i32| object_store::Error::Generic {
            store: "LocalFileSystem",
            source: Box::new(io::Error::from_raw_os_error(code)),
        };
        let (eperm, eopnotsupp, enosys, eacces, enospc) = (1, 95, 38, 13, 28);
        assert!([eperm, eopnotsupp, enosys].into_iter().all(|code| needs_links(&failed(code))));
        assert!(![eacces, enospc].into_iter().any(|code| needs_links(&failed(code))));
    }

    #[test]
    fn prefixes_join_as_go_joins_them() {
        let joined = |prefix: &str| join(Path::new("/data/bucket"), prefix).display().to_string();
        for (prefix, expected) in [
            ("", "/data/bucket"),
            ("a/b", "/data/bucket/a/b"),
            ("a//b", "/data/bucket/a/b"),
            ("a/./b/.", "/data/bucket/a/b"),
            ("a/../b", "/data/bucket/b"),
            ("../b", "/data/b"),
            ("../../../b", "/b"),
            ("~ü %#*", "/data/bucket/~ü %#*"),
        ] {
            assert_eq!(joined(prefix), expected, "{prefix}");
        }
        assert_eq!(join(Path::new("./data/"), "a").display().to_string(), "data/a");
    }

    async fn listed(store: &FolderStore, prefix: Option<&str>) -> Vec<String> {
        use futures::TryStreamExt;
        let prefix = prefix.map(ObjectPath::from);
        let mut names: Vec<String> = store
            .list(prefix.as_ref())
            .map_ok(|object| object.location.to_string())
            .try_collect()
            .await
            .unwrap();
        names.sort();
        names
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn bad_names_and_loops_of_links_do_not_end_a_listing() {
        use std::os::unix::ffi::OsStrExt;
        use std::os::unix::fs::symlink;
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for folder in ["a/b", "elsewhere", "line\nbreak"] {
            std::fs::create_dir_all(at(folder)).unwrap();
        }
        for file in ["a/b/1", "a/2#1", "elsewhere/3", "line\nbreak/4", "5~ü %#x", "control\u{1}"] {
            std::fs::write(at(file), "x").unwrap();
        }
        std::fs::write(root.path().join(std::ffi::OsStr::from_bytes(b"\xff\xfe")), "x").unwrap();
        for (target, link) in [
            ("..", "a/b/up"),
            ("self", "self"),
            ("nowhere", "dangling"),
            ("../elsewhere", "a/there"),
        ] {
            symlink(target, at(link)).unwrap();
        }
        symlink(at("x/y"), at("elsewhere/y")).unwrap();
        std::fs::create_dir_all(at("x")).unwrap();
        symlink(at("elsewhere"), at("x/y")).unwrap();
        let hints = Hints::default();
        let store = FolderStore::new(root.path(), hints.clone()).unwrap();
        let all = ["5~ü %#x", "a/b/1", "a/there/3", "elsewhere/3", "x/y/3"];
        assert_eq!(listed(&store, None).await, all);
        assert!(hints.ignored_names() >= 7, "{}", hints.ignored_names());
        assert_eq!(listed(&store, Some("a")).await, ["a/b/1", "a/there/3"]);
        assert_eq!(listed(&store, Some("nothing")).await, Vec::<String>::new());
        let found = store.list_with_delimiter(None).await.unwrap();
        let mut folders: Vec<&str> = found.common_prefixes.iter().map(AsRef::as_ref).collect();
        folders.sort_unstable();
        assert_eq!((folders, found.objects.len()), (vec!["a", "elsewhere", "x"], 1));
    }

    #[tokio::test]
    async fn a_bucket_whose_folder_is_gone_is_not_empty() {
        let root = tempfile::tempdir().unwrap();
        let store = FolderStore::new(root.path(), Hints::default()).unwrap();
        assert!(listed(&store, None).await.is_empty());
        let path = root.path().to_owned();
        drop(root);
        let error = store.list_with_delimiter(None).await.unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
    }

    #[test]
    fn only_old_torn_uploads_go() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/b");
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["000001", "000001#1", "index#12", "odd#x", "odd#"] {
            std::fs::write(folder.join(name), "x").unwrap();
        }
        assert_eq!(sweep_torn_uploads(root.path(), TimestampMs(0)).unwrap(), 0);
        assert_eq!(
            sweep_torn_uploads(root.path(), TimestampMs(i64::from(u32::MAX) * 1000)).unwrap(),
            2
        );
        let mut left: Vec<_> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["000001", "odd#", "odd#x"]);
    }
}
