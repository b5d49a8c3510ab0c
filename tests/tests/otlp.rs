//! Pushes by OTLP to a receiver that decodes with OpenTelemetry's own messages, and to receivers that are no good.

use std::{collections::BTreeMap, fs, process::Command};

use serde_json::Value;
use smi_user::model::{Proof, Snapshot};
use tests::{
    otlp::{Pushing, Receiver, Request},
    output, refused, smilat, wait_until,
};

const FAST: [&str; 2] = ["--interval=200ms", "--otlp-interval=200ms"];

/// Arguments that push to `url` fast.
fn pushing<'a>(url: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&FAST[..], &["--otlp", url], more].concat()
}

/// The snapshot a request was made of.
#[track_caller]
fn made_of<'a>(snapshots: &'a [Snapshot], request: &Request) -> &'a Snapshot {
    let time_ns = request.histogram("smilat.gap.duration")["timeUnixNano"]
        .as_str()
        .and_then(|text| text.parse::<i128>().ok())
        .expect("a time");
    snapshots
        .iter()
        .find(|one| one.time.as_nanosecond() == time_ns)
        .unwrap_or_else(|| panic!("no line of the report is of {time_ns}"))
}

/// `seconds` in nanoseconds, which is what they were made of.
fn ns(seconds: f64) -> u64 {
    (seconds * 1e9).round() as u64
}

#[track_caller]
fn same_numbers(request: &Request, snapshot: &Snapshot) {
    let (mut gaps, mut sums, mut exposure, mut longest) = <[BTreeMap<_, _>; 4]>::default().into();
    for cpu in &snapshot.cpus {
        let unknown = format!("cause=unknown,cpu={}", cpu.cpu);
        gaps.insert(unknown.clone(), 0);
        sums.insert(unknown, 0);
        for stats in &cpu.causes {
            let key = format!("cause={},cpu={}", stats.cause, cpu.cpu);
            gaps.insert(key.clone(), stats.count);
            sums.insert(key, stats.sum_ns);
        }
        exposure.insert(format!("cpu={}", cpu.cpu), cpu.exposure_ns);
        longest.insert(format!("cpu={}", cpu.cpu), cpu.gaps.max_ns.unwrap_or(0));
    }
    // A cause that can be proven, or that only another CPU had, is pushed as 0.
    let proofs = &snapshot.attribution;
    let provable = [
        ("smi", proofs.smi),
        ("nmi", proofs.nmi),
        ("steal", proofs.steal),
    ]
    .into_iter();
    let provable = provable.filter(|(_, proof)| *proof == Proof::Gap);
    let seen = snapshot
        .causes()
        .into_iter()
        .map(|stats| stats.cause.to_string());
    for cause in provable.map(|(cause, _)| cause.to_owned()).chain(seen) {
        for cpu in &snapshot.cpus {
            let key = format!("cause={cause},cpu={}", cpu.cpu);
            gaps.entry(key.clone()).or_insert(0);
            sums.entry(key).or_insert(0);
        }
    }
    let points = |name: &str, convert: fn(f64) -> u64| -> BTreeMap<String, u64> {
        let points = request.points(name).into_iter();
        points.map(|(key, value)| (key, convert(value))).collect()
    };
    assert_eq!(points("smilat.gaps", |count| count as u64), gaps);
    assert_eq!(points("smilat.gap", ns), sums);
    assert_eq!(points("smilat.exposure", ns), exposure);
    assert_eq!(points("smilat.gap.max", ns), longest);
    let total = snapshot.total();
    let point = request.histogram("smilat.gap.duration");
    let number = |value: &Value| {
        value
            .as_str()
            .map_or(0, |text| text.parse().expect("a number"))
    };
    assert_eq!(number(&point["count"]), total.count, "{point}");
    assert_eq!(ns(point["sum"].as_f64().expect("a sum")), total.sum_ns);
    assert_eq!(point["scale"], 3);
    let offset = point["positive"]["offset"].as_i64().unwrap_or(0);
    let counts = point["positive"]["bucketCounts"].as_array();
    let buckets: Vec<(i64, u64)> = (offset..)
        .zip(counts.into_iter().flatten())
        .map(|(index, count)| (index, number(count)))
        .filter(|(_, count)| *count > 0)
        .collect();
    let ours: Vec<(i64, u64)> = total
        .histogram
        .filled()
        // By OTLP's numbers, a bucket's index is one below Prometheus's.
        .map(|bucket| (i64::from(bucket.index) - 1, bucket.count))
        .collect();
    assert_eq!(buckets, ours);
}

