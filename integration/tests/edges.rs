//! Checks the crates' dependencies against `edges.txt`: direct ones by `cargo metadata`, deep ones
//! by `cargo tree`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
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

/// Each own crate, where it lies, and the own crates it depends on; `true` where not for tests
/// only.
fn own_crates() -> BTreeMap<String, OwnCrate> {
    let metadata = cargo(&["metadata", "--format-version=1", "--no-deps"]);
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let name = |package: &Value| package["name"].as_str().unwrap().to_owned();
    let own: BTreeSet<String> = packages.iter().map(name).collect();
    let of_package = |package: &Value| {
        let manifest = PathBuf::from(package["manifest_path"].as_str().unwrap());
        let uses = package["dependencies"].as_array().unwrap().iter();
        let uses = uses.map(|used| (name(used), used["kind"].is_null()));
        let uses = uses.filter(|(used, _)| own.contains(used)).collect();
        (name(package), OwnCrate { folder: manifest.parent().unwrap().to_owned(), uses })
    };
    packages.iter().map(of_package).collect()
}

struct OwnCrate {
    folder: PathBuf,
    uses: BTreeSet<(String, bool)>,
}

impl OwnCrate {
    /// All of its Rust code.
    fn code(&self) -> String {
        let mut code = String::new();
        let mut folders: Vec<PathBuf> =
            ["src", "tests"].map(|name| self.folder.join(name)).into_iter().collect();
        while let Some(folder) = folders.pop() {
            let Ok(entries) = std::fs::read_dir(folder) else { continue };
            for path in entries.map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|ext| ext == "rs") {
                    code += &std::fs::read_to_string(path).unwrap();
                }
            }
        }
        code
    }
}

#[test]
fn crates_use_what_the_table_allows_and_nothing_else() {
    let rules = rules();
    let crates = own_crates();
    let mut broken = Vec::new();
    for (name, own) in &crates {
        let Some(allowed) = rules.allowed.get(name) else {
            broken.push(format!("{name} is missing in edges.txt"));
            continue;
        };
        let used: BTreeSet<&String> =
            own.uses.iter().filter(|(_, normal)| *normal).map(|(used, _)| used).collect();
        for used in used.iter().filter(|used| !allowed.contains("*") && !allowed.contains(**used)) {
            broken.push(format!("{name} uses {used}, which edges.txt does not allow"));
        }
        for unused in allowed.iter().filter(|a| *a != "*" && !used.contains(a)) {
            broken.push(format!("{name} does not use {unused}, which edges.txt allows"));
        }
    }
    for gone in rules.allowed.keys().filter(|name| !crates.contains_key(*name)) {
        broken.push(format!("edges.txt names {gone}, which is no crate"));
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn crates_name_every_own_crate_they_depend_on() {
    let mut unused = Vec::new();
    for (name, own) in own_crates() {
        let code = own.code();
        for (used, _) in &own.uses {
            let path = format!("{}::", used.replace('-', "_"));
            if !code.contains(&path) {
                unused.push(format!("{name} depends on {used} and never names it"));
            }
        }
    }
    assert!(unused.is_empty(), "{unused:#?}");
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
        "datafusion-common",
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
