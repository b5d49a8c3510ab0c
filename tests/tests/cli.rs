//! The command line: reports, exit status, and what it says to bad input.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use smi_common::buckets;
use smi_user::model::{Histogram, Snapshot};
use tempfile::TempDir;
use tests::{output, refused, smilat, smilat_path, snapshots, stderr, wait_until};

/// Watches one CPU half of the time.
const CLOSELY: [&str; 5] = [
    "--cpus=0",
    "--mode=per-cpu",
    "--width=50ms",
    "--window=100ms",
    "--quiet",
];

#[test]
fn bad_input_is_refused_with_value_limit_and_remedy() {
    for (args, told) in [
        (
            "--width 200ms --window 100ms",
            "--width 200 ms must be below --window 100 ms",
        ),
        ("--width 100ms --window 100ms", "must be below"),
        ("--threshold 0", "--threshold 0 would count every reading"),
        (
            "--threshold 2ms",
            "--threshold 2.00 ms is above --width 1.00 ms",
        ),
        ("--cpus=", "the CPU list is empty"),
        ("--cpus 0-", "\"0-\" is not a CPU"),
        ("--cpus 8191", "CPU 8191 is not online"),
        ("--width 10parsecs", "unknown unit \"parsecs\""),
        ("--duration 0", "no time to detect"),
        (
            "--irqs-off-max 101ms",
            "--irqs-off-max 101 ms is outside 10.0 us to 100 ms",
        ),
        ("--width 95ms --window 100ms", "insist with --force"),
        (
            "--hardlimit 5us",
            "--hardlimit 5.00 us is below --threshold 10.0 us",
        ),
        (
            "--width 3us --threshold 1us",
            "--width 3.00 us leaves no time",
        ),
        ("--window 25h", "is above a day"),
        ("--detector hwlatter", "possible values: auto, spin"),
        (
            "--output /no/such/folder/file",
            "cannot write to /no/such/folder/file",
        ),
    ] {
        refused(smilat().arg("run").args(args.split(' ')), &[told]);
    }
}

#[test]
fn every_line_of_ndjson_is_a_snapshot_and_totals_only_grow() {
    let all = snapshots(&[&CLOSELY[..], &["--interval=300ms", "--duration=1s"]].concat());
    assert!(all.len() >= 3, "{} snapshots", all.len());
    for (earlier, later) in all.iter().zip(&all[1..]) {
        assert_eq!(later.interval, earlier.interval + 1);
        assert!(!earlier.last);
        let (earlier, later) = (&earlier.cpus[0], &later.cpus[0]);
        assert!(later.exposure_ns >= earlier.exposure_ns);
        assert!(later.gaps.count >= earlier.gaps.count);
        assert!(later.stretches.steps >= earlier.stretches.steps);
    }
    for snapshot in &all {
        assert_eq!(snapshot.schema_version, 1);
        let cpu = &snapshot.cpus[0];
        assert_eq!(cpu.histogram.total(), cpu.gaps.count);
    }
}

#[test]
fn single_gaps_and_buckets_tell_the_same() {
    let all = snapshots(
        &[
            &CLOSELY[..],
            &[
                "--threshold=500ns",
                "--interval=100ms",
                "--duration=3s",
                "--max-gap-records=100000",
            ],
        ]
        .concat(),
    );
    let last = all.last().expect("a snapshot");
    let cpu = &last.cpus[0];
    assert_eq!(
        (cpu.records.limited, cpu.records.lost, last.gaps_dropped),
        (0, 0, 0)
    );
    let mut single: Vec<u64> = all
        .iter()
        .flat_map(|snapshot| &snapshot.gaps)
        .map(|gap| gap.duration_ns)
        .collect();
    assert!(
        single.len() >= 10,
        "{} gaps are too few to tell",
        single.len()
    );
    assert_eq!(single.len() as u64, cpu.gaps.count);
    assert_eq!(single.iter().sum::<u64>(), cpu.gaps.sum_ns);
    let mut histogram = Histogram::default();
    for ns in &single {
        histogram.record(*ns);
    }
    assert_eq!(histogram, cpu.histogram);

    single.sort_unstable();
    for q in [50, 90, 99] {
        let exact = single[(single.len() * q).div_ceil(100) - 1];
        let estimate = cpu
            .total()
            .quantile_ns(q as f64 / 100.0)
            .expect("there are gaps");
        let position = (0..buckets::BUCKETS)
            .find(|position| buckets::upper_ns(*position).is_none_or(|ns| ns as f64 >= estimate))
            .expect("the last bucket has no end");
        let apart = position.abs_diff(buckets::position(exact));
        assert!(
            apart <= 1,
            "p{q}: {estimate} ns is {apart} buckets from {exact} ns"
        );
    }
}