#[test]
fn what_is_received_equals_the_report_of_the_same_time() {
    let receiver = Receiver::start(&["200"]);
    let folder = tempfile::tempdir().expect("a folder");
    let headers = folder.path().join("headers");
    fs::write(&headers, "Authorization=Bearer abc=\n").expect("write");
    let from_file = format!("--otlp-header=@{}", headers.display());
    let url = receiver.url();
    let options = [
        "--duration=3s",
        "--width=100ms",
        "--window=200ms",
        "--mode=per-cpu",
        "--hardlimit=60s",
        "--otlp-header=X-Scope=7",
        "--otlp-instance=rack7",
        &from_file,
    ];
    let mut run = Pushing::start(&pushing(&url, &options), &[]);
    let status = run.ended();
    assert!(status.success(), "{}", run.said());
    assert!(!run.said().contains("push"), "{}", run.said());
    let snapshots = run.snapshots();
    let requests = receiver.requests();
    assert_eq!(requests.len(), snapshots.len(), "each report is pushed");
    for (request, snapshot) in requests.iter().zip(&snapshots) {
        assert_eq!(made_of(&snapshots, request).time, snapshot.time);
        same_numbers(request, snapshot);
        assert_eq!(request.path(), "/v1/metrics");
        for (name, value) in [
            ("content-type", "application/x-protobuf"),
            ("content-encoding", "gzip"),
            ("x-scope", "7"),
            ("authorization", "Bearer abc="),
        ] {
            assert_eq!(request.header(name), Some(value), "{name}");
        }
    }
    let last = requests.last().expect("a request");
    assert!(snapshots.last().is_some_and(|snapshot| snapshot.last));
    assert!(
        last.points("smilat.gaps").values().sum::<f64>() > 0.0,
        "a run without any gap shows nothing"
    );
    let resource = last.resource();
    assert_eq!(resource["service.name"], "smilat");
    assert_eq!(resource["service.instance.id"], "rack7");
    assert_eq!(ns(last.points("smilat.hardlimit")[""]), 60_000_000_000);
    // What Prometheus makes of the names is docs/otlp.md's claim.
    let documented = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/otlp.md"))
        .expect("docs/otlp.md");
    for (name, unit) in last.names() {
        let row = format!("| `{name}` | {}", if unit.is_empty() { "" } else { &unit });
        assert!(
            documented.contains(row.trim_end()),
            "docs/otlp.md has no row {row}"
        );
    }
}

#[test]
fn a_push_has_the_longest_gap_of_all_reports_since_the_one_before() {
    let receiver = Receiver::start(&["200"]);
    let url = receiver.url();
    let args = [
        "--interval=100ms",
        "--otlp-interval=1s",
        "--otlp",
        &url,
        "--duration=2500ms",
        "--width=40ms",
        "--window=80ms",
        "--mode=per-cpu",
    ];
    let mut run = Pushing::start(&args, &[]);
    assert!(run.ended().success(), "{}", run.said());
    let snapshots = run.snapshots();
    let requests = receiver.requests();
    assert!(
        requests.len() == 3,
        "1 s, 2 s and the end: {}",
        requests.len()
    );
    let mut from = 0;
    for request in &requests {
        let snapshot = made_of(&snapshots, request);
        let to = snapshots
            .iter()
            .position(|one| one.time == snapshot.time)
            .expect("a position");
        let mut longest = BTreeMap::new();
        for cpu in snapshots[from..=to].iter().flat_map(|one| &one.cpus) {
            let so_far = longest.entry(format!("cpu={}", cpu.cpu)).or_insert(0);
            *so_far = cpu.gaps.interval_max_ns.unwrap_or(0).max(*so_far);
        }
        let pushed = request.points("smilat.gap.interval_max").into_iter();
        let pushed: BTreeMap<_, _> = pushed.map(|(cpu, s)| (cpu, ns(s))).collect();
        assert_eq!(pushed, longest);
        from = to + 1;
    }
}

