//! smilat as a service: what it tells a service manager, and what signals and terminals that go away mean to it.

use std::{
    fs, io,
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
    time::Duration,
};

use smi_user::model::Snapshot;
use tests::{
    killed::Killed,
    pty::Pty,
    service::{CLOSELY, PATIENCE, Service, lines},
    smilat, smilat_path,
    totals::nothing_is_lost_or_counted_twice,
    two_cpus, wait_until,
};

/// Runs smilat in a terminal of its own and closes that: it must end by itself, and well, with its report whole.
#[track_caller]
fn ends_with_its_terminal(config: Option<&str>) {
    let (cpu, _) = two_cpus();
    let folder = tempfile::tempdir().expect("a folder");
    let report = folder.path().join("report.ndjson");
    let mut terminal = Pty::new(200, 24);
    let mut command = smilat();
    command
        .args([
            "run",
            "--interval=3s",
            "--format=ndjson",
            "--cpus",
            &cpu.to_string(),
        ])
        .arg("--output")
        .arg(&report);
    if let Some(text) = config {
        let file = folder.path().join("smilat.toml");
        fs::write(&file, text).expect("written");
        command.arg("--config").arg(file);
    }
    terminal.of(&mut command);
    command.stderr(terminal.end());
    // SAFETY: three system calls between fork and exec, which touch no memory: the terminal on standard input becomes that
    // of a session of its own.
    unsafe {
        command.pre_exec(|| {
            // Whoever started the tests may have them ignored.
            libc::signal(libc::SIGHUP, libc::SIG_DFL);
            if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let mut child = Killed::start(&mut command);
    // By then it has sampled.
    terminal.wait_for("1 s, Ctrl-C ends");
    terminal.hang_up();
    let mut status = None;
    wait_until("smilat to end with its terminal", || {
        status = child.try_wait().expect("a child");
        status.is_some()
    });
    let status = status.expect("a status");
    assert!(status.success(), "{status}");
    let text = fs::read_to_string(&report).expect("the report");
    let last: Snapshot =
        serde_json::from_str(text.lines().last().expect("a line")).expect("a snapshot");
    assert!(last.last && last.total().exposure_ns > 0);
}

#[test]
fn a_terminal_that_is_closed_ends_it_and_the_report_is_whole() {
    ends_with_its_terminal(None);
    // Where a hang-up means something else otherwise.
    ends_with_its_terminal(Some("threshold = '2us'\n"));
}

#[test]
fn a_service_manager_is_told_what_happens() {
    let (cpu, other) = two_cpus();
    let config = format!("{CLOSELY}cpus = '{cpu}'\n");
    let service = Service::start(&config, &[("WATCHDOG_USEC", "1000000")]);
    let first = service.told();
    assert!(
        first.contains("READY=1") && first.contains(&format!("STATUS=watching CPU {cpu} by ")),
        "{first}"
    );
    let before = service.told_until("gaps in");
    service.told_until("WATCHDOG=1");
    let before_second: Vec<String> = service.told_until("WATCHDOG=1");
    let all: Vec<&String> = before.iter().chain(&before_second).collect();
    assert!(
        all.iter().all(|message| !message.contains("READY=1")),
        "{all:?}"
    );

    service.reload(&format!("{CLOSELY}cpus = '{other}'\n"));
    let told = |text: &str| service.told_until(text);
    told("RELOADING=1\nMONOTONIC_USEC=");
    told(&format!("READY=1\nSTATUS=watching CPU {other} by "));
    service.reload("nonsense");
    told("RELOADING=1");
    told("READY=1");
    service.signal(libc::SIGTERM);
    told("STOPPING=1");
}

#[test]
fn a_collection_that_stands_still_gives_no_sign_of_life() {
    let (cpu, _) = two_cpus();
    let config = format!("{CLOSELY}cpus = '{cpu}'\n");
    let service = Service::start(&config, &[("WATCHDOG_USEC", "1000000")]);
    service.told_until("WATCHDOG=1");
    service.signal(libc::SIGSTOP);
    let stat = format!("/proc/{}/stat", service.child.id());
    wait_until("it to stop", || {
        fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "))
    });
    // What was sent before is still there.
    service.socket.set_nonblocking(true).expect("a socket");
    let mut buffer = [0; 4096];
    while service.socket.recv(&mut buffer).is_ok() {}
    service.socket.set_nonblocking(false).expect("a socket");
    service
        .socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .expect("a time limit");
    assert!(
        service.socket.recv(&mut buffer).is_err(),
        "a sign of life while it stands still"
    );
    service
        .socket
        .set_read_timeout(Some(PATIENCE))
        .expect("a time limit");
    service.signal(libc::SIGCONT);
    service.told_until("WATCHDOG=1");
}

#[test]
fn a_manager_that_does_not_listen_holds_up_nothing() {
    let (cpu, _) = two_cpus();
    let config = format!("{CLOSELY}cpus = '{cpu}'\n").replace("200ms", "10ms");
    let mut service = Service::start(&config, &[("WATCHDOG_USEC", "100000")]);
    // Many more than its socket takes without being read.
    service.sees("many intervals", |snapshot| snapshot.interval >= 100);
    let (all, status) = service.end();
    assert!(status.success(), "{status}");
    nothing_is_lost_or_counted_twice(&all);
}

#[test]
fn hang_ups_that_are_ignored_from_the_start_on_end_nothing() {
    let (cpu, _) = two_cpus();
    // As nohup does.
    let mut child = Killed::start(
        Command::new("sh")
            .args(["-c", "trap '' HUP; exec \"$0\" \"$@\""])
            .arg(smilat_path())
            .args(["run", "--quiet", "--format=ndjson", "--interval=100ms"])
            .args(["--cpus", &cpu.to_string()])
            .stdout(Stdio::piped()),
    );
    let reports = lines(child.stdout.take().expect("a pipe"), |line| line);
    reports.recv_timeout(PATIENCE).expect("a report");
    child.signal(libc::SIGHUP);
    // One may have been under way.
    for _ in 0..4 {
        let report = reports.recv_timeout(PATIENCE).expect("a further report");
        assert!(report.contains("\"last\":false"), "{report}");
    }
    child.signal(libc::SIGTERM);
    while reports.recv_timeout(PATIENCE).is_ok() {}
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn no_signs_of_life_where_none_are_wanted() {
    let (cpu, _) = two_cpus();
    let config = format!("{CLOSELY}cpus = '{cpu}'\n");
    // Meant for another process.
    for environment in [
        &[][..],
        &[("WATCHDOG_USEC", "200000"), ("WATCHDOG_PID", "1")],
    ] {
        let service = Service::start(&config, environment);
        service.told_until("gaps in");
        service.told_until("gaps in");
        service.signal(libc::SIGTERM);
        let before = service.told_until("STOPPING=1");
        assert!(
            before.iter().all(|message| !message.contains("WATCHDOG")),
            "{before:?}"
        );
    }
}
