//! What recordings say, for a terminal.

use std::fmt::Write as _;

use jiff::tz::TimeZone;

use super::{
    text::{moment, summary},
    words::{headline, number_of, show_rate},
};
use crate::{
    model::iommu_recording::{IommuRecording, IommuSlot},
    report::sparkline::{self, Point},
};

/// Events that are told, the newest.
const EVENTS: usize = 40;

/// All of `recordings`.
pub fn recorded(recordings: &[IommuRecording], zone: &TimeZone) -> String {
    let texts: Vec<String> = recordings.iter().map(|of| one(of, zone)).collect();
    texts.join("\n")
}

fn one(recording: &IommuRecording, zone: &TimeZone) -> String {
    let all_runs = recording.runs.len() as u64 + recording.runs_left_out;
    let mut text = format!(
        "{}: {} to {}, {}, {}\n",
        recording.name,
        moment(recording.began, zone),
        moment(recording.ended, zone),
        number_of(recording.snapshots, "snapshot", "snapshots"),
        number_of(all_runs, "run", "runs"),
    );
    // Writing to a string does not fail.
    for remark in &recording.remarks {
        let _written = writeln!(text, "  ! {remark}");
    }
    course(&mut text, recording);
    if recording.runs_left_out > 0 {
        let _written = writeln!(
            text,
            "\nTotals of {} are not shown",
            number_of(recording.runs_left_out, "older run", "older runs")
        );
    }
    for run in &recording.runs {
        text.push('\n');
        if all_runs > 1 {
            let _written = writeln!(text, "Run of {}", moment(run.began, zone));
        }
        text.push_str(&summary(&run.snapshot));
    }
    events(&mut text, recording, zone);
    text
}

/// Rates over time, on one line each.
fn course(text: &mut String, recording: &IommuRecording) {
    let slots = recording.merged(sparkline::WIDTH);
    text.push('\n');
    let rates = [
        ("maps/s", IommuSlot::map_rate as fn(&IommuSlot) -> f64),
        ("unmaps/s", IommuSlot::unmap_rate),
    ];
    for (name, rate) in rates {
        let points: Vec<Point> = slots
            .iter()
            .map(|slot| match rate(slot) {
                rate if rate > 0.0 => Point::Value(rate),
                _ => Point::Nothing,
            })
            .collect();
        let highest = slots.iter().map(rate).fold(0.0, f64::max);
        let _written = writeln!(
            text,
            "  {name:<8}  {}  up to {}",
            sparkline::line(&points, true),
            show_rate(highest)
        );
    }
}

fn events(text: &mut String, recording: &IommuRecording, zone: &TimeZone) {
    if recording.event_counts.is_empty() {
        text.push_str("\nNo event was recorded.\n");
        return;
    }
    let counts: Vec<String> = recording
        .event_counts
        .iter()
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    let _written = writeln!(text, "\nEvents: {}", counts.join(", "));
    let hidden = recording.events.len().saturating_sub(EVENTS);
    for event in &recording.events[hidden..] {
        let _written = writeln!(text, "  {}  {}", moment(event.time, zone), headline(event));
    }
    let older = hidden as u64 + recording.events_left_out;
    if older > 0 {
        let _written = writeln!(
            text,
            "  and {} before these",
            number_of(older, "event", "events")
        );
    }
}

#[cfg(test)]
pub(in crate::report) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        iommu::made_up::{self, fault, growth, ratio},
        model::iommu_recording::IommuRun,
    };

    /// A recording of one run with three slots.
    pub(in crate::report) fn recording() -> IommuRecording {
        let began = "2026-11-23T01:25:34.093Z".parse().expect("a time");
        let slot = |number: i64, maps, unmaps| {
            let at = |seconds| jiff::SignedDuration::from_secs(seconds);
            IommuSlot {
                began: began + at(number * 5),
                ended: began + at(number * 5 + 5),
                length_ns: 5_000_000_000,
                maps,
                map_bytes: maps * 4096,
                unmaps,
                unmap_bytes: unmaps * 4096,
                ratio_alarms: u64::from(unmaps > 2 * maps),
            }
        };
        IommuRecording {
            name: "watch.ndjson".to_owned(),
            began,
            ended: made_up::time(),
            snapshots: 4,
            runs: vec![IommuRun {
                began,
                snapshot: made_up::snapshot(),
            }],
            runs_left_out: 0,
            ratio_alarms: 2,
            event_counts: BTreeMap::from([
                ("fault".to_owned(), 1),
                ("growth".to_owned(), 1),
                ("ratio".to_owned(), 3),
            ]),
            events: vec![fault(), ratio(), growth()],
            events_left_out: 2,
            timeline: vec![
                slot(0, 500, 500),
                slot(1, 0, 0),
                slot(2, 1_000, 8_000),
                slot(3, 250, 250),
            ],
            remarks: vec!["line 7 is torn".to_owned()],
        }
    }

    #[test]
    fn a_recording_tells_its_course_its_totals_and_its_events() {
        let text = recorded(&[recording()], &TimeZone::UTC);
        let begins = "\
watch.ndjson: 2026-11-23 01:25:34.093 to 2026-11-23 01:25:54.093, 4 snapshots, 1 run
  ! line 7 is torn

  maps/s    ▅.█▃  up to 200
  unmaps/s  ▁.█▁  up to 1600

Summary of 20.0 s
";
        assert!(text.starts_with(begins), "{text}");
        let ends = "\
Events: 1 fault, 1 growth, 3 ratio
  2026-11-23 01:25:54.093  0000:00:03.0 (group 4): FAULT, write at 0xfee00000
";
        assert!(text.contains(ends), "{text}");
        assert!(text.ends_with("\n  and 2 events before these\n"), "{text}");
        assert!(!text.contains("Run of"), "{text}");
    }

    #[test]
    fn each_run_is_told_and_many_events_are_counted() {
        let mut of = recording();
        of.runs.push(of.runs[0].clone());
        of.runs_left_out = 3;
        of.events = vec![ratio(); 500];
        let text = recorded(&[of], &TimeZone::UTC);
        assert_eq!(
            text.matches("\nRun of 2026-11-23 01:25:34.093\n").count(),
            2
        );
        assert!(text.contains("\nTotals of 3 older runs are not shown\n"));
        assert_eq!(text.matches(": RATIO ").count(), EVENTS);
        assert!(text.contains("and 462 events before these"), "{text}");
        let mut quiet = recording();
        quiet.event_counts.clear();
        quiet.events.clear();
        assert!(recorded(&[quiet], &TimeZone::UTC).contains("\nNo event was recorded.\n"));
    }
}