#[test]
fn an_outage_costs_resolution_and_is_counted_and_told_once() {
    let mut receiver = Receiver::start(&["200", "--closed"]);
    let url = receiver.url();
    let mut run = Pushing::start(&pushing(&url, &[]), &[]);
    // More than can wait.
    wait_until("ten reports", || run.snapshots().len() >= 10);
    receiver.open();
    wait_until("pushes", || receiver.requests().len() > 5);
    wait_until("word that it works again", || {
        run.said().contains("works again")
    });
    run.interrupt();
    assert!(run.ended().success(), "{}", run.said());
    let said = run.said();
    for told in [
        "cannot push to http://127.0.0.1",
        "works again",
        "only the resolution",
    ] {
        assert_eq!(said.matches(told).count(), 1, "{told}: {said}");
    }
    let (snapshots, requests) = (run.snapshots(), receiver.requests());
    for request in &requests {
        same_numbers(request, made_of(&snapshots, request));
    }
    let last = requests.last().expect("requests");
    assert!(made_of(&snapshots, last).last, "the last is pushed");
    let pushed = last.points("smilat.push.snapshots");
    let (sent, lost) = (
        pushed["outcome=sent"] as usize,
        pushed["outcome=lost"] as usize,
    );
    assert_eq!(sent, requests.len() - 1, "sent before the last one");
    assert!(lost > 0, "nothing was lost: {said}");
    assert_eq!(sent + 1 + lost, snapshots.len(), "each is sent or lost");
    assert!(last.points("smilat.push.failures")[""] >= 1.0);
    assert!(
        said.contains(&format!("{lost} of {} snapshots", snapshots.len())),
        "{said}"
    );
}

#[test]
fn a_receiver_that_asks_to_be_spared_is_and_gets_the_same_points_later() {
    let receiver = Receiver::start(&["503:2", "200"]);
    let url = receiver.url();
    // Few enough that none is given up meanwhile.
    let args = [
        "--interval=1s",
        "--otlp-interval=1s",
        "--otlp",
        &url,
        "--duration=4s",
    ];
    let mut run = Pushing::start(&args, &[]);
    assert!(run.ended().success(), "{}", run.said());
    let requests = receiver.requests();
    assert_eq!(requests[0].answer(), "503:2");
    assert!(
        requests[1].at() - requests[0].at() >= 2.0,
        "it asked for 2 s"
    );
    assert_eq!(requests[0].body(), requests[1].body());
    assert_eq!(requests.len(), run.snapshots().len() + 1);
    let last = requests.last().expect("requests");
    assert_eq!(
        last.points("smilat.push.snapshots")["outcome=lost"] as u64,
        0
    );
    assert!(
        run.said().contains("503 Service Unavailable"),
        "{}",
        run.said()
    );
}

#[test]
fn what_is_refused_for_good_is_tried_once_and_told_once() {
    for (answer, told) in [
        ("400", "400 Bad Request (unknown tenant)"),
        ("moved", "points to http://192.0.2.1/v1/metrics"),
    ] {
        let receiver = Receiver::start(&[answer]);
        let url = receiver.url();
        let mut run = Pushing::start(&pushing(&url, &["--duration=2s"]), &[]);
        assert!(run.ended().success(), "{}", run.said());
        let (said, reports) = (run.said(), run.snapshots().len());
        assert_eq!(receiver.requests().len(), reports, "each is tried once");
        assert_eq!(said.matches("cannot push").count(), 1, "{said}");
        assert!(said.contains(told), "{said}");
        assert!(
            said.contains(&format!("{reports} of {reports} snapshots did not get to")),
            "{said}"
        );
        assert!(said.contains("the last is among them"), "{said}");
    }
}

