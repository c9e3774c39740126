//! `cargo run --release -p benches -- NAME …`: measurements as JSON lines on standard output, each
//! with the peak of anonymous memory. `README.md` beside this has the figures and the commands that
//! gave them.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "figures go to standard output")]

mod compact;
mod crowd;
mod dashboard;
mod data;
mod downsample;
mod engine;
mod gateway;
mod measure;
mod pair;
mod peers;
mod process;
mod soak;
mod start;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The same as in `drumlin`, so that benches measure what it does.
#[unsafe(export_name = "_rjem_malloc_conf")]
static CONFIGURATION: &[u8; 70] =
    b"background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0,narenas:4\0";

#[derive(Parser)]
#[command(about = "Measures speed and memory; prints JSON lines")]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Writes the blocks that the other benches read
    Data(data::Args),
    /// Times queries over block folders, from text to result, beside Go's engines
    Engine(engine::Args),
    /// Times planning, and the panels of a dashboard asked one by one and all at once
    Dashboard(dashboard::Args),
    /// Times raw to 5m of one block
    Downsample(downsample::Args),
    /// Times queries through `drumlin store` over an object server with latency
    Gateway(gateway::Args),
    /// Times queries one after another and all at once, with a limit on memory
    Crowd(crowd::Args),
    /// Does everything that harms to running processes, and looks at their memory and probes
    Soak(soak::Args),
    /// Probes processes until standard input ends; started by `soak`
    #[command(hide = true)]
    Probe(soak::ProbeArgs),
    /// Times one run of the compactor over a copy of a bucket
    Compact(compact::Args),
    /// Times the start of a gateway over a bucket of many blocks, with and without a catalog
    Start(start::Args),
}

fn main() -> Result<()> {
    match Cli::parse().bench {
        Bench::Data(args) => data::run(&args),
        Bench::Engine(args) => engine::run(&args),
        Bench::Dashboard(args) => dashboard::run(&args),
        Bench::Downsample(args) => downsample::run(&args),
        Bench::Gateway(args) => gateway::run(&args),
        Bench::Crowd(args) => crowd::run(&args),
        Bench::Soak(args) => soak::run(&args),
        Bench::Probe(args) => soak::probe(&args),
        Bench::Compact(args) => compact::run(&args),
        Bench::Start(args) => start::run(&args),
    }
}
