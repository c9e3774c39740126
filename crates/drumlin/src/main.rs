//! One binary for every component: flags become a component's `Settings`, the component becomes
//! listeners. Nothing else happens here.

#![allow(clippy::print_stderr, reason = "why it ended is shown whatever the log level is")]

mod allocator;
mod bucket;
mod cache_config;
mod cli;
mod compact;
mod demo;
mod gateway;
mod memory;
mod process;
mod query;
mod sidecar;
mod store;

use std::process::ExitCode;

use cli::Subcommands;
use model::error::in_one_line;

fn main() -> ExitCode {
    let parsed = match cli::parse(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(error) => error.exit(),
    };
    match run(parsed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // not in the log, so that it is seen at any log level, and before the log exists
            eprintln!("drumlin: error: {}", in_one_line(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run(parsed: cli::Parsed) -> anyhow::Result<()> {
    let start = process::Start::new(parsed.flags, parsed.without_effect);
    macro_rules! subcommand {
        ($module:ident, $args:ident) => {
            start.run($args.process().log_settings()?, |context| $module::run(*$args, context))
        };
    }
    match parsed.subcommand {
        Subcommands::Sidecar(args) => subcommand!(sidecar, args),
        Subcommands::Store(args) => subcommand!(store, args),
        Subcommands::Compact(args) => subcommand!(compact, args),
        Subcommands::Query(args) => subcommand!(query, args),
        Subcommands::Demo(args) => subcommand!(demo, args),
    }
}
