//! `objstore.yml`: which bucket, where and with which credentials, as Thanos reads it.
//!
//! The file is checked against a table of every documented key. A key that is not in it is an error
//! that names the nearest one. Some of the others are used, some have no effect here (a warning
//! when they are set), and some would weaken security or change data if they were ignored: those
//! are errors when they are set.

mod aws_profile;
mod env;
mod fields;
mod parse;
mod providers;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::bucket::prefixed::{self, Prefixed};
use crate::bucket::{Hints, filesystem};
use crate::{Bucket, BucketMetrics, BucketSettings, Error, HedgingSettings, Kind, Result};
use model::Clock;

pub use env::substitute;

/// A snapshot of environment variables.
pub type Environment = BTreeMap<String, String>;

/// The providers that are supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    S3,
    Gcs,
    Azure,
    Filesystem,
}

impl Provider {
    pub fn as_str(self) -> &'static str {
        match self {
            Provider::S3 => "S3",
            Provider::Gcs => "GCS",
            Provider::Azure => "AZURE",
            Provider::Filesystem => "FILESYSTEM",
        }
    }

    fn from_name(name: &str) -> Result<Provider> {
        let upper = name.to_uppercase();
        let supported = [Provider::S3, Provider::Gcs, Provider::Azure, Provider::Filesystem];
        if let Some(provider) = supported.into_iter().find(|p| p.as_str() == upper) {
            return Ok(provider);
        }
        let text = match upper.as_str() {
            "SWIFT" | "COS" | "ALIYUNOSS" | "BOS" | "OCI" | "OBS" => {
                format!(
                    "object store type {upper} is not supported yet (supported: S3, GCS, AZURE, \
                     FILESYSTEM)"
                )
            }
            "" => "object store configuration: \"type\" is missing (S3, GCS, AZURE or FILESYSTEM)"
                .to_owned(),
            _ => format!(
                "object store type {name:?} is unknown (supported: S3, GCS, AZURE, FILESYSTEM)"
            ),
        };
        Err(Error::new(Kind::Invalid, text))
    }
}

/// A checked `objstore.yml`. `Debug` shows no values, because some are secret.
#[derive(Clone)]
pub struct ObjectStoreConfig {
    provider: Provider,
    prefix: String,
    values: parse::ConfigValues,
    warnings: Vec<String>,
    environment: Environment,
    max_in_flight: usize,
}

