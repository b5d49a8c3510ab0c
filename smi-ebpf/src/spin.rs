//! The spin detector: reads the clock in a timer interrupt, interrupts off, for one stretch.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns, generated::bpf_loop},
    programs::PerfEventContext,
};
use aya_log_ebpf::debug;
use smi_common::MAX_STRETCH_NS;

use crate::{causes, maps::SPIN_SLOTS, record};

/// Rounds one stretch may take: `BPF_MAX_LOOPS` of `include/linux/bpf.h`. Even at one reading a round and 12 ns a
/// reading they cover the longest stretch.
const MAX_ROUNDS: u32 = 8 * 1024 * 1024;

/// Where readings come from.
pub trait Clock {
    /// Whether time passes between two readings, and not only with them.
    const IS_REAL: bool = true;

    /// Nanoseconds of `CLOCK_MONOTONIC`.
    fn now() -> u64;

    /// [`Stretch::long_step`] by this clock.
    #[inline(always)]
    fn long_step(stretch: &mut Stretch, now_ns: u64, last_ns: u64)
    where
        Self: Sized,
    {
        stretch.long_step::<Self>(now_ns, last_ns);
    }
}

/// The kernel's clock.
pub struct Kernel;

impl Clock for Kernel {
    #[inline(always)]
    fn now() -> u64 {
        // SAFETY: the helper has no preconditions.
        unsafe { bpf_ktime_get_ns() }
    }

    #[inline(always)]
    fn long_step(stretch: &mut Stretch, now_ns: u64, last_ns: u64) {
        // SAFETY: it is a stretch.
        unsafe { long_step(stretch, now_ns, last_ns) };
    }
}

/// [`Stretch::long_step`] by the kernel's clock.
///
/// A global function: the verifier checks it once by itself, instead of again after each of the 64 steps of a round, which made
/// up most of the time from exec to the first window. Returns 0; the verifier wants global functions to return a number.
///
/// # Safety
/// `stretch` points to a stretch or is null.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn long_step(stretch: *mut Stretch, now_ns: u64, last_ns: u64) -> u64 {
    // SAFETY: the caller's promise; the verifier insists on the check for null that this contains.
    if let Some(stretch) = unsafe { stretch.as_mut() } {
        stretch.long_step::<Kernel>(now_ns, last_ns);
    }
    0
}

/// One call of `bpf_loop`'s callback: takes readings; 0 to be called again, 1 when the stretch is over.
pub type Round = unsafe extern "C" fn(u64, *mut c_void) -> i64;

/// The stretch under way, on the stack of the program.
pub struct Stretch {
    /// Last reading of the clock.
    pub last_ns: u64,
    /// A gap is at least this long.
    pub threshold_ns: u64,
    /// A step at least this long is looked at, be it a gap or not.
    pub look_ns: u64,
    /// Spin until the clock shows this.
    end_ns: u64,
    /// Time spent recording instead of watching.
    blind_ns: u64,
    /// Readings taken.
    pub steps: u64,
    /// Readings that lay before the one preceding them.
    clock_went_back: u64,
}

impl Stretch {
    /// Whether the reading `now_ns` ends a long step. True as well when the clock went back, so that the common case is
    /// one comparison; [`Self::long_step`] tells the two apart.
    #[inline(always)]
    pub fn is_long(now_ns: u64, last_ns: u64, look_ns: u64) -> bool {
        now_ns.wrapping_sub(last_ns) >= look_ns
    }

    /// Records the gap between `last_ns` and `now_ns`, if it is one, and goes on from a new reading: the time this takes
    /// is not watched, so it must be neither gap nor exposure.
    #[inline(always)]
    pub fn long_step<C: Clock>(&mut self, now_ns: u64, last_ns: u64) {
        let next_ns = if now_ns < last_ns {
            self.clock_went_back += 1;
            C::now()
        } else if now_ns - last_ns < self.threshold_ns {
            causes::look();
            C::now()
        } else {
            record::record(now_ns, now_ns - last_ns);
            causes::begin_at::<C>()
        };
        self.go_on(now_ns, next_ns);
    }

    /// Goes on from the reading `next_ns`; since `now_ns` nothing was watched.
    #[inline(always)]
    pub fn go_on(&mut self, now_ns: u64, next_ns: u64) {
        self.last_ns = next_ns;
        self.blind_ns += next_ns.saturating_sub(now_ns);
    }

    /// What a round returns.
    #[inline(always)]
    pub fn verdict(&self) -> i64 {
        i64::from(self.last_ns >= self.end_ns)
    }
}

/// Takes one reading, or leaves the round by way of [`Stretch::long_step`].
macro_rules! step {
    ($stretch:ident, $last:ident, $look:ident, $steps:expr) => {
        let now_ns = C::now();
        if Stretch::is_long(now_ns, $last, $look) {
            $stretch.steps += $steps;
            C::long_step($stretch, now_ns, $last);
            return $stretch.verdict();
        }
        $last = now_ns;
    };
}

