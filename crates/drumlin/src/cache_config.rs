//! `--index-cache-size` and `--bucket-cache-size`, and the files by which Thanos' store gateway is
//! told about its caches.

use anyhow::{Context as _, Result, bail};
use block::config::{Environment, substitute};
use serde::Deserialize;
use serde_yaml_ng::Value;

use crate::cli::common::content;
use crate::cli::values::ByteSize;

const INDEX: &str = "index-cache.config";
const BUCKET: &str = "store.caching-bucket.config";

/// What Thanos takes for an IN-MEMORY cache whose file names no size.
const DEFAULT_BYTES: u64 = 250 << 20;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Caches")]
pub(crate) struct CacheArgs {
    /// Memory for index headers, postings, series entries and Parquet footers; at most an eighth of
    /// --memory-budget.
    #[arg(
        id = "index-cache-size",
        long = "index-cache-size",
        default_value = "250MB",
        value_name = "SIZE"
    )]
    index_size: ByteSize,
    /// The same as YAML of Thanos: `{type: IN-MEMORY, config: {max_size: 250MB}}`; it takes the
    /// place of --index-cache-size. Other types are refused.
    #[arg(id = "index-cache.config", long = "index-cache.config", value_name = "CONTENT")]
    index_config: Option<String>,
    /// A file with that YAML.
    #[arg(id = "index-cache.config-file", long = "index-cache.config-file", value_name = "FILE")]
    index_config_file: Option<String>,
    /// Memory for chunks and Parquet pages that were read lately; at most an eighth of
    /// --memory-budget.
    #[arg(
        id = "bucket-cache-size",
        long = "bucket-cache-size",
        default_value = "1GB",
        value_name = "SIZE"
    )]
    bucket_size: ByteSize,
    /// The same as YAML of Thanos; it takes the place of --bucket-cache-size. Other types than
    /// IN-MEMORY are refused.
    #[arg(
        id = "store.caching-bucket.config",
        long = "store.caching-bucket.config",
        value_name = "CONTENT"
    )]
    bucket_config: Option<String>,
    /// A file with that YAML.
    #[arg(
        id = "store.caching-bucket.config-file",
        long = "store.caching-bucket.config-file",
        value_name = "FILE"
    )]
    bucket_config_file: Option<String>,
}

impl CacheArgs {
    /// Bytes for chunks and pages. Warns about what the file sets without effect.
    pub(crate) fn bucket_bytes(&self, environment: &Environment) -> Result<u64> {
        let Some(text) = content(BUCKET, &self.bucket_config, &self.bucket_config_file)? else {
            return Ok(self.bucket_size.0);
        };
        CacheFile { flag: BUCKET, options: &BUCKET_OPTIONS }.read(&text, environment)
    }

    /// Bytes for parts of indices and footers. Warns about what the file sets without effect.
    pub(crate) fn index_bytes(&self, environment: &Environment) -> Result<u64> {
        let Some(text) = content(INDEX, &self.index_config, &self.index_config_file)? else {
            return Ok(self.index_size.0);
        };
        CacheFile { flag: INDEX, options: &INDEX_OPTIONS }.read(&text, environment)
    }
}

/// Keys beside `type` and `config`.
const INDEX_OPTIONS: [&str; 2] = ["enabled_items", "ttl"];
const BUCKET_OPTIONS: [&str; 9] = [
    "chunk_subrange_size",
    "max_chunks_get_range_requests",
    "metafile_max_size",
    "chunk_object_attrs_ttl",
    "chunk_subrange_ttl",
    "blocks_iter_ttl",
    "metafile_exists_ttl",
    "metafile_doesnt_exist_ttl",
    "metafile_content_ttl",
];

/// A file about a cache, and what it may say.
struct CacheFile {
    /// The flag, without `--` and `-file`.
    flag: &'static str,
    options: &'static [&'static str],
}

