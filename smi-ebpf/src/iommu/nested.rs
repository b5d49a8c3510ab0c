//! Tells events that a program counted from those that the kernel did not run it at.
//!
//! The kernel does not run a program while it runs on the same CPU already, so what an interrupt maps within it would be left
//! out. A second program at the same tracepoint counts that. The kernel runs both with arguments at the same place of the same
//! stack; so the first, when it is done, notes where they are, and the second finds it there or knows that the first was not run.

use aya_ebpf::{EbpfContext as _, programs::RawTracePointContext};
use smi_common::iommu::UNDER_WAY;

/// The first program is done with the event.
#[inline(always)]
pub(super) fn counted(ctx: &RawTracePointContext, places: &mut [u64; UNDER_WAY]) {
    let at = ctx.as_ptr() as u64;
    let mut place = 0;
    while place < UNDER_WAY {
        // The event's own: one whose second program was not run had its arguments there, too.
        if places[place] == 0 || places[place] == at {
            places[place] = at;
            return;
        }
        place += 1;
    }
    // All are of events whose second program was not run.
    *places = [0; UNDER_WAY];
    places[0] = at;
}

/// Whether the first program counted the event.
#[inline(always)]
pub(super) fn was_counted(ctx: &RawTracePointContext, places: &mut [u64; UNDER_WAY]) -> bool {
    let at = ctx.as_ptr() as u64;
    let mut place = 0;
    while place < UNDER_WAY {
        if places[place] == at {
            places[place] = 0;
            return true;
        }
        place += 1;
    }
    false
}
