//! `smilat run --dma-latency` on this machine, which needs a kernel with `CONFIG_CPU_IDLE`.

use std::process::Command;

use tests::{idle, refused, smilat_path};

#[test]
fn the_limit_holds_as_long_as_smilat_lives() {
    idle::the_limit_holds_as_long_as_smilat_lives();
}

#[test]
fn the_plan_names_the_limit_and_a_lower_one() {
    idle::the_plan_names_the_limit_and_a_lower_one();
}

#[test]
fn limits_that_make_no_sense_are_refused() {
    idle::limits_that_make_no_sense_are_refused();
}

/// In a name space of mounts of its own the file is hidden by an empty one without the device behind it.
#[test]
fn without_the_file_it_says_what_it_takes() {
    let script = "mount -t tmpfs tmpfs /dev && exec \"$0\" run --duration=1s --dma-latency=5";
    refused(
        Command::new("unshare")
            .args(["--mount", "sh", "-c", script])
            .arg(smilat_path()),
        &["5 us", "/dev/cpu_dma_latency", "CONFIG_CPU_IDLE=y"],
    );
}
