//! The page as text. How browsers show it is tested in `tests/tests/html.rs`.

use jiff::{SignedDuration, Timestamp};
use smi_common::cause::SETS;

use super::html;
use crate::{
    made_up,
    model::{
        Attribution, Cause, CauseStats, Comparison, CpuSnapshot, Difference, Gap, Header, Interval,
        Machine, Period, PeriodSearch, Slot, Summary, Verdict,
    },
};

const BEGAN: &str = "2026-11-21T16:00:00Z";

fn moment(seconds: i64) -> Timestamp {
    let began: Timestamp = BEGAN.parse().expect("a time");
    began
        .checked_add(SignedDuration::from_secs(seconds))
        .expect("a time")
}

/// A recording of 100 s without a gap.
pub(super) fn summary() -> Summary {
    Summary {
        name: "host.ndjson".to_owned(),
        header: Some(Header {
            started: moment(0),
            hardlimit_ns: Some(100_000),
            machine: Machine {
                hostname: Some("rt-host".to_owned()),
                kernel: Some("6.12.48-rt".to_owned()),
                ..Machine::default()
            },
            ..made_up::header()
        }),
        detector: made_up::detector(),
        attribution: Attribution::default(),
        threshold_range_ns: (10_000, 10_000),
        gap_kinds_mixed: false,
        began: moment(0),
        ended: moment(100),
        snapshots: 100,
        runs: 1,
        total: Interval {
            exposure_ns: 1_000_000_000,
            ..Interval::default()
        },
        causes: Vec::new(),
        cpus: vec![CpuSnapshot {
            exposure_ns: 1_000_000_000,
            ..CpuSnapshot::new(0)
        }],
        smis: None,
        timeline: (0..10)
            .map(|slot| Slot {
                began: moment(slot * 10),
                length_ns: 10_000_000_000,
                counts: Interval {
                    exposure_ns: 100_000_000,
                    ..Interval::default()
                },
                causes: Vec::new(),
            })
            .collect(),
        gaps: Vec::new(),
        gaps_left_out: 0,
        periods: Vec::new(),
        periods_searched: None,
        verdict: None,
        remarks: Vec::new(),
    }
}

/// Adds a gap everywhere it counts.
fn add(summary: &mut Summary, seconds: i64, duration_ns: u64, cause: Cause) {
    let gap = Gap::new(0, moment(seconds), duration_ns, cause);
    let mut one = CpuSnapshot::new(0);
    one.count(&gap);
    let slot = &mut summary.timeline[usize::try_from(seconds / 10).expect("a slot")];
    for (counts, causes) in [
        (&mut summary.total, &mut summary.causes),
        (&mut slot.counts, &mut slot.causes),
    ] {
        counts.add(&one.total());
        CauseStats::of(&gap).add_to(causes);
    }
    summary.gaps.push(gap);
}

fn page(summary: &Summary) -> String {
    html(std::slice::from_ref(summary), &[])
}

fn count(page: &str, what: &str) -> usize {
    page.matches(what).count()
}

