//! Devices that come into groups and leave them, and drivers that take and give them up, as it happens.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::topology;
use crate::{
    kernel::{
        iommu::{SYS, newest_uevent},
        pci::SysfsError,
        pci_ids::Names,
        uevent::{Action, Uevent, Uevents},
    },
    model::{iommu::What, iommu_topology::Topology},
};

/// What changes the picture: devices that may be in groups, and what they are known by.
const SUBSYSTEMS: [&str; 11] = [
    "pci",
    "platform",
    "amba",
    "fsl-mc",
    "cdx",
    "iommu",
    "net",
    "block",
    "nvme",
    "drm",
    "infiniband",
];

/// How often it is read again at most, when something happens each time.
const TRIES: u32 = 5;

/// Why changes cannot be followed.
#[derive(Debug, Error)]
pub enum ChangesError {
    /// The kernel's messages cannot be had.
    #[error("cannot listen to the kernel's messages about devices (NETLINK_KOBJECT_UEVENT)")]
    Uevents(#[from] io::Error),
    /// Groups or devices cannot be read.
    #[error(transparent)]
    Sysfs(#[from] SysfsError),
}

/// Follows groups, devices and their drivers. Each change is told once.
///
/// The kernel's messages tell in which order things happened, and that something did; what is true is read from sysfs. Both
/// are matched by the messages' numbers: what a message tells has happened before it gets its number, so whatever is read
/// after a number was the newest holds all that the messages up to it tell.
#[derive(Debug)]
pub struct Changes {
    uevents: Uevents,
    names: Names,
    sys: PathBuf,
    topology: Topology,
    /// All messages up to this number are told.
    settled: u64,
    /// Messages after that.
    waiting: Vec<Uevent>,
    /// Whether messages were lost, so that all must be read again.
    overrun: bool,
    /// Found, and not told yet.
    found: Vec<What>,
    groups_by_tracepoint: bool,
}

impl Changes {
    /// Begins. Where the tracepoints tell of devices that come into groups and leave them, this does not
    /// (`groups_by_tracepoint`).
    ///
    /// # Errors
    /// When the kernel's messages cannot be had, or groups and devices not be read.
    pub fn new(groups_by_tracepoint: bool) -> Result<Self, ChangesError> {
        Self::of_sysfs(Path::new(SYS), Names::default(), groups_by_tracepoint)
    }

    fn of_sysfs(
        sys: &Path,
        names: Names,
        groups_by_tracepoint: bool,
    ) -> Result<Self, ChangesError> {
        let mut changes = Self {
            // First: what changes while the rest is read is told then.
            uevents: Uevents::open()?,
            names,
            sys: sys.to_owned(),
            topology: Topology::default(),
            settled: 0,
            waiting: Vec::new(),
            overrun: false,
            found: Vec::new(),
            groups_by_tracepoint,
        };
        changes.refresh()?;
        // What was there from the start has not changed.
        changes.found.clear();
        Ok(changes)
    }

    /// How things were at the last look.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// What changed since the last time: [`What::Bound`] and [`What::Unbound`], and unless the tracepoints tell of them
    /// [`What::Added`] and [`What::Removed`]. Costs next to nothing while nothing happens.
    ///
    /// # Errors
    /// When the kernel's messages cannot be had, or groups and devices not be read.
    pub fn poll(&mut self) -> Result<Vec<What>, ChangesError> {
        self.listen()?;
        if !self.waiting.is_empty() || self.overrun {
            self.refresh()?;
        }
        Ok(std::mem::take(&mut self.found))
    }

    /// Reads all anew, whether or not the kernel told of something: after a tracepoint did, say. What changed is told by the
    /// next [`Self::poll`].
    ///
    /// # Errors
    /// When the kernel's messages cannot be had, or groups and devices not be read.
    pub fn refresh(&mut self) -> Result<(), ChangesError> {
        self.overrun = false;
        let (now, settled) = self.read()?;
        self.listen()?;
        let (told, later): (Vec<Uevent>, Vec<Uevent>) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|event| event.number <= settled);
        self.waiting = later;
        self.settled = settled;
        let before = std::mem::replace(&mut self.topology, now);
        let mut found = between(&before, &told, &self.topology);
        if self.groups_by_tracepoint {
            found.retain(|what| !matches!(what, What::Added { .. } | What::Removed { .. }));
        }
        self.found.append(&mut found);
        Ok(())
    }

    /// Takes the kernel's messages that matter and are not told.
    fn listen(&mut self) -> Result<(), ChangesError> {
        let taken = self.uevents.take()?;
        self.overrun |= taken.overrun;
        self.waiting.extend(taken.events);
        self.waiting.retain(|event| {
            event.number > self.settled && SUBSYSTEMS.contains(&event.subsystem.as_str())
        });
        Ok(())
    }

    /// Reads all, again while something happens meanwhile, with the number of the message up to which it is true.
    fn read(&mut self) -> Result<(Topology, u64), ChangesError> {
        let mut tries = 0;
        loop {
            let newest = newest_uevent(&self.sys);
            let topology = topology::read_in(&self.sys, &mut self.names)?;
            tries += 1;
            if tries == TRIES || newest_uevent(&self.sys) == newest {
                return Ok((topology, newest.unwrap_or(self.settled)));
            }
        }
    }
}

/// What happened between two looks: what the kernel told, in its order, then what is different beyond that.
fn between(before: &Topology, events: &[Uevent], now: &Topology) -> Vec<What> {
    let mut state = State::of(before);
    let now = State::of(now);
    for event in events {
        let device = event.device();
        // Of the group it came into nothing is known if it has left again.
        let group = now.devices.get(device).map(|held| held.group);
        match event.action {
            Action::Remove => state.put(device, None),
            // It may be known already, from a look right before the message.
            Action::Add if state.devices.contains_key(device) => {}
            Action::Add => state.put(device, group),
            Action::Bind => state.drive(device, event.driver.as_deref()),
            Action::Unbind => state.drive(device, None),
            Action::Move | Action::Other => {}
        }
    }
    let gone: Vec<&str> = state
        .devices
        .keys()
        .copied()
        .filter(|device| !now.devices.contains_key(device))
        .collect();
    for device in gone {
        state.put(device, None);
    }
    for (device, held) in &now.devices {
        if state.devices.get(device).map(|held| held.group) != Some(held.group) {
            state.put(device, Some(held.group));
        }
        state.drive(device, held.driver);
    }
    state.happened
}

/// Which device is in which group, and who has it; and what happened until it was so.
#[derive(Default)]
struct State<'a> {
    devices: BTreeMap<&'a str, Held<'a>>,
    happened: Vec<What>,
}