#[test]
fn a_reader_that_leaves_ends_the_run_cleanly() {
    let mut child = start(&["--format=ndjson", "--interval=50ms"]);
    let mut reader = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    reader.read_line(&mut line).expect("a line");
    drop(reader);
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(0));
    let mut said = String::new();
    let mut errors = child.stderr.take().expect("piped");
    errors.read_to_string(&mut said).expect("UTF-8");
    assert_eq!(said, "");
    serde_json::from_str::<Snapshot>(&line).expect("a snapshot");
}

#[test]
fn signals_end_the_run_with_a_last_report() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let mut child = start(&["--format=ndjson", "--interval=50ms"]);
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        lines.next().expect("a line").expect("UTF-8");
        let pid = libc::pid_t::try_from(child.id()).expect("a pid");
        // SAFETY: the child was not waited for, so the number is still its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
        let last = lines.last().expect("more lines").expect("UTF-8");
        let last: Snapshot = serde_json::from_str(&last).expect("a snapshot");
        assert!(last.last);
        assert_eq!(child.wait().expect("it ends").code(), Some(0), "{signal}");
    }
}

fn start(args: &[&str]) -> Child {
    smilat()
        .arg("run")
        .args(CLOSELY)
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts")
}

#[test]
fn the_exit_status_tells_whether_the_hardlimit_was_kept() {
    // At this threshold the loop's own steps are gaps, so there are some on any machine.
    let run = |limit: &str| {
        output(smilat().arg("run").args(CLOSELY).args([
            "--threshold=1ns",
            "--duration=300ms",
            "--hardlimit",
            limit,
        ]))
    };
    let exceeded = run("1ns");
    assert_eq!(exceeded.status.code(), Some(1), "{}", stderr(&exceeded));
    let text = String::from_utf8_lossy(&exceeded.stdout);
    assert!(text.contains("hardlimit 1 ns: exceeded"), "{text}");
    let kept = run("1h");
    assert_eq!(kept.status.code(), Some(0), "{}", stderr(&kept));
    let text = String::from_utf8_lossy(&kept.stdout);
    assert!(text.contains("hardlimit 3600 s: kept"), "{text}");
}

#[test]
fn a_threshold_below_the_noise_floor_is_warned_about() {
    let output = output(smilat().args([
        "run",
        "--threshold=1ns",
        "--duration=1s",
        "--max-gap-records=0",
    ]));
    assert_eq!(output.status.code(), Some(0));
    let said = stderr(&output);
    assert!(
        said.contains("is below this machine's noise floor"),
        "{said}"
    );
}

#[test]
fn the_report_goes_to_the_file_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("report.txt");
    let output = output(
        smilat()
            .args(["run", "--duration=1s", "--interval=100ms", "--output"])
            .arg(&file),
    );
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(output.stdout.is_empty());
    let text = fs::read_to_string(&file).expect("the report");
    assert!(text.contains("interval 1"), "{text}");
    assert!(text.contains("Summary of"), "{text}");
    assert!(!text.contains('\x1b'), "colours in a file");
}

