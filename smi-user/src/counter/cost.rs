//! The share of cycles that SMIs take, as `perf stat --smi-cost` measures it (`tools/perf/builtin-stat.c`): with
//! `freeze_on_smi` the CPU's own counters stand still while an SMI is served, and the register APERF does not. Of the
//! cycles that APERF saw, those that the counter of cycles missed went to SMIs.
//!
//! It is a share of the cycles a CPU was awake, not of time. While it is measured, the counters of everybody else's perf
//! events stand still in SMIs as well: the setting is the whole machine's. It takes the PMU of an Intel CPU, which no
//! machine this is tested on has: the tests put other events in its place.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Error, Result, bail, ensure};

use super::{Availability, may_count_cpus, missing};
use crate::{
    kernel::{
        changes::{Area, Changes},
        cpuid::{Cpu, Vendor},
        cpus::CpuList,
        perf::group::{CpuGroup, GroupReading},
        pmu::{self, Event, Pmu},
    },
    model::{SmiCost, Snapshot},
};

/// The CPUs' own PMU; hybrid CPUs have one of another name for each kind of core.
const CORE: &str = "cpu";
const HYBRID: [&str; 2] = ["cpu_core", "cpu_atom"];
const CYCLES: &str = "cpu-cycles";
/// Its setting (`freeze_on_smi_store` in `arch/x86/events/intel/core.c`).
const FREEZE: &str = "freeze_on_smi";

/// The PMU of registers (`arch/x86/events/msr.c`), and its events.
const MSR: &str = "msr";
const APERF: &str = "aperf";
const SMI: &str = "smi";

/// Where the kernel lists its PMUs, and where changes to them are noted.
#[derive(Clone, Debug)]
pub struct Place {
    /// The first.
    pub devices: PathBuf,
    /// The second.
    pub journal: PathBuf,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            devices: pmu::DEVICES.into(),
            journal: crate::kernel::changes::FOLDER.into(),
        }
    }
}

/// Whether it can be measured here, and if not why and what would help. Changes nothing.
pub fn probe() -> Availability {
    match judge(Path::new(pmu::DEVICES), Cpu::this()) {
        Availability::Ready => may_count_cpus(),
        missing @ Availability::Missing { .. } => missing,
    }
}

fn judge(devices: &Path, cpu: Cpu) -> Availability {
    if cpu.vendor != Vendor::Intel {
        return missing(
            "only CPUs of Intel have counters that can stand still while an SMI is served (freeze_on_smi)",
            "nothing would help on this CPU",
        );
    }
    let elsewhere = |on_metal: &str| {
        if cpu.hypervisor {
            "run smilat on bare metal: a virtual machine has no such counters, and its host's SMIs are not its own".to_owned()
        } else {
            on_metal.to_owned()
        }
    };
    if HYBRID
        .iter()
        .any(|pmu| Pmu::find_in(devices, pmu).is_some())
    {
        return missing(
            "this CPU has two kinds of cores, each with counters of its own (cpu_core, cpu_atom), which is not supported",
            "nothing would help on this CPU",
        );
    }
    let Some(core) = Pmu::find_in(devices, CORE) else {
        return missing(
            "the kernel has no PMU of the CPU's own here, which would count its cycles",
            elsewhere("dmesg | grep -i 'performance events' tells why"),
        );
    };
    if !devices.join(CORE).join(FREEZE).is_file() || !core.has(CYCLES) {
        return missing(
            "the CPU's own PMU has no freeze_on_smi or no event cpu-cycles",
            elsewhere("boot Linux 4.13 or newer on a CPU whose PMU it knows"),
        );
    }
    let msr = Pmu::find_in(devices, MSR);
    for event in [APERF, SMI] {
        if !msr.as_ref().is_some_and(|msr| msr.has(event)) {
            return missing(
                format!("the kernel's msr PMU offers no event {event} for this CPU"),
                elsewhere(
                    "boot a kernel that knows this model (as new as the CPU, with CONFIG_PERF_EVENTS=y)",
                ),
            );
        }
    }
    Availability::Ready
}

/// The counters at work. Dropping it puts `freeze_on_smi` back.
#[derive(Debug)]
pub struct SmiCosts {
    cpus: BTreeMap<u32, Watched>,
    changes: Changes,
    /// What had been left by a smilat that was killed, and is put back.
    pub put_back: Vec<String>,
}

