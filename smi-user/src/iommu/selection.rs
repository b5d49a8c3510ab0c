//! Which groups and devices were asked for.

use std::collections::BTreeSet;

use anyhow::Result;

use super::topology::select;
use crate::{
    cli::Part,
    model::{iommu::What, iommu_topology::Topology},
};

/// See the module.
pub struct Selection(Option<Chosen>);

struct Chosen {
    groups: BTreeSet<u32>,
    devices: BTreeSet<String>,
}

impl Selection {
    /// What `part` chooses of `topology`.
    ///
    /// # Errors
    /// When there is no such group or device.
    pub fn new(topology: &Topology, part: &Part) -> Result<Self> {
        if part.device.is_empty() && part.group.is_empty() {
            return Ok(Self(None));
        }
        let chosen = select(topology, part)?;
        Ok(Self(Some(Chosen {
            groups: chosen.groups.iter().map(|group| group.group).collect(),
            devices: chosen
                .groups
                .iter()
                .flat_map(|group| group.devices.clone())
                .collect(),
        })))
    }

    /// Whether any of these groups was asked for.
    pub fn has_groups(&self, groups: &[u32]) -> bool {
        match &self.0 {
            None => true,
            Some(chosen) => groups.iter().any(|group| chosen.groups.contains(group)),
        }
    }

    /// Whether this device was asked for, or its group.
    pub fn has_device(&self, device: &str, group: Option<u32>) -> bool {
        match &self.0 {
            None => true,
            Some(chosen) => {
                chosen.devices.contains(device)
                    || group.is_some_and(|group| chosen.groups.contains(&group))
            }
        }
    }

    /// Whether that is about what was asked for. A thread that keeps its CPU too long always is.
    pub fn has(&self, what: &What) -> bool {
        match what {
            What::Added { device, group } | What::Removed { device, group } => {
                self.has_device(device, Some(*group))
            }
            What::Attached { device, group, .. }
            | What::Detached { device, group }
            | What::Bound { device, group, .. }
            | What::Unbound { device, group, .. } => self.has_device(device, *group),
            What::Fault(fault) => self.has_device(&fault.device, fault.group),
            What::NotRam { groups, .. }
            | What::Ratio { groups, .. }
            | What::Growth { groups, .. } => self.has_groups(groups),
            What::Late { .. } => true,
        }
    }
}