#[derive(Deserialize)]
struct Written {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    config: Value,
    #[serde(flatten)]
    options: std::collections::BTreeMap<String, Value>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct InMemory {
    max_size: Option<Value>,
    max_item_size: Option<Value>,
}

impl CacheFile {
    /// The size of the cache in bytes.
    fn read(&self, yaml: &str, environment: &Environment) -> Result<u64> {
        let flag = self.flag;
        let yaml = substitute(yaml, environment).with_context(|| format!("--{flag}"))?;
        let written: Written = serde_yaml_ng::from_str(&yaml)
            .with_context(|| format!("--{flag}: no YAML with the keys type and config"))?;
        match written.kind.to_uppercase().as_str() {
            "IN-MEMORY" => {}
            other @ ("MEMCACHED" | "REDIS" | "GROUPCACHE") => bail!(
                "--{flag}: type {other} is not supported yet: give type IN-MEMORY with \
                 config.max_size, or leave out --{flag} and --{flag}-file and set {}",
                if flag == BUCKET { "--bucket-cache-size" } else { "--index-cache-size" }
            ),
            "" => bail!("--{flag}: type is missing: give type: IN-MEMORY"),
            _ => bail!("--{flag}: type {:?} is unknown: give type: IN-MEMORY", written.kind),
        }
        for option in written.options.keys() {
            if !self.options.contains(&option.as_str()) {
                let known = self.options.join(", ");
                bail!("--{flag}: unknown key {option:?}; known here: type, config, {known}");
            }
            self.without_effect(option);
        }
        let memory = match written.config {
            Value::Null => InMemory::default(),
            config => serde_yaml_ng::from_value(config).with_context(|| {
                format!("--{flag}: config must hold max_size and max_item_size, or less")
            })?,
        };
        if let Some(size) = memory.max_item_size {
            self.size("max_item_size", &size)?;
            self.without_effect("config.max_item_size");
        }
        memory.max_size.map_or(Ok(DEFAULT_BYTES), |size| self.size("max_size", &size))
    }

    fn size(&self, key: &str, value: &Value) -> Result<u64> {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => String::from("?"),
        };
        match text.parse::<ByteSize>() {
            Ok(ByteSize(bytes)) => Ok(bytes),
            Err(reason) => bail!("--{}: config.{key}: {reason}", self.flag),
        }
    }

    fn without_effect(&self, key: &str) {
        tracing::warn!(flag = self.flag, key, "this key of the file has no effect");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: CacheFile = CacheFile { flag: INDEX, options: &INDEX_OPTIONS };

    fn read(yaml: &str) -> Result<u64, String> {
        let environment = Environment::from([("SIZE".to_owned(), "3MB".to_owned())]);
        FILE.read(yaml, &environment).map_err(|e| format!("{e:#}"))
    }

    #[test]
    fn sizes_of_in_memory_caches_are_read() {
        assert_eq!(read("type: IN-MEMORY\nconfig:\n  max_size: 2GB\n"), Ok(2 << 30));
        assert_eq!(read("{type: in-memory, config: {max_size: 1048576}}"), Ok(1 << 20));
        assert_eq!(read("{type: IN-MEMORY, config: {max_size: $(SIZE)}}"), Ok(3 << 20));
        assert_eq!(read("type: IN-MEMORY"), Ok(DEFAULT_BYTES));
        let items = "{type: IN-MEMORY, config: {max_item_size: 5MiB}, enabled_items: [Postings]}";
        assert_eq!(read(items), Ok(DEFAULT_BYTES));
    }

    #[test]
    fn other_caches_are_refused_by_name_with_the_way_out() {
        for kind in ["MEMCACHED", "redis", "GROUPCACHE"] {
            let error = read(&format!("{{type: {kind}, config: {{addr: x}}}}")).unwrap_err();
            assert!(error.contains(&kind.to_uppercase()), "{error}");
            assert!(error.contains("IN-MEMORY") && error.contains("--index-cache-size"), "{error}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (yaml, named) in [
            ("config: {max_size: 1GB}", "type is missing"),
            ("type: MEMORY", "\"MEMORY\" is unknown"),
            ("{type: IN-MEMORY, conf: {}}", "unknown key \"conf\""),
            ("{type: IN-MEMORY, config: {maxsize: 1}}", "maxsize"),
            ("{type: IN-MEMORY, config: {max_size: much}}", "config.max_size: expected a size"),
            ("{type: IN-MEMORY, config: {max_size: [1]}}", "config.max_size: expected a size"),
            ("{type: IN-MEMORY, config: {max_size: $(ABSENT)}}", "ABSENT"),
            ("[", "no YAML"),
        ] {
            let error = read(yaml).unwrap_err();
            assert!(error.contains(named) && error.starts_with("--index-cache.config"), "{error}");
        }
    }
}
