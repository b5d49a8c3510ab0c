//! The object that only tests load: the spin program, one of the same shape that makes its own gaps, and one that does nothing.

#![no_std]
#![no_main]

use core::ffi::c_void;

use aya_ebpf::{
    macros::{map, perf_event, raw_tracepoint},
    maps::Array,
    programs::{PerfEventContext, RawTracePointContext},
};
use smi_ebpf::{
    osnoise,
    spin::{self, Clock, Kernel, Stretch},
};

/// Waits to make, used over and over: wanted length in ns, and the length of the last one made.
#[map]
static WAITS: Array<[u64; 2]> = Array::with_max_entries(512, 0);

/// How many waits were made, and how many to make.
#[map]
static MADE: Array<[u64; 2]> = Array::with_max_entries(1, 0);

/// A round of the spin program whose steps are waits.
unsafe extern "C" fn wait_round(_round: u64, stretch: *mut c_void) -> i64 {
    // SAFETY: `bpf_loop` hands over the pointer it was given, to a value that outlives the loop.
    let stretch = unsafe { &mut *stretch.cast::<Stretch>() };
    wait(stretch, |stretch, now_ns, last_ns| {
        if Stretch::is_long(now_ns, last_ns, stretch.look_ns) {
            stretch.long_step::<Kernel>(now_ns, last_ns);
        } else {
            stretch.last_ns = now_ns;
        }
    })
}

/// The same for what records osnoise's gaps.
unsafe extern "C" fn wait_for_osnoise(_round: u64, stretch: *mut c_void) -> i64 {
    // SAFETY: as above.
    let stretch = unsafe { &mut *stretch.cast::<Stretch>() };
    wait(stretch, |stretch, now_ns, last_ns| {
        osnoise::sample(last_ns, now_ns - last_ns);
        stretch.go_on(now_ns, Kernel::now());
    })
}

/// Takes one reading. Passes it on only when the next wait is over, so that the readings passed on lie a known time
/// apart: the wait between them is a real one, with interrupts off, made by reading the clock.
#[inline(always)]
fn wait(stretch: &mut Stretch, pass_on: impl FnOnce(&mut Stretch, u64, u64)) -> i64 {
    let Some(made) = MADE.get_ptr_mut(0) else {
        return 1;
    };
    // SAFETY (both): the pointers come from maps; only this program writes there while it runs.
    let [made, to_make] = unsafe { &mut *made };
    if *made >= *to_make {
        return 1;
    }
    let Some(wait) = WAITS.get_ptr_mut((*made & 511) as u32) else {
        return 1;
    };
    // SAFETY: as above.
    let [wanted_ns, made_ns] = unsafe { &mut *wait };

    let now_ns = Kernel::now();
    stretch.steps += 1;
    let last_ns = stretch.last_ns;
    if now_ns.wrapping_sub(last_ns) < *wanted_ns {
        return 0;
    }
    *made += 1;
    *made_ns = now_ns - last_ns;
    pass_on(stretch, now_ns, last_ns);
    stretch.verdict()
}

/// Readings that a test wrote, taken one after the other, over and over.
struct Scripted;

/// The readings.
#[map]
static READINGS: Array<u64> = Array::with_max_entries(16_384, 0);

/// How many were taken.
#[map]
static TAKEN: Array<u64> = Array::with_max_entries(1, 0);

impl Clock for Scripted {
    const IS_REAL: bool = false;

    #[inline(always)]
    fn now() -> u64 {
        let Some(taken) = TAKEN.get_ptr_mut(0) else {
            return 0;
        };
        // SAFETY: the pointer comes from a map; only this program writes there while it runs.
        let taken = unsafe { &mut *taken };
        let reading = READINGS.get((*taken & 16_383) as u32);
        *taken += 1;
        reading.copied().unwrap_or(0)
    }
}

/// The shipped round, on other readings.
unsafe extern "C" fn scripted_round(_round: u64, stretch: *mut c_void) -> i64 {
    // SAFETY: as in `wait_round`.
    unsafe { spin::take_64::<Scripted>(stretch) }
}

/// The shipped program's own loop on [`Scripted`] readings.
#[perf_event]
fn scripted(ctx: PerfEventContext) -> u32 {
    spin::run_with::<Scripted>(&ctx, scripted_round);
    0
}

/// As the shipped program.
#[perf_event]
fn spin(ctx: PerfEventContext) -> u32 {
    spin::run(&ctx);
    0
}

/// As the shipped program, but for the waits.
#[perf_event]
fn waits(ctx: PerfEventContext) -> u32 {
    spin::run_with::<Kernel>(&ctx, wait_round);
    0
}

/// The same with the code that records osnoise's gaps in place of spin's.
#[perf_event]
fn osnoise_waits(ctx: PerfEventContext) -> u32 {
    spin::run_with::<Kernel>(&ctx, wait_for_osnoise);
    0
}

/// What running a program takes by itself.
#[raw_tracepoint]
fn nothing(_: RawTracePointContext) -> i32 {
    0
}

/// The helpers used are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
