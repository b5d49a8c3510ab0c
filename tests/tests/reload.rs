//! A configuration that is read again while smilat counts: what changes, and that nothing is lost.

use std::fs;

use smi_user::model::Snapshot;
use tests::{
    otlp,
    service::{CLOSELY, Service},
    serving::{self, address},
    totals::nothing_is_lost_or_counted_twice,
    two_cpus,
};

#[test]
fn reloads_change_what_is_watched_and_totals_go_on() {
    let (cpu, other) = two_cpus();
    let config =
        |threshold: &str, cpu: u32| format!("{CLOSELY}threshold = '{threshold}'\ncpus = '{cpu}'\n");
    let mut service = Service::start(&config("2us", cpu), &[]);
    let gaps_of = |snapshot: &Snapshot, of: u32| snapshot.cpu(of).map_or(0, |cpu| cpu.gaps.count);
    service.sees("gaps", |snapshot| gaps_of(snapshot, cpu) > 0);

    service.reload(&config("1us", cpu));
    service.says("threshold 1.00 us");
    service.sees("the new threshold", |snapshot| {
        snapshot.detector.threshold_ns == 1_000
    });

    service.reload(&config("1us", other));
    service.says("the detector was started again, and totals go on");
    service.sees("gaps of the other CPU", |snapshot| {
        snapshot.detector.cpus == other.to_string() && gaps_of(snapshot, other) > 0
    });
    let kept = gaps_of(service.seen.last().expect("a snapshot"), cpu);
    assert!(kept > 0);

    // Back to the first one, whose counts go on growing.
    service.reload(&config("1us", cpu));
    service.says("the detector was started again");
    service.sees("more gaps", |snapshot| gaps_of(snapshot, cpu) > kept);

    let (all, status) = service.end();
    assert!(status.success(), "{status}");
    nothing_is_lost_or_counted_twice(&all);
    // No interval has two settings: it ends where the settings change.
    let settings: Vec<(u64, &str)> = all
        .iter()
        .map(|snapshot| {
            (
                snapshot.detector.threshold_ns,
                snapshot.detector.cpus.as_str(),
            )
        })
        .collect::<Vec<_>>();
    let mut order = settings.clone();
    order.dedup();
    let (cpu, other) = (cpu.to_string(), other.to_string());
    assert_eq!(
        order,
        [
            (2_000, &*cpu),
            (1_000, &*cpu),
            (1_000, &*other),
            (1_000, &*cpu)
        ]
    );
}

#[test]
fn what_cannot_be_had_leaves_all_as_it_was() {
    let (cpu, _) = two_cpus();
    let config = format!("{CLOSELY}threshold = '1us'\ncpus = '{cpu}'\n");
    let mut service = Service::start(&config, &[]);
    service.sees("an interval", |_| true);

    service.reload("threshhold = '1us'");
    let told = service.says("not reloaded, all goes on as before");
    assert!(told.contains("did you mean threshold?"), "{told}");

    service.reload(&format!("{config}width = '100ms'\n").replace("width = '50ms'\n", ""));
    let told = service.says("not reloaded, all goes on as before");
    assert!(told.contains("must be below --window"), "{told}");

    fs::remove_file(service.config()).expect("removed");
    service.signal(libc::SIGHUP);
    service.says("cannot read the configuration");

    // Shows only when the detector has been stopped: the counter of another maker's CPUs.
    let intel = fs::read_to_string("/proc/cpuinfo")
        .expect("cpuinfo")
        .contains("GenuineIntel");
    let foreign = if intel { "ls-smi-rx" } else { "msr-pmu" };
    // Nor is anything else of that file taken.
    let slower = config.replace("'200ms'", "'1h'");
    service.reload(&format!("{slower}counter = '{foreign}'\n"));
    service.says("nothing was taken of the file, and the old ones are in force again");
    service.reload(&config);
    service.says("nothing has changed");

    service.reload(&format!("{config}hardlimit = '1s'\n"));
    service.says("hardlimit cannot be changed while it runs");
    service.reload(&config);
    service.says("nothing has changed");

    let so_far = service.seen.last().map_or(0, |snapshot| snapshot.interval);
    service.sees("further intervals", |snapshot| {
        snapshot.interval > so_far + 2
    });
    let (all, status) = service.end();
    assert!(status.success(), "{status}");
    nothing_is_lost_or_counted_twice(&all);
    assert!(
        all.iter()
            .all(|snapshot| snapshot.detector.width_ns == 50_000_000)
    );
}

