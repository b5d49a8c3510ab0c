//! Counts faults by device and source, and decides which of them are reported.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::faults::is_traced_too;
use crate::model::iommu::{Fault, FaultCounts, FaultSource, IommuEvent, What};

/// Devices that are told apart: more than any machine seen has behind its IOMMUs.
const DEVICES: usize = 1024;
/// Who has the faults of all others.
const OTHERS: &str = "others";
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// Faults of one device.
#[derive(Clone, Debug, Default)]
struct Seen {
    by_source: BTreeMap<FaultSource, Counts>,
    /// When the minute began in which reports are counted, and how many there were in it.
    minute: Option<Timestamp>,
    reported: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    count: u64,
    suppressed: u64,
}

/// See the module.
///
/// Where a driver emits the tracepoint and writes to the kernel's log too, a fault comes twice. It is counted for each source and
/// reported once, by the tracepoint, which holds nothing back: once a device had a fault by tracepoint, those faults of it in the
/// log are not reported that are of a kind for which its driver emits the tracepoint. Hand over what the tracepoint tells before
/// what the log tells of the same time, or the first one is reported twice. Arm's `SMMUv2` names no device there, and the log no more than its
/// stream: one fault by tracepoint is enough then.
#[derive(Debug)]
pub struct FaultLog {
    max_per_minute: u64,
    devices: BTreeMap<String, Seen>,
    /// Whether any fault came by tracepoint.
    traced: bool,
}

impl FaultLog {
    /// Reports at most `max_per_minute` of the faults of each device (`--max-faults`).
    pub fn new(max_per_minute: u64) -> Self {
        Self {
            max_per_minute,
            devices: BTreeMap::new(),
            traced: false,
        }
    }

    /// Counts a fault; what is to be reported of it, if anything.
    pub fn take(&mut self, fault: Fault, time: Timestamp) -> Option<IommuEvent> {
        let any_traced = self.traced;
        self.traced |= fault.source == FaultSource::Tracepoint;
        let max_per_minute = self.max_per_minute;
        let seen = self.seen(&fault.device);
        let is_twice = fault.source == FaultSource::KernelLog
            && is_traced_too(&fault)
            && (seen.by_source.contains_key(&FaultSource::Tracepoint)
                || any_traced && fault.device.starts_with("stream "));
        let admitted = !is_twice && seen.admit(time, max_per_minute);
        let counts = seen.by_source.entry(fault.source).or_default();
        counts.count += 1;
        counts.suppressed += u64::from(!is_twice && !admitted);
        admitted.then_some(IommuEvent {
            time,
            what: What::Fault(fault),
        })
    }

    /// Takes over how many faults of a device the kernel counted at the tracepoint: more than came here where records were lost.
    pub fn counted(&mut self, device: &str, count: u64) {
        if count > 0 {
            self.traced = true;
            let seen = self.seen(device);
            let counts = seen.by_source.entry(FaultSource::Tracepoint).or_default();
            counts.count = counts.count.max(count);
        }
    }

    /// All counts, by device and source.
    pub fn counts(&self) -> Vec<FaultCounts> {
        self.devices
            .iter()
            .flat_map(|(device, seen)| {
                seen.by_source.iter().map(|(source, counts)| FaultCounts {
                    device: device.clone(),
                    source: *source,
                    count: counts.count,
                    suppressed: counts.suppressed,
                })
            })
            .collect()
    }

    fn seen(&mut self, device: &str) -> &mut Seen {
        let has_room = self.devices.len() < DEVICES || self.devices.contains_key(device);
        let device = if has_room { device } else { OTHERS };
        self.devices.entry(device.to_owned()).or_default()
    }
}

