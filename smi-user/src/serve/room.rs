//! The connections that are open, at most [`ROOM`]. When there is no room for another, the one idle longest is closed: who
//! opens connections and leaves them open keeps nobody out.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{sync::oneshot, time::Instant};

/// Connections open at a time. A Prometheus has one.
pub(super) const ROOM: usize = 64;

/// Whether a connection waits for its client to ask, and since when it does that, or is busy.
#[derive(Clone)]
pub(super) struct Activity(Arc<Mutex<Since>>);

/// Sorts as connections are closed: first those that idle, of them the one that has for longest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Since {
    busy: bool,
    since: Instant,
}

impl Activity {
    /// Of a connection that has just been made.
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Since {
            busy: false,
            since: Instant::now(),
        })))
    }

    /// Notes that it begins to idle, or to be busy, now.
    pub(super) fn begins(&self, busy: bool) {
        *self.lock() = Since {
            busy,
            since: Instant::now(),
        };
    }

    fn lock(&self) -> MutexGuard<'_, Since> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Room {
    open: Mutex<Open>,
    displaced: AtomicU64,
}

#[derive(Default)]
struct Open {
    entered: u64,
    /// Dropping the sender closes the connection.
    connections: BTreeMap<u64, (Activity, oneshot::Sender<()>)>,
}

/// A connection's place in the room; dropping it leaves.
pub(super) struct Place {
    room: Arc<Room>,
    number: u64,
    /// To be kept up to date.
    pub(super) activity: Activity,
    /// Ends when another connection takes the place.
    pub(super) displaced: oneshot::Receiver<()>,
}

impl Room {
    /// Makes room for a connection.
    pub(super) fn enter(self: &Arc<Self>) -> Place {
        let mut open = self.lock();
        if open.connections.len() >= ROOM {
            let idlest = open
                .connections
                .iter()
                .map(|(number, (activity, _))| (*activity.lock(), *number))
                .min();
            if let Some((_, number)) = idlest {
                open.connections.remove(&number);
                self.displaced.fetch_add(1, Ordering::Relaxed);
            }
        }
        let number = open.entered;
        open.entered += 1;
        let activity = Activity::new();
        let (end, displaced) = oneshot::channel();
        open.connections.insert(number, (activity.clone(), end));
        Place {
            room: Arc::clone(self),
            number,
            activity,
            displaced,
        }
    }

    /// How many connections made room for others so far.
    pub(super) fn displaced(&self) -> u64 {
        self.displaced.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // Each change is complete before anything in it can panic.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.lock().connections.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_idle_longest_makes_room_and_busy_ones_only_where_none_is_idle() {
        let room = Arc::new(Room::default());
        let mut places: Vec<Place> = (0..ROOM).map(|_| room.enter()).collect();
        let gone = |place: &mut Place| {
            place
                .displaced
                .try_recv()
                .is_err_and(|error| error == oneshot::error::TryRecvError::Closed)
        };
        // All but two are asking; the later of the two has idled for longer.
        for place in &places {
            place.activity.begins(true);
        }
        places[40].activity.begins(false);
        places[7].activity.begins(false);
        let mut third = room.enter();
        assert!(gone(&mut places[40]));
        let fourth = room.enter();
        assert!(gone(&mut places[7]));
        fourth.activity.begins(true);
        let fifth = room.enter();
        assert!(gone(&mut third), "it idled still");
        assert!(
            !places
                .iter_mut()
                .enumerate()
                .any(|(i, place)| i != 40 && i != 7 && gone(place))
        );
        assert_eq!(room.displaced(), 3);
        fifth.activity.begins(true);
        let mut sixth = room.enter();
        assert!(
            gone(&mut places[0]),
            "the one that has been busy for longest"
        );
        assert!(!gone(&mut sixth));
        assert_eq!(room.displaced(), 4);

        // Whoever leaves makes room for another.
        places.truncate(50);
        let others: Vec<Place> = (0..10).map(|_| room.enter()).collect();
        assert_eq!((others.len(), room.displaced()), (10, 4));
    }
}
