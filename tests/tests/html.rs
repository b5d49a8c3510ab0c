//! The HTML report in a browser: it asks for nothing, and says what the recording says.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    fs::{self, File},
    io::{BufWriter, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use jiff::SignedDuration;
use serde_json::{Value, json};
use smi_common::buckets::{lower_ns, upper_ns};
use smi_user::{
    model::{Histogram, Snapshot, Summary},
    recording::{Line, Reader},
    units::show_ns,
};
use tempfile::TempDir;
use tests::{
    browser::Browser,
    output,
    page::{LARGEST, Shown},
    places::{expected, range, same},
    replay::replay,
    shown::says,
    smilat, stderr,
};

#[test]
fn the_page_asks_for_nothing_and_complains_of_nothing() {
    let mut shown = Shown::one();
    let requests: Vec<_> = shown
        .browser
        .told("Network.requestWillBeSent")
        .map(|request| request["request"]["url"].as_str().unwrap_or_default())
        .collect();
    assert!(
        matches!(requests[..], [only] if only.starts_with("file://")),
        "{requests:?}"
    );
    for complaint in [
        "Log.entryAdded",
        "Runtime.consoleAPICalled",
        "Runtime.exceptionThrown",
    ] {
        assert_eq!(shown.browser.told(complaint).next(), None);
    }
    // The test would see both.
    shown.browser.value(
        "document.body.append(Object.assign(new Image(), { src: 'http://127.0.0.1:9/' })); 0",
    );
    shown.browser.wait("Log.entryAdded");
    // And what it asks for, if it were not forbidden to.
    let file = shown.folder.path().join("report.html");
    let browser = &mut shown.browser;
    browser.call("Page.setBypassCSP", &json!({ "enabled": true }));
    browser.open(&file);
    browser.value(
        "document.body.append(Object.assign(new Image(), { src: 'http://127.0.0.1:9/' })); 0",
    );
    browser.wait_for("Network.requestWillBeSent", |request| {
        request["request"]["url"] == "http://127.0.0.1:9/"
    });
}

/// A real recording of some seconds, replayed to a day at one snapshot a second: through the command, as users would.
#[test]
fn a_day_of_a_real_recording_is_a_small_page_that_says_what_the_recording_says() {
    const DAY: u64 = 86_400;
    let folder = TempDir::new().expect("a folder");
    let [short, day, page] = ["short", "day", "day.html"].map(|name| folder.path().join(name));
    output(
        smilat()
            .args(["run", "--quiet", "--preset=idle", "--threshold=50us"])
            .args([
                "--interval=1s",
                "--duration=8s",
                "--hardlimit=50us",
                "--record",
            ])
            .arg(&short),
    );
    let (mut header, mut recorded) = (None, Vec::new());
    let mut reader = Reader::open(&short).expect("recorded");
    while let Some(line) = reader.next_line().expect("read") {
        match line {
            Line::Header(of) => header = Some(of),
            Line::Snapshot(snapshot) => recorded.push(*snapshot),
            torn @ Line::Torn { .. } => panic!("{torn:?}"),
        }
    }
    let mut to = BufWriter::new(File::create(&day).expect("a file"));
    let second = SignedDuration::from_secs(1);
    replay(header.as_deref(), &recorded, DAY, second, &mut to).expect("replayed");
    to.into_inner().expect("written");

    // The limit is that of the header, and real gaps above it are no failure of the report's.
    // One reading for both: it takes long where smilat is not optimised.
    let reported = output(
        smilat()
            .args(["report", "--json", "--output"])
            .args([&page, &day]),
    );
    assert!(
        reported.status.code().is_some_and(|code| code < 2),
        "{}",
        stderr(&reported)
    );
    let json: Value = serde_json::from_slice(&reported.stdout).expect("JSON");
    let summaries: Vec<Summary> =
        serde_json::from_value(json["summaries"].clone()).expect("summaries");
    assert_eq!((summaries.len(), summaries[0].snapshots), (1, DAY));
    // What was added over and over: the sums of a day, by arithmetic of our own.
    let per_round = recorded.last().expect("one").total().count - recorded[0].total().count;
    let rounds = (DAY - 1) / (recorded.len() as u64 - 1);
    let rest = (DAY - 1) % (recorded.len() as u64 - 1);
    let in_rest = recorded[rest as usize].total().count - recorded[0].total().count;
    let all = recorded[0].total().count + rounds * per_round + in_rest;
    assert_eq!(summaries[0].total.count, all);
    is_what_the_last_line_says(&summaries[0], &last_line(&day));

    let size = fs::metadata(&page).expect("written").len();
    println!(
        "{size} bytes, {all} gaps, {} marks",
        summaries[0].gaps.len()
    );
    assert!(size < LARGEST as u64, "{size} bytes");
    let mut browser = Browser::start();
    browser.look(1280, "light");
    browser.open(&page);
    for complaint in [
        "Log.entryAdded",
        "Runtime.consoleAPICalled",
        "Runtime.exceptionThrown",
    ] {
        assert_eq!(browser.told(complaint).next(), None);
    }
    assert_eq!(browser.told("Network.requestWillBeSent").count(), 1);
    numbers_are_those_of(&mut browser, &json, &summaries);
}

/// The last line of a recording.
fn last_line(path: &Path) -> Snapshot {
    const MOST: u64 = 4 << 20;
    let mut file = File::open(path).expect("a file");
    let length = file.metadata().expect("a length").len();
    file.seek(SeekFrom::Start(length.saturating_sub(MOST)))
        .expect("seeks");
    let mut end = Vec::new();
    file.read_to_end(&mut end).expect("reads");
    let line = end.trim_ascii_end().rsplit(|byte| *byte == b'\n').next();
    let line: Snapshot = serde_json::from_slice(line.expect("a line")).expect("a snapshot");
    assert!(line.last);
    line
}

/// What a line counts since the start, added up here.
fn is_what_the_last_line_says(summary: &Summary, line: &Snapshot) {
    assert_eq!(summary.cpus.len(), line.cpus.len());
    let mut all = Histogram::default();
    let mut causes = BTreeMap::new();
    for (of, counted) in summary.cpus.iter().zip(&line.cpus) {
        assert_eq!(
            (of.cpu, of.exposure_ns, &of.histogram),
            (counted.cpu, counted.exposure_ns, &counted.histogram)
        );
        let of = &of.gaps;
        let gaps = &counted.gaps;
        assert_eq!(
            (of.count, of.sum_ns, of.min_ns, of.max_ns),
            (gaps.count, gaps.sum_ns, gaps.min_ns, gaps.max_ns)
        );
        all.add(&counted.histogram);
        for of in &counted.causes {
            let (count, sum_ns, max_ns) = causes.entry(of.cause).or_insert((0, 0, 0));
            *count += of.count;
            *sum_ns += of.sum_ns;
            *max_ns = of.max_ns.max(*max_ns);
        }
    }
    let of_summary: BTreeMap<_, _> = summary
        .causes
        .iter()
        .map(|of| (of.cause, (of.count, of.sum_ns, of.max_ns)))
        .collect();
    assert_eq!(of_summary, causes);
    let sum = |of: fn(&smi_user::model::CpuSnapshot) -> u64| line.cpus.iter().map(of).sum::<u64>();
    let total = &summary.total;
    assert_eq!(
        (total.exposure_ns, total.count, total.sum_ns, total.max_ns),
        (
            sum(|cpu| cpu.exposure_ns),
            sum(|cpu| cpu.gaps.count),
            sum(|cpu| cpu.gaps.sum_ns),
            line.cpus.iter().filter_map(|cpu| cpu.gaps.max_ns).max()
        )
    );
    for q in [0.5, 0.9, 0.99, 0.999] {
        let Some(told) = total.quantile_ns(q) else {
            assert_eq!(total.count, 0);
            continue;
        };
        // In the bucket in which so many are reached.
        let mut reached = 0;
        let bucket = all.counts().iter().position(|count| {
            reached += count;
            reached as f64 >= q * total.count as f64 && *count > 0
        });
        let bucket = bucket.expect("gaps");
        let low = lower_ns(bucket) as f64;
        let high = upper_ns(bucket).map_or(f64::INFINITY, |ns| ns as f64);
        assert!(
            (low..=high).contains(&told),
            "{q}: {told}, not in {low} to {high}"
        );
    }
}

#[test]
fn texts_are_read_as_they_are_meant() {
    for (unit, value, text, is_said) in [
        ("rate", "12.345", "12.3", true),
        ("rate", "12.345", "12.4", false),
        ("rate", "12345.6", "12\u{202f}346", true),
        ("rate", "0.4", "0", false),
        ("rate", "0.00012", "1.20e-4", true),
        ("plain", "0", "0", true),
        ("share", "0.1234", "12.3 %", true),
        ("share", "0.1234", "12.5 %", false),
        ("share", "0.000000001", "< 0.001 %", true),
        ("p", "0.004", "p = 0.0040", true),
        ("p", "0.004", "p < 0.0001", false),
        ("interval", "60012345678", "60.01 s", true),
        ("interval", "60012345678", "60.02 s", false),
        ("span", "86400000000000", "1 d", true),
        ("span", "86400000000000", "1 h", false),
        ("span", "90061000000000", "1 d 1 h 1 min", true),
        ("span", "90061000000000", "1 d 2 h 1 min", false),
        ("span", "864000000000", "14 min 24 s", true),
        (
            "time",
            "2026-11-21T06:30:00.25Z",
            "2026-11-21 06:30:00.250",
            true,
        ),
        (
            "time",
            "2026-11-21T06:30:00.25Z",
            "2026-11-21 06:30:00.000",
            false,
        ),
        ("new", "1", "1", false),
    ] {
        assert_eq!(says(unit, value, text), is_said, "{unit}: {value}: {text}");
    }
}

#[test]
fn every_number_is_the_recordings() {
    for mut shown in [Shown::one(), Shown::two()] {
        numbers_are_those_of(&mut shown.browser, &shown.source, &shown.summaries);
        // And no cell has a number that could not be compared.
        let others = shown.browser.value(
            "[...document.querySelectorAll('td')].flatMap(td => { \
               const walk = document.createTreeWalker(td, NodeFilter.SHOW_TEXT), found = []; \
               while (walk.nextNode()) if (/\\d/.test(walk.currentNode.data) \
                 && !walk.currentNode.parentElement.closest('[data-at]')) found.push(walk.currentNode.data); \
               return found })",
        );
        for text in others.as_array().expect("texts") {
            let is_name = shown.summaries.iter().any(|summary| {
                let machine = &summary.header.as_ref().expect("a header").machine;
                [&machine.kernel, &machine.firmware]
                    .map(|name| name.as_deref())
                    .contains(&text.as_str())
            });
            assert!(is_name, "{text} is no name");
        }
    }
}

/// Whether every number in the page that names its place is what stands at that place.
fn numbers_are_those_of(browser: &mut Browser, source: &Value, summaries: &[Summary]) {
    let found = browser.value(
        "[...document.querySelectorAll('[data-at]')].map(e => [e.dataset.at, \
         e.getAttribute('value') ?? e.getAttribute('datetime'), e.dataset.unit ?? 'time', e.textContent])",
    );
    let found = found.as_array().expect("numbers");
    assert!(found.len() > 200, "{} numbers", found.len());
    for number in found {
        let [at, value, unit, text] = [0, 1, 2, 3].map(|of| number[of].as_str().expect("text"));
        let expected = expected(source, summaries, at);
        let expected = expected.unwrap_or_else(|| panic!("{at}: no such value"));
        assert!(same(&expected, value), "{at}: {value} for {expected}");
        assert!(says(unit, value, text), "{at}: {text} for {value} ({unit})");
    }
}

#[test]
fn marks_lie_where_their_time_and_duration_are() {
    let mut shown = Shown::one();
    let summary = shown.summaries[0].clone();
    let marks = shown.browser.value(
        "[...document.querySelectorAll('#recording-1-timeline-wide-title ~ circle.hit')]\
         .map(e => [+e.getAttribute('cx'), +e.getAttribute('cy')])",
    );
    let marks = marks.as_array().expect("marks");
    let mut longest: Vec<_> = summary.gaps.iter().collect();
    longest.sort_by_key(|gap| Reverse(gap.duration_ns));
    assert!(marks.len() >= 100 && marks.len() <= longest.len());
    let number = |value: &Value| value.as_f64().expect("a number");
    let seconds = |time| summary.began.duration_until(time).as_secs_f64();
    let (mut times, mut heights) = (Vec::new(), Vec::new());
    for (mark, gap) in marks.iter().zip(longest) {
        times.push((seconds(gap.end_time), number(&mark[0])));
        heights.push(((gap.duration_ns as f64).ln(), number(&mark[1])));
    }
    // Both limits are on the same scale.
    let limit = |shown: &mut Shown, name: &str| {
        number(&shown.browser.value(&format!(
            "+document.querySelector('#recording-1-timeline-wide-title ~ line.{name}').getAttribute('y1')"
        )))
    };
    let hardlimit = summary.verdict.as_ref().expect("a verdict").hardlimit_ns;
    heights.push((
        (summary.detector.threshold_ns as f64).ln(),
        limit(&mut shown, "threshold"),
    ));
    heights.push(((hardlimit as f64).ln(), limit(&mut shown, "hardlimit")));
    // And so is the time without samples.
    let dark = shown.browser.value(
        "document.querySelector('#recording-1-timeline-wide-title ~ path.unwatched').getAttribute('d')",
    );
    let dark = dark.as_str().expect("a path");
    let at = |from: char, to: char| {
        let (_, rest) = dark.split_once(from).expect("a place");
        let (place, _) = rest.split_once(to).expect("an end");
        place.parse::<f64>().expect("a coordinate")
    };
    let is_dark = |slot: &&smi_user::model::Slot| slot.counts.exposure_ns == 0;
    let first = summary.timeline.iter().find(is_dark).expect("a dark slot");
    let last = summary.timeline.iter().rfind(is_dark).expect("a dark slot");
    times.push((seconds(first.began), at('M', ' ')));
    times.push((
        seconds(last.began) + last.length_ns as f64 / 1e9,
        at('H', 'V'),
    ));

    assert!(slope(&times) > 0.0, "later is further right");
    assert!(slope(&heights) < 0.0, "longer is higher");
}

/// The slope of the line that all points lie on, as far as coordinates to a tenth can.
#[track_caller]
fn slope(points: &[(f64, f64)]) -> f64 {
    let by_x = |a: &&(f64, f64), b: &&(f64, f64)| a.0.total_cmp(&b.0);
    let from = points.iter().min_by(by_x).expect("points");
    let to = points.iter().max_by(by_x).expect("points");
    let slope = (to.1 - from.1) / (to.0 - from.0);
    for (x, y) in points {
        let expected = from.1 + (x - from.0) * slope;
        assert!((y - expected).abs() < 0.21, "{x}: {y}, not {expected}");
    }
    slope
}

#[test]
fn charts_show_every_gap_once() {
    let mut shown = Shown::one();
    let summary = shown.summaries[0].clone();
    let marks = shown.browser.value(
        "Object.fromEntries([...document.querySelectorAll('#recording-1-timeline-wide-title ~ path[data-cause]')]\
         .map(e => [e.dataset.cause, e.getAttribute('d').split('M').length - 1]))",
    );
    for of in &summary.causes {
        let gaps = summary.gaps.iter().filter(|gap| gap.cause == of.cause);
        assert_eq!(marks[of.cause.to_string()], gaps.count(), "{}", of.cause);
    }
    let heights = shown.browser.value(
        "[...document.querySelectorAll('.wide .hit')].map(e => [+e.getAttribute('cy'), e.textContent])",
    );
    let heights = heights.as_array().expect("marks");
    assert!(
        heights.is_sorted_by_key(|mark| mark[0].as_f64()),
        "longest on top"
    );
    let max = show_ns(summary.total.max_ns.expect("gaps") as f64);
    assert!(heights[0][1].as_str().expect("text").starts_with(&max));

    let cells = shown.browser.value(
        "[...document.querySelectorAll('.wide rect[data-slots]')].map(e => [e.dataset.slots, e.dataset.buckets, e.dataset.count])",
    );
    let mut sum = 0;
    for cell in cells.as_array().expect("cells") {
        let [slots, buckets, count] = [0, 1, 2].map(|of| cell[of].as_str().expect("text"));
        let mut all = Histogram::default();
        for slot in &summary.timeline[range(slots).expect("slots")] {
            all.add(&slot.counts.histogram);
        }
        let count: u64 = count.parse().expect("a count");
        let buckets = range(buckets).expect("buckets");
        assert_eq!(all.counts()[buckets].iter().sum::<u64>(), count, "{cell}");
        sum += count;
    }
    assert_eq!(sum, summary.total.count);

    let bars = shown.browser.value(
        "[...document.querySelectorAll('.wide g[data-buckets] rect')].map(e => [e.dataset.cause, +e.dataset.count])",
    );
    for of in &summary.causes {
        let name = of.cause.to_string();
        let parts = bars.as_array().expect("bars").iter();
        let of_cause = parts.filter(|bar| bar[0] == name.as_str());
        let sum: u64 = of_cause.filter_map(|bar| bar[1].as_u64()).sum();
        assert_eq!(sum, of.count, "{name}");
    }
}
