//! Other people's detectors, run on CPU 1 as their users run them, and what they themselves report: `rtla hwnoise` and
//! `hwlatdetect` (`xtask/src/vm/peers.rs` puts them into the machine).
//!
//! Each is started, watches from then on, and is ended as Ctrl-C ends it, upon which it prints its report. The tracing
//! settings are put back then, and the report says what the tool itself had left of its own. Ended by SIGTERM, either
//! leaves all that it had set, its tracer running.

use std::{
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use smi_user::kernel::{sched, tracefs};

use super::{
    smi::{self, Moment, Smi},
    state::{Change, State, TRACING},
};

/// The CPU that they watch.
const CPU: u32 = 1;

/// How long a tool may take until it watches: Python is slow on an emulated CPU.
const PATIENCE: Duration = Duration::from_mins(1);

/// A tool that was not ended ends by itself: far beyond what any test takes.
const LIMIT: Duration = Duration::from_mins(10);

/// A tool under way. Dropped, it is ended, and what it changed is put back.
struct Tool {
    /// `None` once it was waited for.
    child: Option<Child>,
    found: State,
}

/// What a tool printed, how it ended, and which tracing settings it did not put back.
struct Ended {
    text: String,
    status: ExitStatus,
    left: Vec<Change>,
}

impl Tool {
    /// Starts `command`, with the tracing settings as they were in `found`, and waits until `tracer` runs in the
    /// tracing instance in the folder `instance`.
    #[track_caller]
    fn start(command: &mut Command, found: State, instance: &str, tracer: &str) -> Self {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let child = child.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let mut tool = Self {
            child: Some(child),
            found,
        };
        let runs = || {
            let reads = |file: &str, wanted: &str| {
                tracefs::read(format!("{instance}/{file}").as_ref())
                    .is_ok_and(|text| text.trim() == wanted)
            };
            reads("current_tracer", tracer) && reads("tracing_on", "1")
        };
        let began = Instant::now();
        while !runs() {
            let child = tool.child.as_mut().expect("not waited for");
            if child.try_wait().expect("a status").is_some() || began.elapsed() > PATIENCE {
                let output = tool.wait();
                let _remaining = tool.found.put_back();
                panic!("{command:?} does not watch: {output:?}");
            }
            thread::sleep(Duration::from_millis(10));
        }
        tool
    }

    /// Ends it as Ctrl-C does.
    #[track_caller]
    fn finish(mut self) -> Ended {
        let output = self.wait();
        let left = self.found.changes(&State::read());
        assert_eq!(self.found.put_back(), [], "not put back");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.stderr.is_empty(), "it complains: {output:?}");
        Ended {
            text,
            status: output.status,
            left,
        }
    }

    fn wait(&mut self) -> Output {
        let mut child = self.child.take().expect("waited for once");
        if child.try_wait().expect("a status").is_none() {
            let pid = libc::pid_t::try_from(child.id()).expect("a pid");
            // SAFETY: the child was not waited for, so the number is still its own.
            assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
        }
        child.wait_with_output().expect("it ends")
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        if self.child.is_some() {
            // The test has failed already: whatever goes wrong here is not what it is about.
            let _output = self.wait();
            let _remaining = self.found.put_back();
        }
    }
}

fn micros(time: Duration) -> String {
    time.as_micros().to_string()
}

/// How either tool samples.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sampling {
    /// Shorter gaps are not reported.
    pub(super) threshold: Duration,
    /// Part of each window that is spent sampling, in one piece.
    pub(super) width: Duration,
    /// From the beginning of a sampling to that of the next.
    pub(super) window: Duration,
}

/// An `rtla hwnoise` under way.
pub(super) struct Hwnoise(Tool);

/// What `rtla hwnoise` reports of a CPU: sums over the windows, from their `osnoise` records. No single gap can be told
/// from them, neither when it came nor, but for the longest, how long it was. The window under way at the end is not in
/// them.
#[derive(Clone, Debug)]
pub(super) struct HwnoiseReport {
    /// Windows.
    pub(super) windows: u64,
    /// Time sampled, in microseconds.
    pub(super) runtime_us: u64,
    /// Sum of all gaps of the threshold and more, whatever made them, in microseconds; rounded down in each window.
    pub(super) noise_us: u64,
    /// Most noise in a window, in microseconds.
    pub(super) max_window_us: u64,
    /// Longest gap, in microseconds, rounded down.
    pub(super) max_single_us: u64,
    /// Gaps of the threshold and more that no interrupt or thread explains: those of hardware, or of a hypervisor.
    pub(super) hardware: u64,
    /// NMIs that came while it sampled, gap or not.
    pub(super) nmis: u64,
    /// Tracing settings that it did not put back; the test machine has them back.
    pub(super) left: Vec<Change>,
}