#[test]
fn a_threshold_that_takes_another_hardlimit_waits_for_it() {
    let (cpu, _) = two_cpus();
    let config = |threshold: &str, limit: &str| {
        format!("{CLOSELY}cpus = '{cpu}'\nthreshold = '{threshold}'\nhardlimit = '{limit}'\n")
    };
    let service = Service::start(&config("10us", "10ms"), &[]);
    service.told_until("READY=1");
    service.reload(&config("20ms", "30ms"));
    let told = service.says("not reloaded, all goes on as before");
    assert!(
        told.contains("the hardlimit cannot be changed to 30.0 ms while it runs")
            && told.contains("start smilat again for both"),
        "{told}"
    );
    service.reload(&config("20us", "15us"));
    let told = service.says("not reloaded, all goes on as before");
    assert!(
        told.contains("--hardlimit 15.0 us is below --threshold 20.0 us"),
        "{told}"
    );
    service.end();
}

#[test]
fn reloads_reach_every_way_out() {
    let (cpu, other) = two_cpus();
    let receiver = otlp::Receiver::start(&["200"]);
    let folder = tempfile::tempdir().expect("a folder");
    let record = folder.path().join("gaps.ndjson");
    let config = |threshold: &str, cpu: u32| {
        format!(
            "{CLOSELY}threshold = '{threshold}'\ncpus = '{cpu}'\nrecord = '{}'\nlisten = '127.0.0.1:0'\n\
             otlp = '{}'\notlp-interval = '200ms'\n",
            record.display(),
            receiver.url()
        )
    };
    let mut service = Service::start(&config("2us", cpu), &[]);
    let metrics = address(&service.says("metrics: http://"));
    service.sees("gaps", |snapshot| snapshot.total().count > 0);
    service.reload(&config("1us", cpu));
    service.says("threshold 1.00 us");
    service.reload(&config("1us", other));
    service.says("the detector was started again");
    service.sees("gaps of the other CPU", |snapshot| {
        snapshot.cpu(other).is_some_and(|cpu| cpu.gaps.count > 0)
    });
    // Two intervals later what was seen above has been published.
    let seen = service.seen.last().expect("a snapshot").clone();
    service.sees("further intervals", |snapshot| {
        snapshot.interval > seen.interval + 1
    });
    let served = serving::get(metrics, "/metrics").expect("an answer").body;
    for cpu in &seen.cpus {
        let label = format!("cpu=\"{}\"", cpu.cpu);
        let served = serving::sum(&served, "smilat_exposure_seconds_total", &label);
        let then = cpu.exposure_ns as f64 / 1e9;
        assert!(
            served >= then * 0.999_999,
            "CPU {}: {served}, {then}",
            cpu.cpu
        );
    }
    let (all, status) = service.end();
    assert!(status.success(), "{status}");
    nothing_is_lost_or_counted_twice(&all);
    let recorded = fs::read_to_string(&record).expect("the recording");
    let recorded: Vec<Snapshot> = recorded
        .lines()
        .filter(|line| !line.starts_with("{\"recording\""))
        .map(|line| serde_json::from_str(line).expect("a snapshot"))
        .collect();
    assert_eq!(recorded, all);
    let last = all.last().expect("a snapshot");
    let pushed = receiver.requests();
    let pushed = pushed.last().expect("a push").points("smilat.gaps");
    for cpu in &last.cpus {
        let of_cpu = format!("cpu={}", cpu.cpu);
        let count: f64 = pushed
            .iter()
            .filter(|(key, _)| key.split(',').any(|part| part == of_cpu))
            .map(|(_, count)| count)
            .sum();
        assert_eq!(count as u64, cpu.gaps.count, "CPU {}", cpu.cpu);
    }
}

#[test]
fn a_new_interval_counts_from_the_reload_on() {
    let (cpu, _) = two_cpus();
    let config = format!("{CLOSELY}cpus = '{cpu}'\n");
    let slow = config.replace("'200ms'", "'1h'");
    let mut service = Service::start(&slow, &[]);
    service.told_until("READY=1");
    service.reload(&config);
    service.says("a report every 200 ms");
    service.sees("intervals", |snapshot| snapshot.interval == 3);
    nothing_is_lost_or_counted_twice(&service.end().0);
}