#[derive(Debug)]
struct Watched {
    group: CpuGroup,
    last: GroupReading,
    ended: bool,
}

impl SmiCosts {
    /// Has counters stand still in SMIs, and counts on `cpus` from now on.
    ///
    /// # Errors
    /// When it cannot be measured here, when another smilat does, or when the kernel refuses; nothing is left changed then.
    pub fn start(cpus: &CpuList) -> Result<Self> {
        if let Availability::Missing { reason, remedy } = probe() {
            bail!(
                "--smi-cost cannot measure what SMIs cost: {reason}; {remedy}, or leave out --smi-cost"
            );
        }
        Self::start_at(&Place::default(), cpus)
    }

    /// The same with the PMUs that `place` lists, without asking whether they suffice.
    ///
    /// # Errors
    /// As above.
    pub fn start_at(place: &Place, cpus: &CpuList) -> Result<Self> {
        let pmu =
            |name| Pmu::find_in(&place.devices, name).with_context(|| format!("no PMU {name}"));
        let msr = pmu(MSR)?;
        let events = [
            msr.event(APERF)?,
            msr.event(SMI)?,
            pmu(CORE)?.event(CYCLES)?,
        ];
        let (mut changes, put_back) =
            Changes::begin_in(&place.journal, Area::Counters, "measuring what SMIs cost")?;
        changes.set(place.devices.join(CORE).join(FREEZE), "1")?;
        let cpus = cpus
            .iter()
            .map(|cpu| Ok((cpu, Watched::open(&events, cpu)?)))
            .collect::<Result<_>>()?;
        Ok(Self {
            cpus,
            changes,
            put_back,
        })
    }

    /// What SMIs have cost each CPU since start, and what to tell the user. A CPU that went offline keeps what it had cost
    /// until it was last read.
    pub fn read(&mut self) -> (BTreeMap<u32, SmiCost>, Vec<String>) {
        let mut warnings = Vec::new();
        let online = CpuList::online().ok();
        for (cpu, watched) in &mut self.cpus {
            if watched.ended {
                continue;
            }
            let is_online = online.as_ref().is_none_or(|online| online.contains(*cpu));
            if let Err(error) = watched.advance(is_online) {
                watched.ended = true;
                warnings.push(format!(
                    "what SMIs cost CPU {cpu} is no longer measured: {error:#}"
                ));
            }
        }
        let costs = self
            .cpus
            .iter()
            .map(|(cpu, watched)| (*cpu, cost(&watched.last)))
            .collect();
        (costs, warnings)
    }

    /// Adds what was measured to `snapshot`; returns what to tell the user.
    pub fn add_to(&mut self, snapshot: &mut Snapshot) -> Vec<String> {
        let (costs, warnings) = self.read();
        for cpu in &mut snapshot.cpus {
            cpu.smi_cost = costs.get(&cpu.cpu).copied();
        }
        warnings
    }

    /// Stops counting and puts `freeze_on_smi` back.
    ///
    /// # Errors
    /// When it cannot be put back.
    pub fn stop(mut self) -> Result<()> {
        self.changes.undo_all()?;
        Ok(())
    }
}

impl Watched {
    fn open(events: &[Event], cpu: u32) -> Result<Self> {
        let told = || {
            format!(
                "the cycles of CPU {cpu} cannot be counted; are its counters in use by others, or does a security policy \
                 (seccomp) withhold them?"
            )
        };
        let group = CpuGroup::open(events, cpu).with_context(told)?;
        let last = group.read().with_context(told)?;
        Ok(Self {
            group,
            last,
            ended: false,
        })
    }

    fn advance(&mut self, is_online: bool) -> Result<()> {
        ensure!(is_online, "it went offline");
        let reading = self.group.read()?;
        judge_reading(&self.last, &reading)?;
        self.last = reading;
        Ok(())
    }
}

/// Whether a reading after `last` can be relied on.
fn judge_reading(last: &GroupReading, reading: &GroupReading) -> Result<(), Error> {
    // The kernel keeps answering with the last counts, even when the CPU is back.
    ensure!(
        reading.enabled_ns > last.enabled_ns,
        "it was offline for a while, which ended its counters"
    );
    ensure!(
        reading.running_ns == reading.enabled_ns,
        "other perf events took turns with its counters, which counted only {:.1} % of the time; end other users of perf",
        reading.running_ns as f64 / reading.enabled_ns as f64 * 100.0
    );
    Ok(())
}