#[test]
fn rejected_points_are_counted_and_told_once() {
    let receiver = Receiver::start(&["reject:3", "reject:2", "200"]);
    let url = receiver.url();
    let mut run = Pushing::start(&pushing(&url, &["--duration=2s"]), &[]);
    assert!(run.ended().success(), "{}", run.said());
    let requests = receiver.requests();
    let last = requests.last().expect("requests");
    assert_eq!(last.points("smilat.push.points.rejected")[""] as u64, 5);
    let said = run.said();
    assert_eq!(said.matches("too old for this store").count(), 1, "{said}");
    assert!(said.contains("rejected 5 data points"), "{said}");
}

#[test]
fn a_receiver_that_never_answers_holds_up_neither_the_collection_nor_the_end() {
    let receiver = Receiver::start(&["silence"]);
    let url = receiver.url();
    let mut run = Pushing::start(&pushing(&url, &["--duration=3s"]), &[]);
    // `ended` waits for 20 s, and one attempt alone takes 10 s: the last push did not wait for another.
    assert!(run.ended().success(), "{}", run.said());
    let snapshots = run.snapshots();
    assert!(snapshots.last().is_some_and(|last| last.last));
    // 15 are due; a busy machine may miss some.
    assert!(snapshots.len() >= 8, "{}", snapshots.len());
    assert_eq!(receiver.requests().len(), 1);
    let all = snapshots.len();
    let told = format!("{all} of {all} snapshots did not get to");
    assert!(run.said().contains(&told), "{}", run.said());
}

#[test]
fn ctrl_c_ends_the_wait_for_the_last_push() {
    let receiver = Receiver::start(&["503:3600"]);
    let url = receiver.url();
    let mut run = Pushing::start(&pushing(&url, &[]), &[]);
    wait_until("a push", || !receiver.requests().is_empty());
    run.interrupt();
    // It asked for an hour: there is nothing to wait for.
    assert!(run.ended().success(), "{}", run.said());
    assert!(run.said().contains("did not get to"), "{}", run.said());

    let silent = Receiver::start(&["silence"]);
    let url = silent.url();
    let mut run = Pushing::start(&pushing(&url, &[]), &[]);
    wait_until("a push", || !silent.requests().is_empty());
    run.interrupt();
    wait_until("the last report", || {
        run.snapshots().last().is_some_and(|last| last.last)
    });
    run.interrupt();
    assert!(run.ended().success(), "{}", run.said());
    assert!(run.said().contains("did not get to"), "{}", run.said());
}

#[test]
fn https_is_checked_against_the_authorities_of_the_machine() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let made = output(
        Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
            ])
            .args(["-nodes", "-days", "2", "-subj", "/CN=localhost"])
            .args(["-addext", "subjectAltName=DNS:localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .arg("-keyout")
            .arg(path("key"))
            .arg("-out")
            .arg(path("certificate")),
    );
    assert!(made.status.success(), "{}", tests::stderr(&made));
    let both = fs::read_to_string(path("certificate")).expect("a certificate")
        + &fs::read_to_string(path("key")).expect("a key");
    fs::write(path("both"), both).expect("write");
    let tls = format!("--tls={}", path("both").display());
    for (trusted, told) in [(true, None), (false, Some("certificate"))] {
        let receiver = Receiver::start(&["200", &tls]);
        let url = format!("https://localhost:{}", receiver.port);
        let environment = trusted.then(|| ("SSL_CERT_FILE", path("certificate")));
        let mut run = Pushing::start(&pushing(&url, &["--duration=1s"]), environment.as_slice());
        assert!(run.ended().success(), "{}", run.said());
        let said = run.said();
        match told {
            None => {
                assert_eq!(receiver.requests().len(), run.snapshots().len(), "{said}");
                assert!(!said.contains("push"), "{said}");
            }
            Some(told) => {
                assert!(receiver.requests().is_empty());
                assert!(
                    said.contains("cannot push") && said.contains(told),
                    "{said}"
                );
            }
        }
    }
}

