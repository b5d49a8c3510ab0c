//! What is answered to a request.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Body,
    header::{self, HeaderName, HeaderValue},
};
use tokio::{net::TcpStream, sync::watch, time::Instant};

use super::{accept, pages::Pages};
use crate::{model::Snapshot, report::prometheus::About, units::show};

/// How many intervals a snapshot may be overdue before the collection is called ill, and a while for busy machines.
const OVERDUE_INTERVALS: u32 = 3;
const OVERDUE: Duration = Duration::from_secs(5);

const PLAIN: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

const START_PAGE: &str = concat!(
    "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>smilat</title>\n<h1>smilat ",
    env!("CARGO_PKG_VERSION"),
    "</h1>\n<p>Finds the time that firmware and hardware steal from Linux.</p>\n<ul>\n",
    "<li><a href=\"/metrics\">/metrics</a>: the newest snapshot, for Prometheus</li>\n",
    "<li><a href=\"/healthz\">/healthz</a>: whether snapshots keep coming</li>\n</ul>\n</html>\n"
);

/// What is served.
pub(super) struct Site {
    about: About,
    interval: Duration,
    newest: watch::Receiver<Option<Arc<Snapshot>>>,
    /// When the newest came, by a clock that nobody sets.
    arrived: Mutex<Option<Instant>>,
    refused: AtomicU64,
    pages: Pages,
}

/// Notes when snapshots come, until no more can.
pub(super) async fn note_arrivals(site: Arc<Site>) {
    let mut newest = site.newest.clone();
    while newest.changed().await.is_ok() {
        let mut arrived = site.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        *arrived = Some(Instant::now());
    }
}

impl Site {
    pub(super) fn new(
        about: About,
        interval: Duration,
        newest: watch::Receiver<Option<Arc<Snapshot>>>,
    ) -> Self {
        Self {
            about,
            interval,
            newest,
            arrived: Mutex::default(),
            refused: AtomicU64::new(0),
            pages: Pages::default(),
        }
    }

    /// Closes a connection for which there is no room, and counts it.
    pub(super) fn refuse(&self, stream: TcpStream) {
        drop(stream);
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// The answer to `request`, which came `now`.
    pub(super) fn answer<B: Body>(
        &self,
        request: &Request<B>,
        now: Instant,
    ) -> Response<Full<Bytes>> {
        if !request.body().is_end_stream() {
            return closing(plain(
                StatusCode::PAYLOAD_TOO_LARGE,
                "a request needs no body here, and none is read".to_owned(),
            ));
        }
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            let mut answer = plain(
                StatusCode::METHOD_NOT_ALLOWED,
                format!("{} is not done here, only GET and HEAD", request.method()),
            );
            set(&mut answer, header::ALLOW, "GET, HEAD");
            return closing(answer);
        }
        match request.uri().path() {
            "/metrics" => self.metrics(request.headers()),
            "/healthz" => self.health(now),
            "/" => with_type(StatusCode::OK, HTML, START_PAGE.into()),
            _ => plain(
                StatusCode::NOT_FOUND,
                "there is nothing here; /metrics, /healthz and / there are".to_owned(),
            ),
        }
    }

    fn metrics(&self, headers: &HeaderMap) -> Response<Full<Bytes>> {
        let snapshot = match self.snapshot() {
            Ok(snapshot) => snapshot,
            Err(why) => return plain(StatusCode::SERVICE_UNAVAILABLE, why.to_owned()),
        };
        let form = accept::form(all(headers, &header::ACCEPT).as_deref());
        let gzip = accept::gzip(all(headers, &header::ACCEPT_ENCODING).as_deref());
        let refused = self.refused.load(Ordering::Relaxed);
        match self.pages.get(form, gzip, &snapshot, &self.about, refused) {
            Ok(page) => {
                let mut answer = with_type(StatusCode::OK, form.content_type(), page);
                set(&mut answer, header::VARY, "Accept, Accept-Encoding");
                if gzip {
                    set(&mut answer, header::CONTENT_ENCODING, "gzip");
                }
                answer
            }
            Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }

    fn health(&self, now: Instant) -> Response<Full<Bytes>> {
        let arrived = *self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = OVERDUE_INTERVALS * self.interval + OVERDUE;
        let health = self.snapshot().map(|snapshot| {
            // Its arrival may not have been noted yet.
            let age = arrived.map_or(Duration::ZERO, |arrived| now.duration_since(arrived));
            (snapshot.interval, age)
        });
        match health {
            Ok((interval, age)) if age <= limit => plain(
                StatusCode::OK,
                format!(
                    "snapshots keep coming; number {interval} came {} ago",
                    show(age)
                ),
            ),
            Ok((interval, age)) => plain(
                StatusCode::SERVICE_UNAVAILABLE,
                format!(
                    "no snapshot since number {interval}, {} ago, though one is due every {}",
                    show(age),
                    show(self.interval)
                ),
            ),
            Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, why.to_owned()),
        }
    }

    /// The newest snapshot, or why there is none to tell.
    fn snapshot(&self) -> Result<Arc<Snapshot>, &'static str> {
        let newest = self.newest.borrow().clone();
        match newest {
            None => Err("smilat is starting: its first interval is not over yet"),
            Some(snapshot) if snapshot.last => Err("smilat is ending: the run is over"),
            Some(snapshot) => Ok(snapshot),
        }
    }
}

/// All of a header's values, as one. `None` where it is absent, or no text.
fn all(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Vec<&str> = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    (!values.is_empty()).then(|| values.join(","))
}

fn plain(status: StatusCode, mut sentence: String) -> Response<Full<Bytes>> {
    sentence.push('\n');
    with_type(status, PLAIN, sentence.into())
}

fn with_type(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    set(&mut answer, header::CONTENT_TYPE, kind);
    set(&mut answer, header::CACHE_CONTROL, "no-store");
    set(&mut answer, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    answer
}

/// Has the connection closed after `answer`, with whatever else the client sent on it.
fn closing(mut answer: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    set(&mut answer, header::CONNECTION, "close");
    answer
}

fn set(answer: &mut Response<Full<Bytes>>, name: HeaderName, value: &'static str) {
    answer
        .headers_mut()
        .insert(name, HeaderValue::from_static(value));
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Empty};

    use super::*;
    use crate::report::prometheus::tests::snapshot;

    #[test]
    fn a_collection_that_stands_still_is_ill() {
        let (newest, to_export) = watch::channel(Some(Arc::new(snapshot())));
        let about = About {
            started: jiff::Timestamp::now(),
            hardlimit: None,
            per_cpu_histograms: false,
        };
        let site = Site::new(about, Duration::from_secs(1), to_export);
        let arrived = Instant::now();
        *site.arrived.lock().expect("not poisoned") = Some(arrived);
        let health = |age: Duration| {
            let request = Request::get("/healthz").body(Empty::<Bytes>::new());
            let answer = site.answer(&request.expect("a request"), arrived + age);
            let status = answer.status().as_u16();
            let body = tokio::runtime::Builder::new_current_thread()
                .build()
                .expect("a runtime")
                .block_on(answer.into_body().collect());
            let body = body.expect("a body").to_bytes().to_vec();
            (status, String::from_utf8(body).expect("UTF-8"))
        };
        assert_eq!(health(Duration::from_secs(8)).0, 200);
        let (status, why) = health(Duration::from_millis(8_001));
        assert_eq!(status, 503);
        assert_eq!(
            why,
            "no snapshot since number 2, 8.00 s ago, though one is due every 1.00 s\n"
        );
        drop(newest);
    }
}