impl Hwnoise {
    /// Starts it on CPU 1; when this returns, it watches.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub(super) fn start(sampling: Sampling) -> Self {
        Self::start_on(&CPU.to_string(), sampling)
    }

    /// The same on the CPUs of a list, CPU 1 among them.
    ///
    /// # Panics
    /// When it does not watch.
    #[track_caller]
    pub(super) fn start_on(cpus: &str, sampling: Sampling) -> Self {
        let mut command = Command::new("/usr/bin/rtla");
        command
            .args(["hwnoise", "--quiet", "--cpus", cpus])
            .args(["--threshold", &micros(sampling.threshold)])
            .args(["--runtime", &micros(sampling.width)])
            .args(["--period", &micros(sampling.window)])
            .args(["--duration", &format!("{}s", LIMIT.as_secs())]);
        let instance = format!("{TRACING}/instances/osnoise_top");
        Self(Tool::start(
            &mut command,
            State::read(),
            &instance,
            "osnoise",
        ))
    }

    /// Ends it.
    ///
    /// # Panics
    /// When it fails, or reports nothing of CPU 1.
    #[track_caller]
    pub(super) fn finish(self) -> HwnoiseReport {
        let ended = self.0.finish();
        assert!(ended.status.success(), "{}: {}", ended.status, ended.text);
        HwnoiseReport::parse(&ended)
            .unwrap_or_else(|| panic!("nothing of CPU {CPU}: {}", ended.text))
    }
}

impl HwnoiseReport {
    /// Of the line `CPU #WINDOWS RUNTIME NOISE AVAILABLE% MAX-NOISE MAX-SINGLE HW NMI` (`osnoise_top_print` in
    /// `tools/tracing/rtla/src/osnoise_top.c`).
    fn parse(ended: &Ended) -> Option<Self> {
        ended.text.lines().find_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [
                cpu,
                windows,
                runtime,
                noise,
                _,
                window,
                single,
                hardware,
                nmis,
            ] = words[..]
            else {
                return None;
            };
            if cpu != CPU.to_string() {
                return None;
            }
            Some(Self {
                windows: windows.strip_prefix('#')?.parse().ok()?,
                runtime_us: runtime.parse().ok()?,
                noise_us: noise.parse().ok()?,
                max_window_us: window.parse().ok()?,
                max_single_us: single.parse().ok()?,
                hardware: hardware.parse().ok()?,
                nmis: nmis.parse().ok()?,
                left: ended.left.clone(),
            })
        })
    }
}

/// A `hwlatdetect` under way.
pub(super) struct Hwlatdetect(Tool);

/// One of the samples that `hwlatdetect` lists: a window of hwlat in which there was a gap above the threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HwlatdetectSample {
    /// When the first gap above the threshold was over, by the wall clock.
    pub(super) time: SystemTime,
    /// Longest gap of the window between the two readings of one step, in microseconds, rounded down.
    pub(super) inner_us: u64,
    /// Longest gap of the window between two steps, in microseconds, rounded down.
    pub(super) outer_us: u64,
}

/// What `hwlatdetect` reports. A sample stands for a whole window: how many gaps there were in it cannot be told, though
/// hwlat counts them, nor on which CPU it was, nor how many windows had none or how long was sampled.
///
/// Samples can be missing: ten times a second it reads all records there are, and keeps the first. Of windows of 20 ms it
/// listed 40 where it had read 161.
#[derive(Clone, Debug)]
pub(super) struct HwlatdetectReport {
    /// The samples, in the order in which they came.
    pub(super) samples: Vec<HwlatdetectSample>,
    /// Longest gap, inner or outer, in microseconds; 0 when there was no sample.
    pub(super) max_us: u64,
    /// `Samples recorded`.
    pub(super) recorded: u64,
    /// `Samples exceeding threshold`: the same number under another name.
    pub(super) exceeding: u64,
    /// Whether a gap was longer than the hard limit, as the exit status says.
    pub(super) over_hard_limit: bool,
    /// Tracing settings that it did not put back; the test machine has them back.
    pub(super) left: Vec<Change>,
}

