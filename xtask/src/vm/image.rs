//! What QEMU boots: the uncompressed kernel out of a bzImage, and an initramfs.

use std::{fs, io::Read as _, path::Path};

use anyhow::{Context as _, Result, bail, ensure};

/// Offsets in a bzImage (`Documentation/arch/x86/boot.rst`, "The Real-Mode Kernel Header").
const SETUP_SECTS: usize = 0x1f1;
const HEADER_MAGIC: usize = 0x202;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

const SECTOR: usize = 512;

const XZ_MAGIC: &[u8] = b"\xfd7zXZ\0";
const ZSTD_MAGIC: &[u8] = b"\x28\xb5\x2f\xfd";
const ELF_MAGIC: &[u8] = b"\x7fELF";

/// The ELF kernel inside a bzImage. QEMU boots it by its PVH entry, which spares the emulated CPU the decompression:
/// several seconds.
pub(super) fn vmlinux(bzimage: &[u8]) -> Result<Vec<u8>> {
    ensure!(
        bzimage.get(HEADER_MAGIC..HEADER_MAGIC + 4) == Some(b"HdrS"),
        "this is not a bzImage"
    );
    let field = |at: usize| -> Result<usize> {
        let bytes = bzimage.get(at..at + 4).context("the header is cut off")?;
        Ok(u32::from_le_bytes(bytes.try_into()?) as usize)
    };
    let start = (usize::from(bzimage[SETUP_SECTS]) + 1) * SECTOR + field(PAYLOAD_OFFSET)?;
    let payload = bzimage
        .get(start..start + field(PAYLOAD_LENGTH)?)
        .context("the payload is cut off")?;
    let (_, length) = payload
        .split_last_chunk::<4>()
        .context("the payload is empty")?;
    let vmlinux = decompress(payload)?;
    // `scripts/Makefile.lib` (size_append) puts the length at the payload's end.
    ensure!(
        vmlinux.len() == u32::from_le_bytes(*length) as usize,
        "{} bytes came out, not {}",
        vmlinux.len(),
        u32::from_le_bytes(*length)
    );
    Ok(vmlinux)
}

/// Decompresses what Debian compresses kernels and modules with; passes on what is not compressed. Ignores what follows
/// the compressed data.
pub(super) fn decompress(data: &[u8]) -> Result<Vec<u8>> {
    let mut plain = Vec::new();
    if data.starts_with(XZ_MAGIC) {
        liblzma::read::XzDecoder::new(data).read_to_end(&mut plain)?;
    } else if data.starts_with(ZSTD_MAGIC) {
        zstd::stream::read::Decoder::new(data)?
            .single_frame()
            .read_to_end(&mut plain)?;
    } else if data.starts_with(ELF_MAGIC) {
        plain.extend_from_slice(data);
    } else {
        bail!(
            "neither xz nor zstd nor ELF: it begins with {:02x?}",
            &data[..data.len().min(8)]
        );
    }
    Ok(plain)
}

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

/// Writes a cpio archive in the one format the kernel unpacks
/// (`Documentation/driver-api/early-userspace/buffer-format.rst`).
#[derive(Default)]
pub(super) struct Initramfs {
    archive: Vec<u8>,
    entries: u32,
}

impl Initramfs {
    /// Adds a folder; its parent must have been added.
    pub(super) fn folder(&mut self, path: &str) {
        self.entry(path, DIRECTORY, &[]);
    }

    /// Adds a file that can be executed; its folder must have been added.
    pub(super) fn file(&mut self, path: &str, content: &[u8]) {
        self.entry(path, PROGRAM, content);
    }

    /// Adds all that is in the folder `tree`. A folder that was added before may come again: the kernel takes it as it is.
    pub(super) fn tree(&mut self, tree: &Path) -> Result<()> {
        self.tree_at(tree, "")
            .with_context(|| format!("cannot pack {}", tree.display()))
    }

