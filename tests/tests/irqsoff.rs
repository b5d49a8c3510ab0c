//! `smilat irqsoff` on this machine: stretches that it makes itself, machines that are quiet and busy, and bad input.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    thread,
};

use serde_json::Value;
use smi_common::irqsoff::Kind;
use smi_user::model::irqsoff::{Event, IrqsoffSnapshot};
use tempfile::TempDir;
use tests::{killed::Killed, output, refused, serving::Serving, smilat, stderr};

fn irqsoff() -> Command {
    let mut command = smilat();
    command.arg("irqsoff");
    command
}

/// The events and the last snapshot of a run that must succeed.
#[track_caller]
fn told(args: &[&str]) -> (Vec<Event>, IrqsoffSnapshot) {
    let output = output(irqsoff().args(["--format=ndjson"]).args(args));
    assert!(output.status.success(), "{}", stderr(&output));
    let (mut events, mut last) = (Vec::new(), None);
    for line in String::from_utf8(output.stdout).expect("UTF-8").lines() {
        let line: Value = serde_json::from_str(line).expect(line);
        if let Some(event) = line.get("event") {
            events.push(serde_json::from_value(event.clone()).expect("an event"));
        } else {
            last = Some(serde_json::from_value(line["snapshot"].clone()).expect("a snapshot"));
        }
    }
    let last: IrqsoffSnapshot = last.expect("a snapshot");
    assert!(last.last);
    (events, last)
}

#[test]
fn a_self_test_is_noticed_once_with_its_length_and_handler() {
    for (tick, length, tick_ns, ticks) in [
        ("10ms", "55ticks", 10_000_000, 55),
        ("1ms", "20ms", 1_000_000, 20),
    ] {
        let (events, last) = told(&["--tick", tick, "--threshold=10", "--self-test", length]);
        let found: Vec<&Event> = events
            .iter()
            .filter(|event| event.kind == Kind::Disabled)
            .collect();
        let ran_ns = |event: &Event| {
            let handler = event.handler.as_ref()?;
            let of_test = (handler.kind.as_str(), handler.function.as_deref())
                == ("hrtimer", Some("perf_swevent_hrtimer"));
            handler.ran_ns.filter(|_| of_test)
        };
        let of_test: Vec<&&Event> = found
            .iter()
            .filter(|event| ran_ns(event).is_some_and(|ran_ns| ran_ns >= ticks * tick_ns))
            .collect();
        let [event] = of_test[..] else {
            panic!("{length}: {events:#?}");
        };
        assert_eq!(event.arrived, 1, "{event:#?}");
        // It is longer than it should be by what the hypervisor took the CPU away for.
        let ran_ns = ran_ns(event).expect("its handler");
        assert!(
            ran_ns <= (ticks + 1) * tick_ns + event.steal_ns,
            "{event:#?}"
        );
        assert!(
            event.ticks.abs_diff(ran_ns / tick_ns) <= 1,
            "{ran_ns}: {event:#?}"
        );
        // The thread that asked for it was in user mode, or in a system call.
        assert_eq!(event.comm, "smilat", "{event:#?}");
        assert!(!event.trace.is_empty());
        assert!(event.least_ns <= event.most_ns);
        let counted: u64 = last
            .cpus
            .iter()
            .flat_map(|cpu| &cpu.kinds)
            .filter(|counts| counts.kind == Kind::Disabled)
            .map(|counts| counts.count)
            .sum();
        assert_eq!(counted, found.len() as u64);
        let cpu = last
            .cpus
            .iter()
            .find(|cpu| cpu.cpu == event.cpu)
            .expect("its CPU");
        assert!(cpu.missed >= ticks - 2, "{cpu:?}");
    }
}