impl Hwlatdetect {
    /// Starts it on CPU 1; when this returns, it watches. It fails at the end if a gap was longer than `hard_limit`.
    ///
    /// # Panics
    /// When it does not watch.
    #[track_caller]
    pub(super) fn start(sampling: Sampling, hard_limit: Duration) -> Self {
        Self::start_on(&CPU.to_string(), sampling, hard_limit)
    }

    /// The same on the CPUs of a list.
    ///
    /// # Panics
    /// When it does not watch.
    #[track_caller]
    pub(super) fn start_on(cpus: &str, sampling: Sampling, hard_limit: Duration) -> Self {
        let found = State::read();
        // A window shorter than the width it finds makes it fail: it writes half of the window as the new width, with
        // a decimal point, which the kernel refuses. So it finds the width it is to set.
        let width = format!("{TRACING}/hwlat_detector/width");
        tracefs::write(width.as_ref(), &micros(sampling.width)).expect("the width");
        let us = |time| format!("{}us", micros(time));
        let mut command = Command::new("/usr/sbin/hwlatdetect");
        command
            .args(["--cpu-list", cpus])
            .args(["--threshold", &us(sampling.threshold)])
            .args(["--hardlimit", &us(hard_limit)])
            .args(["--window", &us(sampling.window)])
            .args(["--width", &us(sampling.width)])
            .args(["--duration", &format!("{}s", LIMIT.as_secs())]);
        Self(Tool::start(&mut command, found, TRACING, "hwlat"))
    }

    /// Ends it.
    ///
    /// # Panics
    /// When it fails in any other way than by the hard limit.
    #[track_caller]
    pub(super) fn finish(self) -> HwlatdetectReport {
        let ended = self.0.finish();
        HwlatdetectReport::parse(&ended)
            .unwrap_or_else(|| panic!("{}, no whole report: {}", ended.status, ended.text))
    }
}

impl HwlatdetectReport {
    /// Of `Max Latency: 5012us` or `Max Latency: Below threshold`, `Samples recorded: 7`,
    /// `Samples exceeding threshold: 7`, and a line for each sample.
    fn parse(ended: &Ended) -> Option<Self> {
        let over_hard_limit = match ended.status.code() {
            Some(0) => false,
            Some(1) => true,
            _ => return None,
        };
        let value = |name: &str| {
            ended
                .text
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        let max = value("Max Latency")?;
        Some(Self {
            samples: ended
                .text
                .lines()
                .filter_map(HwlatdetectSample::parse)
                .collect(),
            max_us: if max == "Below threshold" {
                0
            } else {
                max.strip_suffix("us")?.parse().ok()?
            },
            recorded: value("Samples recorded")?.parse().ok()?,
            exceeding: value("Samples exceeding threshold")?.parse().ok()?,
            over_hard_limit,
            left: ended.left.clone(),
        })
    }
}

impl HwlatdetectSample {
    /// Of `ts: 1700000000.123456789, inner:12, outer:5012`.
    fn parse(line: &str) -> Option<Self> {
        let mut parts = line.strip_prefix("ts: ")?.split(", ");
        let (seconds, nanoseconds) = parts.next()?.split_once('.')?;
        let inner = parts.next()?.strip_prefix("inner:")?;
        let outer = parts.next()?.strip_prefix("outer:")?;
        Some(Self {
            time: UNIX_EPOCH + Duration::new(seconds.parse().ok()?, nanoseconds.parse().ok()?),
            inner_us: inner.parse().ok()?,
            outer_us: outer.parse().ok()?,
        })
    }

