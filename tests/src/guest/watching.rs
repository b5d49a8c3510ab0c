//! What it costs to have smilat or another tool watch, on a machine with as many CPUs as this one has: `cargo xtask bench
//! watching` makes tables of what this prints (`xtask/src/bench/watching.rs`).
//!
//! The machine's clock counts instructions, whichever CPU runs them: what a thread takes is the same each time, whatever the
//! host does. Where the host has to be many CPUs, time says nothing, and only memory is told.

use std::process::{Command, Stdio};

use serde_json::{Value, json};
use smi_user::kernel::{cpus::CpuList, tracefs};

use super::state::{State, TRACING};
use crate::{
    killed::Killed,
    output,
    watch_cost::{self, WAYS, Way},
};

/// All CPUs by osnoise's tracer, as little as `rtla` and smilat can be told both.
const OSNOISE: Way = Way {
    name: "smilat, osnoise, text",
    args: &[
        "--detector=osnoise",
        "--mode=per-cpu",
        "--width=100us",
        "--window=1s",
    ],
    scrapes_per_s: 0,
};

/// One CPU after another by hwlat's tracer.
const HWLAT: Way = Way {
    name: "smilat, hwlat, text",
    args: &[
        "--detector=hwlat",
        "--mode=round-robin",
        "--width=1ms",
        "--window=100ms",
    ],
    scrapes_per_s: 0,
};

/// The same by others, and what else watches SMIs.
const OTHERS: [(&str, &[&str]); 3] = [
    (
        "rtla hwnoise",
        &[
            "/usr/bin/rtla",
            "hwnoise",
            "--quiet",
            "--runtime=100",
            "--period=1000000",
        ],
    ),
    (
        "hwlatdetect",
        &[
            "/usr/sbin/hwlatdetect",
            "--duration=10m",
            "--window=100ms",
            "--width=1ms",
        ],
    ),
    ("turbostat", &["/usr/sbin/turbostat", "--interval=1"]),
];

/// For those who ask for metrics.
fn bring_loopback_up() {
    let lo = output(Command::new("/bin/busybox").args(["ip", "link", "set", "lo", "up"]));
    assert!(lo.status.success(), "{lo:?}");
}

fn say(mut told: Value, who: &str) {
    let cpus = CpuList::online().expect("online CPUs").len();
    told["cpus"] = json!(cpus);
    told["who"] = json!(who);
    println!("    BENCH {told}");
}

pub(super) fn watching_costs_so_much() {
    bring_loopback_up();
    for way in WAYS.into_iter().chain([OSNOISE, HWLAT]) {
        say(watch_cost::smilat(way), way.name);
    }
    for (name, command) in OTHERS {
        let found = State::read();
        if name == "hwlatdetect" {
            // A window shorter than the width it finds makes it fail (`peers.rs`).
            let width = format!("{TRACING}/hwlat_detector/width");
            tracefs::write(width.as_ref(), "1000").expect("the width");
        }
        let mut child = Killed::start(
            Command::new(command[0])
                .args(&command[1..])
                .stdout(Stdio::null()),
        );
        say(watch_cost::other(&mut child), name);
        drop(child);
        assert_eq!(found.put_back(), [], "not put back");
    }
}

pub(super) fn watching_holds_so_much_memory() {
    bring_loopback_up();
    for way in WAYS {
        say(watch_cost::memory(way), way.name);
    }
}
