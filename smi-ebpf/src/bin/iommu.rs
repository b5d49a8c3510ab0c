//! The object of `smilat iommu`.

#![no_std]
#![no_main]

use aya_ebpf::{
    macros::{fentry, fexit, raw_tracepoint},
    programs::{FEntryContext, FExitContext, RawTracePointContext},
};
use smi_common::iommu::{Notice, Timed};
use smi_ebpf::iommu;

/// Attached to `iommu:map`.
#[raw_tracepoint]
fn map(ctx: RawTracePointContext) -> i32 {
    iommu::map(&ctx);
    0
}

/// Attached to `iommu:map` after that.
#[raw_tracepoint]
fn map_again(ctx: RawTracePointContext) -> i32 {
    iommu::map_again(&ctx);
    0
}

/// Attached to `iommu:unmap`.
#[raw_tracepoint]
fn unmap(ctx: RawTracePointContext) -> i32 {
    iommu::unmap(&ctx);
    0
}

/// Attached to `iommu:unmap` after that.
#[raw_tracepoint]
fn unmap_again(ctx: RawTracePointContext) -> i32 {
    iommu::unmap_again(&ctx);
    0
}

/// Attached to the entry of the function that has the tracepoint of maps.
#[fentry]
fn map_begins(ctx: FEntryContext) -> i32 {
    iommu::map_begins(&ctx);
    0
}

/// Attached there as well: the kernel runs it for what an interrupt maps while the other one runs.
#[fentry]
fn map_begins_again(ctx: FEntryContext) -> i32 {
    iommu::map_begins(&ctx);
    0
}

/// Attached to the entry of the function that has the tracepoint of unmaps.
#[fentry]
fn unmap_begins(ctx: FEntryContext) -> i32 {
    iommu::unmap_begins(&ctx);
    0
}

/// Attached there as well.
#[fentry]
fn unmap_begins_again(ctx: FEntryContext) -> i32 {
    iommu::unmap_begins(&ctx);
    0
}

/// Attached to the entry of the function that has the tracepoint of devices that are attached to a domain.
#[fentry]
fn attach_begins(ctx: FEntryContext) -> i32 {
    iommu::attach_begins(&ctx);
    0
}

/// Attached to the entry of the function by which drivers unmap.
#[fentry]
fn dma_begins(ctx: FEntryContext) -> i32 {
    iommu::timed_begins(&ctx);
    0
}

/// Attached to its end.
#[fexit]
fn dma_ends(ctx: FExitContext) -> i32 {
    iommu::timed_ends(&ctx, Timed::Dma);
    0
}

/// Attached to the entry of the function by which others unmap.
#[fentry]
fn other_begins(ctx: FEntryContext) -> i32 {
    iommu::timed_begins(&ctx);
    0
}

/// Attached to its end.
#[fexit]
fn other_ends(ctx: FExitContext) -> i32 {
    iommu::timed_ends(&ctx, Timed::Other);
    0
}

/// Attached to the entry of the function that frees a domain.
#[fentry]
fn domain_gone(ctx: FEntryContext) -> i32 {
    iommu::domain_gone(&ctx);
    0
}

/// Attached to `iommu:add_device_to_group`.
#[raw_tracepoint]
fn added(ctx: RawTracePointContext) -> i32 {
    iommu::of_group(&ctx, Notice::Added);
    0
}

/// Attached to `iommu:remove_device_from_group`.
#[raw_tracepoint]
fn removed(ctx: RawTracePointContext) -> i32 {
    iommu::of_group(&ctx, Notice::Removed);
    0
}

/// Attached to `iommu:attach_device_to_domain`.
#[raw_tracepoint]
fn attached(ctx: RawTracePointContext) -> i32 {
    iommu::attached(&ctx);
    0
}

/// Attached to `iommu:detach_device_from_domain`.
#[raw_tracepoint]
fn detached(ctx: RawTracePointContext) -> i32 {
    iommu::detached(&ctx);
    0
}

/// Attached to `iommu:io_page_fault`.
#[raw_tracepoint]
fn fault(ctx: RawTracePointContext) -> i32 {
    iommu::fault(&ctx);
    0
}

/// Run by user space, for each group.
#[raw_tracepoint]
fn read_group(ctx: RawTracePointContext) -> i32 {
    iommu::read_group(&ctx);
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