    /// The longer of the two, as a duration.
    fn longest_us(self) -> u64 {
        self.inner_us.max(self.outer_us)
    }
}

/// Half of the time is sampled; the threshold is above nearly all of what emulated CPUs have of their own.
const HALF: Sampling = Sampling {
    threshold: Duration::from_millis(1),
    width: Duration::from_millis(100),
    window: Duration::from_millis(200),
};

const SMIS: u32 = 60;
const LENGTH: Duration = Duration::from_millis(5);

/// Fires them at CPU 1, from CPU 0.
fn fire_all() -> Vec<Smi> {
    smi::set_length(LENGTH);
    let handler = smi::handler_count();
    for fired in 0..SMIS {
        thread::sleep(Duration::from_millis(50 + u64::from(fired * 37 % 50)));
        smi::fire_on(CPU);
        smi::wait_for(handler + fired + 1);
    }
    smi::records(handler)
}

/// How many found the CPU's interrupts off, as they are while it samples.
fn with_interrupts_off(smis: &[Smi]) -> usize {
    smis.iter().filter(|smi| !smi.interrupts_on).count()
}

fn print_left(tool: &str, left: &[Change]) {
    if left.is_empty() {
        println!("    {tool} puts all tracing settings back");
    }
    for change in left {
        println!("    {tool} leaves {change}");
    }
}

pub(super) fn rtla_hwnoise_counts_smis() {
    sched::set_affinity([0]).expect("affinity");
    let began = Instant::now();
    let hwnoise = Hwnoise::start(HALF);
    let started = began.elapsed();
    let inside = with_interrupts_off(&fire_all());
    let report = hwnoise.finish();
    println!(
        "    rtla hwnoise: {SMIS} SMIs of 5 ms, {inside} with interrupts off: {} of hardware, {} us of noise, the \
         longest {} us, {} NMIs; {} windows, {} us; watched after {} ms, done after {} ms",
        report.hardware,
        report.noise_us,
        report.max_single_us,
        report.nmis,
        report.windows,
        report.runtime_us,
        started.as_millis(),
        began.elapsed().as_millis(),
    );
    print_left("rtla hwnoise", &report.left);
    let width_us = HALF.width.as_micros() as u64;
    // A third of the SMIs at the least, of those that come while half of the time is sampled.
    assert!(report.hardware >= 20, "{report:?}");
    assert!(report.max_single_us >= 5000, "{report:?}");
    assert!(report.max_single_us <= report.max_window_us, "{report:?}");
    assert!(report.noise_us >= 20 * 5000, "{report:?}");
    assert!(report.noise_us <= report.runtime_us, "{report:?}");
    assert!(report.runtime_us >= report.windows * width_us, "{report:?}");
    assert_eq!(report.left, []);
}

pub(super) fn hwlatdetect_lists_windows_with_smis() {
    sched::set_affinity([0]).expect("affinity");
    let began = (Instant::now(), SystemTime::now());
    let hwlatdetect = Hwlatdetect::start(HALF, Duration::from_millis(4));
    let started = began.0.elapsed();
    let smis = fire_all();
    let report = hwlatdetect.finish();
    let ended = SystemTime::now();
    let clock = Moment::now();
    let ends: Vec<SystemTime> = smis.iter().map(|smi| clock.wall_at(smi.end_tsc)).collect();
    // The first gap of the window may be another than the SMI, and the clocks may differ by a little.
    let holds_smi = |one: &HwlatdetectSample| {
        let window = one.time - Duration::from_millis(1)..one.time + HALF.width;
        ends.iter().any(|end| window.contains(end))
    };
    let (mut long, mut of_smis) = (0, 0);
    for sample in &report.samples {
        if sample.longest_us() >= 5000 {
            long += 1;
            of_smis += u32::from(holds_smi(sample));
        }
    }
    println!(
        "    hwlatdetect: {SMIS} SMIs of 5 ms, {} with interrupts off: {} samples, {long} of 5 ms and more, {of_smis} \
         of these at the time of an SMI, the longest {} us; watched after {} ms, done after {} ms",
        with_interrupts_off(&smis),
        report.recorded,
        report.max_us,
        started.as_millis(),
        began.0.elapsed().as_millis(),
    );
    print_left("hwlatdetect", &report.left);
    assert!(of_smis >= 10, "{report:?}");
    assert_eq!(report.recorded, report.samples.len() as u64);
    assert_eq!(report.exceeding, report.recorded);
    let longest = report.samples.iter().map(|one| one.longest_us()).max();
    assert_eq!(longest, Some(report.max_us));
    assert!(report.over_hard_limit, "{report:?}");
    let times: Vec<SystemTime> = report.samples.iter().map(|one| one.time).collect();
    assert!(times.is_sorted(), "{report:?}");
    assert!(
        times.iter().all(|time| (began.1..=ended).contains(time)),
        "{report:?}"
    );
}