    fn tree_at(&mut self, dir: &Path, prefix: &str) -> Result<()> {
        let mut entries = fs::read_dir(dir)?.collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                self.folder(&path);
                self.tree_at(&entry.path(), &format!("{path}/"))?;
            } else {
                self.file(&path, &fs::read(entry.path())?);
            }
        }
        Ok(())
    }

    /// The archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.archive
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let links = 1;
        let fields = [
            self.entries,
            mode,
            0,
            0,
            links,
            0,
            content.len() as u32,
            0,
            0,
            0,
            0,
            path.len() as u32 + 1,
            0,
        ];
        self.archive.extend_from_slice(b"070701");
        for field in fields {
            self.archive
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.archive.extend_from_slice(path.as_bytes());
        self.archive.push(0);
        self.pad();
        self.archive.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.archive
            .resize(self.archive.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    /// A bzImage with one set-up sector around `payload`.
    fn bzimage(payload: &[u8]) -> Vec<u8> {
        let offset = 0x80;
        let start = 2 * SECTOR + offset;
        let mut image = vec![0; start];
        image[SETUP_SECTS] = 1;
        image[HEADER_MAGIC..HEADER_MAGIC + 4].copy_from_slice(b"HdrS");
        image[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4].copy_from_slice(&(offset as u32).to_le_bytes());
        image[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4]
            .copy_from_slice(&(payload.len() as u32).to_le_bytes());
        image.extend_from_slice(payload);
        image.extend_from_slice(b"what follows the payload");
        image
    }

    fn elf() -> Vec<u8> {
        [ELF_MAGIC, &[7; 5000]].concat()
    }

    fn with_length(mut packed: Vec<u8>) -> Vec<u8> {
        packed.extend_from_slice(&(elf().len() as u32).to_le_bytes());
        packed
    }

    #[test]
    fn a_kernel_comes_out_of_either_compression() {
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 6);
        xz.write_all(&elf()).expect("compressed");
        let xz = xz.finish().expect("compressed");
        let zstd = zstd::stream::encode_all(&elf()[..], 3).expect("compressed");
        for packed in [xz, zstd] {
            let image = bzimage(&with_length(packed));
            assert_eq!(vmlinux(&image).expect("a kernel"), elf());
        }
    }

    #[test]
    fn what_is_no_whole_kernel_is_refused() {
        let refused = |image: &[u8]| format!("{:#}", vmlinux(image).expect_err("refused"));
        assert_eq!(refused(b"ELF"), "this is not a bzImage");
        assert!(refused(&bzimage(b"\x1f\x8bgzip")).contains("neither xz nor zstd"));
        let zstd = zstd::stream::encode_all(&elf()[..], 3).expect("compressed");
        let mut wrong = zstd.clone();
        wrong.extend_from_slice(&1u32.to_le_bytes());
        assert!(refused(&bzimage(&wrong)).contains("bytes came out, not 1"));
        let mut cut = bzimage(&with_length(zstd));
        cut.truncate(2 * SECTOR);
        assert_eq!(refused(&cut), "the payload is cut off");
    }

    /// Names, modes and contents in an archive.
    fn entries(archive: &[u8]) -> Vec<(&str, usize, &[u8])> {
        let mut rest = archive;
        let mut seen = Vec::new();
        while !rest.is_empty() {
            assert_eq!(&rest[..6], b"070701");
            let field = |number: usize| {
                let at = 6 + 8 * number;
                let text = std::str::from_utf8(&rest[at..at + 8]).expect("digits");
                u32::from_str_radix(text, 16).expect("a number") as usize
            };
            let (mode, size, name_size) = (field(1), field(6), field(11));
            let name = std::str::from_utf8(&rest[110..110 + name_size - 1]).expect("a name");
            let content = (110 + name_size).next_multiple_of(4);
            seen.push((name, mode, &rest[content..content + size]));
            rest = &rest[(content + size).next_multiple_of(4)..];
        }
        seen
    }

    #[test]
    fn the_archive_is_made_of_aligned_entries() {
        let mut initramfs = Initramfs::default();
        initramfs.folder("bin");
        initramfs.file("bin/a", b"hello");
        assert_eq!(
            entries(&initramfs.finish()),
            [
                ("bin", 0o040_755, &b""[..]),
                ("bin/a", 0o100_755, b"hello"),
                ("TRAILER!!!", 0, b"")
            ]
        );
    }

    #[test]
    fn a_tree_is_packed_parents_first() {
        let tree = std::env::temp_dir().join(format!("smilat-tree-{}", std::process::id()));
        fs::create_dir_all(tree.join("usr/empty")).expect("made");
        fs::write(tree.join("usr/file"), "hello").expect("written");
        let mut initramfs = Initramfs::default();
        initramfs.tree(&tree).expect("packed");
        fs::remove_dir_all(&tree).expect("removed");
        assert_eq!(
            entries(&initramfs.finish()),
            [
                ("usr", 0o040_755, &b""[..]),
                ("usr/empty", 0o040_755, b""),
                ("usr/file", 0o100_755, b"hello"),
                ("TRAILER!!!", 0, b"")
            ]
        );
    }
}
