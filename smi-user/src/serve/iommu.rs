//! Pages of what `smilat iommu` counts.

use bytes::Bytes;
use jiff::Timestamp;

use super::pages::Page;
use crate::{
    model::iommu::IommuSnapshot,
    report::prometheus::{self, EncodeError, Form},
};

/// What was counted since `started`.
pub struct IommuPage {
    /// See there.
    pub started: Timestamp,
    /// Up to then.
    pub snapshot: IommuSnapshot,
}

impl Page for IommuPage {
    fn interval(&self) -> u64 {
        self.snapshot.interval
    }

    fn is_last(&self) -> bool {
        self.snapshot.last
    }

    fn encode(&self, form: Form, connections_displaced: u64) -> Result<Bytes, EncodeError> {
        prometheus::encode_iommu(form, &self.snapshot, self.started, connections_displaced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iommu::made_up::{nothing, snapshot};

    fn text(snapshot: IommuSnapshot) -> String {
        let page = IommuPage {
            started: Timestamp::UNIX_EPOCH,
            snapshot,
        };
        let text = page.encode(Form::Text, 3).expect("text");
        String::from_utf8(text.to_vec()).expect("UTF-8")
    }

    #[test]
    fn what_was_counted_is_exported() {
        let text = text(snapshot());
        let guest = "group=\"4\",device=\"0000:00:03.0,0000:00:04.0\",kind=\"unmanaged\"";
        for line in [
            &format!("smilat_iommu_maps_total{{{guest}}} 473"),
            &format!("smilat_iommu_unmaps_total{{{guest}}} 5008"),
            &format!("smilat_iommu_mapped_bytes_total{{{guest}}} 989921280"),
            &format!("smilat_iommu_freed_bytes_total{{{guest}}} 857735168"),
            &format!("smilat_iommu_unmaps_pieces_total{{{guest}}} 4608"),
            &format!("smilat_iommu_maps_not_ram_total{{{guest}}} 1"),
            "smilat_iommu_map_size_bytes_bucket{le=\"4096.0\"} 10000",
            "smilat_iommu_map_size_bytes_bucket{le=\"65536.0\"} 10201",
            "smilat_iommu_map_size_bytes_bucket{le=\"+Inf\"} 10673",
            "smilat_iommu_map_size_bytes_sum 1043988480",
            "smilat_iommu_unmap_size_bytes_count 15208",
            "smilat_iommu_unmap_duration_seconds_count{function=\"__iommu_unmap\"} 950",
            "smilat_iommu_cpu_maps_total{cpu=\"1\"} 5000",
            "smilat_iommu_faults_total{device=\"0000:00:03.0\",source=\"tracepoint\"} 12",
            "smilat_iommu_faults_total{device=\"0000:00:02.0\",source=\"kernel_log\"} 3",
            "smilat_iommu_faults_unreported_total{device=\"0000:00:03.0\",source=\"tracepoint\"} 2",
            "smilat_iommu_alarms_total{alarm=\"ratio\"} 2",
            "smilat_iommu_alarms_total{alarm=\"growth\"} 1",
            "smilat_iommu_late_runs_total 2",
            "smilat_iommu_late_run_max_seconds 0.0124",
            "smilat_iommu_records_total{outcome=\"lost\"} 1",
            "smilat_iommu_events_missed_total 0",
            "smilat_http_connections_displaced_total 3",
        ] {
            assert!(text.lines().any(|had| had == line), "no {line} in\n{text}");
        }
    }

    #[test]
    fn what_was_not_looked_at_is_not_exported() {
        let text = text(nothing());
        for absent in [
            "late_run",
            "unmap_duration",
            "iommu_faults",
            "iommu_maps_total",
        ] {
            assert!(!text.contains(absent), "{absent} in\n{text}");
        }
        assert!(text.contains("\nsmilat_iommu_alarms_total{alarm=\"ratio\"} 0\n"));
    }
}
