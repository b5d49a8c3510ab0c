//! The kernel's log, record by record (`/dev/kmsg`, `Documentation/ABI/testing/dev-kmsg`).

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use thiserror::Error;

const PATH: &str = "/dev/kmsg";
/// Room for the longest record: a read returns one, and fails where there is too little (`CONSOLE_EXT_LOG_MAX`, 8 KiB).
const RECORD: usize = 16 << 10;
/// At most so many records are taken at once, should they come faster than they are read. The rest waits.
const AT_ONCE: usize = 65_536;

/// Why the log cannot be had.
#[derive(Debug, Error)]
#[error("cannot {step} {path}; {}", remedy(.source))]
pub struct KmsgError {
    /// What was tried.
    step: &'static str,
    /// The file.
    path: PathBuf,
    /// What the system said.
    source: io::Error,
}

fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "the kernel shows its log only to those with CAP_SYSLOG where kernel.dmesg_restrict is 1, and to nobody where it was \
             booted with printk.devkmsg=off: run it as root, for example with sudo, and outside containers"
        }
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
            "it takes a kernel with CONFIG_PRINTK=y, devtmpfs at /dev, and in a container that device handed in"
        }
        _ => {
            "run it on the host, where that is the kernel's log, and not in a container that has something else there"
        }
    }
}

/// A record of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its number: the next one's is one more.
    pub seq: u64,
    /// When it was written, by the clock of the kernel's log (`local_clock`): nobody sets that, so it comes to differ from
    /// `CLOCK_MONOTONIC` by seconds within weeks.
    pub since_boot: Duration,
    /// From 0, the machine is of no use any more, to 7, for debugging.
    pub level: u8,
    /// What it says; several lines where the kernel wrote them as one record.
    pub text: String,
}

/// The log from now on.
#[derive(Debug)]
pub struct Kmsg {
    path: PathBuf,
    records: Records<File>,
}

impl Kmsg {
    /// Opens the log; what is in it already is left out.
    ///
    /// # Errors
    /// When the kernel does not show it to this process.
    pub fn follow() -> Result<Self, KmsgError> {
        let mut log = Self::open(Path::new(PATH))?;
        // Read through rather than skipped: where the last record is lost before the first one is taken, its number tells how
        // many are.
        while log.take()?.len() == AT_ONCE {}
        log.records.lost = 0;
        Ok(log)
    }

    fn open(path: &Path) -> Result<Self, KmsgError> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .map_err(|source| KmsgError {
                step: "open",
                path: path.to_owned(),
                source,
            })?;
        Ok(Self {
            path: path.to_owned(),
            records: Records::new(file),
        })
    }

    /// What was written since the last call, or since the log was opened; waits for nothing.
    ///
    /// # Errors
    /// When the log cannot be read any more.
    pub fn take(&mut self) -> Result<Vec<Message>, KmsgError> {
        self.records.take().map_err(|source| KmsgError {
            step: "read",
            path: self.path.clone(),
            source,
        })
    }

    /// Records since the log was opened that were overwritten before they were taken.
    pub fn lost(&self) -> u64 {
        self.records.lost
    }
}

/// All that the log still holds, oldest first.
///
/// # Errors
/// When the kernel does not show it to this process.
pub fn read_all() -> Result<Vec<Message>, KmsgError> {
    Kmsg::open(Path::new(PATH))?.take()
}

/// Takes records from where each read returns one.
#[derive(Debug)]
struct Records<R> {
    from: R,
    /// The number that comes next, once one came.
    next: Option<u64>,
    lost: u64,
}

impl<R: Read> Records<R> {
    fn new(from: R) -> Self {
        Self {
            from,
            next: None,
            lost: 0,
        }
    }

