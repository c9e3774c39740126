//! Holds the crates' dependencies to `edges.txt`: direct ones by `cargo metadata`, deep ones by
//! `cargo tree`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// `cargo` with the workspace's lock file and no network.
pub(crate) fn cargo(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(args)
        .args(["--locked", "--offline"])
        // where a user's configuration unifies features over the workspace, the tree of one crate
        // shows all
        .env("CARGO_RESOLVER_FEATURE_UNIFICATION", "selected")
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}

struct Rules {
    allowed: BTreeMap<String, BTreeSet<String>>,
    forbidden: Vec<(String, Vec<String>)>,
}

fn rules() -> Rules {
    let mut rules = Rules { allowed: BTreeMap::new(), forbidden: Vec::new() };
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    for line in
        include_str!("../edges.txt").lines().filter(|l| !l.is_empty() && !l.starts_with('#'))
    {
        if let Some((name, packages)) = line.split_once(" -x ") {
            rules.forbidden.push((name.to_owned(), words(packages)));
        } else {
            let (name, uses) =
                line.split_once(':').expect("a crate, a colon, the crates it may use");
            rules.allowed.insert(name.to_owned(), words(uses).into_iter().collect());
        }
    }
    rules
}

#[test]
fn crates_use_only_what_the_table_allows() {
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--format-version=1", "--no-deps"])).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let own: BTreeSet<&str> = packages.iter().map(|p| p["name"].as_str().unwrap()).collect();
    let rules = rules();
    let mut broken = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let Some(allowed) = rules.allowed.get(name) else {
            broken.push(format!("{name} is missing in edges.txt"));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let used = dependency["name"].as_str().unwrap();
            let normal = dependency["kind"].is_null();
            if normal && own.contains(used) && !allowed.contains("*") && !allowed.contains(used) {
                broken.push(format!("{name} uses {used}"));
            }
        }
    }
    assert!(broken.is_empty(), "edges that edges.txt does not allow: {broken:#?}");
}

#[test]
fn heavy_crates_stay_behind_their_fences() {
    let mut broken = Vec::new();
    for (name, forbidden) in rules().forbidden {
        let tree = cargo(&["tree", "-e", "normal", "--prefix", "none", "-p", &name]);
        let present: BTreeSet<&str> = tree.lines().filter_map(|l| l.split(' ').next()).collect();
        broken.extend(
            forbidden
                .iter()
                .filter(|f| present.contains(f.as_str()))
                .map(|f| format!("{name} holds {f}")),
        );
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// One version of each crate that the architecture names: two would not share types.
#[test]
fn named_crates_have_one_version() {
    let lock =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock")).unwrap();
    let named = [
        "arrow",
        "parquet",
        "datafusion",
        "object_store",
        "tonic",
        "prost",
        "tokio",
        "moka",
        "axum",
        "tower-http",
        "clap",
        "serde",
        "tracing",
        "prometheus",
        "rustls",
        "hickory-resolver",
        "regex",
        "roaring",
        "indicatif",
        "hyper",
    ];
    let count = |name: &str| lock.lines().filter(|l| *l == format!("name = \"{name}\"")).count();
    let doubled: Vec<&str> = named.into_iter().filter(|name| count(name) > 1).collect();
    assert!(doubled.is_empty(), "more than one version of {doubled:?} in Cargo.lock");
}
