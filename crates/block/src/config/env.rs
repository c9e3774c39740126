//! `$(NAME)` in configuration files.

use super::Environment;
use crate::{Error, Kind, Result};

/// Replaces every `$(NAME)`.
///
/// # Errors
/// `Invalid` for a name that is not set.
pub fn substitute(text: &str, environment: &Environment) -> Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("$(") {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let name_and_rest = &after[2..];
        let end = name_and_rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(name_and_rest.len());
        if end == 0 || !name_and_rest[end..].starts_with(')') {
            out.push_str("$(");
            rest = name_and_rest;
            continue;
        }
        let name = &name_and_rest[..end];
        let Some(value) = environment.get(name) else {
            let text = format!(
                "the configuration refers to the environment variable {name}, which is not set"
            );
            return Err(Error::new(Kind::Invalid, text));
        };
        out.push_str(value);
        rest = &name_and_rest[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}
