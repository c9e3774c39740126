//! Holds every error type to one convention: a public `Error` with a `kind()`, a message of one
//! layer, the cause behind `source()`, and `in_one_line` where it is shown.
//!
//! Read from the sources, so that a new type cannot be forgotten.

use std::path::{Path, PathBuf};

struct SourceFile {
    name: String,
    text: String,
}

/// What the crates are built of, without their tests.
fn sources() -> Vec<SourceFile> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../crates"));
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path().join("src"))
        .filter(|folder| folder.is_dir())
        .collect();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") && name != "tests.rs" && !is_below_tests(&path) {
                let text = std::fs::read_to_string(&path).unwrap();
                let text = text.split("#[cfg(test)]\nmod tests").next().unwrap().to_owned();
                let name = path.strip_prefix(root).unwrap().display().to_string();
                files.push(SourceFile { name, text });
            }
        }
    }
    assert!(files.len() > 200, "only {} files were found", files.len());
    files
}

fn is_below_tests(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests")
}

/// The lines that `is_wrong`, with where they stand.
fn wrong_lines(is_wrong: impl Fn(&str) -> bool) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in sources() {
        for (number, line) in file.text.lines().enumerate() {
            if !line.trim_start().starts_with("//") && is_wrong(line) {
                wrong.push(format!("{}:{}: {}", file.name, number + 1, line.trim()));
            }
        }
    }
    wrong
}

/// The variants of the enums that derive `thiserror::Error`: each message with the variant's text.
fn variants(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for part in text.split("#[error(").skip(1) {
        let Some((message, rest)) = part.split_once(")]") else { continue };
        // up to the next attribute or the end of the enum
        let fields = rest.split("#[error(").next().unwrap_or_default();
        let fields = fields.split("\n}").next().unwrap_or_default();
        found.push((message.to_owned(), fields.to_owned()));
    }
    found
}

#[test]
fn no_message_contains_its_cause() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for file in sources() {
        for (message, fields) in variants(&file.text) {
            seen += 1;
            let has_cause = ["#[source]", "#[from]", "source:"].iter().any(|f| fields.contains(f));
            let shows = ["{source}", "{0}", "{source:", "{0:"].iter().any(|s| message.contains(s));
            // with named fields `{0}` is none of them
            if has_cause && shows {
                wrong.push(format!("{}: {message}", file.name));
            }
        }
    }
    assert!(seen > 40, "only {seen} messages were found");
    assert!(wrong.is_empty(), "the cause belongs behind source(): {wrong:#?}");
    let texts = wrong_lines(|line| {
        let made = line.contains("Error::new(") || line.contains("Error::caused(");
        made && ["{e}", "{error}", "{e:", "{error:", "e.to_string()", "error.to_string()"]
            .iter()
            .any(|shown| line.contains(shown))
    });
    assert!(texts.is_empty(), "use Error::caused or Error::passed: {texts:#?}");
}

#[test]
fn errors_are_shown_with_their_causes() {
    let bare = wrong_lines(|line| {
        ["= %e,", "= %err,", "= %error,", "(%e,", "(%error,", ", %error", " %error,"]
            .iter()
            .any(|field| line.contains(field))
    });
    assert!(bare.is_empty(), "a log shows in_one_line(&error): {bare:#?}");
}

#[test]
fn every_crate_has_one_error_with_a_kind() {
    let mut wrong = Vec::new();
    for file in sources().iter().filter(|f| f.name.ends_with("/src/error.rs")) {
        let layered = file.text.contains("layered_error! {");
        let own = file.text.contains("pub struct") && file.text.contains("pub fn kind(&self)");
        // where the macro itself is
        let convention = file.name == "model/src/error.rs";
        if !convention && !layered && !own {
            wrong.push(format!("{}: no error with a kind()", file.name));
        }
        if file.text.contains("pub enum Error") || file.text.contains("ErrorKind {") {
            wrong.push(format!("{}: the cases are private, the kinds are `Kind`", file.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