#[test]
fn an_operator_gets_an_entry_and_the_state_of_the_machine() {
    let folder = TempDir::new().expect("a folder");
    let output = output(
        irqsoff()
            .args(["--level=detail", "--self-test=100ms", "--disposition=dump"])
            .arg("--dump-folder")
            .arg(folder.path()),
    );
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    for part in [
        ": interrupts off for ",
        "TICKS    1",
        " (1) of 10.0 ms",
        "ran      hrtimer perf_swevent_hrtimer, for 100 ms",
        "Stretches of 40.0 ms or more",
    ] {
        assert!(text.contains(part), "no \"{part}\" in {text}");
    }
    assert!(said.contains("self-test passed"), "{said}");
    let files: Vec<_> = fs::read_dir(folder.path())
        .expect("a folder")
        .flatten()
        .collect();
    let [file] = &files[..] else {
        panic!("{} files: {said}", files.len());
    };
    assert!(said.contains(&file.path().display().to_string()), "{said}");
    let state = fs::read_to_string(file.path()).expect("text");
    for part in [
        ": interrupts off for ",
        "What each CPU did at its next tick",
        "CPU 0: thread ",
        "CPU 1: thread ",
        "Tasks that run or wait",
        "/proc/interrupts",
        "LOC:",
    ] {
        assert!(state.contains(part), "no \"{part}\" in {state}");
    }
}

/// Nothing but the hypervisor keeps this machine's CPUs from their ticks.
#[test]
fn nothing_is_found_where_nothing_is() {
    const EACH: &str = "20s";
    for busy in [false, true] {
        let load = busy.then(Load::start);
        let (events, last) = told(&["--level=detail", "--duration", EACH]);
        drop(load);
        let ticks: Vec<u64> = last.cpus.iter().map(|cpu| cpu.ticks + cpu.missed).collect();
        let late: Vec<u64> = last.cpus.iter().map(|cpu| cpu.late_max_ns / 1000).collect();
        println!(
            "busy: {busy}; ticks {ticks:?}, late by up to {late:?} us, {} events",
            events.len()
        );
        // Before the first that meets a thread, an idle CPU's are not counted.
        assert!(ticks.iter().all(|ticks| *ticks >= 1_500), "{ticks:?}");
        let found: Vec<&Event> = events
            .iter()
            .filter(|event| event.kind.is_disablement())
            .collect();
        assert!(found.is_empty(), "{found:#?}");
    }
}

/// Work of all kinds: computing, system calls, the disk, the network.
struct Load(Vec<Child>);

impl Load {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        // Takes what comes, for as long as it comes.
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink()));
            }
        });
        let scripts = [
            "while :; do :; done".to_owned(),
            "while :; do cat /proc/self/maps /proc/stat > /dev/null; done".to_owned(),
            "while :; do dd if=/dev/zero of=/tmp/smilat-load bs=1M count=64 conv=fsync status=none; done".to_owned(),
            format!("cat /dev/zero > /dev/tcp/127.0.0.1/{port}"),
        ];
        let start = |script: &String| {
            Command::new("bash")
                .args(["-c", script])
                .process_group(0)
                .spawn()
                .expect("bash starts")
        };
        Self(scripts.iter().map(start).collect())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let group = libc::pid_t::try_from(child.id()).expect("a pid");
            // SAFETY: the group was made for the child, which was not waited for.
            unsafe { libc::kill(-group, libc::SIGKILL) };
            let _status = child.wait();
        }
        let _removed = fs::remove_file("/tmp/smilat-load");
    }
}

#[test]
fn what_is_scraped_is_what_is_reported() {
    let mut command = irqsoff();
    command
        .args(["--format=ndjson", "--interval=1s", "--listen=0"])
        .stdout(Stdio::piped());
    let mut serving = Serving::spawn(&mut command);
    let stdout = serving.child.stdout.take().expect("piped");
    let mut lines = BufReader::new(stdout).lines();
    let mut next = || -> IrqsoffSnapshot {
        loop {
            let line = lines.next().expect("a line").expect("UTF-8");
            let line: Value = serde_json::from_str(&line).expect(&line);
            if let Some(snapshot) = line.get("snapshot") {
                return serde_json::from_value(snapshot.clone()).expect("a snapshot");
            }
        }
    };
    let snapshot = next();
    let text = serving.metrics();
    for cpu in &snapshot.cpus {
        for line in [
            format!(
                "smilat_irqsoff_ticks_total{{cpu=\"{}\"}} {}",
                cpu.cpu, cpu.ticks
            ),
            format!(
                "smilat_irqsoff_ticks_missed_total{{cpu=\"{}\"}} {}",
                cpu.cpu, cpu.missed
            ),
        ] {
            assert!(text.lines().any(|had| had == line), "no {line} in\n{text}");
        }
    }
    assert!(serving.stop().success());
}

