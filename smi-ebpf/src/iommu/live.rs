//! Follows mappings until they are unmapped, so that unmaps of pieces are told from others.

use core::ffi::c_void;

use aya_ebpf::{helpers::generated::bpf_loop, macros::map, maps::HashMap};
use smi_common::iommu::{Live, LiveKey};

use crate::spin::{Clock, Kernel};

/// Mappings that one unmap may end. A list of buffers is mapped piece by piece and unmapped as one; the kernel's lists have
/// far fewer.
const MAX_ENDED: u32 = 65_536;

/// An unmap of mappings as they had been mapped.
pub(super) const WHOLE: u64 = 0;
/// An unmap of a piece of one.
pub(super) const PIECE: u64 = 1;
/// An unmap of what is not known.
pub(super) const UNKNOWN: u64 = 2;

/// Mappings that are followed. User space says how many.
#[map]
static IOMMU_LIVE: HashMap<LiveKey, Live> = HashMap::with_max_entries(1, 0);

/// A mapping begins; whether there was room to follow it.
#[inline(always)]
pub(super) fn begins(domain: u64, iova: u64, bytes: u64) -> bool {
    let key = LiveKey { domain, iova };
    let live = Live {
        bytes,
        mapped_bytes: bytes,
        at_ns: Kernel::now(),
    };
    IOMMU_LIVE.insert(key, live, 0).is_ok()
}

/// An unmap under way.
struct Ending {
    key: LiveKey,
    /// Bytes that are still to be found.
    left: u64,
    found: u64,
}

/// `bytes` from `iova` on end: what that was.
#[inline(always)]
pub(super) fn ends(domain: u64, iova: u64, bytes: u64) -> u64 {
    let mut ending = Ending {
        key: LiveKey { domain, iova },
        left: bytes,
        found: UNKNOWN,
    };
    // Most often it is one.
    if end_one(&mut ending) == 0 {
        // SAFETY: the callback and its argument live until the helper returns.
        unsafe {
            bpf_loop(
                MAX_ENDED,
                end_next as *mut c_void,
                (&raw mut ending).cast(),
                0,
            )
        };
    }
    ending.found
}

unsafe extern "C" fn end_next(_round: u64, ending: *mut c_void) -> i64 {
    // SAFETY: `bpf_loop` hands over the pointer that `ends` gave it, to a value that outlives the loop.
    end_one(unsafe { &mut *ending.cast::<Ending>() })
}

/// Ends the mapping that begins where `ending` has come to, or the part of it that is asked for; 1 when nothing follows.
#[inline(always)]
fn end_one(ending: &mut Ending) -> i64 {
    let Some(live) = IOMMU_LIVE.get_ptr(ending.key) else {
        return 1;
    };
    // SAFETY: an entry of the map. Nobody else unmaps the same address at the same time; were it to happen, the kernel would
    // be wrong about it, too.
    let (bytes, mapped_bytes, at_ns) =
        unsafe { ((*live).bytes, (*live).mapped_bytes, (*live).at_ns) };
    let _removed = IOMMU_LIVE.remove(ending.key);
    if bytes > ending.left {
        ending.found = PIECE;
        ending.key.iova += ending.left;
        let rest = Live {
            bytes: bytes - ending.left,
            mapped_bytes,
            at_ns,
        };
        let _kept = IOMMU_LIVE.insert(ending.key, rest, 0);
        return 1;
    }
    if bytes < mapped_bytes {
        ending.found = PIECE;
    } else if ending.found == UNKNOWN {
        ending.found = WHOLE;
    }
    ending.key.iova += bytes;
    ending.left -= bytes;
    i64::from(ending.left == 0)
}