impl Seen {
    /// Whether one more may be reported in this minute, which begins with the first report after the one before is over.
    fn admit(&mut self, time: Timestamp, most: u64) -> bool {
        let is_over = self.minute.is_none_or(|began| {
            let since = time.duration_since(began);
            // The clock may have been set back.
            since >= MINUTE || since <= -MINUTE
        });
        if is_over {
            self.minute = Some(time);
            self.reported = 0;
        }
        let admitted = self.reported < most;
        self.reported += u64::from(admitted);
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::BEGAN;

    const NVME: &str = "0000:03:00.0";

    fn fault(device: &str, source: FaultSource, reason: &str) -> Fault {
        Fault {
            device: device.to_owned(),
            driver: None,
            group: None,
            iova: Some(0x1000),
            access: None,
            reason: Some(reason.to_owned()),
            source,
        }
    }

    fn logged(device: &str) -> Fault {
        fault(
            device,
            FaultSource::KernelLog,
            "IO_PAGE_FAULT [flags=0x0020]",
        )
    }

    fn traced(device: &str) -> Fault {
        fault(device, FaultSource::Tracepoint, "flags 0x1")
    }

    fn at(seconds: i64) -> Timestamp {
        BEGAN + SignedDuration::from_secs(seconds)
    }

    fn counts(log: &FaultLog) -> Vec<(String, FaultSource, u64, u64)> {
        log.counts()
            .into_iter()
            .map(|counts| {
                (
                    counts.device,
                    counts.source,
                    counts.count,
                    counts.suppressed,
                )
            })
            .collect()
    }

    #[test]
    fn so_many_of_each_device_are_reported_each_minute_and_all_are_counted() {
        let mut log = FaultLog::new(2);
        let reported: Vec<bool> = [0, 1, 2, 59, 60, 61, 62]
            .into_iter()
            .map(|second| log.take(logged(NVME), at(second)).is_some())
            .collect();
        assert_eq!(reported, [true, true, false, false, true, true, false]);
        assert!(log.take(logged("0000:04:00.0"), at(62)).is_some());
        assert_eq!(
            counts(&log),
            [
                (NVME.to_owned(), FaultSource::KernelLog, 7, 3),
                ("0000:04:00.0".to_owned(), FaultSource::KernelLog, 1, 0),
            ]
        );
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_silence_a_device() {
        let mut log = FaultLog::new(1);
        assert!(log.take(logged(NVME), at(3600)).is_some());
        assert!(log.take(logged(NVME), at(0)).is_some());
        assert!(log.take(logged(NVME), at(1)).is_none());
    }

    #[test]
    fn with_a_limit_of_none_all_are_counted() {
        let mut log = FaultLog::new(0);
        assert_eq!(log.take(logged(NVME), at(0)), None);
        assert_eq!(
            counts(&log),
            [(NVME.to_owned(), FaultSource::KernelLog, 1, 1)]
        );
    }

    #[test]
    fn what_is_reported_is_the_fault_and_its_time() {
        let mut log = FaultLog::new(1);
        assert_eq!(
            log.take(traced(NVME), at(7)),
            Some(IommuEvent {
                time: at(7),
                what: What::Fault(traced(NVME)),
            })
        );
    }

    #[test]
    fn a_fault_that_both_sources_tell_of_is_reported_once_and_counted_for_both() {
        let mut log = FaultLog::new(10);
        assert!(log.take(traced(NVME), at(0)).is_some());
        assert!(log.take(logged(NVME), at(0)).is_none());
        // Nothing told of these by tracepoint.
        let not_traced = fault(NVME, FaultSource::KernelLog, "ILLEGAL_DEV_TABLE_ENTRY");
        assert!(log.take(not_traced, at(0)).is_some());
        assert!(log.take(logged("0000:04:00.0"), at(0)).is_some());
        assert_eq!(
            counts(&log)[..2],
            [
                (NVME.to_owned(), FaultSource::Tracepoint, 1, 0),
                (NVME.to_owned(), FaultSource::KernelLog, 2, 0),
            ]
        );
    }

    #[test]
    fn a_stream_without_a_name_is_told_by_the_tracepoint_once_that_told_of_any() {
        let stream = || {
            fault(
                "stream 0x121 of 15000000.iommu",
                FaultSource::KernelLog,
                "context fault [fsr=0x402]",
            )
        };
        let mut log = FaultLog::new(10);
        assert!(log.take(stream(), at(0)).is_some());
        assert!(log.take(traced(""), at(1)).is_some());
        assert!(log.take(stream(), at(1)).is_none());
    }

    #[test]
    fn the_kernels_count_stands_in_for_records_that_were_lost() {
        let mut log = FaultLog::new(10);
        log.take(traced(NVME), at(0));
        log.counted(NVME, 1000);
        log.counted("0000:04:00.0", 0);
        assert_eq!(
            counts(&log),
            [(NVME.to_owned(), FaultSource::Tracepoint, 1000, 0)]
        );
        assert!(log.take(logged(NVME), at(0)).is_none());
    }

    #[test]
    fn devices_beyond_so_many_are_counted_together() {
        let mut log = FaultLog::new(1);
        for device in 0..DEVICES + 5 {
            log.take(logged(&device.to_string()), at(0));
        }
        let others: Vec<_> = counts(&log)
            .into_iter()
            .filter(|(device, ..)| device == OTHERS)
            .collect();
        assert_eq!(others, [(OTHERS.to_owned(), FaultSource::KernelLog, 5, 4)]);
        assert_eq!(log.counts().len(), DEVICES + 1);
        log.take(logged("0"), at(0));
        assert_eq!(counts(&log)[0].2, 2, "still told apart");
    }
}
