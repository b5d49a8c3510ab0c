//! What `smilat irqsoff` found: entries that an operator can read, and one JSON object a line.

use std::fmt::Write as _;

use bytes::{BufMut as _, Bytes, BytesMut};
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

/// `line` as it is written.
pub fn line(line: &Line<'_>) -> Bytes {
    let mut text = BytesMut::new().writer();
    // Neither part can fail: the writer grows, and there are string keys and finite numbers only.
    if let Err(error) = serde_json::to_writer(&mut text, line) {
        log::error!("a line could not be written as JSON: {error}");
        return Bytes::new();
    }
    let mut text = text.into_inner();
    text.put_u8(b'\n');
    text.freeze()
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
