//! Giving a device to user space, as for a guest, and taking it back (`Documentation/driver-api/vfio.rst`).

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::fd::AsRawFd as _,
    ptr,
};

use super::pci;
use crate::wait_until;

/// The driver's name.
pub(super) const DRIVER: &str = "vfio-pci";

/// `_IO(VFIO_TYPE, VFIO_BASE + n)` of `include/uapi/linux/vfio.h`.
const fn request(n: libc::c_ulong) -> libc::c_ulong {
    (b';' as libc::c_ulong) << 8 | (100 + n)
}
const SET_IOMMU: libc::c_ulong = request(2);
const GROUP_SET_CONTAINER: libc::c_ulong = request(4);
const MAP_DMA: libc::c_ulong = request(13);
const UNMAP_DMA: libc::c_ulong = request(14);
const TYPE1V2_IOMMU: libc::c_ulong = 3;
const READ_AND_WRITE: u32 = 3;

/// A device that the driver for user space has. Dropped, its own driver has it again.
pub(super) struct Given {
    device: String,
    own_driver: Option<String>,
}

impl Given {
    /// Takes the device from its driver.
    ///
    /// # Panics
    /// When it cannot be given.
    #[track_caller]
    pub(super) fn give(device: &str) -> Self {
        let own_driver = pci::driver(device);
        move_to(device, DRIVER).expect("given");
        let given = Self {
            device: device.to_owned(),
            own_driver,
        };
        wait_until(DRIVER, || pci::driver(device).as_deref() == Some(DRIVER));
        given
    }

    /// Gives it back, and waits until its driver has it.
    ///
    /// # Panics
    /// When that does not come.
    #[track_caller]
    pub(super) fn take_back(self) {
        let (device, own_driver) = (self.device.clone(), self.own_driver.clone());
        drop(self);
        wait_until("its own driver", || pci::driver(&device) == own_driver);
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        // An empty line is for any driver.
        if let Err(error) = move_to(&self.device, "\n") {
            println!("    {} is not given back: {error}", self.device);
        }
    }
}

fn move_to(device: &str, driver: &str) -> io::Result<()> {
    let folder = pci::folder(device);
    fs::write(folder.join("driver_override"), driver)?;
    if folder.join("driver").exists() {
        fs::write(folder.join("driver/unbind"), device)?;
    }
    fs::write("/sys/bus/pci/drivers_probe", device)
}

/// An address space of user space's, which a group's devices use. Dropped, all that is mapped in it is gone, and the group
/// is the kernel's.
pub(super) struct Container {
    container: File,
    _group: File,
}

impl Container {
    /// Has it for a group whose devices were given.
    ///
    /// # Panics
    /// When the kernel refuses.
    #[track_caller]
    pub(super) fn of(group: u32) -> Self {
        // The emulated IOMMU does not guard interrupts.
        let unsafe_interrupts = "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts";
        fs::write(unsafe_interrupts, "1").expect("allowed");
        let open = |path: &str| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(path)
                .unwrap_or_else(|error| panic!("{path}: {error}"))
        };
        let container = open("/dev/vfio/vfio");
        let group = open(&format!("/dev/vfio/{group}"));
        let descriptor = container.as_raw_fd();
        // SAFETY: the call reads the descriptor that it is given.
        let set = unsafe {
            libc::ioctl(
                group.as_raw_fd(),
                GROUP_SET_CONTAINER,
                &raw const descriptor,
            )
        };
        assert_eq!(set, 0, "a container: {}", io::Error::last_os_error());
        // SAFETY: the call takes a number.
        let set = unsafe { libc::ioctl(container.as_raw_fd(), SET_IOMMU, TYPE1V2_IOMMU) };
        assert_eq!(set, 0, "an address space: {}", io::Error::last_os_error());
        Self {
            container,
            _group: group,
        }
    }

    /// Maps `bytes` of fresh memory at `iova`.
    ///
    /// # Panics
    /// When the kernel refuses.
    #[track_caller]
    pub(super) fn map(&self, iova: u64, bytes: u64) {
        #[repr(C)]
        struct Map {
            argsz: u32,
            flags: u32,
            vaddr: u64,
            iova: u64,
            size: u64,
        }
        // It stays until the machine ends: only tests map here, and not much.
        // SAFETY: a new mapping of memory, at an address of the kernel's choice.
        let memory = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(memory, libc::MAP_FAILED);
        let map = Map {
            argsz: size_of::<Map>() as u32,
            flags: READ_AND_WRITE,
            vaddr: memory as u64,
            iova,
            size: bytes,
        };
        // SAFETY: the call reads the structure, whose length stands in it; the memory stays.
        let done = unsafe { libc::ioctl(self.container.as_raw_fd(), MAP_DMA, &raw const map) };
        assert_eq!(done, 0, "mapping: {}", io::Error::last_os_error());
    }

    /// Unmaps `bytes` at `iova`, where they were mapped.
    ///
    /// # Panics
    /// When the kernel refuses.
    #[track_caller]
    pub(super) fn unmap(&self, iova: u64, bytes: u64) {
        #[repr(C)]
        struct Unmap {
            argsz: u32,
            flags: u32,
            iova: u64,
            size: u64,
        }
        let mut unmap = Unmap {
            argsz: size_of::<Unmap>() as u32,
            flags: 0,
            iova,
            size: bytes,
        };
        // SAFETY: the call reads and writes the structure, whose length stands in it.
        let done = unsafe { libc::ioctl(self.container.as_raw_fd(), UNMAP_DMA, &raw mut unmap) };
        assert_eq!(done, 0, "unmapping: {}", io::Error::last_os_error());
        assert_eq!(unmap.size, bytes);
    }
}
