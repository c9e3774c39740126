//! The three kinds of buckets: a folder, S3 by MinIO, and GCS' XML API by `testkit`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use futures::TryStreamExt as _;
use object_store::ObjectStoreExt as _;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::{ObjectStore, PutPayload};
use testkit::{ObjectServer, ServerSettings};

use super::binaries::Binaries;
use super::process::{Process, free_port};
use super::{files_below, runtime};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Folder,
    S3,
    Gcs,
}

/// A bucket of its own; what serves it ends with it.
pub(crate) struct Bucket {
    /// An `objstore.yml`.
    pub(crate) config: PathBuf,
    /// The same objects, for the test to look at.
    store: Arc<dyn ObjectStore>,
    folder: Option<PathBuf>,
    _server: Option<Server>,
}

#[expect(dead_code, reason = "held for what ends when it is dropped")]
enum Server {
    Minio(Process),
    Gcs(ObjectServer),
}

impl Bucket {
    pub(crate) fn new(kind: Kind, binaries: &Binaries, folder: &Path) -> Bucket {
        match kind {
            Kind::Folder => Bucket::folder(folder),
            Kind::S3 => Bucket::minio(binaries, folder),
            Kind::Gcs => Bucket::gcs(folder),
        }
    }

    pub(crate) fn folder(folder: &Path) -> Bucket {
        let path = folder.join("bucket");
        std::fs::create_dir_all(&path).expect("a folder for the bucket");
        let config = format!("type: FILESYSTEM\nconfig:\n  directory: {}\n", path.display());
        let store = Arc::new(LocalFileSystem::new_with_prefix(&path).expect("the folder is there"));
        Bucket { config: write_config(folder, &config), store, folder: Some(path), _server: None }
    }

    fn minio(binaries: &Binaries, folder: &Path) -> Bucket {
        let data = folder.join("minio");
        // a folder in MinIO's root is a bucket
        std::fs::create_dir_all(data.join("blocks")).expect("a folder for the bucket");
        let (address, console) =
            (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
        let mut command = Command::new(binaries.minio());
        command.args(["server", "--address", &address, "--console-address", &console]).arg(&data);
        command.env("MINIO_ROOT_USER", "drumlin").env("MINIO_ROOT_PASSWORD", "drumlin-secret");
        let mut process = Process::start_command("minio", command, folder);
        process.wait_ready(&format!("http://{address}/minio/health/ready"));
        let config = format!(
            "type: S3\nconfig:\n  bucket: blocks\n  endpoint: {address}\n  insecure: true\n  \
             region: us-east-1\n  \
             bucket_lookup_type: path\n  access_key: drumlin\n  secret_key: drumlin-secret\n  \
             put_user_metadata: {{X-Amz-Acl: bucket-owner-full-control, team: metrics}}\n"
        );
        let store = AmazonS3Builder::new()
            .with_endpoint(format!("http://{address}"))
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_bucket_name("blocks")
            .with_access_key_id("drumlin")
            .with_secret_access_key("drumlin-secret")
            .build()
            .expect("a client of S3");
        let (config, store) = (write_config(folder, &config), Arc::new(store));
        Bucket { config, store, folder: None, _server: Some(Server::Minio(process)) }
    }

    fn gcs(folder: &Path) -> Bucket {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let server = ObjectServer::start(Arc::clone(&store), ServerSettings::default());
        let server = runtime().block_on(server).expect("the object server starts");
        let config = write_config(folder, &server.gcs_config());
        Bucket { config, store, folder: None, _server: Some(Server::Gcs(server)) }
    }

    /// Where the objects lie, when the bucket is a folder.
    pub(crate) fn path(&self) -> &Path {
        self.folder.as_deref().expect("a bucket that is a folder")
    }

    /// The keys of all objects, sorted.
    pub(crate) fn keys(&self) -> Vec<String> {
        let listed: Vec<_> = runtime()
            .block_on(self.store.list(None).try_collect())
            .expect("the bucket can be listed");
        let mut keys: Vec<String> =
            listed.into_iter().map(|object| object.location.to_string()).collect();
        keys.sort();
        keys
    }

    /// Uploads block folders, each `meta.json` last.
    pub(crate) fn fill<'a>(&self, blocks: impl IntoIterator<Item = &'a PathBuf>) {
        for block in blocks {
            let id = block.file_name().expect("a block id").to_string_lossy();
            let mut files = files_below(block);
            files.sort_by_key(|file| file.ends_with("meta.json"));
            for file in files {
                let bytes = std::fs::read(block.join(&file)).expect("read the block");
                let key = format!("{id}/{}", file.display());
                let location = key.as_str().into();
                let put = self.store.put(&location, PutPayload::from(bytes));
                runtime().block_on(put).unwrap_or_else(|e| panic!("upload {key}: {e}"));
            }
        }
    }

    /// The ids of the blocks in Thanos' layout that are complete.
    pub(crate) fn complete_blocks(&self) -> Vec<String> {
        let keys = self.keys();
        let complete = keys.iter().filter_map(|key| key.strip_suffix("/meta.json"));
        complete.filter(|id| id.parse::<model::BlockId>().is_ok()).map(str::to_owned).collect()
    }

    /// The ids of complete blocks that are not marked for deletion.
    pub(crate) fn live_blocks(&self) -> Vec<String> {
        let keys = self.keys();
        let marked = |id: &String| keys.contains(&format!("{id}/deletion-mark.json"));
        self.complete_blocks().into_iter().filter(|id| !marked(id)).collect()
    }
}

fn write_config(folder: &Path, text: &str) -> PathBuf {
    let file = folder.join("objstore.yml");
    std::fs::write(&file, text).expect("write objstore.yml");
    file
}
