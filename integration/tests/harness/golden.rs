//! Blocks and answers recorded from real Prometheus and Thanos.
//!
//! Raw blocks and all answers are in this repository; the downsampled blocks (12 MB) are not, and
//! are looked for beside it.

use std::path::PathBuf;

use serde_json::Value;

use super::root;

/// One request and what it was answered.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) path: String,
    /// Form fields; a name may come more than once.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) code: u16,
    pub(crate) body: Value,
}

impl Recorded {
    fn parse(line: &str) -> Recorded {
        let line: Value = serde_json::from_str(line).expect("a line of JSON");
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let mut fields = Vec::new();
        for (name, value) in line["params"].as_object().expect("params") {
            let values = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
            fields.extend(values.iter().map(|value| (name.clone(), text(value))));
        }
        Recorded {
            path: line["path"].as_str().expect("a path").to_owned(),
            fields,
            code: line["code"].as_u64().expect("a code") as u16,
            body: line["body"].clone(),
        }
    }

    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    pub(crate) fn query(&self) -> &str {
        self.field("query")
    }

    pub(crate) fn is_range(&self) -> bool {
        self.path.ends_with("query_range")
    }

    /// What distinguishes it from the others, for lists.
    pub(crate) fn name(&self) -> String {
        let kind = self.path.rsplit('/').next().unwrap_or_default();
        format!("{kind} {}{}", self.query(), self.field("match[]"))
    }
}

/// The recorded answers of `<name>.jsonl`.
pub(crate) fn answers(name: &str) -> Vec<Recorded> {
    let path = root().join("integration/testdata").join(format!("{name}.jsonl"));
    let text =
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()));
    text.lines().map(Recorded::parse).collect()
}

/// The raw blocks of one replica: `eu-0`, `eu-1`, `us-0` or `us-1`.
pub(crate) fn raw(replica: &str) -> Vec<PathBuf> {
    // the engine's tests read the same blocks
    blocks(root().join("crates/engine/tests/data/golden/raw").join(replica))
}

pub(crate) const REPLICAS: [&str; 4] = ["eu-0", "eu-1", "us-0", "us-1"];

/// 16 days of one replica as Thanos' compactor leaves them; `None` if the folder is not available.
pub(crate) fn downsampled() -> Option<Vec<PathBuf>> {
    let folder = root().join("../shared/data/golden/downsampled");
    folder.is_dir().then(|| blocks(folder))
}

fn blocks(folder: PathBuf) -> Vec<PathBuf> {
    let ids = super::block_ids(&folder);
    assert!(!ids.is_empty(), "no block in {}", folder.display());
    ids.into_iter().map(|id| folder.join(id)).collect()
}
