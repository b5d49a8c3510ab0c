//! What happened to the IOMMU at boot, from the kernel's trace buffer and log.

use std::time::Duration;

use super::readiness;
use crate::{
    kernel::{
        command_line::CommandLine,
        kmsg::{self, Message},
        trace_buffer::{self, TraceBuffer},
        tracefs,
    },
    model::{
        iommu_boot::{BOOT_SCHEMA_VERSION, Boot, BootEvent, BootSource, BootWhat, SourceState},
        iommu_topology::Topology,
    },
    units::ns,
};

/// The events of the tracing system `iommu` that tell of boot.
const WANTED: [&str; 2] = ["add_device_to_group", "attach_device_to_domain"];
/// Those that would fill the buffer.
const TOO_MANY: [&str; 2] = ["map", "unmap"];
/// Room for some 2,000 devices on each CPU, rather than the 1.4 MB that each would have.
const ROOM: &str = "trace_buf_size=256K";

/// How far apart log and trace may be when they tell of the same.
const SAME: Duration = Duration::from_secs(1);

/// What the kernel log says of groups, after the device.
const ADDING: &str = ": Adding to iommu group ";
const REMOVING: &str = ": Removing from iommu group ";
/// What lines about the IOMMU have in them, in lower case.
const ABOUT: [&str; 7] = ["iommu", "dmar", "amd-vi", "smmu", "ivrs", "viot", "pci-dma"];
/// What those about faults have in them.
const FAULTS: [&str; 7] = [
    "[DMA",
    "handling fault",
    "fault reason",
    "Event logged",
    "IO_PAGE_FAULT",
    "context fault",
    "fault type",
];

/// What is known of the boot of this machine, whose groups are `topology`'s.
pub fn read(topology: &Topology) -> Boot {
    let trace = match tracefs::mounted() {
        None => Err(not_mounted()),
        Some(tracing) => {
            let event = format!("iommu/{}", WANTED[0]);
            if tracefs::has_event(&tracing, &event) {
                trace_buffer::read(&tracing).map_err(|error| chain(&error))
            } else {
                Err("this kernel has no tracepoints of IOMMUs".to_owned())
            }
        }
    };
    let log = kmsg::read_all().map_err(|error| chain(&error));
    let mut boot = assemble(&CommandLine::read().unwrap_or_default(), trace, log);
    boot.readiness = readiness::readiness(topology).words();
    if topology.groups.is_empty() {
        // Tracing would show nothing.
        boot.add = None;
    }
    boot
}