#[test]
fn a_run_too_short_for_a_window_is_told() {
    let output = output(smilat().args([
        "run",
        "--quiet",
        "--width=1ms",
        "--window=24h",
        "--duration=300ms",
    ]));
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(said.contains("no window came before the end"), "{said}");
}

#[test]
fn a_full_disk_is_told() {
    let output = output(smilat().args([
        "run",
        "--duration=10s",
        "--interval=100ms",
        "--output=/dev/full",
    ]));
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(
        said.contains("cannot write to /dev/full: No space left on device"),
        "{said}"
    );
}

#[test]
fn without_privilege_it_says_what_is_missing() {
    refused(
        Command::new("setpriv")
            .arg("--bounding-set=-all")
            .arg(smilat_path())
            .arg("run"),
        &["lacks CAP_BPF and CAP_PERFMON", "run it as root"],
    );
}

/// `smilat run` under a system call filter that answers the call `number` with `errno`.
fn without_call(number: libc::c_long, errno: i32) -> Command {
    let statement = |code: u32, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    };
    let filter = [
        // The number of the system call is the first word of `seccomp_data`.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        libc::sock_filter {
            jf: 1,
            ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number as u32)
        },
        statement(
            libc::BPF_RET,
            libc::SECCOMP_RET_ERRNO | errno.cast_unsigned(),
        ),
        statement(libc::BPF_RET, libc::SECCOMP_RET_ALLOW),
    ];
    let mut command = smilat();
    command.arg("run");
    // SAFETY: only system calls between fork and exec; the filter outlives them.
    unsafe {
        command.pre_exec(move || {
            let mut filter = filter;
            let program = libc::sock_fprog {
                len: filter.len() as u16,
                filter: filter.as_mut_ptr(),
            };
            let filtered = libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            );
            if filtered == 0 {
                Ok(())
            } else {
                Err(std::io::Error::last_os_error())
            }
        });
    }
    command
}

#[test]
fn a_kernel_that_refuses_is_told_with_what_may_be_behind_it() {
    let bpf = |errno| without_call(libc::SYS_bpf, errno);
    refused(
        &mut bpf(libc::EPERM),
        &["Operation not permitted", "allow the system calls bpf"],
    );
    refused(
        &mut bpf(libc::ENOSYS),
        &["Function not implemented", "CONFIG_BPF_SYSCALL"],
    );
}

#[test]
fn a_run_that_cannot_start_leaves_the_output_file_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("report.txt");
    fs::write(&file, "the report of yesterday").expect("written");
    let mut command = without_call(libc::SYS_perf_event_open, libc::EPERM);
    refused(
        command.arg("--output").arg(&file),
        &["perf_event_open", "allow the system calls"],
    );
    let kept = fs::read_to_string(&file).expect("still there");
    assert_eq!(kept, "the report of yesterday");
}

/// A run whose reader takes nothing yet: so many intervals wait for it already that some are left out. The folder holds
/// its messages.
fn unread() -> (Child, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let messages = folder.path().join("messages");
    let mut child = smilat()
        .args([
            "run",
            "--format=ndjson",
            "--cpus=0",
            "--mode=per-cpu",
            "--width=5ms",
            "--window=10ms",
            "--threshold=1us",
            "--interval=10ms",
            "--max-gap-records=100000",
        ])
        .stdout(Stdio::piped())
        .stderr(File::create(&messages).expect("a file"))
        .spawn()
        .expect("it starts");
    wait_until("intervals that are left out", || {
        assert!(child.try_wait().expect("a child").is_none(), "it ended");
        let said = fs::read_to_string(&messages).expect("messages");
        said.contains("does not keep up: some intervals are left out")
    });
    (child, folder)
}

fn interrupt(child: &Child) {
    let pid = libc::pid_t::try_from(child.id()).expect("a pid");
    // SAFETY: the child was not waited for, so the number is still its own.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
}