/// By the order in which the events were opened.
fn cost(reading: &GroupReading) -> SmiCost {
    match reading.counts[..] {
        [aperf, smis, cycles] => SmiCost::of(smis, aperf, cycles),
        _ => SmiCost::default(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const METAL: Cpu = Cpu {
        vendor: Vendor::Intel,
        family: 6,
        model: 94,
        hypervisor: false,
    };

    /// A folder of PMUs as an Intel CPU on bare metal has them, but for the files `without`.
    fn devices(without: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        for (file, text) in [
            ("cpu/type", "4\n"),
            ("cpu/freeze_on_smi", "0\n"),
            ("cpu/events/cpu-cycles", "event=0x3c\n"),
            ("cpu/format/event", "config:0-7\n"),
            ("msr/type", "10\n"),
            ("msr/events/aperf", "event=0x01\n"),
            ("msr/events/smi", "event=0x04\n"),
            ("msr/format/event", "config:0-63\n"),
        ] {
            let path = dir.path().join(file);
            if without.iter().any(|without| file.starts_with(without)) {
                continue;
            }
            fs::create_dir_all(path.parent().expect("a parent")).expect("folder");
            fs::write(path, text).expect("write");
        }
        dir
    }

    #[track_caller]
    fn refused(devices: &tempfile::TempDir, cpu: Cpu, reason_told: &str, remedy_told: &str) {
        match judge(devices.path(), cpu) {
            Availability::Missing { reason, remedy } => {
                assert!(reason.contains(reason_told), "{reason}");
                assert!(remedy.contains(remedy_told), "{remedy}");
            }
            Availability::Ready => panic!("{reason_told}"),
        }
    }

    #[test]
    fn it_takes_intels_own_counters_on_bare_metal() {
        assert_eq!(judge(devices(&[]).path(), METAL), Availability::Ready);
        let guest = Cpu {
            hypervisor: true,
            ..METAL
        };
        let amd = Cpu {
            vendor: Vendor::Amd,
            ..METAL
        };
        refused(&devices(&[]), amd, "only CPUs of Intel", "nothing");
        refused(
            &devices(&["cpu/"]),
            METAL,
            "no PMU of the CPU's own",
            "dmesg",
        );
        refused(
            &devices(&["cpu/"]),
            guest,
            "no PMU of the CPU's own",
            "bare metal",
        );
        refused(&devices(&["cpu/freeze"]), METAL, "no freeze_on_smi", "4.13");
        refused(
            &devices(&["msr/events/aperf"]),
            METAL,
            "no event aperf",
            "as new as",
        );
        refused(
            &devices(&["msr/events/smi"]),
            guest,
            "no event smi",
            "bare metal",
        );
        let hybrid = devices(&["cpu/"]);
        fs::create_dir(hybrid.path().join("cpu_atom")).expect("folder");
        refused(&hybrid, METAL, "two kinds of cores", "nothing");
    }

    #[test]
    fn counters_that_had_pauses_are_not_relied_on() {
        let reading = |enabled_ns, running_ns| GroupReading {
            enabled_ns,
            running_ns,
            counts: vec![1_000, 2, 900],
        };
        let last = reading(1_000, 1_000);
        judge_reading(&last, &reading(2_000, 2_000)).expect("sound");
        let shared = judge_reading(&last, &reading(2_000, 1_500)).expect_err("shared");
        assert!(shared.to_string().contains("75.0 %"), "{shared}");
        let gone = judge_reading(&last, &reading(1_000, 1_000)).expect_err("gone");
        assert!(gone.to_string().contains("offline"), "{gone}");
        let told = cost(&last);
        assert_eq!((told.aperf, told.smis, told.cycles), (1_000, 2, 900));
    }

    #[test]
    fn a_start_that_fails_leaves_nothing_changed() {
        let devices = devices(&[]);
        let place = Place {
            devices: devices.path().to_owned(),
            journal: devices.path().join("run"),
        };
        let freeze = devices.path().join("cpu/freeze_on_smi");
        // No PMU has that number.
        fs::write(devices.path().join("cpu/type"), "123456\n").expect("write");
        let first: CpuList = [0].into_iter().collect();
        let error = SmiCosts::start_at(&place, &first).expect_err("no such PMU");
        assert!(error.to_string().contains("CPU 0"), "{error:#}");
        assert_eq!(fs::read_to_string(freeze).expect("read").trim(), "0");
        assert!(!place.journal.join("counters.json").exists());
    }
}
