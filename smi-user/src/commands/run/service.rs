//! What a service manager is told (`sd_notify(3)`): nothing where there is none. One that does not listen holds up nothing.

use std::{
    collections::VecDeque,
    env,
    ffi::OsString,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::{Duration, Instant},
};

use sd_notify::NotifyState;

use crate::{
    model::{DetectorInfo, Snapshot},
    units::show_ns,
};

/// Time between two accounts of the gaps so far, however short the interval: each wakes the service manager up, which is
/// the first process of the machine. A little below a second, so that intervals of one second have one each.
const BETWEEN_ACCOUNTS: Duration = Duration::from_millis(950);

/// See the module.
pub(super) struct Service {
    /// Time between signs of life: a quarter of the longest that it bears without one.
    signs: Option<Duration>,
    last_sign: Option<Instant>,
    last_account: Option<Instant>,
    manager: Manager,
    /// What must arrive and could not be sent yet, the newest of each kind.
    waiting: VecDeque<(Kind, String)>,
}

/// What the manager must learn of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ready,
    Reloading,
    Stopping,
}

impl Service {
    /// Reads from the environment what is wanted.
    pub(super) fn new() -> Self {
        Self::of(
            env::var_os("NOTIFY_SOCKET"),
            sd_notify::watchdog_enabled().map(|limit| limit / 4),
        )
    }

    fn of(name: Option<OsString>, signs: Option<Duration>) -> Self {
        Self {
            signs,
            last_sign: None,
            last_account: None,
            manager: Manager {
                name,
                socket: None,
                told_failure: false,
            },
            waiting: VecDeque::new(),
        }
    }

    /// The detector runs.
    pub(super) fn ready(&mut self, detector: &DetectorInfo) {
        let status = watching(detector);
        self.tell(
            Kind::Ready,
            &[NotifyState::Ready, NotifyState::Status(&status)],
        );
    }

    /// An interval ended.
    pub(super) fn interval(&mut self, snapshot: &Snapshot) {
        let recently = |last: Instant| last.elapsed() < BETWEEN_ACCOUNTS;
        // Before what waits, it would be overwritten by what is older.
        if self.manager.name.is_none()
            || !self.waiting.is_empty()
            || self.last_account.is_some_and(recently)
        {
            return;
        }
        // The next one says more: it does not have to arrive.
        self.manager
            .send(&text(&[NotifyState::Status(&status(snapshot))]));
        self.last_account = Some(Instant::now());
    }

    /// The counts were fetched just now: the collection is alive.
    pub(super) fn alive(&mut self) {
        self.send_waiting();
        let Some(signs) = self.signs else { return };
        if self.last_sign.is_none_or(|last| last.elapsed() >= signs)
            && self.manager.send(&text(&[NotifyState::Watchdog]))
        {
            self.last_sign = Some(Instant::now());
        }
    }

    /// The configuration is about to be read again.
    pub(super) fn reloading(&mut self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(Kind::Reloading, &[NotifyState::Reloading, now]),
            Err(_) => self.tell(Kind::Reloading, &[NotifyState::Reloading]),
        }
    }

    /// The run is about to end.
    pub(super) fn stopping(&mut self) {
        self.tell(
            Kind::Stopping,
            &[NotifyState::Stopping, NotifyState::Status("stopping")],
        );
    }

    /// Sends what must arrive, now or later.
    fn tell(&mut self, kind: Kind, what: &[NotifyState<'_>]) {
        if self.manager.name.is_none() {
            return;
        }
        // The newest of a kind says all that those before it did, so what waits stays little however long it has to.
        self.waiting.retain(|(waiting, _)| *waiting != kind);
        self.waiting.push_back((kind, text(what)));
        self.send_waiting();
    }

    fn send_waiting(&mut self) {
        while let Some((_, message)) = self.waiting.front()
            && self.manager.send(message)
        {
            self.waiting.pop_front();
        }
    }
}

/// The way to the service manager, which sd-notify's own calls would wait for.
struct Manager {
    /// `NOTIFY_SOCKET`; `None` where nobody wants to be told.
    name: Option<OsString>,
    /// Never blocks. `None` until it is connected, and after a failure: the manager may have made its socket anew.
    socket: Option<UnixDatagram>,
    told_failure: bool,
}