/// Repeats [`step`] 64 times: calling a round through a pointer costs as much as a third of a reading.
macro_rules! steps_64 {
    ($s:ident, $l:ident, $t:ident) => {
        steps_64!(@8 $s, $l, $t, 0);
        steps_64!(@8 $s, $l, $t, 8);
        steps_64!(@8 $s, $l, $t, 16);
        steps_64!(@8 $s, $l, $t, 24);
        steps_64!(@8 $s, $l, $t, 32);
        steps_64!(@8 $s, $l, $t, 40);
        steps_64!(@8 $s, $l, $t, 48);
        steps_64!(@8 $s, $l, $t, 56);
    };
    (@8 $s:ident, $l:ident, $t:ident, $done:expr) => {
        step!($s, $l, $t, $done + 1);
        step!($s, $l, $t, $done + 2);
        step!($s, $l, $t, $done + 3);
        step!($s, $l, $t, $done + 4);
        step!($s, $l, $t, $done + 5);
        step!($s, $l, $t, $done + 6);
        step!($s, $l, $t, $done + 7);
        step!($s, $l, $t, $done + 8);
    };
}

/// The round of the shipped program.
unsafe extern "C" fn spin_round(_round: u64, stretch: *mut c_void) -> i64 {
    // SAFETY: `bpf_loop` hands over the pointer that `run` gave it, to a value that outlives the loop.
    unsafe { take_64::<Kernel>(stretch) }
}

/// Takes 64 readings, or as many as there are before a gap.
///
/// # Safety
/// `stretch` points to the [`Stretch`] under way.
#[inline(always)]
pub unsafe fn take_64<C: Clock>(stretch: *mut c_void) -> i64 {
    // SAFETY: the caller's promise.
    let stretch = unsafe { &mut *stretch.cast::<Stretch>() };
    let look_ns = stretch.look_ns;
    let mut last_ns = stretch.last_ns;
    steps_64!(stretch, last_ns, look_ns);
    stretch.last_ns = last_ns;
    stretch.steps += 64;
    stretch.verdict()
}

/// Runs the stretch that the sampling thread armed on this CPU; does nothing when none is.
#[inline(always)]
pub fn run(ctx: &PerfEventContext) {
    run_with::<Kernel>(ctx, spin_round);
}

/// [`run`] with a clock and a round of the caller's.
#[inline(always)]
pub fn run_with<C: Clock>(ctx: &PerfEventContext, round: Round) {
    // SAFETY: the helper has no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let Some(slot) = SPIN_SLOTS.get_ptr_mut(cpu) else {
        return;
    };
    // SAFETY: the pointer comes from the map. User space shares the slot, hence the volatile accesses; each field has
    // one writer.
    let (armed, ended, stretch_ns, until_ns) = unsafe {
        (
            ptr::read_volatile(&raw const (*slot).armed),
            ptr::read_volatile(&raw const (*slot).ended),
            ptr::read_volatile(&raw const (*slot).stretch_ns),
            ptr::read_volatile(&raw const (*slot).until_ns),
        )
    };
    // Below: the thread gave up a stretch that had begun already.
    if armed <= ended {
        return;
    }
    let Some(knobs) = record::knobs() else { return };

    let begin_ns = causes::begin_at::<C>();
    // SAFETY: as above.
    unsafe {
        ptr::write_volatile(&raw mut (*slot).begun_ns, begin_ns);
        ptr::write_volatile(&raw mut (*slot).begun, armed);
    }
    let end_ns = until_ns.min(begin_ns + stretch_ns.min(MAX_STRETCH_NS));
    let mut stretch = Stretch {
        last_ns: begin_ns,
        threshold_ns: knobs.threshold_ns,
        look_ns: match knobs.look_ns {
            0 => knobs.threshold_ns,
            look_ns => look_ns.min(knobs.threshold_ns),
        },
        end_ns,
        blind_ns: 0,
        steps: 0,
        clock_went_back: 0,
    };
    if begin_ns < end_ns {
        // SAFETY: the callback and its argument live until the helper returns.
        unsafe {
            bpf_loop(
                MAX_ROUNDS,
                round as *mut c_void,
                (&raw mut stretch).cast(),
                0,
            )
        };
    }
    let spun_ns = stretch.last_ns.saturating_sub(begin_ns);
    let exposure_ns = spun_ns.saturating_sub(stretch.blind_ns);
    causes::look();
    record::change(|stats| {
        let totals = &mut stats.stretches;
        if begin_ns < end_ns {
            totals.run += 1;
            totals.exposure_ns += exposure_ns;
        } else {
            totals.late += 1;
        }
        totals.steps += stretch.steps;
        totals.clock_went_back += stretch.clock_went_back;
    });
    debug!(
        ctx,
        "cpu {}: stretch {} took {} steps", cpu, armed, stretch.steps
    );
    // SAFETY: as above. `ended` last of all: the thread goes on when it sees it.
    unsafe {
        let spun = &raw mut (*slot).spun_ns;
        ptr::write_volatile(spun, ptr::read_volatile(spun) + spun_ns);
        ptr::write_volatile(&raw mut (*slot).ended, armed);
    }
}
