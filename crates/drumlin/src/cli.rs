//! The command line: Thanos' names, defaults and spellings.

pub(crate) mod common;
pub(crate) mod kingpin;
pub(crate) mod values;

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{ArgMatches, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use model::secret::shown_url;

use crate::{compact, demo, query, sidecar, store};
use kingpin::{FlagEffect, Foreign};

/// Keeps years of Prometheus metrics in object storage and answers PromQL over them.
///
/// Uses Thanos' protocols and accepts Thanos' flags: in a Thanos deployment, swap the image and
/// keep the manifests.
#[derive(Debug, Parser)]
#[command(
    name = "drumlin",
    version,
    max_term_width = 120,
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    subcommand: Subcommands,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Subcommands {
    Sidecar(Box<sidecar::Args>),
    Store(Box<store::Args>),
    Compact(Box<compact::Args>),
    Query(Box<query::Args>),
    Demo(Box<demo::Args>),
}

/// Subcommands of Thanos that do not exist here.
const NOT_THERE_YET: [&str; 5] = ["receive", "rule", "query-frontend", "tools", "downsample"];

/// A parsed command line.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) subcommand: Subcommands,
    /// Every flag with its value, as the status page shows it.
    pub(crate) flags: BTreeMap<String, String>,
    /// Flags that were given and have no effect.
    pub(crate) without_effect: Vec<&'static str>,
}

/// Flags a subcommand accepts for compatibility with Thanos.
fn foreign(subcommand: &str) -> &'static [&'static [Foreign]] {
    match subcommand {
        "sidecar" => &[common::FOREIGN, sidecar::FOREIGN],
        "store" => &[common::FOREIGN, store::FOREIGN],
        "compact" => &[common::FOREIGN, compact::FOREIGN],
        "query" => &[common::FOREIGN, query::FOREIGN],
        _ => &[],
    }
}

fn command() -> Command {
    // the demo talks to a person: its log lines would stand between bars and answers
    let quiet = |demo: Command| demo.mut_arg("log.level", |level| level.default_value("warn"));
    let command = Cli::command().mut_subcommand("demo", quiet);
    let names: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    let command = names.into_iter().fold(command, |command, name| {
        let flags = foreign(&name);
        command.mut_subcommand(name, |subcommand| kingpin::accept(subcommand, flags))
    });
    kingpin::kingpin_switches(command)
}

/// # Errors
/// Carries the text to print and the exit code: 2 for a wrong command line, 0 for help and version.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Parsed, clap::Error> {
    let mut command = command();
    let args = kingpin::rewrite_negations(&command, args.into_iter().collect());
    if let Some(name) = args.get(1).and_then(|arg| NOT_THERE_YET.iter().find(|name| arg == *name)) {
        let text = format!(
            "thanos {name} has no counterpart in this version of drumlin: keep running Thanos' \
             beside it, both work on the same bucket and speak the same protocols"
        );
        return Err(command.error(ErrorKind::InvalidSubcommand, text));
    }
    let matches = command.try_get_matches_from_mut(args)?;
    let parsed = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    let Some((name, matches)) = matches.subcommand() else {
        return Err(command.error(ErrorKind::MissingSubcommand, "a subcommand is required"));
    };
    let mut without_effect = Vec::new();
    for flag in kingpin::given(matches, foreign(name)) {
        let text = match flag.effect {
            FlagEffect::None => {
                without_effect.push(flag.name);
                continue;
            }
            FlagEffect::Refused => format!(
                "--{} is not supported yet; it would change what is answered, so it is not ignored",
                flag.name
            ),
            FlagEffect::Replaced(by) => {
                format!("--{} is gone, as in Thanos since 0.38; use --{by}", flag.name)
            }
        };
        return Err(command.error(ErrorKind::ValueValidation, text));
    }
    let flags = command.find_subcommand(name).map(|c| flag_values(c, matches)).unwrap_or_default();
    Ok(Parsed { subcommand: parsed.subcommand, flags, without_effect })
}

/// Contents of configurations may hold credentials and are not shown.
fn flag_values(command: &Command, matches: &ArgMatches) -> BTreeMap<String, String> {
    let mut flags = BTreeMap::new();
    for arg in command.get_arguments() {
        let Some(name) = arg.get_long() else { continue };
        let Ok(Some(values)) = matches.try_get_raw(arg.get_id().as_str()) else { continue };
        let values: Vec<String> =
            values.map(|value| value.to_string_lossy().into_owned()).collect();
        let secret = name.ends_with(".config")
            || name.ends_with("-config")
            || name.ends_with(".http-client");
        let shown = if secret && !values.iter().all(String::is_empty) {
            "<hidden>".to_owned()
        } else {
            values.iter().map(|value| shown(name, value)).collect::<Vec<_>>().join(",")
        };
        flags.insert(name.to_owned(), shown);
    }
    flags
}

/// A value without what looks like a secret that was pasted into the wrong flag.
fn shown(name: &str, value: &str) -> String {
    let is_address = name.ends_with("url") || name.starts_with("endpoint");
    if value.contains('\n') || value.contains("-----BEGIN") {
        "<hidden>".to_owned()
    } else if is_address || value.contains("://") {
        shown_url(value)
    } else {
        value.to_owned()
    }
}

#[cfg(test)]
mod tests;