    fn take(&mut self) -> io::Result<Vec<Message>> {
        let mut buffer = vec![0; RECORD];
        let mut taken = Vec::new();
        while taken.len() < AT_ONCE {
            match self.from.read(&mut buffer) {
                // The kernel's log has no end.
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => {
                    let message = parse(&buffer[..bytes]).ok_or(io::ErrorKind::InvalidData)?;
                    if let Some(next) = self.next {
                        self.lost += message.seq.saturating_sub(next);
                    }
                    self.next = Some(message.seq + 1);
                    taken.push(message);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // EPIPE: the next record was overwritten. The next read gets the oldest that is left, whose number tells how many
                // are gone (`devkmsg_read` in `kernel/printk/printk.c`).
                Err(error) if matches!(error.raw_os_error(), Some(libc::EPIPE | libc::EINTR)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }
}

/// `6,339,5140900,-;text` and the end of the line; behind it, lines that begin with a space and name the device or the like.
/// There may be more fields before the semicolon, such as `caller=T123`.
fn parse(record: &[u8]) -> Option<Message> {
    let semicolon = record.iter().position(|byte| *byte == b';')?;
    let mut fields = str::from_utf8(&record[..semicolon]).ok()?.split(',');
    let priority: u32 = fields.next()?.parse().ok()?;
    let seq = fields.next()?.parse().ok()?;
    let since_boot_us = fields.next()?.parse().ok()?;
    let text = record[semicolon + 1..]
        .split(|byte| *byte == b'\n')
        .next()?;
    Some(Message {
        seq,
        since_boot: Duration::from_micros(since_boot_us),
        level: (priority & 7) as u8,
        text: unescape(text),
    })
}

/// Everything but printable ASCII is written as `\x0a` (`msg_print_ext_body` in `kernel/printk/printk.c`).
fn unescape(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        let escaped = after
            .strip_prefix(b"x")
            .filter(|_| *byte == b'\\')
            .and_then(|after| after.split_at_checked(2))
            .and_then(|(digits, after)| {
                let digits = str::from_utf8(digits).ok()?;
                Some((u8::from_str_radix(digits, 16).ok()?, after))
            });
        let (byte, after) = escaped.unwrap_or((*byte, after));
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Each read returns the next of these.
    struct Scripted(VecDeque<Result<Vec<u8>, i32>>);

    impl Read for Scripted {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.pop_front().unwrap_or(Err(libc::EAGAIN)) {
                Ok(record) => {
                    buffer[..record.len()].copy_from_slice(&record);
                    Ok(record.len())
                }
                Err(errno) => Err(io::Error::from_raw_os_error(errno)),
            }
        }
    }

    fn numbered(seq: u64) -> Vec<u8> {
        format!("6,{seq},{seq}000,-;record {seq}\n").into_bytes()
    }

    fn numbers(messages: &[Message]) -> Vec<u64> {
        messages.iter().map(|message| message.seq).collect()
    }

    #[test]
    fn a_record_is_taken_apart() {
        let record =
            b"3,1042,5140900123,-,caller=T77;DMAR: [DMA Read NO_PASID] Request device [00:02.0]\n";
        assert_eq!(
            parse(record),
            Some(Message {
                seq: 1042,
                since_boot: Duration::from_micros(5_140_900_123),
                level: 3,
                text: "DMAR: [DMA Read NO_PASID] Request device [00:02.0]".to_owned(),
            })
        );
    }

    #[test]
    fn lines_that_name_the_device_are_left_out_and_the_facility_is_no_level() {
        let record = b"27,7,9,c;nvme 0000:03:00.0: AMD-Vi: Event logged\n SUBSYSTEM=pci\n DEVICE=+pci:0000:03:00.0\n";
        let message = parse(record).expect("a record");
        assert_eq!(message.level, 3);
        assert_eq!(message.text, "nvme 0000:03:00.0: AMD-Vi: Event logged");
    }

    #[test]
    fn what_the_kernel_escapes_is_as_it_was() {
        for (escaped, text) in [
            (r"two\x0alines", "two\nlines"),
            (r"\x090x0000000000000010", "\t0x0000000000000010"),
            (r"gr\xc3\xbcn", "grün"),
            (r"C:\x5cx", r"C:\x"),
            (r"no \xzz, \x0", r"no \xzz, \x0"),
            ("a;b,c", "a;b,c"),
        ] {
            assert_eq!(unescape(escaped.as_bytes()), text, "{escaped}");
        }
    }

    #[test]
    fn what_is_no_record_is_none() {
        for record in [&b"plain text\n"[..], b"6,x,9,-;text\n", b"6,7;text\n", b""] {
            assert_eq!(parse(record), None, "{}", String::from_utf8_lossy(record));
        }
    }

    #[test]
    fn all_that_waits_is_taken() {
        let mut records = Records::new(Scripted([Ok(numbered(4)), Ok(numbered(5))].into()));
        assert_eq!(numbers(&records.take().expect("taken")), [4, 5]);
        assert!(records.take().expect("taken").is_empty());
        records.from.0.push_back(Ok(numbered(6)));
        assert_eq!(numbers(&records.take().expect("taken")), [6]);
        assert_eq!(records.lost, 0);
    }

    #[test]
    fn overwritten_records_are_counted_by_the_jump_of_their_numbers() {
        let mut records = Records::new(Scripted(
            [
                Ok(numbered(4)),
                Err(libc::EPIPE),
                Ok(numbered(104)),
                Err(libc::EINTR),
                Ok(numbered(105)),
            ]
            .into(),
        ));
        assert_eq!(numbers(&records.take().expect("taken")), [4, 104, 105]);
        assert_eq!(records.lost, 99);
        // Overwritten between two calls.
        records
            .from
            .0
            .extend([Err(libc::EAGAIN), Err(libc::EPIPE), Ok(numbered(107))]);
        assert!(records.take().expect("taken").is_empty());
        assert_eq!(numbers(&records.take().expect("taken")), [107]);
        assert_eq!(records.lost, 100);
    }

    #[test]
    fn a_flood_is_taken_in_parts() {
        let flood = (0..AT_ONCE as u64 + 3)
            .map(|seq| Ok(numbered(seq)))
            .collect();
        let mut records = Records::new(Scripted(flood));
        assert_eq!(records.take().expect("taken").len(), AT_ONCE);
        assert_eq!(records.take().expect("taken").len(), 3);
    }

    #[test]
    fn what_cannot_be_read_is_told_with_what_would_help() {
        let error = Kmsg::open(Path::new("/nonexistent/kmsg")).expect_err("absent");
        let told = error.to_string();
        assert!(
            told.contains("cannot open /nonexistent/kmsg") && told.contains("CONFIG_PRINTK=y"),
            "{told}"
        );
        let refused = KmsgError {
            step: "open",
            path: PathBuf::from(PATH),
            source: io::Error::from_raw_os_error(libc::EPERM),
        };
        let told = refused.to_string();
        for part in [
            "/dev/kmsg",
            "CAP_SYSLOG",
            "kernel.dmesg_restrict",
            "as root",
        ] {
            assert!(told.contains(part), "{told}");
        }
        // Not the kernel's log.
        let mut other = Kmsg::open(Path::new("/dev/null")).expect("open");
        let told = other.take().expect_err("no record").to_string();
        assert!(told.contains("cannot read /dev/null"), "{told}");
    }
}
