//! Thanos' command line is kingpin's, which differs from clap's: `--no-flag`, `--flag=false`, and
//! flags that are accepted only because of old manifests.

use std::any::TypeId;
use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::values;

/// The effect of a flag that we do not implement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlagEffect {
    /// None: it tunes something that does not exist here. Using it causes a warning.
    None,
    /// It would change answers or access. Using it is an error until it is implemented.
    Refused,
    /// Another flag took its place. Using it is an error, in Thanos too.
    Replaced(&'static str),
}

/// A flag of Thanos that we do not implement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Foreign {
    pub(crate) name: &'static str,
    /// Whether it takes no value.
    pub(crate) switch: bool,
    pub(crate) effect: FlagEffect,
}

impl Foreign {
    pub(crate) const fn value(name: &'static str) -> Foreign {
        Foreign { name, switch: false, effect: FlagEffect::None }
    }

    pub(crate) const fn switch(name: &'static str) -> Foreign {
        Foreign { name, switch: true, effect: FlagEffect::None }
    }

    pub(crate) const fn refused(self) -> Foreign {
        Foreign { effect: FlagEffect::Refused, ..self }
    }

    pub(crate) const fn replaced_by(self, flag: &'static str) -> Foreign {
        Foreign { effect: FlagEffect::Replaced(flag), ..self }
    }
}

/// Adds the foreign flags that a subcommand accepts; they are not in its help.
pub(crate) fn accept(command: Command, foreign: &'static [&'static [Foreign]]) -> Command {
    foreign.iter().copied().flatten().fold(command, |command, flag| {
        let arg = Arg::new(flag.name).long(flag.name).hide(true);
        command.arg(if flag.switch {
            arg.action(ArgAction::SetTrue)
        } else {
            arg.action(ArgAction::Append)
                .value_parser(clap::value_parser!(String))
                .allow_hyphen_values(true)
        })
    })
}

/// Lets every switch be given as `--flag`, `--flag=true` and `--flag=false`.
pub(crate) fn kingpin_switches(command: Command) -> Command {
    let names: Vec<String> =
        command.get_subcommands().map(|subcommand| subcommand.get_name().to_owned()).collect();
    names
        .into_iter()
        .fold(command, |command, name| command.mut_subcommand(name, |c| c.mut_args(kingpin_switch)))
}

fn kingpin_switch(arg: Arg) -> Arg {
    if !is_switch(&arg) {
        return arg;
    }
    let default = if arg.get_default_values().first().is_some_and(|v| v == "true") {
        "true"
    } else {
        "false"
    };
    arg.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .default_value(default)
        .value_name("BOOL")
        .hide_default_value(default == "false")
        .hide_possible_values(true)
        .value_parser(values::boolean)
}

fn is_switch(arg: &Arg) -> bool {
    match arg.get_action() {
        ArgAction::SetTrue => true,
        ArgAction::Set => arg.get_value_parser().type_id() == TypeId::of::<bool>(),
        _ => false,
    }
}

/// `--no-x` as `--x=false`, where the subcommand has a switch `x`.
pub(crate) fn rewrite_negations(command: &Command, args: Vec<OsString>) -> Vec<OsString> {
    let chosen = args
        .iter()
        .skip(1)
        .filter_map(|arg| arg.to_str())
        .find_map(|arg| command.find_subcommand(arg));
    let Some(chosen) = chosen else { return args };
    let is_known = |name: &str| {
        chosen.get_arguments().any(|arg| arg.get_long() == Some(name) && is_switch(arg))
    };
    let rewrite = |arg: OsString| {
        let name =
            arg.to_str().and_then(|text| text.strip_prefix("--no-")).filter(|name| is_known(name));
        name.map(|name| OsString::from(format!("--{name}=false"))).unwrap_or(arg)
    };
    args.into_iter().map(rewrite).collect()
}

/// The foreign flags that the user gave.
pub(crate) fn given<'a>(
    matches: &ArgMatches,
    foreign: &'a [&'a [Foreign]],
) -> impl Iterator<Item = &'a Foreign> {
    let used = |flag: &&Foreign| {
        let on_command_line = matches.value_source(flag.name) == Some(ValueSource::CommandLine);
        // a switch that is turned off asks for nothing, and neither does an empty value
        let asks = if flag.switch {
            matches.get_one::<bool>(flag.name) == Some(&true)
        } else {
            matches
                .get_many::<String>(flag.name)
                .is_some_and(|mut values| values.any(|value| !value.is_empty()))
        };
        on_command_line && asks
    };
    foreign.iter().copied().flatten().filter(used)
}
