//! What a process takes of the machine, as benchmarks read it.

use std::{process, thread, time::Duration};

use tests::taken::{Taken, samples};

#[test]
fn what_a_thread_took_is_told_by_its_name() {
    let sleeper = thread::Builder::new()
        .name("smilat/7".to_owned())
        .spawn(|| {
            for _ in 0..20 {
                thread::sleep(Duration::from_millis(1));
            }
            let taken = Taken::by(process::id()).expect("this process");
            assert!(taken.wakeups(samples) >= 20, "{taken:?}");
            assert!(taken.cpu_ns(samples) > 0 && taken.resident_bytes > 1 << 20);
            assert!(taken.peak_bytes >= taken.resident_bytes);
            assert!(taken.cpu_ns(|_| true) > taken.cpu_ns(samples));
        });
    sleeper.expect("a thread").join().expect("no panic");
    assert!(Taken::by(u32::MAX).is_err());
}

#[test]
fn sampling_threads_are_known_by_their_names() {
    for (name, is_one) in [
        ("smilat/0", true),
        ("smilat/254", true),
        ("smilat/turn", true),
        ("smilat/any", true),
        ("smilat", false),
        ("smilat/http", false),
        ("smilat/report", false),
    ] {
        assert_eq!(samples(name), is_one, "{name}");
    }
}
