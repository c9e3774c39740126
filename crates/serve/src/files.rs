//! How many files and connections may be open at once.

use model::error::in_one_line;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one. Systems keep the soft one low for programs
/// that use `select`, which nothing here does.
pub fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return tracing::info!(limit = current, "open files are limited");
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => {
            tracing::info!(before = current, limit = maximum, "raised the limit of open files")
        }
        Err(error) => tracing::warn!(
            limit = current,
            error = %in_one_line(&error),
            "raise the limit of open files"
        ),
    }
}
