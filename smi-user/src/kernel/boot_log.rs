//! The kernel log from its beginning (`/dev/kmsg`, `Documentation/ABI/testing/dev-kmsg`).

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt as _,
    time::Duration,
};

use thiserror::Error;

const FILE: &str = "/dev/kmsg";
/// A message is at most this long: `PRINTKRB_RECORD_MAX` is 1024, and what belongs to it comes on top.
const LONGEST: usize = 16 << 10;

/// It could not be read.
#[derive(Debug, Error)]
#[error("cannot read {FILE}; it takes root, or CAP_SYSLOG where kernel.dmesg_restrict is 1")]
pub struct BootLogError(#[from] io::Error);

/// A message of the kernel's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Since boot.
    pub time: Duration,
    /// Its words, the first line of them.
    pub text: String,
}

/// What the log holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootLog {
    /// The messages, in their order.
    pub lines: Vec<LogLine>,
    /// How many there were before the first of them.
    pub lost: u64,
}

/// Reads all that is there.
///
/// # Errors
/// When it cannot be read.
pub fn read() -> Result<BootLog, BootLogError> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(FILE)?;
    Ok(collect(file)?)
}

/// One call of `read` gives one message.
fn collect(mut file: impl Read) -> io::Result<BootLog> {
    let mut log = BootLog::default();
    let mut message = vec![0; LONGEST];
    let mut next = 0;
    loop {
        match file.read(&mut message) {
            Ok(0) => return Ok(log),
            Ok(length) => {
                let text = String::from_utf8_lossy(&message[..length]);
                if let Some((number, line)) = parse(&text) {
                    log.lost += number.saturating_sub(next);
                    next = number + 1;
                    log.lines.push(line);
                }
            }
            Err(error) => match error.raw_os_error() {
                // All was read.
                Some(libc::EAGAIN) => return Ok(log),
                // Written over while it was read: the next number tells how many.
                Some(libc::EPIPE | libc::EINTR) => {}
                _ => return Err(error),
            },
        }
    }
}

/// Reads `6,339,5140900,-;pci 0000:00:03.0: Adding to iommu group 3`: priority, number, us since boot, flags.
fn parse(text: &str) -> Option<(u64, LogLine)> {
    let (head, text) = text.split_once(';')?;
    let mut fields = head.split(',').skip(1);
    let number = fields.next()?.parse().ok()?;
    let us = fields.next()?.parse().ok()?;
    let line = LogLine {
        time: Duration::from_micros(us),
        text: text.lines().next().unwrap_or_default().to_owned(),
    };
    Some((number, line))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one message a call, or an error.
    struct Messages(Vec<Result<&'static str, i32>>);

    impl Read for Messages {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let message = self.0.remove(0).map_err(io::Error::from_raw_os_error)?;
            buffer[..message.len()].copy_from_slice(message.as_bytes());
            Ok(message.len())
        }
    }

    #[test]
    fn messages_are_read_to_the_end_and_lost_ones_counted() {
        let log = collect(Messages(vec![
            Ok("6,2,315487,-;iommu: Default domain type: Translated\n SUBSYSTEM=pci\n"),
            Err(libc::EPIPE),
            Ok("6,5,5140900,-,caller=T1;pci 0000:00:03.0: Adding to iommu group 3\n"),
            Err(libc::EAGAIN),
        ]))
        .expect("a log");
        let texts: Vec<&str> = log.lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "iommu: Default domain type: Translated",
                "pci 0000:00:03.0: Adding to iommu group 3"
            ]
        );
        assert_eq!(log.lines[1].time, Duration::from_micros(5_140_900));
        assert_eq!(log.lost, 4, "two at the beginning, two between");
    }

    #[test]
    fn a_log_that_may_not_be_read_is_a_failure() {
        let error = collect(Messages(vec![Err(libc::EPERM)])).expect_err("refused");
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    }
}