fn not_mounted() -> String {
    let place = tracefs::mount_point().display();
    if tracefs::in_mount_table() {
        "the tracing file system is not to be read by this user; run it as root".to_owned()
    } else if tracefs::mount_point().is_dir() {
        format!("the tracing file system is not mounted; as root: mount -t tracefs tracefs {place}")
    } else {
        "this kernel has no tracing file system (CONFIG_FTRACE)".to_owned()
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn assemble(
    line: &CommandLine,
    trace: Result<TraceBuffer, String>,
    log: Result<Vec<Message>, String>,
) -> Boot {
    let mut events = Vec::new();
    let trace = match trace {
        Ok(buffer) => {
            events.extend(buffer.events.into_iter().map(|event| BootEvent {
                since_boot_ns: ns(event.time),
                source: BootSource::Trace,
                what: event.what,
            }));
            SourceState::Read { lost: buffer.lost }
        }
        Err(why) => SourceState::Unreadable { why },
    };
    let traced = events.len();
    let mut fault_lines = 0;
    let log = match log {
        Ok(log) => {
            for message in &log {
                match understood(&message.text) {
                    Some(Heard::Fault) => fault_lines += 1,
                    Some(Heard::Happened(what)) => {
                        let event = BootEvent {
                            since_boot_ns: ns(message.since_boot),
                            source: BootSource::KernelLog,
                            what,
                        };
                        if !is_told(&event, &events[..traced]) {
                            events.push(event);
                        }
                    }
                    None => {}
                }
            }
            SourceState::Read {
                lost: missing(&log),
            }
        }
        Err(why) => SourceState::Unreadable { why },
    };
    events.sort_by_key(|event| event.since_boot_ns);
    Boot {
        schema_version: BOOT_SCHEMA_VERSION,
        command_line: line.options(matters),
        traced: WANTED
            .iter()
            .filter(|event| asks_for(line, event))
            .map(|event| format!("iommu:{event}"))
            .collect(),
        trace,
        log,
        events,
        fault_lines,
        readiness: None,
        add: to_add(line),
    }
}

/// How many messages of the log are missing: they are numbered from 0.
fn missing(log: &[Message]) -> u64 {
    let newest = log.last().map_or(0, |message| message.seq + 1);
    newest.saturating_sub(log.len() as u64)
}

/// Whether one of `others` says the same.
fn is_told(event: &BootEvent, others: &[BootEvent]) -> bool {
    others.iter().any(|other| {
        other.what == event.what && other.since_boot_ns.abs_diff(event.since_boot_ns) <= ns(SAME)
    })
}

/// What a line of the log is about.
enum Heard {
    Fault,
    Happened(BootWhat),
}

fn understood(text: &str) -> Option<Heard> {
    for (words, is_adding) in [(ADDING, true), (REMOVING, false)] {
        if let Some((device, group)) = text.split_once(words)
            && let Ok(group) = group.trim().parse()
        {
            // Before it stands its driver, or its bus.
            let device = device.rsplit(' ').next().unwrap_or(device).to_owned();
            return Some(Heard::Happened(if is_adding {
                BootWhat::Added { device, group }
            } else {
                BootWhat::Removed {
                    device,
                    group: Some(group),
                }
            }));
        }
    }
    let lower = text.to_ascii_lowercase();
    // The command line stands in the log as well, and is told apart.
    if !ABOUT.iter().any(|word| lower.contains(word)) || lower.contains("command line: ") {
        return None;
    }
    if FAULTS.iter().any(|word| text.contains(word)) {
        return Some(Heard::Fault);
    }
    Some(Heard::Happened(BootWhat::Said {
        text: text.trim_end().to_owned(),
    }))
}

/// Options of the kernel's that matter here.
fn matters(name: &str) -> bool {
    name.contains("iommu")
        || name.contains("smmu")
        || matches!(
            name,
            "trace_event" | "trace_buf_size" | "trace_clock" | "intremap" | "pcie_acs_override"
        )
}

/// Whether the command line has `event` of the system `iommu` traced from boot on (`ftrace_set_clr_event` in
/// `kernel/trace/trace_events.c`).
fn asks_for(line: &CommandLine, event: &str) -> bool {
    asked(line).any(|token| token_asks_for(token, event))
}

/// What the command line has traced, part by part.
fn asked(line: &CommandLine) -> impl Iterator<Item = &str> {
    line.values("trace_event")
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

fn token_asks_for(token: &str, event: &str) -> bool {
    let any = |part: &str, name: &str| part.is_empty() || part == "*" || part == name;
    match token.split_once(':') {
        Some((system, name)) => any(system, "iommu") && any(name, event),
        None => token == "iommu" || token == event,
    }
}

/// What the command line lacks to have all of it traced, and not too much.
fn to_add(line: &CommandLine) -> Option<String> {
    let is_too_much = |token: &str| TOO_MANY.iter().any(|event| token_asks_for(token, event));
    let is_complete = WANTED.iter().all(|event| asks_for(line, event));
    if is_complete && !asked(line).any(is_too_much) {
        return None;
    }
    let mut tokens: Vec<String> = asked(line)
        .filter(|token| !is_too_much(token))
        .map(str::to_owned)
        .collect();
    for event in WANTED {
        if !tokens.iter().any(|token| token_asks_for(token, event)) {
            tokens.push(format!("iommu:{event}"));
        }
    }
    let mut add = format!("trace_event={}", tokens.join(","));
    if line.values("trace_buf_size").next().is_none() {
        add.push(' ');
        add.push_str(ROOM);
    }
    Some(add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::trace_buffer::Traced;

    const ALL: &str =
        "trace_event=iommu:add_device_to_group,iommu:attach_device_to_domain trace_buf_size=256K";

    fn log(lines: &[(u64, &str)]) -> Vec<Message> {
        lines
            .iter()
            .zip(0..)
            .map(|((us, text), seq)| Message {
                seq,
                since_boot: Duration::from_micros(*us),
                level: 6,
                text: (*text).to_owned(),
            })
            .collect()
    }

    fn added(device: &str, group: u32) -> BootWhat {
        BootWhat::Added {
            device: device.to_owned(),
            group,
        }
    }

    #[test]
    fn what_to_add_is_what_is_lacking_and_no_more() {
        let to_add = |line: &str| to_add(&CommandLine::of_text(line));
        assert_eq!(to_add("quiet").as_deref(), Some(ALL));
        assert_eq!(to_add(ALL), None);
        assert_eq!(
            to_add("trace_event=add_device_to_group,sched trace_buf_size=1M").as_deref(),
            Some("trace_event=add_device_to_group,sched,iommu:attach_device_to_domain")
        );
        for too_much in ["iommu", "iommu:*", "iommu:", "*:*", "iommu:map,iommu:unmap"] {
            let line = format!("trace_event={too_much}");
            assert_eq!(to_add(&line).as_deref(), Some(ALL), "{too_much}");
        }
        let line = CommandLine::of_text("trace_event=iommu:add_device_to_group,sched:*");
        assert!(asks_for(&line, WANTED[0]) && !asks_for(&line, WANTED[1]));
    }

    #[test]
    fn the_log_tells_of_groups_and_what_the_drivers_say() {
        let boot = assemble(
            &CommandLine::of_text("root=/dev/vda intel_iommu=on iommu.strict=1"),
            Err("not there".to_owned()),
            Ok(log(&[
                (1, "Command line: root=/dev/vda intel_iommu=on"),
                (
                    2,
                    "ACPI: DMAR 0x000000000FFDD7C5 000080 (v01 BOCHS  BXPC     00000001)",
                ),
                (3, "DMAR: IOMMU enabled"),
                (4, "usb 1-1: new device"),
                (5, "pci 0000:00:03.0: Adding to iommu group 3"),
                (6, "DMAR: DRHD: handling fault status reg 2"),
                (
                    7,
                    "DMAR: [DMA Read NO_PASID] Request device [00:03.0] fault addr 0xffffc000",
                ),
                (8, "vfio-pci 0000:00:03.0: Removing from iommu group 3"),
            ])),
        );
        let told: Vec<&BootWhat> = boot.events.iter().map(|event| &event.what).collect();
        assert_eq!(told.len(), 4, "{told:?}");
        assert!(matches!(told[1], BootWhat::Said { text } if text == "DMAR: IOMMU enabled"));
        assert_eq!(told[2], &added("0000:00:03.0", 3));
        assert!(matches!(told[3], BootWhat::Removed { group: Some(3), .. }));
        assert_eq!(boot.fault_lines, 2);
        assert_eq!(boot.command_line, ["intel_iommu=on", "iommu.strict=1"]);
        assert_eq!(boot.add.as_deref(), Some(ALL));
        assert_eq!(
            boot.trace,
            SourceState::Unreadable {
                why: "not there".to_owned()
            }
        );
    }

    #[test]
    fn what_both_tell_is_told_once_in_the_order_of_time() {
        let traced = |us, what| Traced {
            time: Duration::from_micros(us),
            what,
        };
        let trace = TraceBuffer {
            events: vec![
                traced(500_000, added("0000:00:03.0", 3)),
                traced(
                    500_010,
                    BootWhat::Attached {
                        device: "0000:00:03.0".to_owned(),
                    },
                ),
            ],
            lost: 2,
        };
        let boot = assemble(
            &CommandLine::of_text(ALL),
            Ok(trace),
            Ok(log(&[
                (300_000, "iommu: Default domain type: Translated"),
                (500_005, "pci 0000:00:03.0: Adding to iommu group 3"),
                (9_000_000, "pci 0000:00:03.0: Adding to iommu group 3"),
            ])),
        );
        let told: Vec<(u64, BootSource)> = boot
            .events
            .iter()
            .map(|event| (event.since_boot_ns / 1000, event.source))
            .collect();
        assert_eq!(
            told,
            [
                (300_000, BootSource::KernelLog),
                (500_000, BootSource::Trace),
                (500_010, BootSource::Trace),
                (9_000_000, BootSource::KernelLog),
            ]
        );
        assert_eq!(boot.trace, SourceState::Read { lost: 2 });
        assert_eq!(boot.traced.len(), 2);
        assert_eq!(boot.add, None);
    }
}
