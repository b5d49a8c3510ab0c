//! What happened at boot, as text.

use std::fmt::Write as _;

use crate::model::iommu_boot::{Boot, BootEvent, BootSource, BootWhat, SourceState};

/// Renders it.
pub fn text(boot: &Boot) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let options = if boot.command_line.is_empty() {
        "says nothing of IOMMUs".to_owned()
    } else {
        boot.command_line.join(" ")
    };
    let _written = writeln!(text, "kernel command line: {options}");
    let of = |source| {
        let told = boot.events.iter().filter(|event| event.source == source);
        told.count()
    };
    let _written = writeln!(
        text,
        "trace buffer: {}",
        source(&boot.trace, of(BootSource::Trace), "event")
    );
    let _written = writeln!(
        text,
        "kernel log: {}",
        source(&boot.log, of(BootSource::KernelLog), "line")
    );
    if boot.fault_lines > 0 {
        let _written = writeln!(
            text,
            "faults: {} lines of the kernel log are about faults and left out here; smilat iommu tells faults as they come",
            boot.fault_lines
        );
    }
    if let Some(readiness) = &boot.readiness {
        let _written = writeln!(text, "mind: {readiness}");
    }
    if !boot.events.is_empty() {
        text.push_str("\nseconds since boot\n");
    }
    for event in &boot.events {
        text.push_str(&line(event));
    }
    if let Some(add) = &boot.add {
        text.push('\n');
        text.push_str(&remedy(add));
    }
    text
}

fn source(state: &SourceState, told: usize, what: &str) -> String {
    let plural = if told == 1 { "" } else { "s" };
    match state {
        SourceState::Unreadable { why } => why.clone(),
        SourceState::Read { lost: 0 } => format!("{told} {what}{plural} about IOMMUs"),
        SourceState::Read { lost } => format!(
            "{told} {what}{plural} about IOMMUs; {lost} older, about whatever, were written over, so some may be missing"
        ),
    }
}

fn line(event: &BootEvent) -> String {
    let seconds = event.since_boot_ns / 1_000_000_000;
    let us = event.since_boot_ns / 1000 % 1_000_000;
    let what = match &event.what {
        BootWhat::Added { device, group } => format!("{device} came into group {group}"),
        BootWhat::Removed {
            device,
            group: Some(group),
        } => format!("{device} left group {group}"),
        BootWhat::Removed {
            device,
            group: None,
        } => format!("{device} left its group"),
        BootWhat::Attached { device } => format!("{device} was attached to a domain"),
        BootWhat::Detached { device } => format!("{device} was detached from its domain"),
        BootWhat::Said { text } => text.clone(),
    };
    let source = match event.source {
        BootSource::Trace => "trace",
        BootSource::KernelLog => "log",
    };
    format!("{seconds:>6}.{us:06}  {source:<5}  {what}\n")
}

/// What to do to know more the next time.
fn remedy(add: &str) -> String {
    format!(
        "To know each group and domain of the next boot, put this into the kernel's command line, in place of any trace_event= there:\n  \
         {add}\n\
         With GRUB: append it to GRUB_CMDLINE_LINUX in /etc/default/grub, then update-grub (Debian, Ubuntu) or\n\
         grub2-mkconfig -o /boot/grub2/grub.cfg (SUSE); on Fedora and Red Hat: grubby --update-kernel=ALL --args=\"{add}\".\n\
         Not trace_event=iommu, which has all maps and unmaps traced as well: they write over what happened at boot.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot() -> Boot {
        let device = || "0000:00:03.0".to_owned();
        let event = |since_boot_ns, source, what| BootEvent {
            since_boot_ns,
            source,
            what,
        };
        Boot {
            schema_version: 1,
            command_line: vec!["intel_iommu=on".to_owned()],
            traced: Vec::new(),
            trace: SourceState::Read { lost: 0 },
            log: SourceState::Read { lost: 7 },
            events: vec![
                event(
                    300_000_000,
                    BootSource::KernelLog,
                    BootWhat::Said {
                        text: "DMAR: IOMMU enabled".to_owned(),
                    },
                ),
                event(
                    512_345_678,
                    BootSource::Trace,
                    BootWhat::Added {
                        device: device(),
                        group: 3,
                    },
                ),
                event(
                    12_000_001_000,
                    BootSource::Trace,
                    BootWhat::Attached { device: device() },
                ),
            ],
            fault_lines: 0,
            readiness: None,
            add: None,
        }
    }

    #[test]
    fn events_stand_in_their_order_with_time_and_source() {
        assert_eq!(
            text(&boot()),
            "kernel command line: intel_iommu=on\n\
             trace buffer: 2 events about IOMMUs\n\
             kernel log: 1 line about IOMMUs; 7 older, about whatever, were written over, so some may be missing\n\
             \n\
             seconds since boot\n\
             \x20    0.300000  log    DMAR: IOMMU enabled\n\
             \x20    0.512345  trace  0000:00:03.0 came into group 3\n\
             \x20   12.000001  trace  0000:00:03.0 was attached to a domain\n"
        );
    }

    #[test]
    fn what_is_missing_is_said_with_what_to_do() {
        let mut boot = boot();
        boot.events.clear();
        boot.command_line.clear();
        boot.trace = SourceState::Unreadable {
            why: "run it as root".to_owned(),
        };
        boot.add = Some("trace_event=x".to_owned());
        boot.fault_lines = 3;
        let text = text(&boot);
        for told in [
            "kernel command line: says nothing of IOMMUs\n",
            "trace buffer: run it as root\n",
            "faults: 3 lines",
            "\n  trace_event=x\n",
            "--args=\"trace_event=x\"",
        ] {
            assert!(text.contains(told), "{told} in {text}");
        }
        assert!(!text.contains("seconds since boot"), "{text}");
    }

    #[test]
    fn the_json_is_read_back() {
        let boot = boot();
        let text = serde_json::to_string(&boot).expect("JSON");
        assert_eq!(serde_json::from_str::<Boot>(&text).expect("a boot"), boot);
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(json["events"][1]["what"], "added");
        assert_eq!(json["events"][1]["device"], "0000:00:03.0");
    }
}
