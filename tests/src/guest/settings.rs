//! The detectors that drive the kernel's own tracers set what they were asked to, and leave nothing behind.

use std::{fs, os::fd::AsFd as _, path::Path, thread, time::Duration};

use smi_user::{
    bpf::Bpf,
    detector::{self, Choice},
    kernel::{cpus::CpuList, kallsyms, perf::Breakpoint, tracefs},
    settings::{Mode, Settings, Wanted},
};

use super::{
    state::{State, TRACING},
    watch::Watch,
};
use crate::{output, smilat, stderr};

/// The instance that smilat makes.
const INSTANCE: &str = "instances/smilat";

/// The detectors that change settings.
const DETECTORS: [&str; 2] = ["hwlat", "osnoise"];

fn in_tracing(file: &str) -> std::path::PathBuf {
    Path::new(TRACING).join(file)
}

fn set(file: &str, value: &str) {
    tracefs::write(&in_tracing(file), value).expect(file);
}

fn read(file: &str) -> String {
    let text = tracefs::read(&in_tracing(file)).expect(file);
    tracefs::chosen(&text)
        .unwrap_or_else(|| text.trim())
        .to_owned()
}

/// Watches CPU 1 with settings that no kernel has by itself.
fn watch(detector: &str) -> Watch {
    let detector = format!("--detector={detector}");
    let watch = Watch::start(&[
        &detector,
        "--mode=per-cpu",
        "--cpus=1",
        "--threshold=51us",
        "--width=21ms",
        "--window=301ms",
    ]);
    assert_eq!(
        read("instances/smilat/current_tracer"),
        detector["--detector=".len()..]
    );
    watch
}

/// A smilat that must refuse; what it says.
#[track_caller]
fn refused(args: &[&str]) -> String {
    let second = output(smilat().args(["run", "--mode=per-cpu"]).args(args));
    let said = stderr(&second);
    assert_eq!(second.status.code(), Some(2), "{args:?}: {said}");
    said
}

/// Settings for a detector that runs in this process.
pub(super) fn of_cpu_1(width: Duration, window: Duration) -> Settings {
    let online = CpuList::online().expect("online CPUs");
    let wanted = Wanted {
        threshold: Duration::from_micros(51),
        width,
        window,
        irqs_off_max: Duration::from_millis(1),
        mode: Mode::PerCpu,
        cpus: Some("1".parse().expect("a list")),
        rt_priority: 1,
        records_per_s: 100_000,
        force: false,
    };
    Settings::check(wanted, &online, &online).expect("sound settings")
}

pub(super) fn the_kernel_has_the_settings_that_were_asked_for() {
    let before = State::read();
    for (mode, mask) in [("per-cpu", "1"), ("round-robin", "0-1"), ("none", "0")] {
        let (mode_asked, cpus) = (format!("--mode={mode}"), format!("--cpus={mask}"));
        let watch = Watch::start(&[
            "--detector=hwlat",
            &mode_asked,
            &cpus,
            "--threshold=51us",
            "--width=21ms",
            "--window=301ms",
        ]);
        assert_eq!(read("hwlat_detector/width"), "21000");
        assert_eq!(read("hwlat_detector/window"), "301000");
        assert_eq!(read("hwlat_detector/mode"), mode);
        assert_eq!(read("tracing_thresh"), "51");
        let bits = match mask {
            "0" => 1,
            "1" => 2,
            _ => 3,
        };
        let set = read("instances/smilat/tracing_cpumask");
        assert_eq!(u64::from_str_radix(&set, 16), Ok(bits), "{set}");
        watch.finish();
        assert_eq!(State::read(), before);
    }
    let watch = watch("osnoise");
    assert_eq!(read("osnoise/runtime_us"), "21000");
    assert_eq!(read("osnoise/period_us"), "301000");
    assert_eq!(read("osnoise/cpus"), "1");
    assert_eq!(read("tracing_thresh"), "51");
    let options = read("osnoise/options");
    let on = |option| options.split_whitespace().any(|word| word == option);
    assert!(on("OSNOISE_IRQ_DISABLE"), "{options}");
    watch.finish();
    assert_eq!(State::read(), before);
}

pub(super) fn settings_are_back_after_every_end() {
    let before = State::read();
    for (detector, signals) in [
        ("hwlat", [libc::SIGINT, libc::SIGTERM]),
        ("osnoise", [libc::SIGTERM, libc::SIGHUP]),
    ] {
        for signal in signals {
            let watch = watch(detector);
            assert_ne!(State::read(), before, "nothing was changed");
            let holder = format!("process {} ({detector} detector)", watch.id());
            let said = refused(&["--detector", detector]);
            assert!(said.contains(&holder), "{said}");
            watch.signal(signal);
            let told = watch.ended();
            assert!(told.status.success(), "{}: {}", told.status, told.words);
            assert_eq!(State::read(), before, "{detector}, signal {signal}");
            assert_eq!(remembered_threshold_us(), "10");
        }
    }
}

/// What hwlat takes for a threshold when it is started without one: no file shows it.
fn remembered_threshold_us() -> String {
    assert_eq!(read("tracing_thresh"), "0");
    set("current_tracer", "hwlat");
    let remembered = read("tracing_thresh");
    set("current_tracer", "nop");
    remembered
}

