//! Puts the BPF object where `bpf.rs` includes it from.

use std::{env, fs, path::PathBuf, process};

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    let object = manifest.join("../target/bpf/smilat-bpf");
    println!("cargo:rerun-if-changed={}", object.display());
    if let Err(error) = fs::copy(&object, out.join("smilat-bpf")) {
        eprintln!(
            "cannot copy the BPF object {}: {error}. Build it with `cargo xtask build-ebpf`.",
            object.display()
        );
        process::exit(1);
    }
}