/// Marks drawn for a cause, in the wide chart.
fn marks(page: &str, cause: &str) -> usize {
    let start = format!(r#"data-cause="{cause}" d=""#);
    page.split_once(&start)
        .and_then(|(_, rest)| rest.split_once('"'))
        .map_or(0, |(path, _)| path.matches('M').count())
}

fn each_id_is_unique(page: &str) {
    for id in page.split(" id=\"").skip(1) {
        let id = id.split('"').next().expect("an id");
        assert_eq!(count(page, &format!(" id=\"{id}\"")), 1, "{id}");
    }
}

#[test]
fn the_page_is_whole_and_asks_for_nothing() {
    let page = page(&summary());
    assert!(page.starts_with("<!DOCTYPE html>"));
    assert!(page.contains("default-src 'none'"));
    assert!(!page.contains("<script"));
    assert!(!page.contains("http://") && !page.contains("https://"));
    assert_eq!(count(&page, "<h1"), 1);
    assert_eq!(count(&page, "<svg"), count(&page, "</svg>"));
    each_id_is_unique(&page);
    assert!(!page.contains("NaN") && !page.contains("inf\""));
}

#[test]
fn what_a_recording_says_is_text_and_never_markup() {
    let mut summary = summary();
    let evil = "<script>alert(1)</script>\"'&";
    summary.name = evil.to_owned();
    summary.remarks = vec![evil.to_owned()];
    summary.detector.name = evil.to_owned();
    summary.detector.cpus = evil.to_owned();
    if let Some(header) = &mut summary.header {
        header.smilat = evil.to_owned();
        header.machine = Machine {
            hostname: Some(evil.to_owned()),
            kernel: Some(evil.to_owned()),
            cpu: Some(evil.to_owned()),
            cpus: Some(evil.to_owned()),
            microcode: Some(evil.to_owned()),
            hypervisor: Some(evil.to_owned()),
            product: Some(evil.to_owned()),
            firmware: Some(evil.to_owned()),
            clock_source: Some(evil.to_owned()),
        };
    }
    let both = [summary.clone(), summary];
    for page in [html(&both[..1], &[]), html(&both, &[])] {
        assert!(!page.contains("<script"));
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;"));
    }
}

#[test]
fn a_recording_without_gaps_says_so() {
    let mut empty = summary();
    let quiet = page(&empty);
    assert!(quiet.contains("There are no gaps."));
    assert!(quiet.contains("No hardlimit given"));
    assert!(quiet.contains("Too few single gaps were recorded to look for fixed intervals."));
    empty.periods_searched = Some(PeriodSearch {
        shortest_ns: 2e6,
        longest_ns: 20e9,
        events: 512,
    });
    let searched = page(&empty);
    assert!(searched.contains("No fixed interval between"));
    assert!(searched.contains(r#"data-at="/summaries/0/periods_searched/events""#));
    empty.total.exposure_ns = 0;
    empty.timeline.clear();
    empty.cpus.clear();
    empty.ended = empty.began;
    let nothing = page(&empty);
    assert!(!nothing.contains("NaN") && !nothing.contains("inf"));
}

#[test]
fn where_nothing_was_sampled_the_charts_are_hatched() {
    let mut summary = summary();
    let hatched = r#"class="unwatched""#;
    assert_eq!(count(&page(&summary), hatched), 0);
    summary.timeline[3].counts.exposure_ns = 0;
    // Two charts, wide and narrow.
    let page = page(&summary);
    assert_eq!(count(&page, hatched), 4);
    assert!(page.contains("nothing was sampled"));
}

#[test]
fn a_single_gap_is_drawn_and_told() {
    let mut summary = summary();
    add(&mut summary, 42, 123_456, Cause::of_bits(1));
    summary.verdict = Some(Verdict {
        hardlimit_ns: 100_000,
        max_ns: Some(123_456),
        exceeded: true,
        over: 1,
        worst: summary.gaps.first().copied(),
    });
    let page = page(&summary);
    assert_eq!(marks(&page, "smi"), 1);
    assert!(page.contains("✗") && page.contains("Hardlimit exceeded"));
    assert!(page.contains("2026-11-21 16:00:42.000"));
    assert!(page.contains(
        r#"<data value="123456" data-at="/summaries/0/total/max_ns" data-unit="ns">123 us</data>"#
    ));
    // All percentiles of one gap are one.
    assert!(page.contains("p50 = p90 = p99 = p99.9 = max 123 us"));
    assert!(page.contains(" Gaps above it: "));
}

#[test]
fn where_gaps_were_not_recorded_singly_their_number_above_the_limit_is_not_said_to_be_known() {
    let mut summary = summary();
    add(&mut summary, 42, 123_456, Cause::of_bits(1));
    summary.gaps.clear();
    summary.verdict = Some(Verdict {
        hardlimit_ns: 100_000,
        max_ns: Some(123_456),
        exceeded: true,
        over: 0,
        worst: None,
    });
    let page = page(&summary);
    assert!(page.contains("Of the gaps above it, ") && page.contains(" were recorded one by one."));
    assert!(!page.contains(" Gaps above it: "));
}

#[test]
fn a_kept_limit_is_said_in_words() {
    let mut summary = summary();
    summary.verdict = Some(Verdict {
        hardlimit_ns: 100_000,
        max_ns: None,
        exceeded: false,
        over: 0,
        worst: None,
    });
    let page = page(&summary);
    assert!(page.contains("✓") && page.contains("Hardlimit kept"));
}

#[test]
fn limits_of_nothing_do_not_upset_the_scales() {
    let mut summary = summary();
    summary.detector.threshold_ns = 0;
    summary.verdict = Some(Verdict {
        hardlimit_ns: 0,
        max_ns: None,
        exceeded: false,
        over: 0,
        worst: None,
    });
    for gaps in 0..2 {
        let page = page(&summary);
        assert!(
            !page.contains("NaN") && !page.contains("inf"),
            "{gaps} gaps"
        );
        assert!(page.len() < 60_000, "{} bytes", page.len());
        add(&mut summary, 1, 20_000, Cause::of_bits(0));
    }
}

#[test]
fn every_cause_has_its_marks_and_its_legend() {
    let mut summary = summary();
    for bits in 0..SETS as u64 {
        for copy in 0..=bits.cast_signed() {
            add(
                &mut summary,
                10 * copy,
                20_000 << bits,
                Cause::of_bits(bits),
            );
        }
    }
    let page = page(&summary);
    for bits in 0..SETS {
        let cause = Cause::of_bits(bits as u64).to_string();
        assert_eq!(marks(&page, &cause), bits + 1, "{cause}");
        assert!(page.contains(&format!("<b>{cause}</b>")), "{cause}");
    }
}

#[test]
fn a_recording_without_header_lacks_what_stood_there() {
    let mut summary = summary();
    summary.header = None;
    let page = page(&summary);
    assert!(page.contains("has no header"));
    assert!(page.contains("<title>Hardware latency</title>"));
}

#[test]
fn gaps_that_are_counted_only_are_told() {
    let mut summary = summary();
    add(&mut summary, 1, 20_000, Cause::of_bits(0));
    assert!(!page(&summary).contains("class=\"envelope\""));
    summary.total.count = 500;
    summary.gaps_left_out = 99;
    let page = page(&summary);
    assert!(page.contains("class=\"envelope\""));
    assert!(page.contains("Not every gap"));
    assert!(page.contains(r#"data-at="/summaries/0/gaps_left_out""#));
}

#[test]
fn a_fixed_interval_is_named_with_its_evidence() {
    let mut summary = summary();
    summary.periods = vec![Period {
        cause: Some(Cause::of_bits(1)),
        longer_than_ns: Some(250_000),
        interval_ns: 60e9,
        uncertainty_ns: 12e6,
        gaps: 1_440,
        coherence: 0.98,
        p_value: 1e-12,
    }];
    let page = page(&summary);
    for told in [
        "250 us",
        "60.00 s",
        "12.0 ms",
        "1440",
        "0.980",
        "p &lt; 0.0001",
    ] {
        assert!(page.contains(told), "{told}");
    }
}

#[test]
fn several_recordings_stand_side_by_side() {
    let mut before = summary();
    add(&mut before, 5, 20_000, Cause::of_bits(0));
    let mut after = summary();
    after.name = "after.ndjson".to_owned();
    let row = Difference {
        cause: None,
        rate_before: Some(1.0),
        rate_after: Some(0.0),
        ratio: Some(0.0),
        ratio_range: Some((0.0, 0.5)),
        rate_p_value: Some(0.001),
        rate_differs: Some(true),
        p50_p99_before: Some((20_000.0, 20_000.0)),
        p50_p99_after: None,
        max_before: Some(20_000),
        max_after: None,
        duration_p_value: None,
        durations_differ: None,
    };
    let comparison = Comparison {
        before: before.name.clone(),
        after: after.name.clone(),
        rows: vec![row],
        remarks: vec!["thresholds differ".to_owned()],
    };
    let page = html(&[before, after], &[comparison]);
    for told in [
        "2 recordings",
        "fewer, more than chance",
        "cannot be told",
        "thresholds differ",
        r##"href="#recording-2""##,
        r#"data-at="/comparisons/0/rows/0/ratio_range/1""#,
    ] {
        assert!(page.contains(told), "{told}");
    }
    each_id_is_unique(&page);
}

#[test]
fn recordings_without_gaps_or_exposure_stand_side_by_side_too() {
    let quiet = summary();
    let mut dark = summary();
    add(&mut dark, 5, 20_000, Cause::of_bits(0));
    dark.total.exposure_ns = 0;
    for pair in [[quiet.clone(), dark.clone()], [quiet.clone(), quiet]] {
        let page = html(&pair, &[]);
        assert!(!page.contains("NaN") && !page.contains("inf"));
        assert!(!page.contains("How often gaps of at least"));
    }
    assert!(html(&[], &[]).contains("0 recordings"));
}
