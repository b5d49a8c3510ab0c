//! Recordings made up for tests: windows as the detectors open them, and gaps from sources that are known.

use std::{collections::BTreeMap, iter};

use super::{Summariser, timeline::after};
use crate::{
    kernel::cpus::CpuList,
    made_up::{self, BEGAN},
    model::{Cause, CpuSnapshot, DetectorInfo, Gap, Snapshot, Summary},
    recording::Line,
    settings::Mode,
};
use fastrand::Rng;

/// When gaps of a source come, in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) enum When {
    /// At random, so many a second.
    Random(f64),
    /// So many bursts a second, of so many gaps on average within so much time.
    Bursts(f64, f64, f64),
    /// At a fixed interval, each coming late or early by so much of it (a standard deviation) before the next is timed.
    Every(f64, f64),
}

/// A source of gaps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub(super) when: When,
    /// Mean duration, in us.
    pub(super) us: f64,
    pub(super) cause: u64,
    /// All CPUs at once, or one.
    pub(super) cpu: Option<u32>,
}

/// At random moments, on CPU 0.
pub(super) fn noise(when: When) -> Source {
    Source {
        when,
        us: 20.0,
        cause: 0,
        cpu: Some(0),
    }
}

/// A recording to be made.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) detector: DetectorInfo,
    pub(super) cpus: u32,
    pub(super) seconds: u64,
    /// Between snapshots.
    pub(super) interval_s: u64,
    /// Single gaps passed on, a second and CPU.
    pub(super) records_per_s: usize,
    pub(super) sources: Vec<Source>,
}

impl Plan {
    /// On one CPU all the time: `width_ms` of each `window_ms`.
    pub(super) fn new(seconds: u64, width_ms: u64, window_ms: u64, sources: Vec<Source>) -> Self {
        Self {
            detector: DetectorInfo {
                width_ns: width_ms * 1_000_000,
                window_ns: window_ms * 1_000_000,
                mode: Mode::PerCpu,
                ..made_up::detector()
            },
            cpus: 1,
            seconds,
            interval_s: 1,
            records_per_s: usize::MAX,
            sources,
        }
    }

    /// The recording's summary; `seed` decides all that is random.
    pub(super) fn summary(&self, seed: u64) -> Summary {
        let mut summariser = Summariser::new(format!("made up with {seed}"), None);
        for snapshot in self.snapshots(seed) {
            summariser.add("made up", Line::Snapshot(Box::new(snapshot)));
        }
        summariser.finish().expect("snapshots")
    }

    /// The recording.
    pub(super) fn snapshots(&self, seed: u64) -> impl Iterator<Item = Snapshot> + use<> {
        let mut random = Rng::with_seed(seed);
        let windows = self.windows(&mut random);
        let mut gaps = self.gaps(&windows, &mut random).into_iter().peekable();
        let interval_s = self.interval_s;
        let detector = DetectorInfo {
            cpus: (0..self.cpus).collect::<CpuList>().to_string(),
            ..self.detector.clone()
        };
        let mut cpus: Vec<CpuSnapshot> = (0..self.cpus).map(CpuSnapshot::new).collect();
        let mut left: Vec<_> = windows
            .into_iter()
            .map(|windows| windows.into_iter().peekable())
            .collect();
        let limit = self.records_per_s;
        let mut sent: BTreeMap<(u32, u64), usize> = BTreeMap::new();
        let last = self.seconds / interval_s;
        (1..=last).map(move |interval| {
            let end = (interval * interval_s) as f64;
            let mut single = Vec::new();
            for cpu in &mut cpus {
                cpu.begin_interval();
                let windows = &mut left[cpu.cpu as usize];
                for (from, to) in iter::from_fn(|| windows.next_if(|(from, _)| *from < end)) {
                    cpu.exposure_ns += ((to - from) * 1e9) as u64;
                    cpu.windows.scheduled += 1;
                    cpu.windows.run += 1;
                }
            }
            while let Some((at, gap)) = gaps.next_if(|(at, _)| *at < end) {
                let cpu = &mut cpus[gap.cpu as usize];
                cpu.count(&gap);
                let sent = sent.entry((gap.cpu, at as u64)).or_default();
                *sent += 1;
                if *sent > limit {
                    cpu.records.limited += 1;
                } else {
                    cpu.records.sent += 1;
                    single.push(gap);
                }
            }
            sent.clear();
            let elapsed_ns = interval * interval_s * 1_000_000_000;
            Snapshot {
                elapsed_ns,
                interval,
                last: interval == last,
                gaps: single,
                ..Snapshot::new(after(BEGAN, elapsed_ns), detector.clone(), cpus.clone())
            }
        })
    }

