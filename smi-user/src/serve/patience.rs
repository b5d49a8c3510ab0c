//! A connection that is closed when its client takes too long, whatever it is slow at.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use super::room::Activity;

/// From the first byte of a request to the last of its answer, and from connecting to a request.
const EXCHANGE: Duration = Duration::from_secs(10);
/// From an answer to the next request: longer than anyone's scrape interval.
const IDLE: Duration = Duration::from_mins(3);

/// `T`, within these times.
///
/// One limit for a whole exchange rather than one for each of its steps: who sends or takes a byte now and then would
/// meet each of those for ever.
pub(super) struct Patient<T> {
    stream: T,
    until: Pin<Box<Sleep>>,
    state: State,
    activity: Activity,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The client's turn to ask.
    Idle,
    /// A request is coming in or being answered.
    Asked,
    /// An answer is going out.
    Answering,
}

impl<T> Patient<T> {
    /// Just connected; what it does is noted in `activity`.
    pub(super) fn new(stream: T, activity: Activity) -> Self {
        Self {
            stream,
            until: Box::pin(sleep(EXCHANGE)),
            state: State::Idle,
            activity,
        }
    }

    fn enter(&mut self, state: State, time: Duration) {
        self.state = state;
        self.activity.begins(state != State::Idle);
        self.until.as_mut().reset(Instant::now() + time);
    }

    /// Errs once time is over. Has the task woken when it will be.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.until.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }

    fn answering(&mut self) {
        if self.state == State::Idle {
            self.enter(State::Answering, EXCHANGE);
        }
        self.state = State::Answering;
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Patient<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        let before = buffer.filled().len();
        let done = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if self.state == State::Idle && buffer.filled().len() > before {
            self.enter(State::Asked, EXCHANGE);
            self.check(cx)?;
        }
        done
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Patient<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.answering();
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.answering();
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when it has written an answer whole, and only then does this find something written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        let done = Pin::new(&mut self.stream).poll_flush(cx);
        if self.state == State::Answering && done.is_ready() {
            self.enter(State::Idle, IDLE);
            self.check(cx)?;
        }
        done
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    fn on_a_clock_of_its_own(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime")
            .block_on(test);
    }

    #[test]
    fn a_byte_now_and_then_buys_no_time() {
        on_a_clock_of_its_own(async {
            let (mut client, server) = duplex(64);
            let mut server = Patient::new(server, Activity::new());
            tokio::spawn(async move {
                while client.write_all(b"x").await.is_ok() {
                    sleep(EXCHANGE / 8).await;
                }
            });
            let began = Instant::now();
            let mut all = Vec::new();
            let error = server.read_to_end(&mut all).await.expect_err("in time");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert_eq!(began.elapsed().as_secs(), EXCHANGE.as_secs());
            assert!(all.len() >= 8);
        });
    }

    #[test]
    fn an_answer_that_is_not_taken_is_given_up() {
        on_a_clock_of_its_own(async {
            let (_client, server) = duplex(64);
            let mut server = Patient::new(server, Activity::new());
            let error = server.write_all(&[0; 65]).await.expect_err("nobody reads");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        });
    }

    #[test]
    fn between_requests_there_is_more_time() {
        on_a_clock_of_its_own(async {
            let (mut client, server) = duplex(64);
            let mut server = Patient::new(server, Activity::new());
            for _ in 0..3 {
                client.write_all(b"ask").await.expect("sent");
                let mut asked = [0; 3];
                server.read_exact(&mut asked).await.expect("in time");
                server.write_all(b"told").await.expect("sent");
                server.flush().await.expect("sent");
                let mut told = [0; 4];
                client.read_exact(&mut told).await.expect("told");
                sleep(IDLE / 2).await;
            }
            let error = server.read_u8().await.expect_err("nothing comes");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        });
    }
}