#[test]
fn bad_input_is_refused_with_value_limit_and_remedy() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("exempt");
    fs::write(&file, "# those that may\n\nvfs_read\n").expect("written");
    let named = file.to_str().expect("UTF-8");
    let place = format!("{named}:3");
    for (args, told) in [
        (
            &["--threshold=2"][..],
            &["2 ticks of 10.0 ms, below the least, 3"][..],
        ),
        (&["--threshold=63"], &["above the most, 62"]),
        (
            &["--threshold=29ms"],
            &["29.0 ms is 2 ticks", "choose a shorter --tick"],
        ),
        (&["--threshold=ten"], &["for example 10ticks"]),
        (
            &["--tick=50us"],
            &["--tick 50.0 us is outside of 100us to 10ms"],
        ),
        (&["--cpus=4095"], &["4095"]),
        (
            &["--exempt=no_such_function"],
            &[
                "cannot exempt \"no_such_function\"",
                "grep no_such_function /proc/kallsyms",
            ],
        ),
        (
            &["--exempt-file=/no/such/file"],
            &["cannot read /no/such/file"],
        ),
        (
            &["--exempt-file", named],
            &[&place, "\"vfs_read\" has no reason"],
        ),
        (&["--disposition=panic"], &["--yes-panic-this-machine"]),
        (
            &["--disposition=dump", "--dump-folder", named],
            &["cannot write to", named, "--dump-folder"],
        ),
        (
            &["--yes-panic-this-machine"],
            &["belongs to --disposition panic"],
        ),
        (&["--self-test=3"], &["would not be noticed for sure"]),
        (&["--self-test=2s"], &["above 1.00 s"]),
        (&["--threshold=0", "--self-test=1s"], &["needs a threshold"]),
    ] {
        refused(irqsoff().args(args), told);
    }
}

#[test]
fn a_cpu_is_watched_by_one_at_a_time() {
    let mut command = irqsoff();
    command
        .args([
            "--cpus=1",
            "--duration=60s",
            "--quiet",
            "--format=ndjson",
            "--interval=1s",
        ])
        .stdout(Stdio::piped());
    let mut first = Killed::start(&mut command);
    let mut lines = BufReader::new(first.stdout.take().expect("piped")).lines();
    lines.next().expect("a line").expect("UTF-8");
    let holder = format!("process {}", first.id());
    refused(
        irqsoff().arg("--duration=1s"),
        &["CPU 1 is watched by", &holder, "--cpus"],
    );
    let (_, other) = told(&["--cpus=0", "--duration=1s"]);
    assert_eq!(other.cpus.len(), 1);
    drop(first);
    let (_, again) = told(&["--cpus=1", "--duration=1s"]);
    assert_eq!(again.cpus[0].cpu, 1);
}

/// The kernel's addresses are for those with `CAP_SYSLOG` only, or for nobody.
#[test]
fn hidden_addresses_are_told_where_they_are_needed() {
    const SETTING: &str = "/proc/sys/kernel/kptr_restrict";
    let before = fs::read_to_string(SETTING).expect("a setting");
    fs::write(SETTING, "2").expect("set");
    let hidden = output(irqsoff().args(["--exempt=vfs_read", "--duration=1s"]));
    let run = output(irqsoff().args(["--duration=1s"]));
    fs::write(SETTING, before.trim()).expect("set back");
    let said = stderr(&hidden);
    assert_eq!(hidden.status.code(), Some(2), "{said}");
    assert!(
        said.contains("cannot exempt \"vfs_read\"") && said.contains("kernel.kptr_restrict"),
        "{said}"
    );
    assert!(run.status.success(), "{}", stderr(&run));
}