pub(super) fn what_a_kill_leaves_is_put_back_by_restore_and_by_the_next_start() {
    let before = State::read();
    let killed = |detector| {
        let watch = watch(detector);
        watch.signal(libc::SIGKILL);
        // Waits until it is gone.
        drop(watch);
        assert_ne!(State::read(), before, "SIGKILL leaves time to clean up?");
    };
    for (detector, next) in [("hwlat", "osnoise"), ("osnoise", "hwlat")] {
        killed(detector);
        let restore = output(smilat().arg("restore"));
        assert!(restore.status.success(), "{}", stderr(&restore));
        let said = String::from_utf8_lossy(&restore.stdout);
        println!("    {}", said.trim().replace('\n', "; "));
        assert_eq!(State::read(), before, "{detector}, restored");

        killed(detector);
        let told = watch(next).end();
        assert!(told.status.success(), "{}: {}", told.status, told.words);
        assert!(
            told.words.contains("left by a smilat that was killed"),
            "{}",
            told.words
        );
        assert_eq!(State::read(), before, "{detector}, then {next}");
    }
}

/// The detector at work in this very process, whose thread panics.
pub(super) fn settings_are_back_after_a_panic() {
    let before = State::read();
    for (name, choice) in [
        ("hwlat", Choice::Hwlat),
        ("hwlat", Choice::HwlatBuffer),
        ("osnoise", Choice::Osnoise),
    ] {
        let panicked = thread::spawn(move || {
            let (detector, _) = detector::choose(choice).expect(name);
            let settings = of_cpu_1(Duration::from_millis(21), Duration::from_millis(301));
            let mut bpf = Bpf::load(1).expect("the object loads");
            let running = detector.start(&mut bpf, &settings).expect("it starts");
            assert_eq!(read("instances/smilat/current_tracer"), name);
            // Whatever lies below must hold no lock on what a panic has to undo.
            let _running = running;
            panic!("as it should");
        })
        .join();
        let said = panicked.expect_err("a panic");
        assert_eq!(said.downcast_ref(), Some(&"as it should"), "another panic");
        assert_eq!(State::read(), before, "{name}");
    }
}

pub(super) fn a_tracer_at_work_elsewhere_is_left_alone() {
    let before = State::read();
    fs::create_dir(in_tracing("instances/other")).expect("an instance");
    for (folder, file) in [
        ("", "current_tracer"),
        ("/instances/other", "instances/other/current_tracer"),
    ] {
        for name in DETECTORS {
            // By default it runs all the time, interrupts on.
            set(file, name);
            let during = State::read();
            for detector in DETECTORS {
                let said = refused(&["--detector", detector]);
                let told = format!("the {name} tracer is at work in {TRACING}{folder},");
                assert!(said.contains(&told), "{said}");
                assert_eq!(State::read(), during);
            }
            assert_eq!(read(file), name, "it was taken away");
            set(file, "nop");
        }
    }
    fs::remove_dir(in_tracing("instances/other")).expect("removed");
    assert_eq!(State::read(), before);
}

pub(super) fn an_instance_left_over_is_removed_and_one_in_use_is_told() {
    let before = State::read();
    for name in DETECTORS {
        fs::create_dir(in_tracing(INSTANCE)).expect("an instance");
        set("instances/smilat/current_tracer", name);
        // Whose is it? No journal tells.
        let said = refused(&["--detector", name]);
        assert!(said.contains("instances/smilat, with"), "{said}");
        set("instances/smilat/current_tracer", "nop");
        let told = watch(name).end();
        assert!(told.status.success(), "{}: {}", told.status, told.words);
        assert!(
            told.words.contains("instances/smilat was left over"),
            "{}",
            told.words
        );
        assert_eq!(State::read(), before);
    }
    fs::create_dir(in_tracing(INSTANCE)).expect("an instance");
    let open = fs::File::open(in_tracing("instances/smilat/trace_pipe")).expect("opened");
    let said = refused(&["--detector=hwlat"]);
    assert!(
        said.contains("does somebody have one of its files open?"),
        "{said}"
    );
    drop(open);
    fs::remove_dir(in_tracing(INSTANCE)).expect("removed");
    assert_eq!(State::read(), before);
}

pub(super) fn a_tracer_taken_away_ends_the_run_with_a_report() {
    let before = State::read();
    for name in DETECTORS {
        let watch = watch(name);
        set("instances/smilat/current_tracer", "nop");
        let told = watch.ended();
        let said = format!("the {name} tracer was taken away by somebody else");
        assert!(told.words.contains(&said), "{}", told.words);
        assert_eq!(told.status.code(), Some(2));
        assert!(told.snapshots.last().is_some_and(|last| last.last));
        assert_eq!(State::read(), before, "{name}");
    }
}

/// All debug registers of CPU 1 are taken: the kernel really refuses the breakpoint.
pub(super) fn without_a_breakpoint_the_buffer_is_read_and_that_is_told() {
    let mut bpf = Bpf::load(1).expect("the object loads");
    let program = bpf.perf_event_program("hwlat").expect("the program");
    let address = kallsyms::address_of("machine_restart").expect("a function nobody calls");
    let taken: Vec<Breakpoint> = (0..4)
        .map(|_| Breakpoint::open(address, 1, program.as_fd()).expect("a free register"))
        .collect();
    let told = watch("hwlat").end();
    drop(taken);
    assert!(told.status.success(), "{}: {}", told.status, told.words);
    assert!(
        told.words
            .contains("no breakpoint can be set in the kernel")
            && told.words.contains("No space left on device"),
        "{}",
        told.words
    );
    let without = watch("hwlat").end();
    assert!(!without.words.contains("breakpoint"), "{}", without.words);
}
