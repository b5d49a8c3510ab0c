//! `smilat verify` on machines of which it is known what they can prove.

use std::{process::Stdio, thread, time::Duration};

use serde_json::Value;

use super::smi;
use crate::{output, smilat, stderr, wait_until};

/// What it says: exit status, and of each step its claim's beginning, its state and its evidence.
fn verify(args: &[&str]) -> (Option<i32>, Vec<(String, String)>) {
    // Longer than what the host of an emulator takes all the time.
    smi::set_length(Duration::from_millis(5));
    let told = output(
        smilat()
            .args(["verify", "--yes", "--json", "--threshold=1ms"])
            .args(args),
    );
    smi::set_length(Duration::ZERO);
    let text = String::from_utf8_lossy(&told.stdout);
    let steps: Vec<Value> = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}{}", stderr(&told)));
    let word = |step: &Value, name: &str| step[name].as_str().expect(name).to_owned();
    for step in &steps {
        println!(
            "    {}: {} ({})",
            word(step, "claim"),
            word(step, "state"),
            word(step, "evidence")
        );
    }
    let steps = steps
        .iter()
        .map(|step| (word(step, "state"), word(step, "evidence")))
        .collect();
    (told.status.code(), steps)
}

fn states(steps: &[(String, String)]) -> Vec<&str> {
    steps.iter().map(|(state, _)| state.as_str()).collect()
}

pub(super) fn verify_proves_every_step_where_smis_stop_all_cpus() {
    for detector in ["spin", "osnoise", "hwlat"] {
        let (status, steps) = verify(&[&format!("--detector={detector}")]);
        assert_eq!(states(&steps), ["proven"; 6], "{detector}");
        assert_eq!(status, Some(0));
    }
}

pub(super) fn verify_says_that_smis_reach_the_writing_cpu_only() {
    let (status, steps) = verify(&[]);
    let [fire, count, reach, rest @ ..] = &steps[..] else {
        panic!("steps are missing");
    };
    assert_eq!((&fire.0[..], &count.0[..]), ("proven", "proven"));
    assert!(reach.1.contains("does not send them to all CPUs"));
    assert_eq!(states(rest), ["unproven"; 3]);
    assert_eq!(status, Some(2));
}

pub(super) fn verify_refutes_where_the_port_raises_no_smi() {
    let (status, steps) = verify(&[]);
    assert!(steps[0].1.contains("has no port for requests to firmware"));
    assert_eq!((states(&steps), status), (vec!["unproven"; 6], Some(2)));
    let (status, steps) = verify(&["--force"]);
    assert_eq!(steps[0].0, "refuted");
    assert!(steps[0].1.contains("did not move: SMIs are disabled"));
    assert_eq!(status, Some(1));
}

pub(super) fn verify_cannot_prove_anything_without_a_counter() {
    let (status, steps) = verify(&[]);
    assert!(steps[1].1.contains("there is no counter of SMIs here"));
    assert!(steps[1].1.contains("only CPUs of Intel have this count"));
    assert_eq!((states(&steps), status), (vec!["unproven"; 6], Some(2)));
}

pub(super) fn an_interrupted_verify_refutes_nothing() {
    smi::set_length(Duration::from_millis(5));
    let mut child = smilat()
        .args(["verify", "--yes", "--json", "--threshold=1ms"])
        .args(["--count=1000", "--interval=200ms"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("smilat starts");
    let handler = smi::handler_count();
    wait_until("an SMI", || smi::handler_count() != handler);
    // In the pause before the next.
    thread::sleep(Duration::from_millis(30));
    let pid = libc::pid_t::try_from(child.id()).expect("a pid");
    // SAFETY: the child was not waited for, so the number is still its own.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
    wait_until("the end", || child.try_wait().expect("a child").is_some());
    smi::set_length(Duration::ZERO);
    let told = child.wait_with_output().expect("its output");
    let text = String::from_utf8_lossy(&told.stdout);
    assert!(!text.contains("refuted"), "{text}");
    assert!(text.contains("bytes were written to the port"), "{text}");
    assert!(
        stderr(&told).contains("of 1000 writes"),
        "{}",
        stderr(&told)
    );
}