impl fmt::Debug for ObjectStoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectStoreConfig")
            .field("provider", &self.provider)
            .field("prefix", &self.prefix)
            .field("keys", &self.values.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl ObjectStoreConfig {
    /// Reads the YAML text; `$(NAME)` is replaced from `environment`, which is also where
    /// credentials that are not in the file come from.
    pub fn parse(yaml: &str, environment: &Environment) -> Result<ObjectStoreConfig> {
        let yaml = yaml.strip_prefix('\u{feff}').unwrap_or(yaml);
        let text = env::substitute(yaml, environment)?;
        let root: serde_yaml_ng::Value = serde_yaml_ng::from_str(&text).map_err(|e| {
            Error::caused(Kind::Invalid, "object store configuration is no valid YAML", e)
        })?;
        let provider = Provider::from_name(&parse::provider_name(&root)?)?;
        let mut values = parse::ConfigValues::default();
        let mut warnings = Vec::new();
        parse::check(&root, &fields::top(provider), "", &mut values, &mut warnings)?;
        let prefix = values.get("prefix").unwrap_or_default().trim_matches('/').to_owned();
        let config = ObjectStoreConfig {
            provider,
            prefix,
            values,
            warnings,
            environment: environment.clone(),
            max_in_flight: BucketSettings::default().max_in_flight,
        };
        if provider != Provider::Filesystem {
            prefixed::check(&config.prefix)?;
        }
        providers::validate(&config)?;
        config.hedging()?;
        Ok(config)
    }

    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// The same bucket with no more than so many requests under way at once.
    #[must_use]
    pub fn with_max_in_flight(mut self, requests: usize) -> ObjectStoreConfig {
        self.max_in_flight = requests;
        self
    }

    /// How reads are hedged, if they are. A folder's are not: each is a read by this machine.
    fn hedging(&self) -> Result<Option<HedgingSettings>> {
        let invalid = |key: &str, expected: &str| {
            let text = format!(
                "object store configuration: hedging_config.{key} must be {expected}, and reads \
                 are hedged only with hedging_config.enabled: true"
            );
            Err(Error::new(Kind::Invalid, text))
        };
        let defaults = HedgingSettings::default();
        let up_to = match self.values.number("hedging_config.up_to")? {
            Some(up_to @ 1..=16) => up_to as usize,
            Some(_) => return invalid("up_to", "a number from 1 to 16"),
            None => defaults.up_to,
        };
        let quantile = match self.values.get("hedging_config.quantile").map(str::parse) {
            Some(Ok(quantile)) if quantile > 0.0 && quantile < 1.0 => quantile,
            Some(_) => return invalid("quantile", "a number between 0 and 1"),
            None => defaults.quantile,
        };
        let is_on = self.values.is_on("hedging_config.enabled")
            && self.provider != Provider::Filesystem
            && up_to > 1;
        Ok(is_on.then_some(HedgingSettings { up_to, quantile }))
    }

    /// Everything that is set but has no effect here, one line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The name of the bucket, as metrics show it.
    pub fn bucket_name(&self) -> &str {
        let key = match self.provider {
            Provider::S3 | Provider::Gcs => "config.bucket",
            Provider::Azure => "config.container",
            Provider::Filesystem => "config.directory",
        };
        self.values.get(key).unwrap_or_default()
    }

    /// The folder of a FILESYSTEM bucket, prefix included.
    pub fn directory(&self) -> Option<PathBuf> {
        let folder =
            (self.provider == Provider::Filesystem).then(|| PathBuf::from(self.bucket_name()))?;
        Some(if self.prefix.is_empty() { folder } else { filesystem::join(&folder, &self.prefix) })
    }

    /// For those who only read: a folder that is not there is a mistake, and would be created.
    ///
    /// # Errors
    /// `NotFound` for a FILESYSTEM bucket whose folder is not there.
    pub fn must_exist(&self) -> Result<()> {
        let is_missing =
            self.provider == Provider::Filesystem && !Path::new(self.bucket_name()).is_dir();
        if !is_missing {
            return Ok(());
        }
        let text = format!(
            "object store configuration: config.directory {} is no folder, and this process, \
             which only reads, does not create it: create it, or correct the path",
            self.bucket_name()
        );
        Err(Error::new(Kind::NotFound, text))
    }

    /// The object store, below the prefix if one is set. Nothing is sent yet; a folder is created.
    pub fn build_store(&self) -> Result<Arc<dyn object_store::ObjectStore>> {
        self.store_with(&Hints::default())
    }

    /// As [`build_store`](ObjectStoreConfig::build_store); what is learnt about the store goes to
    /// the hints.
    fn store_with(&self, hints: &Hints) -> Result<Arc<dyn object_store::ObjectStore>> {
        let store = providers::build(self, hints)?;
        // a folder's prefix is part of its path
        if self.prefix.is_empty() || self.provider == Provider::Filesystem {
            return Ok(store);
        }
        Ok(Arc::new(Prefixed::new(store, &self.prefix)?))
    }

    /// The bucket over the object store.
    pub fn build(&self, metrics: BucketMetrics, clock: Arc<dyn Clock>) -> Result<Bucket> {
        let mut settings = BucketSettings {
            name: self.bucket_name().to_owned(),
            folder: self.directory(),
            max_in_flight: self.max_in_flight,
            hedging: self.hedging()?,
            ..BucketSettings::default()
        };
        let part_size = self
            .values
            .number("config.part_size")?
            .or(self.values.number("config.chunk_size_bytes")?);
        if let Some(part_size) = part_size.filter(|n| *n > 0) {
            // S3 refuses parts below 5 MiB; above 1 GiB memory is wasted
            settings.part_size = part_size.clamp(5 << 20, 1 << 30) as usize;
        }
        let store = self.store_with(&settings.hints)?;
        Ok(Bucket::new(store, settings, metrics, clock))
    }
}

#[cfg(test)]
mod tests;
