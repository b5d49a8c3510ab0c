//! Debian's kernels as they come, with `kernel.perf_event_paranoid` 3, and smilat with the capabilities of a service.

use std::{fs, io, os::unix::process::CommandExt as _, process::Command};

use smi_user::{
    doctor::{Examination, State},
    kernel::process::{CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN, CAP_SYS_NICE, Capabilities},
};

use super::watch::Watch;
use crate::{output, refused, smilat, stderr};

const SETTING: &str = "/proc/sys/kernel/perf_event_paranoid";
/// What Debian's kernels are built with.
const DEFAULT: &str = "3";

type Capability = (u32, &'static str);

const THREE: [Capability; 3] = [CAP_BPF, CAP_PERFMON, CAP_SYS_NICE];

const CONFIG: &str = "/tmp/smilat.toml";

const SPIN: [&str; 6] = [
    "--detector=spin",
    "--mode=per-cpu",
    "--width=40ms",
    "--window=50ms",
    "--irqs-off-max=10ms",
    "--threshold=1ms",
];

/// What the packaged unit gives.
fn of_unit() -> Vec<Capability> {
    let unit = include_str!("../../../packaging/smilat.service");
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix("AmbientCapabilities="))
        .expect("the unit's capabilities");
    line.split(' ')
        .map(|name| {
            let mut known = THREE.into_iter().chain([CAP_SYS_ADMIN]);
            let known = known.find(|(_, known)| *known == name);
            known.unwrap_or_else(|| panic!("{name} is not known here"))
        })
        .collect()
}

/// smilat as systemd starts it: by a user of its own, with these capabilities and no more to be had.
fn service(given: &[Capability]) -> Command {
    const NOBODY: u32 = 65534;
    let kept = Capabilities::of(given.iter().copied()).bits();
    let is_kept = move |bit: &u32| kept >> bit & 1 == 1;
    let mut command = smilat();
    // SAFETY: nothing but system calls between the fork and the new program.
    unsafe {
        command.pre_exec(move || {
            prctl(libc::PR_SET_KEEPCAPS, 1, 0)?;
            for bit in (0..u64::BITS).filter(|bit| !is_kept(bit)) {
                // Of a number above the last capability the kernel knows nothing.
                let _unknown = prctl(libc::PR_CAPBSET_DROP, bit, 0);
            }
            done(libc::syscall(libc::SYS_setresgid, NOBODY, NOBODY, NOBODY))?;
            done(libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY))?;
            set_capabilities(kept)?;
            for bit in (0..u64::BITS).filter(is_kept) {
                prctl(
                    libc::PR_CAP_AMBIENT,
                    libc::PR_CAP_AMBIENT_RAISE.cast_unsigned(),
                    bit,
                )?;
            }
            prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)
        });
    }
    command
}

fn done(result: libc::c_long) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn prctl(what: libc::c_int, argument: u32, further: u32) -> io::Result<()> {
    // SAFETY: what is asked for here takes numbers only.
    done(unsafe { libc::syscall(libc::SYS_prctl, what, argument, further, 0, 0) })
}

/// Gives the calling thread these, to be inherited too.
fn set_capabilities(bits: u64) -> io::Result<()> {
    /// `_LINUX_CAPABILITY_VERSION_3`.
    const VERSION: u32 = 0x2008_0522;
    let this_thread = 0;
    let (low, high) = (bits as u32, (bits >> 32) as u32);
    // Effective, permitted, inheritable.
    let sets = [low, low, low, high, high, high];
    let mut header = [VERSION, this_thread];
    // SAFETY: the layouts of `capset(2)`, alive until the call returns.
    done(unsafe { libc::syscall(libc::SYS_capset, header.as_mut_ptr(), sets.as_ptr()) })
}

/// The setting, which is put back when this is dropped.
struct Setting;

impl Setting {
    fn set(value: &str) -> Self {
        let before = fs::read_to_string(SETTING).expect(SETTING);
        assert_eq!(before.trim(), DEFAULT, "this is no kernel of Debian's");
        fs::write(SETTING, value).expect(SETTING);
        Self
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        fs::write(SETTING, DEFAULT).expect(SETTING);
    }
}

/// A run with what is `given` works, by perf events throughout, and keeps `kept` while it is under way.
#[track_caller]
fn works(given: &[Capability], kept: &[Capability]) {
    fs::write(CONFIG, "threshold = '1ms'\n").expect(CONFIG);
    // A reload may start the detector again, and what that takes is kept: without a file, less would be.
    let args = [&SPIN[..], &["--config", CONFIG]].concat();
    let watch = Watch::start_by(service(given), &args);
    let status = format!("/proc/{}/task", watch.id());
    let mut threads = 0;
    for thread in fs::read_dir(status).expect("threads") {
        let status = thread.expect("a thread").path().join("status");
        let status = fs::read_to_string(status).expect("status");
        let has = Capabilities::permitted_of_status(&status).expect("CapPrm");
        assert_eq!(
            has,
            Capabilities::of(kept.iter().copied()),
            "CapPrm {:x}, not {kept:?}",
            has.bits()
        );
        threads += 1;
    }
    let told = watch.end();
    assert!(told.status.success(), "{}: {}", told.status, told.words);
    for word in ["CAP_", "paranoid"] {
        assert!(!told.words.contains(word), "{}", told.words);
    }
    let last = told.snapshots.last().expect("a snapshot");
    assert!(last.cpus.iter().all(|cpu| cpu.exposure_ns > 0), "{last:?}");
    println!(
        "    CapPrm of {threads} threads: {}",
        kept.iter()
            .map(|(_, name)| *name)
            .collect::<Vec<_>>()
            .join(" ")
    );
}

pub(super) fn the_units_capabilities_are_enough_and_no_more_is_kept() {
    let unit = of_unit();
    {
        let _default = Setting::set(DEFAULT);
        works(&unit, &unit);
    }
    let _lower = Setting::set("2");
    works(&unit, &THREE);
}

pub(super) fn three_capabilities_are_enough_where_the_setting_is_lower() {
    let _lower = Setting::set("2");
    works(&THREE, &THREE);
}

pub(super) fn without_sys_admin_the_refusal_names_the_setting_and_what_helps() {
    let _default = Setting::set(DEFAULT);
    let told = [
        "lacks CAP_SYS_ADMIN",
        "kernel.perf_event_paranoid is 3",
        "sysctl kernel.perf_event_paranoid=2",
        "/etc/sysctl.d",
        "give it CAP_SYS_ADMIN",
    ];
    for detector in ["spin", "auto"] {
        refused(
            service(&THREE).args(["run", "--duration=1s", "--detector", detector]),
            &told,
        );
    }
    let examined = output(service(&THREE).args(["doctor", "--json"]));
    assert_eq!(examined.status.code(), Some(2), "{}", stderr(&examined));
    let found: Examination = serde_json::from_slice(&examined.stdout).expect("JSON");
    assert!(!found.can_run);
    for name in [
        "spin",
        "perf events",
        "timer program",
        "kernel breakpoint",
        "msr/smi",
    ] {
        let check = found.checks.iter().find(|check| check.name == name);
        let check = check.unwrap_or_else(|| panic!("no check \"{name}\""));
        println!("    {name}: {} -> {}", check.found, check.remedy);
        assert_eq!(check.state, State::Missing, "{check:?}");
        assert!(check.found.contains("paranoid is 3"), "{check:?}");
        for told in &told[2..] {
            assert!(check.remedy.contains(told), "{check:?}");
        }
    }
}
