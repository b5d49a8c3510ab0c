//! The view of a recording.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Result, bail};
use jiff::Timestamp;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{
    Shared, View,
    keys::Command,
    notes::Notes,
    player::{Next, Player},
    screen::Screen,
    signals::{Ends, JobControl},
};
use crate::{
    model::Snapshot,
    report::tui::{Direction, Replay, Subject},
};

/// How much faster it can go than it was recorded.
const SPEEDS: [u32; 9] = [1, 2, 5, 10, 20, 50, 100, 200, 500];

/// Where intervals are longer, or nothing was recorded for a while, it is not waited for any longer.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Snapshots passed by in one go before keys and signals are looked at.
const AT_ONCE: u64 = 200;

/// Plays `file` until the user has enough.
pub(super) async fn run(file: &Path, notes: &Notes) -> Result<()> {
    let shared = Shared::new(Subject {
        recording: Some(file.display().to_string()),
        ..Subject::default()
    });
    let mut playing = Playing::open(file, shared.clone())?;
    let mut signals = Ends::new()?;
    let mut jobs = JobControl::new()?;
    let (commands, mut asked) = mpsc::unbounded_channel();
    let mut screen = Screen::open(View {
        shared,
        notes: notes.clone(),
        commands,
        drawn: None,
    })?;
    let ended = loop {
        tokio::select! {
            biased;
            () = signals.next() => break Ok(()),
            ended = screen.ended() => break ended,
            pass_on = jobs.next() => pass_on(&screen),
            Some(command) = asked.recv() => if let Err(error) = playing.command(command) {
                break Err(error);
            },
            () = playing.due() => if let Err(error) = playing.go_on() {
                break Err(error);
            },
        }
    };
    screen.close().await;
    ended
}

/// A recording that is being played.
struct Playing {
    player: Player,
    shared: Shared,
    newest: Option<Arc<Snapshot>>,
    speed: u32,
    paused: bool,
    /// To be reached without waiting.
    target: Option<u64>,
    /// When the next snapshot is due.
    due: Instant,
    /// Read ahead, to know when it is due.
    ahead: Option<Arc<Snapshot>>,
}

impl Playing {
    /// At the first snapshot of `file`.
    fn open(file: &Path, shared: Shared) -> Result<Self> {
        let mut playing = Self {
            player: Player::open(file)?,
            shared,
            newest: None,
            speed: 1,
            paused: false,
            target: None,
            due: Instant::now(),
            ahead: None,
        };
        playing.look_ahead()?;
        if playing.ahead.is_none() {
            bail!(
                "{} holds no snapshot: the run that wrote it ended before its first interval did",
                file.display()
            );
        }
        playing.forward()?;
        playing.tell();
        Ok(playing)
    }

    /// Reads on to the next snapshot, if there is one.
    fn look_ahead(&mut self) -> Result<()> {
        while self.ahead.is_none() {
            let next = self.player.next();
            for remark in self.player.remarks() {
                log::warn!("{remark}");
            }
            match next? {
                Next::Snapshot(snapshot) => self.ahead = Some(snapshot),
                Next::Header(header) => self
                    .shared
                    .lock()
                    .set_machine(header.machine.hostname, header.machine.kernel),
                Next::End => break,
            }
        }
        Ok(())
    }

    /// Number of the snapshot shown.
    fn position(&self) -> u64 {
        self.player.position() - u64::from(self.ahead.is_some())
    }

    /// Shows the next snapshot; false at the end.
    fn forward(&mut self) -> Result<bool> {
        self.look_ahead()?;
        let Some(snapshot) = self.ahead.take() else {
            return Ok(false);
        };
        let carried = {
            let mut state = self.shared.lock();
            state.snapshot(Arc::clone(&snapshot));
            state.carried()
        };
        self.newest = Some(snapshot);
        self.player.carry(carried);
        self.look_ahead()?;
        Ok(true)
    }

    /// Returns when there is something to do.
    async fn due(&self) {
        if self.target.is_some() {
            return;
        }
        if self.paused || self.ahead.is_none() {
            return std::future::pending().await;
        }
        sleep_until(self.due).await;
    }

    /// Does what is due.
    fn go_on(&mut self) -> Result<()> {
        match self.target {
            None => {
                self.forward()?;
                self.schedule();
            }
            Some(target) => {
                let stop = target.min(self.position().saturating_add(AT_ONCE));
                while self.position() < stop {
                    if !self.forward()? {
                        self.target = None;
                        break;
                    }
                }
                if self.position() >= target {
                    self.target = None;
                }
                self.schedule();
            }
        }
        self.tell();
        Ok(())
    }

    fn schedule(&mut self) {
        let time = |snapshot: &Option<Arc<Snapshot>>| {
            snapshot
                .as_ref()
                .map_or(Timestamp::UNIX_EPOCH, |at| at.time)
        };
        let wait = time(&self.ahead).duration_since(time(&self.newest));
        let wait = wait.unsigned_abs().min(LONGEST_WAIT) / self.speed;
        self.due = Instant::now() + wait;
    }

    fn command(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Threshold(_) => {}
            Command::Play => {
                self.paused = !self.paused;
                self.schedule();
            }
            Command::Speed(direction) => {
                self.speed = next_speed(self.speed, direction);
                self.schedule();
            }
            Command::Step(by) => {
                self.paused = true;
                self.seek(
                    self.target
                        .unwrap_or(self.position())
                        .saturating_add_signed(by),
                )?;
            }
            Command::Begin => self.seek(1)?,
            Command::End => self.seek(u64::MAX)?,
        }
        self.tell();
        Ok(())
    }

    /// Goes to snapshot number `target`, or as near as there is one.
    fn seek(&mut self, target: u64) -> Result<()> {
        let target = target.max(1);
        if target < self.position() {
            let carried = self.player.rewind(target)?;
            self.ahead = None;
            self.newest = None;
            self.shared.lock().rewind(carried);
        }
        if target != self.position() {
            self.target = Some(target);
        }
        Ok(())
    }

    fn tell(&self) {
        self.shared.lock().set_replay(Replay {
            position: self.position(),
            total: self.player.total(),
            speed: self.speed,
            paused: self.paused,
            torn: self.player.torn(),
        });
    }
}

fn next_speed(now: u32, direction: Direction) -> u32 {
    let at = SPEEDS.iter().position(|speed| *speed == now).unwrap_or(0);
    let next = match direction {
        Direction::Up => at + 1,
        Direction::Down => at.saturating_sub(1),
    };
    SPEEDS.get(next).copied().unwrap_or(now)
}
