//! Compiles `proto/` without protoc and keeps the descriptor set for gRPC reflection.

use std::path::PathBuf;
use std::{env, fs, io};

use prost::Message;

const FILES: [&str; 9] = [
    "prometheus/remote.proto",
    "thanos/exemplars.proto",
    "thanos/info.proto",
    "thanos/metadata.proto",
    "thanos/query.proto",
    "thanos/rules.proto",
    "thanos/store.proto",
    "thanos/targets.proto",
    "thanos/types.proto",
];

fn main() -> io::Result<()> {
    let root =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo")).join("../../proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let descriptors = protox::compile(FILES, [&root]).map_err(io::Error::other)?;
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    let mut messages = tonic_prost_build::Config::new();
    // the codec tells requests from answers by their names
    messages.enable_type_names();
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::BoundedCodec")
        .extern_path(".thanos.AggrChunk", "crate::AggrChunk")
        .compile_fds_with_config(descriptors, messages)
}