#[test]
fn a_reader_that_takes_nothing_holds_up_neither_the_run_nor_its_end() {
    let (mut child, _folder) = unread();
    // The first ends the run, which then waits for its reader; another one ends that. Two that come before the first is
    // seen are one.
    wait_until("the end of the run", || {
        let ended = child.try_wait().expect("a child").is_some();
        if !ended {
            interrupt(&child);
            thread::sleep(Duration::from_millis(50));
        }
        ended
    });
    // Not 0, as if it had not waited.
    assert_eq!(child.wait().expect("it ended").code(), Some(2));
}

#[test]
fn single_gaps_of_intervals_that_were_left_out_are_counted() {
    let (mut child, _folder) = unread();
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut all: Vec<Snapshot> = Vec::new();
    for line in lines {
        all.push(serde_json::from_str(&line.expect("UTF-8")).expect("a snapshot"));
        if all.len() == 1 {
            // What waits is still written, and the last.
            interrupt(&child);
        }
    }
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    let last = all.last().expect("a snapshot");
    assert!(last.last);
    let missing = last.interval - all.len() as u64;
    assert!(
        missing > 0,
        "every interval was reported: this test tests nothing"
    );
    let single: usize = all.iter().map(|snapshot| snapshot.gaps.len()).sum();
    assert_eq!(single as u64 + last.gaps_dropped, last.cpus[0].records.sent);
}

#[test]
fn what_smilat_costs_grows_and_its_programs_ran_as_often_as_stretches_did() {
    let all = snapshots(&[
        "--cpus=0",
        "--mode=per-cpu",
        "--width=50ms",
        "--window=100ms",
        "--quiet",
        "--bpf-stats",
        "--interval=300ms",
        "--duration=2s",
    ]);
    assert!(all.len() >= 3, "{} snapshots", all.len());
    for pair in all.windows(2) {
        let (earlier, later) = (&pair[0].own_cost, &pair[1].own_cost);
        assert!(later.cpu_ns > earlier.cpu_ns);
        let (earlier, later) = (earlier.bpf.expect("measured"), later.bpf.expect("measured"));
        assert!(later.runs > earlier.runs && later.run_ns > earlier.run_ns);
    }
    for snapshot in &all {
        let own = snapshot.own_cost;
        assert!(own.resident_bytes.is_some_and(|bytes| bytes > 1_000_000));
        let bpf = own.bpf.expect("measured");
        let stretches = snapshot.sum(|cpu| cpu.stretches.run);
        // Each stretch is one run, and those that found their window over are runs, too.
        assert!(bpf.runs >= stretches, "{} < {stretches}", bpf.runs);
        // What was sampled was sampled in these runs.
        let exposure_ns = snapshot.sum(|cpu| cpu.exposure_ns);
        assert!(
            bpf.run_ns > exposure_ns / 2,
            "{} ns of runs, {exposure_ns} ns of exposure",
            bpf.run_ns
        );
    }
}

/// `smilat run ARGS` where `prepare`, a shell command, has changed the mounts.
fn with_mounts(prepare: &str, args: &str) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c"])
        .arg(format!("{prepare} && exec \"$SMILAT\" run {args}"));
    command
}

#[test]
fn a_kernel_that_is_too_old_is_told_which_would_do() {
    // A stand-in for an old kernel, which cannot be had here: only its release is made to look old.
    let folder = tempfile::tempdir().expect("a folder");
    let release = folder.path().join("osrelease");
    fs::write(&release, "5.15.0-100-generic\n").expect("written");
    refused(
        &mut with_mounts(
            &format!(
                "mount --bind {} /proc/sys/kernel/osrelease",
                release.display()
            ),
            "",
        ),
        &[
            "needs Linux 5.17",
            "this is 5.15.0-100-generic",
            "boot a newer kernel",
        ],
    );
}

#[test]
fn no_type_information_of_the_kernel_is_needed() {
    let output = output(&mut with_mounts(
        "mount -t tmpfs none /sys/kernel/btf && ! test -e /sys/kernel/btf/vmlinux",
        "--duration=1s",
    ));
    assert!(output.status.success(), "{}", stderr(&output));
}