/// A device of a group.
struct Held<'a> {
    group: u32,
    driver: Option<&'a str>,
}

impl<'a> State<'a> {
    fn of(topology: &'a Topology) -> Self {
        let held = |device: &'a crate::model::iommu_topology::Device| {
            let held = Held {
                group: device.group?,
                driver: device.driver.as_deref(),
            };
            Some((device.name.as_str(), held))
        };
        Self {
            devices: topology.devices.iter().filter_map(held).collect(),
            happened: Vec::new(),
        }
    }

    /// The device is in `group` from now on, and in none before.
    fn put(&mut self, device: &'a str, group: Option<u32>) {
        self.drive(device, None);
        if let Some(held) = self.devices.remove(device) {
            self.happened.push(What::Removed {
                device: device.to_owned(),
                group: held.group,
            });
        }
        if let Some(group) = group {
            let driver = None;
            self.devices.insert(device, Held { group, driver });
            self.happened.push(What::Added {
                device: device.to_owned(),
                group,
            });
        }
    }

    /// `driver` has the device from now on.
    fn drive(&mut self, device: &'a str, driver: Option<&'a str>) {
        let Some(held) = self.devices.get_mut(device) else {
            return;
        };
        if held.driver == driver {
            return;
        }
        let group = Some(held.group);
        if let Some(old) = std::mem::replace(&mut held.driver, driver) {
            self.happened.push(What::Unbound {
                device: device.to_owned(),
                group,
                driver: Some(old.to_owned()),
            });
        }
        if let Some(new) = driver {
            self.happened.push(What::Bound {
                device: device.to_owned(),
                group,
                driver: new.to_owned(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iommu::made_up_sysfs::{NIC, Sys};

    const DEVICE: &str = "0000:00:02.0";

    fn event(action: Action, driver: Option<&str>) -> Uevent {
        Uevent {
            action,
            path: format!("/devices/pci0000:00/{DEVICE}"),
            subsystem: "pci".to_owned(),
            driver: driver.map(str::to_owned),
            pci_slot: Some(DEVICE.to_owned()),
            number: 101,
        }
    }

    fn bound(driver: &str) -> What {
        What::Bound {
            device: DEVICE.to_owned(),
            group: Some(2),
            driver: driver.to_owned(),
        }
    }

    fn unbound(driver: &str) -> What {
        What::Unbound {
            device: DEVICE.to_owned(),
            group: Some(2),
            driver: Some(driver.to_owned()),
        }
    }

    fn added() -> What {
        What::Added {
            device: DEVICE.to_owned(),
            group: 2,
        }
    }

    fn removed() -> What {
        What::Removed {
            device: DEVICE.to_owned(),
            group: 2,
        }
    }

    fn follow(sys: &Sys, groups_by_tracepoint: bool) -> Changes {
        Changes::of_sysfs(sys.root(), Names::without_list(), groups_by_tracepoint)
            .expect("everybody may listen")
    }

    /// Looks whatever the kernel told.
    fn look(changes: &mut Changes) -> Vec<What> {
        changes.refresh().expect("a look");
        std::mem::take(&mut changes.found)
    }

    #[test]
    fn a_device_given_to_a_guest_and_back_is_told_step_by_step() {
        let sys = Sys::q35();
        let mut changes = follow(&sys, true);
        assert!(look(&mut changes).is_empty());
        sys.bind(DEVICE, "vfio-pci");
        let to_guest = look(&mut changes);
        assert_eq!(to_guest, [unbound("e1000e"), bound("vfio-pci")]);
        assert!(look(&mut changes).is_empty(), "told once");
        sys.unbind(DEVICE);
        assert_eq!(look(&mut changes), [unbound("vfio-pci")]);
        sys.bind(DEVICE, "e1000e");
        assert_eq!(look(&mut changes), [bound("e1000e")]);
        let device = changes.topology().device(DEVICE).expect("a device");
        assert_eq!(device.driver.as_deref(), Some("e1000e"));
    }

    #[test]
    fn messages_tell_of_what_two_looks_do_not_show() {
        let topology = Sys::q35().topology();
        let events = [
            event(Action::Unbind, None),
            event(Action::Bind, Some("vfio-pci")),
            event(Action::Unbind, None),
            event(Action::Bind, Some("e1000e")),
        ];
        assert_eq!(
            between(&topology, &events, &topology),
            [
                unbound("e1000e"),
                bound("vfio-pci"),
                unbound("vfio-pci"),
                bound("e1000e")
            ]
        );
    }

    #[test]
    fn what_was_seen_already_is_not_told_again_when_its_message_comes() {
        let sys = Sys::q35();
        let before = sys.topology();
        sys.bind(DEVICE, "vfio-pci");
        let now = sys.topology();
        let all = [unbound("e1000e"), bound("vfio-pci")];
        assert_eq!(between(&before, &[], &now), all, "seen");
        let late = [event(Action::Bind, Some("vfio-pci"))];
        assert!(between(&now, &late, &now).is_empty(), "heard of");
        assert_eq!(between(&before, &late, &now), all, "both");
    }

    #[test]
    fn messages_are_told_once_what_was_read_holds_them() {
        let sys = Sys::q35();
        let mut changes = follow(&sys, true);
        let mut later = event(Action::Unbind, None);
        later.number = 102;
        changes.waiting = vec![
            Uevent {
                number: 100,
                ..event(Action::Unbind, None)
            },
            event(Action::Bind, Some("vfio-pci")),
            later,
        ];
        sys.uevents(101);
        sys.bind(DEVICE, "vfio-pci");
        let told = look(&mut changes);
        assert_eq!(told, [unbound("e1000e"), bound("vfio-pci")]);
        // The machine that the tests run on may tell of its own devices.
        let waiting = |changes: &Changes| {
            let ours = changes
                .waiting
                .iter()
                .filter(|event| event.device() == DEVICE);
            ours.count()
        };
        assert_eq!(waiting(&changes), 1, "one is newer than what was read");
        sys.uevents(102);
        sys.unbind(DEVICE);
        assert_eq!(look(&mut changes), [unbound("vfio-pci")]);
        assert_eq!(waiting(&changes), 0);
    }

    #[test]
    fn a_device_that_comes_and_goes_is_told_unless_a_tracepoint_does() {
        let sys = Sys::q35();
        let mut by_us = follow(&sys, false);
        let mut by_tracepoint = follow(&sys, true);
        sys.remove(DEVICE);
        let gone = look(&mut by_us);
        assert_eq!(gone, [unbound("e1000e"), removed()]);
        let rest = look(&mut by_tracepoint);
        assert_eq!(rest, [unbound("e1000e")]);
        sys.pci(&format!("pci0000:00/{DEVICE}"), NIC);
        sys.group(2, "DMA", &[DEVICE]);
        sys.bind(DEVICE, "e1000e");
        let back = look(&mut by_us);
        assert_eq!(back, [added(), bound("e1000e")]);
        let rest = look(&mut by_tracepoint);
        assert_eq!(rest, [bound("e1000e")]);
    }

    #[test]
    fn a_device_that_was_taken_out_and_put_back_between_two_looks_is_told() {
        let topology = Sys::q35().topology();
        let events = [
            event(Action::Unbind, None),
            event(Action::Remove, None),
            event(Action::Add, None),
            event(Action::Bind, Some("e1000e")),
        ];
        assert_eq!(
            between(&topology, &events, &topology),
            [unbound("e1000e"), removed(), added(), bound("e1000e")]
        );
    }

    #[test]
    fn a_device_seen_before_its_message_is_told_once() {
        let topology = Sys::q35().topology();
        assert!(between(&topology, &[event(Action::Add, None)], &topology).is_empty());
    }

    #[test]
    fn devices_that_are_in_no_group_are_nobodys_concern() {
        let topology = Sys::q35().topology();
        let mut other = event(Action::Bind, Some("e1000e"));
        other.path = "/devices/pci0000:00/0000:00:19.0".to_owned();
        assert!(between(&topology, &[other], &topology).is_empty());
    }
}
