//! What `smilat irqsoff` found: entries that an operator can read, and one JSON object a line.

use std::fmt::Write as _;

use jiff::tz::TimeZone;
use serde::Serialize;
use smi_common::irqsoff::Kind;

use crate::{
    model::irqsoff::{Event, Handler, IrqsoffSnapshot},
    units::show_ns,
};

/// A line of the NDJSON.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Line<'a> {
    /// Something that was found.
    Event(&'a Event),
    /// All that was counted.
    Snapshot(&'a IrqsoffSnapshot),
}

/// What a stretch of this kind was, in words.
fn words(kind: Kind) -> &'static str {
    match kind {
        Kind::Disabled => "interrupts off",
        Kind::PreemptOff => "preemption off",
        Kind::BottomHalvesOff => "bottom halves off",
        Kind::Softirq => "one softirq",
        Kind::Steal => "taken by the hypervisor",
        Kind::Smi => "an SMI",
        Kind::Nmi => "NMIs",
        Kind::Idle => "woke up late",
        Kind::Stopped => "stopped, interrupts on",
    }
}

/// The entry of `event`; one tick is `tick_ns` long.
pub fn entry(event: &Event, tick_ns: u64, zone: &TimeZone) -> String {
    let mut text = format!(
        "{}  CPU {}: {} for {}\n",
        event.time.to_zoned(zone.clone()).strftime("%F %T%.3f"),
        event.cpu,
        words(event.kind),
        length(event)
    );
    // Writing to a string does not fail.
    let mut row = |name: &str, what: &str| {
        let _written = writeln!(text, "  {name:<8} {what}");
    };
    row(
        "TICKS",
        &format!(
            "{} ({}) of {}",
            event.ticks,
            event.arrived,
            show_ns(tick_ns as f64)
        ),
    );
    row(
        "thread",
        &format!(
            "{} ({}) of process {}",
            event.thread, event.comm, event.process
        ),
    );
    for one in [&event.handler, &event.callback].into_iter().flatten() {
        row("ran", &handler(one));
    }
    if let Some(function) = &event.exempt {
        row("exempt", function);
    }
    if event.smis > 0 {
        row("SMIs", &event.smis.to_string());
    }
    for (name, ns) in [("NMIs", event.nmi_ns), ("steal", event.steal_ns)] {
        if ns > 0 {
            row(name, &show_ns(ns as f64));
        }
    }
    if let Some(why) = &event.no_stack {
        row("stack", &format!("none: {why}"));
    }
    for (number, frame) in event.stack.iter().enumerate() {
        row(if number == 0 { "stack" } else { "" }, frame);
    }
    for (number, entry) in event.trace.iter().enumerate() {
        let before = format!("-{}", show_ns(entry.before_ns as f64));
        row(
            if number == 0 { "before" } else { "" },
            &format!("{before:>9}  {}", entry.what),
        );
    }
    text
}

fn length(event: &Event) -> String {
    let least = show_ns(event.least_ns as f64);
    if event.kind == Kind::Disabled {
        let most = show_ns(event.most_ns as f64);
        if most == least {
            least
        } else {
            format!("{least} to {most}")
        }
    } else {
        format!("{least} so far")
    }
}

fn handler(of: &Handler) -> String {
    let mut text = of.kind.clone();
    for part in [&of.of, &of.function].into_iter().flatten() {
        let _written = write!(text, " {part}");
    }
    match of.ran_ns {
        Some(ns) => {
            let _written = write!(text, ", for {}", show_ns(ns as f64));
        }
        None => text.push_str(", still"),
    }
    text
}