#[test]
fn a_reload_renews_tokens_and_intervals_but_sends_nothing_elsewhere() {
    let receiver = Receiver::start(&["200"]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let token = |token: &str| {
        fs::write(path("headers"), format!("X-Token={token}\n")).expect("written");
    };
    let config = |url: &str, interval: &str, otlp_interval: &str| {
        let headers = path("headers");
        let text = format!(
            "otlp = '{url}'\ninterval = '{interval}'\notlp-interval = '{otlp_interval}'\notlp-header = ['@{}']\n",
            headers.display()
        );
        fs::write(path("smilat.toml"), text).expect("written");
    };
    let newest_token = || {
        let requests = receiver.requests();
        let newest = requests.last().and_then(|last| last.header("x-token"));
        newest.map(str::to_owned)
    };
    token("first-secret");
    config(&receiver.url(), "200ms", "200ms");
    let file = path("smilat.toml");
    let mut run = Pushing::start(&["--config", file.to_str().expect("UTF-8")], &[]);
    wait_until("a push", || {
        newest_token().as_deref() == Some("first-secret")
    });

    token("second-secret");
    run.signal(libc::SIGHUP);
    wait_until("a push with the new token", || {
        newest_token().as_deref() == Some("second-secret")
    });
    assert!(
        run.said().contains("other headers in pushes"),
        "{}",
        run.said()
    );

    // Reports less often than pushes: nothing of it is done.
    config(&receiver.url(), "1s", "200ms");
    run.signal(libc::SIGHUP);
    wait_until("a refusal", || {
        run.said()
            .contains("not reloaded, all goes on as before: --otlp-interval 200 ms is below --interval 1.00 s")
    });
    let pushed = receiver.requests().len();
    wait_until("pushes that go on", || {
        receiver.requests().len() >= pushed + 2
    });

    config(&receiver.url(), "200ms", "1s");
    run.signal(libc::SIGHUP);
    wait_until("word of it", || run.said().contains("a push every 1.00 s"));

    // The secret that is for another receiver does not go to this one.
    token("secret-of-another");
    config("http://192.0.2.1:4318", "200ms", "1s");
    run.signal(libc::SIGHUP);
    wait_until("word that this takes a start", || {
        run.said().contains("otlp cannot be changed while it runs")
    });
    let pushed = receiver.requests().len();
    wait_until("further pushes", || receiver.requests().len() >= pushed + 2);
    run.interrupt();
    assert!(run.ended().success(), "{}", run.said());
    let requests = receiver.requests();
    let tokens: Vec<_> = requests.iter().map(|one| one.header("x-token")).collect();
    assert!(!tokens.contains(&Some("secret-of-another")), "{tokens:?}");
    assert!(!run.said().contains("secret"), "{}", run.said());
}

#[test]
fn what_cannot_be_pushed_to_is_refused_before_anything_is_done() {
    for (args, told) in [
        (
            &["--otlp=localhost:4318"][..],
            &["localhost:4318", "http://HOST:4318"][..],
        ),
        (&["--otlp=ftp://host"], &["only http:// and https://"]),
        (&["--otlp=http://host:4317"], &["gRPC"]),
        (&["--otlp=http://u:p@host"], &["--otlp-header @FILE"]),
        (
            &["--otlp=http://host", "--otlp-header=@/nowhere"],
            &["/nowhere", "cannot read"],
        ),
        (
            &["--otlp=http://host", "--otlp-interval=1s", "--interval=5s"],
            &["--otlp-interval", "--interval", "lower"],
        ),
    ] {
        refused(smilat().arg("run").args(args), told);
    }
}
