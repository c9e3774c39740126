//! Checks third-party crates against `dependencies.txt`: their licences, where they come from, how
//! many versions there are.
//!
//! Licences are read for what this platform builds, the rest from `Cargo.lock`, which covers all
//! platforms. Known vulnerabilities change without a change of ours, so they are not tested;
//! CONTRIBUTING.md has a command that looks for them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::edges::cargo;

const ALLOWED: &str = include_str!("../dependencies.txt");
const LOCK: &str = include_str!("../../Cargo.lock");

/// The allowed lines of one kind, without the kind.
fn allowed(kind: &str) -> BTreeSet<&'static str> {
    ALLOWED.lines().filter_map(|line| line.strip_prefix(kind)?.strip_prefix(' ')).collect()
}

/// The platform of the compiler: packages for other platforms are not downloaded, so nothing can be
/// said about them.
fn host() -> String {
    let output = std::process::Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let text = String::from_utf8(output.stdout).expect("rustc prints UTF-8");
    text.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .expect("rustc names its host")
        .to_owned()
}

/// Each package's name and version with its licence expression.
fn licences() -> BTreeMap<String, String> {
    let metadata = cargo(&["metadata", "--format-version=1", "--filter-platform", &host()]);
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let licence = |package: &Value| {
        let text = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
        (format!("{} {}", text("name"), text("version")), text("license"))
    };
    metadata["packages"].as_array().unwrap().iter().map(licence).collect()
}

/// Whether a licence expression of SPDX, or the older form with slashes, is met by licences of the
/// list alone. An exception only widens a licence, so what follows WITH is not looked at.
fn is_met(expression: &str, list: &BTreeSet<&str>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut terms = Terms { words: &words, list };
    let met = terms.any();
    met && terms.words.is_empty()
}

struct Terms<'a> {
    words: &'a [&'a str],
    list: &'a BTreeSet<&'a str>,
}

impl<'a> Terms<'a> {
    fn take(&mut self, word: &str) -> bool {
        let found = self.words.first() == Some(&word);
        if found {
            self.words = &self.words[1..];
        }
        found
    }

    fn any(&mut self) -> bool {
        let mut met = self.all();
        while self.take("OR") {
            met |= self.all();
        }
        met
    }

    fn all(&mut self) -> bool {
        let mut met = self.one();
        while self.take("AND") {
            met &= self.one();
        }
        met
    }

    fn one(&mut self) -> bool {
        if self.take("(") {
            return self.any() & self.take(")");
        }
        let Some((name, rest)) = self.words.split_first() else { return false };
        self.words = rest;
        if self.take("WITH") {
            self.words = self.words.get(1..).unwrap_or_default();
        }
        self.list.contains(name)
    }
}

#[test]
fn licences_are_those_of_the_list() {
    let (all, list) = (licences(), allowed("licence"));
    let refused = |list: &BTreeSet<&str>| -> Vec<String> {
        all.iter()
            .filter(|(_, l)| !is_met(l, list))
            .map(|(package, l)| format!("{package}: {l:?}"))
            .collect()
    };
    assert!(all.len() > 100, "cargo names only {} packages", all.len());
    assert_eq!(
        refused(&list),
        Vec::<String>::new(),
        "under no licence of integration/dependencies.txt"
    );
    for licence in &list {
        let without = list.iter().copied().filter(|l| l != licence).collect();
        assert!(
            !refused(&without).is_empty(),
            "no crate needs the licence {licence}: remove the line"
        );
    }
}

#[test]
fn licence_expressions_are_read_as_spdx_means_them() {
    let list = BTreeSet::from(["MIT", "Apache-2.0"]);
    for met in [
        "MIT",
        "MIT OR GPL-3.0",
        "GPL-3.0/MIT",
        "(GPL-3.0 OR MIT) AND Apache-2.0",
        "GPL-3.0 OR MIT AND MIT",
    ] {
        assert!(is_met(met, &list), "{met}");
    }
    let with_exception = "Apache-2.0 WITH LLVM-exception AND MIT";
    assert!(is_met(with_exception, &list));
    for refused in
        ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR GPL-3.0) AND GPL-3.0", "MIT GPL-3.0", "(MIT"]
    {
        assert!(!is_met(refused, &list), "{refused:?}");
    }
}

/// The values of one key of all packages in `Cargo.lock`, in order.
fn locked(key: &str) -> impl Iterator<Item = &'static str> {
    let prefix = format!("{key} = ");
    LOCK.lines().filter_map(move |line| Some(line.strip_prefix(prefix.as_str())?.trim_matches('"')))
}

#[test]
fn crates_come_from_the_allowed_sources() {
    let sources: BTreeSet<&str> = locked("source").collect();
    assert_eq!(
        sources,
        allowed("source"),
        "sources in Cargo.lock, and those of integration/dependencies.txt"
    );
}

/// The part of a version that decides compatibility: up to the first part that is not 0.
fn compatible(version: &str) -> &str {
    let end = version
        .match_indices('.')
        .map(|(at, _)| at)
        .find(|at| version[..*at].bytes().any(|b| b > b'0'));
    &version[..end.unwrap_or(version.len())]
}

#[test]
fn doubled_crates_are_those_of_the_list() {
    let mut versions = BTreeMap::<&str, Vec<&str>>::new();
    // the file's own version comes before the first package
    for (name, version) in locked("name").zip(locked("version").skip(1)) {
        versions.entry(name).or_default().push(compatible(version));
    }
    versions.retain(|_, of_one| of_one.len() > 1);
    let mut listed = BTreeMap::new();
    for line in allowed("doubled") {
        let (crates, reason) =
            line.split_once(": ").expect("a crate, its versions, a colon, the reason");
        let mut words = crates.split(' ');
        let name = words.next().expect("split gives at least one");
        assert!(!reason.trim().is_empty(), "{name} is doubled without a reason");
        listed.insert(name, words.collect::<Vec<_>>());
    }
    versions.values_mut().for_each(|of_one| {
        of_one.sort_by_key(|v| v.split('.').map(|p| p.parse().unwrap_or(0)).collect::<Vec<u32>>())
    });
    assert_eq!(versions, listed, "doubled in Cargo.lock, and in integration/dependencies.txt");
}

/// `.ci/test` selects `drumlin` beside the crate to be tested. If that resolved other features than
/// the workspace does, it would build most dependencies a second time.
#[test]
fn any_crate_resolves_the_features_of_the_workspace_beside_drumlin() {
    let resolved = |selected: &[&str]| -> BTreeSet<String> {
        let tree = ["tree", "-e", "normal,build,dev", "--prefix", "none", "-f", "{p} [{f}]"];
        let lines = cargo(&[&tree, selected].concat());
        lines.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect()
    };
    let all = resolved(&["--workspace"]);
    assert!(all.len() > 100, "cargo tree names only {} packages", all.len());
    for name in ["model", "tsdb", "wire", "block", "storeapi", "engine", "store", "query", "demo"] {
        let some = resolved(&["-p", name, "-p", "drumlin"]);
        let other: Vec<_> = some.difference(&all).collect();
        assert!(
            other.is_empty(),
            "resolved otherwise for {name} than for the workspace: {other:#?}"
        );
    }
}
