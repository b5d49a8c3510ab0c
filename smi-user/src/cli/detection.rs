//! The options that say what is watched and how: shared by `smilat run` and `smilat top`.

use std::time::Duration;

use clap::Args;

use super::gap_time;
use crate::{
    counter,
    detector::Choice,
    kernel::{cpus::CpuList, dma_latency},
    settings::{Mode, Preset},
    units::{Bare, parse_time},
};

/// What is watched and how.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(next_help_heading = "Detection")]
pub struct Detection {
    /// Drop gaps shorter than this in the kernel
    #[arg(short, long, value_name = "TIME", default_value = "10us", value_parser = gap_time)]
    pub threshold: Duration,

    /// Settings of width, window, irqs-off-max and mode that fit a kind of machine; each option overrules them
    #[arg(long, value_enum, default_value_t)]
    pub preset: Preset,

    /// Time spent sampling in each window; below --window
    #[arg(long, value_name = "TIME", value_parser = gap_time)]
    pub width: Option<Duration>,

    /// Time from one window to the next, on average: pauses vary at random, so that gaps which come at a fixed
    /// interval are neither always seen nor always missed
    #[arg(long, value_name = "TIME", value_parser = gap_time)]
    pub window: Option<Duration>,

    /// Longest stretch with interrupts off: what anything on the CPU may have to wait because of smilat
    ///
    /// 10us to 100ms. Shorter stretches are kinder to the workload and lose a little of each width to the interrupts
    /// served between them.
    #[arg(long, value_name = "TIME", value_parser = gap_time)]
    pub irqs_off_max: Option<Duration>,

    /// Which CPUs are sampled at a time
    #[arg(long, value_enum)]
    pub mode: Option<Mode>,

    /// CPUs to watch, in the kernel's notation (0-3,8) [default: all online]
    #[arg(short, long, value_name = "LIST")]
    pub cpus: Option<CpuList>,

    /// What finds the gaps
    #[arg(long, value_enum, default_value_t)]
    pub detector: Choice,

    /// What counts SMIs, so that gaps can be proven to be some
    ///
    /// A gap is put down to an SMI only if the counter of its CPU moved across it. NMIs and steal are told by the kernel
    /// and the hypervisor whatever is chosen here.
    #[arg(long, value_enum, default_value_t)]
    pub counter: counter::Choice,

    /// Real-time priority (FIFO policy) of the sampling threads, 0 for none
    ///
    /// Without it, busy CPUs take time from the windows. 1 is the lowest: every real-time thread of the workload with
    /// a higher priority goes first.
    #[arg(long, value_name = "0-99", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=99))]
    pub rt_priority: u8,

    /// Pass on at most this many single gaps per CPU and second; all are counted
    ///
    /// One that is longer than all before it in its interval is passed on beyond this number, unless this is 0.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(0..=100_000))]
    pub max_gap_records: u64,

    /// Keep all CPUs out of idle states that take longer than this to wake up from, in whole us, while it runs
    ///
    /// 0 keeps them from sleeping at all. Deep idle states have windows begin late and CPUs begin slowly; hwlatdetect,
    /// rtla and cyclictest do the same. It costs power and heat. Held by `/dev/cpu_dma_latency`: the kernel lifts it when
    /// smilat ends, however it ends.
    #[arg(long, value_name = "TIME", value_parser = dma_latency)]
    pub dma_latency: Option<Duration>,

    /// Measure the share of cycles that SMIs take on each watched CPU, as `perf stat --smi-cost` does
    ///
    /// Of the cycles a CPU was awake (the register APERF), those that its own counter of cycles did not see because it
    /// stands still in SMIs: `freeze_on_smi` is 1 while smilat runs, for all users of perf on the machine, and put back
    /// afterwards. Takes an Intel CPU with one kind of cores, on bare metal.
    #[arg(long)]
    pub smi_cost: bool,

    /// Measure the time that the BPF programs take, for the report's account of what smilat itself costs
    ///
    /// The kernel measures all BPF programs of the machine while smilat runs, which makes each run of one some 20 ns
    /// longer (`kernel.bpf_stats_enabled`, which needs no change: what was switched on ends with smilat).
    #[arg(long)]
    pub bpf_stats: bool,

    /// Accept settings that leave a watched CPU little time for anything else
    #[arg(long)]
    pub force: bool,
}

fn dma_latency(text: &str) -> Result<Duration, String> {
    let limit = parse_time(text, Bare::Microseconds).map_err(|error| error.to_string())?;
    if limit > dma_latency::MAX {
        return Err(format!(
            "{text} is above 1s: no idle state takes as long to wake up from, so nothing would be limited; write 0 to 1s"
        ));
    }
    if limit.subsec_nanos() % 1_000 != 0 {
        return Err(format!(
            "{text} is not a whole number of microseconds, the only ones that /dev/cpu_dma_latency takes; round it"
        ));
    }
    Ok(limit)
}
