//! What a service manager is told (`sd_notify(3)`): nothing where there is none. One that does not listen holds up nothing.

use std::{
    collections::VecDeque,
    env, io,
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

/// Messages that must arrive and may wait for a manager that is busy: more are never under way by far.
const WAITING: usize = 16;

/// See the module.
pub(super) struct Service {
    /// Time between signs of life: a quarter of the longest that it bears without one.
    signs: Option<Duration>,
    last_sign: Option<Instant>,
    /// Never blocks; `None` where nobody wants to be told.
    socket: Option<UnixDatagram>,
    /// What must arrive and could not be sent yet.
    waiting: VecDeque<String>,
}

impl Service {
    /// Reads from the environment what is wanted.
    pub(super) fn new() -> Self {
        Self {
            signs: sd_notify::watchdog_enabled().map(|limit| limit / 4),
            last_sign: None,
            socket: socket().unwrap_or_else(|error| {
                tell_failure(&error);
                None
            }),
            waiting: VecDeque::new(),
        }
    }

    /// The detector runs.
    pub(super) fn ready(&mut self, detector: &DetectorInfo) {
        let status = watching(detector);
        self.tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
    }

    /// An interval ended.
    pub(super) fn interval(&mut self, snapshot: &Snapshot) {
        if self.socket.is_some() {
            // The next one says more: it does not have to arrive.
            self.send(&text(&[NotifyState::Status(&status(snapshot))]));
        }
    }

    /// The counts were fetched just now: the collection is alive.
    pub(super) fn alive(&mut self) {
        self.send_waiting();
        let Some(signs) = self.signs else { return };
        if self.last_sign.is_none_or(|last| last.elapsed() >= signs) {
            self.last_sign = Some(Instant::now());
            self.send(&text(&[NotifyState::Watchdog]));
        }
    }

    /// The configuration is about to be read again.
    pub(super) fn reloading(&mut self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(_) => self.tell(&[NotifyState::Reloading]),
        }
    }

    /// The run is about to end.
    pub(super) fn stopping(&mut self) {
        self.tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    }

    /// Sends what must arrive, now or later.
    fn tell(&mut self, what: &[NotifyState<'_>]) {
        if self.socket.is_some() && self.waiting.len() < WAITING {
            self.waiting.push_back(text(what));
            self.send_waiting();
        }
    }

    fn send_waiting(&mut self) {
        while let Some(message) = self.waiting.front().cloned()
            && self.send(&message)
        {
            self.waiting.pop_front();
        }
    }

    /// Whether the manager has it, or cannot be told anything any more; false when it is too busy now.
    fn send(&mut self, message: &str) -> bool {
        let Some(socket) = &self.socket else {
            return true;
        };
        match socket.send(message.as_bytes()) {
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) => {
                tell_failure(&error);
                self.socket = None;
                true
            }
        }
    }
}

fn tell_failure(error: &io::Error) {
    log::warn!("the service manager cannot be told anything (NOTIFY_SOCKET): {error}");
}

/// The manager's socket, that sd-notify's own calls would wait for.
fn socket() -> io::Result<Option<UnixDatagram>> {
    let Some(name) = env::var_os("NOTIFY_SOCKET") else {
        return Ok(None);
    };
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(&name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(Some(socket))
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
