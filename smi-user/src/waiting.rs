//! What waits for a slow writer: bounded in number and in bytes, so that a disk or a reader that stands still costs what
//! waits for it, and no memory beyond that.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::mpsc;

/// How many may wait.
const ITEMS: usize = 64;
/// How many bytes they may have together. A snapshot of the largest machines has some ten million.
const BYTES: usize = 64 << 20;

/// The end of a queue that never waits.
pub(crate) struct Queue<T> {
    items: mpsc::Sender<(T, usize)>,
    bytes: Arc<AtomicUsize>,
}

/// The end that a writer on a thread of its own has.
pub(crate) struct Waiting<T> {
    items: mpsc::Receiver<(T, usize)>,
    bytes: Arc<AtomicUsize>,
    /// Those of what is being written.
    held: usize,
}

/// What became of something handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It waits, or is being written.
    Taken,
    /// Too much waits already.
    Full,
    /// The writer has ended.
    Closed,
}

/// A queue with nothing in it.
pub(crate) fn queue<T>() -> (Queue<T>, Waiting<T>) {
    let (to, from) = mpsc::channel(ITEMS);
    let bytes = Arc::new(AtomicUsize::new(0));
    let queue = Queue {
        items: to,
        bytes: Arc::clone(&bytes),
    };
    let waiting = Waiting {
        items: from,
        bytes,
        held: 0,
    };
    (queue, waiting)
}

impl<T> Queue<T> {
    /// Hands over `item` of so many `bytes`. One that has nobody to wait for is taken whatever its length.
    pub(crate) fn send(&self, item: T, bytes: usize) -> Sent {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let sent = if self.items.is_closed() {
            Sent::Closed
        } else if before > 0 && before.saturating_add(bytes) > BYTES {
            Sent::Full
        } else {
            match self.items.try_send((item, bytes)) {
                Ok(()) => Sent::Taken,
                Err(mpsc::error::TrySendError::Full(_)) => Sent::Full,
                Err(mpsc::error::TrySendError::Closed(_)) => Sent::Closed,
            }
        };
        if sent != Sent::Taken {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        sent
    }

    /// Hands over the last item, however long the writer takes.
    pub(crate) async fn send_last(self, item: T) {
        // Refused only when the writer has ended; its outcome says why.
        let _refused = self.items.send((item, 0)).await;
    }

    /// Whether there is room for a good while: half of what may wait.
    pub(crate) fn is_at_ease(&self) -> bool {
        self.items.capacity() >= ITEMS / 2 && self.bytes.load(Ordering::Relaxed) <= BYTES / 2
    }
}

impl<T> Waiting<T> {
    /// The next item, which counts as waiting until the one after it is asked for; `None` after the last.
    pub(crate) fn next(&mut self) -> Option<T> {
        self.bytes.fetch_sub(self.held, Ordering::Relaxed);
        self.held = 0;
        let (item, bytes) = self.items.blocking_recv()?;
        self.held = bytes;
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_wait_and_no_more() {
        let (queue, mut waiting) = queue();
        for number in 0..ITEMS {
            assert_eq!(queue.send(number, 1), Sent::Taken);
        }
        assert_eq!(queue.send(ITEMS, 1), Sent::Full);
        assert!(!queue.is_at_ease());
        assert_eq!(waiting.next(), Some(0));
        assert_eq!(queue.send(ITEMS, 1), Sent::Taken);
        drop(waiting);
        assert_eq!(queue.send(0, 1), Sent::Closed);
    }

    #[test]
    fn so_many_bytes_wait_and_no_more_but_one_alone_always() {
        let (queue, mut waiting) = queue();
        assert_eq!(queue.send('a', BYTES + 1), Sent::Taken);
        assert_eq!(queue.send('b', 1), Sent::Full);
        assert_eq!(waiting.next(), Some('a'));
        // It is being written.
        assert_eq!(queue.send('b', 1), Sent::Full);
        drop(queue);
        assert_eq!(waiting.next(), None);

        let (queue, mut waiting) = super::queue();
        assert_eq!(queue.send('a', BYTES - 1), Sent::Taken);
        assert_eq!(queue.send('b', 1), Sent::Taken);
        assert_eq!(queue.send('c', 1), Sent::Full);
        assert!(!queue.is_at_ease());
        assert_eq!((waiting.next(), waiting.next()), (Some('a'), Some('b')));
        assert!(queue.is_at_ease());
        assert_eq!(queue.send('c', BYTES - 1), Sent::Taken);
    }
}
