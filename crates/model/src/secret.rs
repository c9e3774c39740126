//! How values are shown that may hold a secret, because somebody pasted one into the wrong field.

use std::path::Path;

/// A URL or an address without what stands before its host: a user and a password.
pub fn shown_url(text: &str) -> String {
    let (scheme, rest) = match text.find("://") {
        Some(at) => text.split_at(at + 3),
        None => ("", text),
    };
    // passwords that were not escaped may hold anything, so that the last one counts
    match rest.rfind('@') {
        Some(at) => format!("{scheme}<hidden>{}", &rest[at..]),
        None => text.to_owned(),
    }
}

/// The path of a file, unless nothing says that it is one: there is no such file, no such folder
/// either, and it is not written like the path of a file. Then it may be what the file was to hold.
/// Looks at the file system.
pub fn shown_path(path: &Path) -> String {
    // a key in base64 may begin with a slash
    let parent = path.parent().filter(|parent| parent.components().count() > 1);
    if path.exists() || parent.is_some_and(Path::is_dir) || is_written_as_file(path) {
        return path.display().to_string();
    }
    "<hidden: there is no such file or folder, and it may be the secret itself>".to_owned()
}

/// `/etc/objstore.yml` and `./ca.pem`, but no key in base64, which has no dots.
fn is_written_as_file(path: &Path) -> bool {
    let starts = ["/", "./", "../"].into_iter().any(|start| path.starts_with(start));
    let extension = path.extension().and_then(|extension| extension.to_str());
    starts && extension.is_some_and(|e| e.len() <= 5 && e.bytes().all(|b| b.is_ascii_lowercase()))
}

/// An error of a reader of YAML or JSON without the value that it quotes: `invalid type: string
/// "…", expected a map`. Names of fields are in backquotes and stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unquoted(String);

impl Unquoted {
    pub fn of(error: &impl std::error::Error) -> Unquoted {
        Unquoted(unquoted(&error.to_string()))
    }
}

impl std::fmt::Display for Unquoted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unquoted {}

fn unquoted(message: &str) -> String {
    match (message.split_once('"'), message.rsplit_once('"')) {
        (Some((before, _)), Some((all, after))) if all.len() > before.len() => {
            format!("{before}<hidden>{after}")
        }
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_passwords_are_hidden() {
        let table = [
            ("http://a.example:9090/x", "http://a.example:9090/x"),
            ("http://u:hush@a.example:9090/x", "http://<hidden>@a.example:9090/x"),
            ("https://token@a/x", "https://<hidden>@a/x"),
            ("http://u:hu/sh?@#hush@a/x", "http://<hidden>@a/x"),
            ("u:hush@a:1", "<hidden>@a:1"),
            ("dns+u:hush@a:1", "<hidden>@a:1"),
            ("a:1", "a:1"),
            ("", ""),
        ];
        for (text, shown) in table {
            assert_eq!(shown_url(text), shown);
        }
    }

    #[test]
    fn what_is_quoted_is_hidden() {
        let table = [
            (
                "invalid type: string \"hu\\\"sh\", expected a map",
                "invalid type: string <hidden>, \
              expected a map",
            ),
            ("unknown field `x`", "unknown field `x`"),
            ("one \" alone", "one \" alone"),
        ];
        for (message, shown) in table {
            assert_eq!(unquoted(message), shown);
        }
    }

    #[test]
    fn what_is_no_path_is_hidden() {
        let here = env!("CARGO_MANIFEST_DIR");
        for path in [here.to_owned(), format!("{here}/Cargo.toml"), format!("{here}/absent")] {
            assert_eq!(shown_path(Path::new(&path)), path);
        }
        for path in ["/nowhere/objstore.yml", "./nowhere/ca.pem"] {
            assert_eq!(shown_path(Path::new(path)), path);
        }
        for text in ["hunter2", "/hunter2", "MDEyMzQ1/Njc4OWFiY2RlZg==", "/MDEy/MzQ1==", ""] {
            assert!(shown_path(Path::new(text)).starts_with("<hidden"), "{text}");
        }
    }
}
