//! Keeps Prometheus' configuration current: expands `$(NAME)` from the environment into the file
//! Prometheus reads, and asks for a reload whenever that file or a rule file changed.
//!
//! Files are looked at every watch interval; a reload that fails is tried again every retry
//! interval.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use model::Clock;
use model::error::in_one_line;
use upstream::PrometheusClient;

use crate::metrics::ReloaderMetrics;
use crate::{Error, Kind, Result};

/// How deep folders inside rule folders are followed.
const MAX_DEPTH: usize = 16;

/// What to watch; the defaults are Thanos'.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloaderSettings {
    /// `--reloader.config-file`.
    pub config_file: Option<PathBuf>,
    /// `--reloader.config-envsubst-file`: where the expanded configuration goes.
    pub output_file: Option<PathBuf>,
    /// `--reloader.rule-dir`, repeatable.
    pub rule_dirs: Vec<PathBuf>,
    /// `--reloader.watch-interval`; zero = look once.
    pub watch_interval: Duration,
    /// `--reloader.retry-interval`.
    pub retry_interval: Duration,
    /// The environment that `$(NAME)` refers to.
    pub environment: BTreeMap<String, String>,
}

impl Default for ReloaderSettings {
    fn default() -> ReloaderSettings {
        ReloaderSettings {
            config_file: None,
            output_file: None,
            rule_dirs: Vec::new(),
            watch_interval: Duration::from_secs(180),
            retry_interval: Duration::from_secs(5),
            environment: BTreeMap::new(),
        }
    }
}

impl ReloaderSettings {
    /// Whether there is anything to watch.
    pub fn is_active(&self) -> bool {
        self.config_file.is_some() || !self.rule_dirs.is_empty()
    }
}

/// Watches files and has Prometheus reload them.
#[derive(Debug)]
pub(crate) struct Reloader {
    settings: Arc<ReloaderSettings>,
    client: PrometheusClient,
    clock: Arc<dyn Clock>,
    metrics: ReloaderMetrics,
    /// The hash of the files that Prometheus loaded last.
    loaded: Option<u64>,
}

impl Reloader {
    pub(crate) fn new(
        settings: ReloaderSettings,
        client: PrometheusClient,
        clock: Arc<dyn Clock>,
        metrics: ReloaderMetrics,
    ) -> Reloader {
        Reloader { settings: Arc::new(settings), client, clock, metrics, loaded: None }
    }

    pub(crate) async fn run(mut self) -> std::convert::Infallible {
        loop {
            let pause = match self.apply().await {
                Ok(()) if self.settings.watch_interval.is_zero() => {
                    return std::future::pending().await;
                }
                Ok(()) => self.settings.watch_interval,
                Err(error) => {
                    tracing::warn!(error = %in_one_line(&error), "apply the configuration of \
                        prometheus; trying again");
                    self.settings.retry_interval
                }
            };
            self.clock.sleep(pause).await;
        }
    }

    /// Brings the output file up to date, and has Prometheus reload if anything changed since it
    /// last loaded.
    pub(crate) async fn apply(&mut self) -> Result<()> {
        self.metrics.apply_operations.inc();
        let settings = Arc::clone(&self.settings);
        let done = tokio::task::spawn_blocking(move || refresh(&settings)).await;
        let found = done
            .unwrap_or_else(|e| Err(Error::caused(Kind::Internal, "file work of the reloader", e)));
        let found = found.inspect_err(|_| self.metrics.apply_failures.inc())?;
        if self.loaded == Some(found) {
            return Ok(());
        }
        self.metrics.reloads.inc();
        if let Err(error) = self.client.reload().await {
            self.metrics.reload_failures.inc();
            self.metrics.last_reload_successful.set(0.0);
            return Err(error.into());
        }
        self.metrics.last_reload_successful.set(1.0);
        self.metrics.last_reload_success.set(self.clock.now().0 as f64 / 1000.0);
        tracing::info!("prometheus reloaded its configuration");
        self.loaded = Some(found);
        Ok(())
    }
}

/// Writes the expanded configuration and returns a hash over all that is watched.
fn refresh(settings: &ReloaderSettings) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    if let Some(path) = &settings.config_file {
        let text = fs::read(path).map_err(|e| Error::local("reading", path, e))?;
        if text.starts_with(&[0x1f, 0x8b]) {
            let message =
                format!("{} is compressed with gzip, which is not supported", path.display());
            return Err(Error::new(Kind::Invalid, message));
        }
        let text = match &settings.output_file {
            Some(output) => {
                let expanded = expand(&text, &settings.environment)
                    .map_err(|name| unset_variable(path, &name))?;
                replace(output, &expanded)?;
                expanded
            }
            None => text,
        };
        text.hash(&mut hasher);
    }
    for dir in &settings.rule_dirs {
        hash_dir(dir, MAX_DEPTH, &mut hasher)?;
    }
    Ok(hasher.finish())
}

fn unset_variable(path: &Path, name: &str) -> Error {
    let message =
        format!("{} refers to the environment variable {name:?}, which is not set", path.display());
    Error::new(Kind::Invalid, message)
}

/// Replaces each `$(NAME)`. The error is the name of a variable that is not set.
fn expand(
    text: &[u8],
    environment: &BTreeMap<String, String>,
) -> std::result::Result<Vec<u8>, String> {
    let mut expanded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.windows(2).position(|w| w == b"$(") {
        expanded.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let name = rest[2..].split(|b| *b == b')').next().unwrap_or_default();
        let is_name = matches!(name.first(), Some(b'a'..=b'z' | b'A'..=b'Z' | b'_'))
            && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
            && rest.len() > name.len() + 2;
        if !is_name {
            expanded.extend_from_slice(&rest[..2]);
            rest = &rest[2..];
            continue;
        }
        let name = String::from_utf8_lossy(name);
        let value = environment.get(name.as_ref()).ok_or_else(|| name.clone().into_owned())?;
        expanded.extend_from_slice(value.as_bytes());
        rest = &rest[name.len() + 3..];
    }
    expanded.extend_from_slice(rest);
    Ok(expanded)
}

/// Replaces a file so that Prometheus never sees half of it.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    fs::write(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(|e| Error::local("writing", path, e))
}

fn hash_dir(dir: &Path, depth: usize, hasher: &mut DefaultHasher) -> Result<()> {
    let failed = |e: std::io::Error| Error::local("reading rules in", dir, e);
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.sort();
    for path in paths {
        // Kubernetes swaps mounted files by symlinks, so links are followed.
        let kind = fs::metadata(&path).map_err(|e| Error::local("reading rules in", &path, e))?;
        if kind.is_dir() && depth > 0 {
            hash_dir(&path, depth - 1, hasher)?;
        } else if kind.is_file() {
            path.hash(hasher);
            fs::read(&path).map_err(|e| Error::local("reading", &path, e))?.hash(hasher);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
