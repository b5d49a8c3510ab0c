//! Answers HTTP requests for the newest snapshot, on a thread of its own: whatever clients do or fail to do, the collection
//! goes on.

mod accept;
mod address;
mod answer;
mod gaps;
mod iommu;
mod irqsoff;
mod pages;
mod patience;
mod recent;
mod room;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    pin::pin,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    sync::oneshot,
    task::yield_now,
    time::{Instant, sleep},
};

pub use address::parse as parse_address;
pub use gaps::GapPages;
pub use iommu::IommuPage;
pub use irqsoff::IrqsoffPage;
pub use pages::Page;

use answer::Site;
use patience::Patient;
use room::Activity;

/// Bytes of a request's head, and of what is read ahead.
const HEAD: usize = 16 * 1024;
/// Header lines of a request.
const HEADERS: usize = 64;
/// Ports below this are root's, by the kernel's default.
const FIRST_FREE_PORT: u16 = 1024;
/// Pause after a connection could not be taken, for want of file descriptors for example.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// A server at work; dropping it ends it.
pub struct Server {
    address: SocketAddr,
    site: Arc<Site>,
    /// Dropped to end the thread.
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken.
    #[error(
        "cannot listen on {0}: the address is in use, perhaps by another smilat; choose another port, or find who has it \
         by: ss -tlnp 'sport = :{port}'", port = .0.port()
    )]
    InUse(SocketAddr),
    /// No interface has the address.
    #[error(
        "cannot listen on {0}: this machine has no such address; `ip -brief address` shows those it has, and a bare port \
         means loopback"
    )]
    NotHere(SocketAddr),
    /// The port is root's.
    #[error(
        "cannot listen on {0}: ports below {FIRST_FREE_PORT} take root or CAP_NET_BIND_SERVICE; choose a higher one"
    )]
    Privileged(SocketAddr),
    /// The kernel refused.
    #[error("cannot listen on {address}: {source}")]
    Refused {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The thread did not start.
    #[error("cannot start the thread that answers HTTP requests: {0}")]
    Thread(io::Error),
}

impl Server {
    /// Listens on `address` and answers from now on. A page is due every `interval`.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn start(address: SocketAddr, interval: Duration) -> Result<Self, ServeError> {
        let refused = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => ServeError::InUse(address),
            io::ErrorKind::PermissionDenied if address.port() < FIRST_FREE_PORT => {
                ServeError::Privileged(address)
            }
            io::ErrorKind::AddrNotAvailable => ServeError::NotHere(address),
            _ => ServeError::Refused { address, source },
        };
        let listener = TcpListener::bind(address).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ServeError::Thread)?;
        let site = Arc::new(Site::new(interval, Instant::now()));
        let its_site = Arc::clone(&site);
        let (end, ended) = oneshot::channel::<()>();
        let thread = thread::Builder::new()
            .name("smilat/http".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        // Either way it is over: the sender is never used, only dropped.
                        _ = ended => {}
                        failed = serve(listener, &its_site) => {
                            if let Err(error) = failed {
                                log::error!("no HTTP requests are answered any more: {error}");
                            }
                        }
                    }
                });
            })
            .map_err(ServeError::Thread)?;
        Ok(Self {
            address,
            site,
            end: Some(end),
            thread: Some(thread),
        })
    }

    /// Where it listens; the port is the real one where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers with `page` from now on.
    pub fn publish(&self, page: Arc<dyn Page>) {
        self.site.publish(page, Instant::now());
    }

    /// From now on, a page is due every `interval`.
    pub fn set_interval(&self, interval: Duration) {
        self.site.set_interval(interval, Instant::now());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.end.take());
        // It ends at its next turn, since nothing it does blocks. A panic in it has been printed.
        let _panicked = self.thread.take().map(JoinHandle::join);
    }
}

/// Takes connections for ever.
async fn serve(listener: TcpListener, site: &Arc<Site>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut told = false;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    log::warn!("an HTTP connection could not be taken: {error}");
                }
                sleep(AFTER_FAILURE).await;
                continue;
            }
        };
        let mut place = site.room.enter();
        let site = Arc::clone(site);
        // A task of its own: a panic ends this connection alone.
        tokio::spawn(async move {
            tokio::select! {
                biased;
                // Either way it has to go: the sender is never used, only dropped.
                _ = &mut place.displaced => log::debug!("an HTTP connection made room for another"),
                () = connection(stream, site, place.activity.clone()) => {}
            }
        });
        // Its turn comes before the next is taken, and perhaps its place with it: of many at once, none waits behind all others.
        yield_now().await;
    }
}

/// Answers one client until it goes, errs or takes too long.
async fn connection(stream: TcpStream, site: Arc<Site>, activity: Activity) {
    let answer = service_fn(|request| {
        let answer = site.answer(&request, Instant::now());
        async { Ok::<_, std::convert::Infallible>(answer) }
    });
    let stream = TokioIo::new(Patient::new(stream, activity));
    let connection = http1::Builder::new()
        // `Patient` sets the limits of time, of which there are more than hyper knows.
        .header_read_timeout(None)
        .max_buf_size(HEAD)
        .max_headers(HEADERS)
        .serve_connection(stream, answer);
    if let Err(error) = pin!(connection).await {
        log::debug!("an HTTP connection ended: {error}");
    }
}

#[cfg(test)]
mod tests;
