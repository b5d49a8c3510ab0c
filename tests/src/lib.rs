//! What the tests share. They are run as root by `cargo xtask test host`, which names the binary and the test object in
//! the environment.

pub mod browser;
pub mod busy;
pub mod capabilities;
pub mod cost;
pub mod day;
pub mod first_window;
pub mod growth;
pub mod guest;
pub mod idle;
pub mod killed;
pub mod knobs;
pub mod made_up;
pub mod otlp;
pub mod page;
pub mod places;
pub mod prometheus;
pub mod pty;
pub mod recorded;
pub mod recording;
pub mod replay;
pub mod service;
pub mod serving;
pub mod shown;
pub mod taken;
pub mod tmux;
pub mod totals;
pub mod watch_cost;

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use aya::maps::{Array, MapData};
use smi_common::Knobs;
use smi_user::{
    bpf::{Bpf, SpinSlots},
    kernel::{
        clock::monotonic_ns,
        cpus::CpuList,
        perf::{MIN_PERIOD_NS, ThreadClock},
        sched,
    },
    model::Snapshot,
};

/// How long a test waits for what must happen before it calls it a failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// The file that `cargo xtask test host` names by this variable.
///
/// # Panics
/// When it does not.
#[track_caller]
pub fn from_env(name: &str) -> PathBuf {
    env::var_os(name)
        .unwrap_or_else(|| panic!("{name} is not set; run these tests by `cargo xtask test host`"))
        .into()
}

/// The binary.
pub fn smilat_path() -> PathBuf {
    from_env("SMILAT")
}

/// The binary, to be given arguments.
pub fn smilat() -> Command {
    Command::new(smilat_path())
}

/// Runs `command` to its end.
///
/// # Panics
/// When it cannot be run.
#[track_caller]
pub fn output(command: &mut Command) -> Output {
    command
        .output()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"))
}

/// Runs `command`, which must refuse: status 2, no report, and all of `told` on standard error.
///
/// # Panics
/// When it does otherwise.
#[track_caller]
pub fn refused(command: &mut Command, told: &[&str]) {
    let output = output(command);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{command:?}: {said}");
    for told in told {
        assert!(said.contains(told), "{command:?}: no \"{told}\" in: {said}");
    }
    assert!(output.stdout.is_empty(), "{command:?} reported something");
}

/// Standard error as text.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The snapshots of a run that must end with status 0, the last one last.
///
/// # Panics
/// When it failed or printed anything but snapshots.
#[track_caller]
pub fn snapshots(args: &[&str]) -> Vec<Snapshot> {
    let output = output(smilat().args(["run", "--format", "ndjson"]).args(args));
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let snapshots: Vec<Snapshot> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a snapshot"))
        .collect();
    assert!(
        snapshots.last().is_some_and(|last| last.last),
        "no last one"
    );
    snapshots
}

/// Two CPUs that are online: the one to watch and another.
///
/// # Panics
/// When there is only one.
pub fn two_cpus() -> (u32, u32) {
    let online = CpuList::online().expect("online CPUs");
    let other = online.iter().next().expect("a CPU");
    let cpu = online.highest().expect("a CPU");
    assert_ne!(cpu, other, "these tests need two CPUs");
    (cpu, other)
}

/// The map `name` of a test object.
///
/// # Panics
/// When there is no such map.
#[track_caller]
pub fn take_array<T: aya::Pod>(bpf: &mut Bpf, name: &str) -> Array<MapData, T> {
    let map = bpf.ebpf_mut().take_map(name).expect(name);
    Array::try_from(map).expect(name)
}

/// Waits until `done`.
///
/// # Panics
/// When that takes more than 20 s.
#[track_caller]
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::yield_now();
    }
}

/// The test object, with one of its programs run by the timer of the thread that made this.
pub struct Lab {
    /// The object.
    pub bpf: Bpf,
    /// Its slots.
    pub slots: SpinSlots,
    /// The CPU the thread is kept on.
    pub cpu: u32,
    _clock: ThreadClock,
}

impl Lab {
    /// Loads the object, keeps the calling thread on `cpu` and has `program` run there.
    ///
    /// # Panics
    /// When any of this fails.
    #[track_caller]
    pub fn new(program: &'static str, cpu: u32, knobs: Knobs) -> Self {
        let object = fs::read(from_env("SMILAT_TEST_BPF")).expect("the test object");
        let highest = CpuList::highest_possible().expect("possible CPUs");
        let mut bpf = Bpf::load_object(&object, highest).expect("the test object loads");
        bpf.set_knobs(knobs).expect("knobs");
        sched::set_affinity([cpu]).expect("affinity");
        let slots = bpf.spin_slots().expect("slots");
        let program = bpf.perf_event_program(program).expect("the program loads");
        let clock = ThreadClock::open(program, MIN_PERIOD_NS).expect("the event opens");
        Self {
            bpf,
            slots,
            cpu,
            _clock: clock,
        }
    }

    /// Runs one stretch.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn stretch(&self, length: Duration) {
        let slot = self.slots.get(self.cpu).expect("a slot");
        let number = slot.arm(
            u64::try_from(length.as_nanos()).expect("a short time"),
            monotonic_ns() + 10_000_000_000,
        );
        // The timer runs only while this thread does.
        let began = Instant::now();
        while slot.ended() < number {
            assert!(began.elapsed() < PATIENCE, "the stretch did not end");
            std::hint::spin_loop();
        }
    }
}
