//! What may be behind a refusal of the kernel's to run BPF or perf events, and what would help.

use super::{perf::paranoid, process};

/// What to tell people about the system's error number; `None` where nothing more is known. The process must have
/// the capabilities.
pub fn hint(errno: Option<i32>) -> Option<String> {
    Some(match errno? {
        libc::EACCES if let Some(reason) = paranoid::in_the_way() => {
            format!("{reason}; {}", paranoid::REMEDY)
        }
        libc::EPERM | libc::EACCES => match process::lockdown() {
            Some(mode) => format!(
                "the kernel is locked down ({mode}); boot it with lockdown=none, or with Secure Boot off"
            ),
            None => "a security policy refuses it although the capabilities are there: in a container, allow the \
                     system calls bpf and perf_event_open, or run smilat on the host"
                .to_owned(),
        },
        libc::ENOSYS => {
            "this kernel has no BPF; it needs CONFIG_BPF_SYSCALL=y and CONFIG_PERF_EVENTS=y".to_owned()
        }
        libc::EINVAL => {
            "this kernel lacks something the program needs, although its version has it; run smilat run -v for the \
             verifier's words, and see whether it has CONFIG_BPF_EVENTS=y"
                .to_owned()
        }
        _ => return None,
    })
}