/// All that was counted, as a table.
pub fn summary(snapshot: &IrqsoffSnapshot) -> String {
    let mut text = format!(
        "Summary of {} at a tick of {}\n",
        show_ns(snapshot.elapsed_ns as f64),
        show_ns(snapshot.tick_ns as f64)
    );
    text.push_str("  cpu     ticks    missed  latest tick\n");
    for cpu in &snapshot.cpus {
        let _written = writeln!(
            text,
            "  {:>3}  {:>8}  {:>8}  {:>11}",
            cpu.cpu,
            cpu.ticks,
            cpu.missed,
            show_ns(cpu.late_max_ns as f64)
        );
    }
    let Some(threshold_ns) = snapshot.threshold_ns else {
        text.push_str("\nNothing was looked for: the threshold is 0.\n");
        return text;
    };
    let any = snapshot.cpus.iter().any(|cpu| !cpu.kinds.is_empty());
    let threshold = show_ns(threshold_ns as f64);
    if !any {
        let _written = writeln!(text, "\nNo stretch of {threshold} or more.");
        return text;
    }
    let _written = write!(
        text,
        "\nStretches of {threshold} or more\n  cpu  kind                     count       sum   longest  exempt\n"
    );
    for cpu in &snapshot.cpus {
        for kind in &cpu.kinds {
            let _written = writeln!(
                text,
                "  {:>3}  {:<23} {:>6}  {:>8}  {:>8}  {:>6}",
                cpu.cpu,
                words(kind.kind),
                kind.count,
                show_ns(kind.sum_ns as f64),
                show_ns(kind.max_ns as f64),
                kind.exempt
            );
        }
    }
    let _written = writeln!(
        text,
        "\n{} entries written, {} kept back by --max-log",
        snapshot.logged, snapshot.suppressed
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        irqsoff::made_up::{event, snapshot},
        report::Ndjson,
    };

    #[test]
    fn an_entry_can_be_read_by_an_operator() {
        let expected = "\
2026-11-23 01:25:54.093  CPU 1: interrupts off for 542 ms to 551 ms
  TICKS    55 (1) of 10.0 ms
  thread   3696 (looper) of process 3693
  ran      timer looper_callback [looper], for 550 ms
  steal    85.5 us
  stack    __do_softirq+0x9e
           irq_exit_rcu+0x4d
  before     -551 ms  switch from thread 15 to 3696
";
        assert_eq!(entry(&event(), 10_000_000, &TimeZone::UTC), expected);
        let section = Event {
            kind: Kind::PreemptOff,
            handler: None,
            stack: Vec::new(),
            no_stack: Some("the CPU was in user mode".to_owned()),
            exempt: Some("looper".to_owned()),
            ..event()
        };
        let text = entry(&section, 10_000_000, &TimeZone::UTC);
        for line in [
            "CPU 1: preemption off for 542 ms so far\n",
            "  exempt   looper\n",
            "  stack    none: the CPU was in user mode\n",
        ] {
            assert!(text.contains(line), "no {line} in {text}");
        }
    }

    #[test]
    fn the_summary_has_every_cpu_and_what_was_found() {
        let expected = "\
Summary of 869 ms at a tick of 10.0 ms
  cpu     ticks    missed  latest tick
    0        84         0      90.7 us
    1        25        54       542 ms

Stretches of 40.0 ms or more
  cpu  kind                     count       sum   longest  exempt
    1  interrupts off               1    542 ms    542 ms       0

1 entries written, 0 kept back by --max-log
";
        assert_eq!(summary(&snapshot()), expected);
        let mut quiet = snapshot();
        quiet.cpus[1].kinds.clear();
        assert!(summary(&quiet).contains("\nNo stretch of 40.0 ms or more.\n"));
        quiet.threshold_ns = None;
        assert!(summary(&quiet).contains("\nNothing was looked for: the threshold is 0.\n"));
    }

    #[test]
    fn each_line_is_an_object_of_its_kind() {
        let read = |line: &Line<'_>| -> serde_json::Value {
            let bytes = Ndjson::line(line);
            assert_eq!(bytes.last(), Some(&b'\n'));
            serde_json::from_slice(&bytes).expect("JSON")
        };
        let one = read(&Line::Event(&event()));
        assert_eq!(one["event"]["kind"], "disabled");
        let back: Event = serde_json::from_value(one["event"].clone()).expect("an event");
        assert_eq!(back, event());
        let all = read(&Line::Snapshot(&snapshot()));
        let back: IrqsoffSnapshot =
            serde_json::from_value(all["snapshot"].clone()).expect("a snapshot");
        assert_eq!(back, snapshot());
    }
}