    /// Each CPU's windows, in seconds.
    fn windows(&self, random: &mut Rng) -> Vec<Vec<(f64, f64)>> {
        let (width, window) = (
            self.detector.width_ns as f64 / 1e9,
            self.detector.window_ns as f64 / 1e9,
        );
        let mut all = vec![Vec::new(); self.cpus as usize];
        let mut pauses = |turn: &mut dyn FnMut(f64, f64)| {
            let varies = self.detector.name == "spin";
            let mut at = random.f64() * (window - width);
            while at < self.seconds as f64 {
                turn(at, at + width);
                let part = if varies { 0.5 + random.f64() } else { 1.0 };
                at += width + part * (window - width);
            }
        };
        if self.detector.mode == Mode::RoundRobin {
            let mut cpu = 0;
            pauses(&mut |from, to| {
                all[cpu].push((from, to));
                cpu = (cpu + 1) % all.len();
            });
        } else {
            for windows in &mut all {
                pauses(&mut |from, to| windows.push((from, to)));
            }
        }
        all
    }

    /// The gaps that windows see, oldest first, with their moments in seconds.
    fn gaps(&self, windows: &[Vec<(f64, f64)>], random: &mut Rng) -> Vec<(f64, Gap)> {
        let mut seen = Vec::new();
        for source in &self.sources {
            for at in moments(source.when, self.seconds as f64, random) {
                let us = source.us * (0.8 + 0.4 * random.f64());
                for cpu in 0..self.cpus {
                    if source.cpu.is_some_and(|only| only != cpu) {
                        continue;
                    }
                    let windows = &windows[cpu as usize];
                    let before = windows.partition_point(|(from, _)| *from <= at);
                    let within = before > 0 && at < windows[before - 1].1;
                    if !within {
                        continue;
                    }
                    let end = after(BEGAN, (at * 1e9 + us * 1e3) as u64);
                    let cause = Cause::of_bits(source.cause);
                    seen.push((at, Gap::new(cpu, end, (us * 1e3) as u64, cause)));
                }
            }
        }
        seen.sort_by(|a, b| a.0.total_cmp(&b.0));
        seen
    }
}

/// The summary of these snapshots, without a search for fixed intervals.
pub(super) fn summary_of(name: &str, snapshots: impl IntoIterator<Item = Snapshot>) -> Summary {
    let mut summariser = Summariser::new(name.to_owned(), None);
    for snapshot in snapshots {
        summariser.add(name, Line::Snapshot(Box::new(snapshot)));
    }
    summariser.finish_quickly().expect("snapshots")
}

fn moments(when: When, seconds: f64, random: &mut Rng) -> Vec<f64> {
    fn waiting(rate: f64, random: &mut Rng) -> f64 {
        -(1.0 - random.f64()).ln() / rate
    }
    let mut all = Vec::new();
    let mut at = 0.0;
    match when {
        When::Random(rate) => loop {
            at += waiting(rate, random);
            if at >= seconds {
                break;
            }
            all.push(at);
        },
        When::Bursts(rate, size, spread) => loop {
            at += waiting(rate, random);
            if at >= seconds {
                break;
            }
            // Sizes vary as much as they can: geometric.
            let count = 1 + (waiting(1.0, random) * size) as usize;
            all.extend((0..count).map(|_| at + random.f64() * spread));
        },
        When::Every(interval, jitter) => {
            at = random.f64() * interval;
            while at < seconds {
                all.push(at);
                let normal: f64 = (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
                at += interval * (1.0 + jitter * normal);
            }
        }
    }
    all.retain(|at| *at < seconds);
    all
}