impl Manager {
    /// Whether it has the message.
    fn send(&mut self, message: &str) -> bool {
        match self.try_send(message) {
            Ok(()) => return true,
            // It is busy; all is well with the socket.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) => self.tell_failure(&error),
        }
        // A socket that was made anew takes it at once; what it cannot take now is tried again with the next message.
        self.socket = None;
        self.try_send(message).is_ok()
    }

    fn try_send(&mut self, message: &str) -> io::Result<()> {
        let Some(name) = &self.name else {
            return Ok(());
        };
        let socket = match &mut self.socket {
            Some(socket) => socket,
            none => none.insert(connected(name)?),
        };
        socket.send(message.as_bytes()).map(|_| ())
    }

    /// Once: it may well go on for days.
    fn tell_failure(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.told_failure, true) {
            log::warn!(
                "the service manager cannot be told anything now, and is tried again (NOTIFY_SOCKET): {error}"
            );
        }
    }
}

fn connected(name: &OsString) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

fn text(what: &[NotifyState<'_>]) -> String {
    let lines: Vec<String> = what.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

fn watching(detector: &DetectorInfo) -> String {
    format!(
        "watching CPU {} by {}, threshold {}",
        detector.cpus,
        detector.name,
        show_ns(detector.threshold_ns as f64)
    )
}

fn status(snapshot: &Snapshot) -> String {
    let total = snapshot.total();
    let longest = total.max_ns.map_or_else(String::new, |ns| {
        format!(", longest {}", show_ns(ns as f64))
    });
    format!(
        "{}: {} gaps in {} of exposure{longest}",
        watching(&snapshot.detector),
        total.count,
        show_ns(total.exposure_ns as f64),
    )
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    fn manager(path: &Path) -> UnixDatagram {
        let socket = UnixDatagram::bind(path).expect("a socket");
        socket.set_nonblocking(true).expect("a socket");
        socket
    }

    /// All that waits to be read.
    fn told(socket: &UnixDatagram) -> Vec<String> {
        let mut all = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(length) = socket.recv(&mut buffer) {
            all.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        all
    }

    fn tell_ready(service: &mut Service) {
        service.tell(Kind::Ready, &[NotifyState::Ready]);
    }

    #[test]
    fn a_manager_that_was_away_is_told_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let before = manager(&path);
        let mut service = Service::of(Some(path.clone().into()), Some(Duration::ZERO));
        tell_ready(&mut service);
        service.alive();
        assert_eq!(told(&before), ["READY=1", "WATCHDOG=1"]);
        // As systemd does when it executes itself anew.
        drop(before);
        fs::remove_file(&path).expect("removed");
        service.alive();
        service.reloading();
        tell_ready(&mut service);
        service.alive();
        let after = manager(&path);
        service.alive();
        let told = told(&after);
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].starts_with("RELOADING=1"), "{told:?}");
        assert_eq!(told[1..], ["READY=1", "WATCHDOG=1"]);
        // And one that was made anew between two messages misses none.
        drop(after);
        fs::remove_file(&path).expect("removed");
        let anew = manager(&path);
        service.alive();
        assert_eq!(super::tests::told(&anew), ["WATCHDOG=1"]);
    }

    #[test]
    fn however_long_it_is_busy_the_last_word_is_ready() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let socket = manager(&path);
        let mut service = Service::of(Some(path.into()), None);
        for _ in 0..10_000 {
            service.reloading();
            tell_ready(&mut service);
        }
        assert!(!service.waiting.is_empty() && service.waiting.len() <= 3);
        let _full = told(&socket);
        // A socket has room for fewer than it takes all in all.
        service.alive();
        let last = told(&socket);
        assert!(service.waiting.is_empty());
        assert_eq!(last.last().map(String::as_str), Some("READY=1"));
        assert!(
            last.iter()
                .any(|message| message.starts_with("RELOADING=1")),
            "{last:?}"
        );
    }

    #[test]
    fn without_a_manager_nothing_waits() {
        let mut service = Service::of(None, Some(Duration::ZERO));
        service.reloading();
        tell_ready(&mut service);
        service.alive();
        assert!(service.waiting.is_empty());
    }
}
