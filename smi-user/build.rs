//! Puts the BPF objects where `bpf.rs` and `bpf/irqsoff.rs` include them from.

use std::{env, fs, path::PathBuf, process};

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    for name in ["smilat-bpf", "smilat-iommu-bpf", "smilat-irqsoff-bpf"] {
        let object = manifest.join("../target/bpf").join(name);
        println!("cargo:rerun-if-changed={}", object.display());
        if let Err(error) = fs::copy(&object, out.join(name)) {
            eprintln!(
                "cannot copy the BPF object {}: {error}. Build it with `cargo xtask build-ebpf`.",
                object.display()
            );
            process::exit(1);
        }
    }
}
