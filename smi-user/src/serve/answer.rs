//! What is answered to a request.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Body,
    header::{self, HeaderName, HeaderValue},
};
use tokio::time::Instant;

use super::{
    accept,
    pages::{Page, Pages},
    room::Room,
};
use crate::units::show;

/// How many intervals a snapshot may be overdue before the collection is called ill, and a while for busy machines.
const OVERDUE_INTERVALS: u32 = 3;
const OVERDUE: Duration = Duration::from_secs(5);

const STARTING: &str = "smilat is starting: its first interval is not over yet";
const ENDING: &str = "smilat is ending: the run is over";

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
    collected: Mutex<Collected>,
    pages: Pages,
    /// Where those are who ask.
    pub(super) room: Arc<Room>,
}

/// What came of the collection so far. Locked for moments only, so that neither it nor an answer ever waits.
struct Collected {
    newest: Option<Arc<dyn Page>>,
    /// A snapshot is due this often.
    interval: Duration,
    /// When the newest came, or the start where none did yet; by a clock that nobody sets.
    arrived: Instant,
    /// Since when the next is waited for: since then, or since another interval was set.
    waiting_since: Instant,
}

impl Site {
    /// Of a run that begins `now` and is to publish a page every `interval`.
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        Self {
            collected: Mutex::new(Collected {
                newest: None,
                interval,
                arrived: now,
                waiting_since: now,
            }),
            pages: Pages::default(),
            room: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Collected> {
        // Each change is complete before anything in it can panic.
        self.collected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes `page`, which came `now`, the newest.
    pub(super) fn publish(&self, page: Arc<dyn Page>, now: Instant) {
        let mut collected = self.lock();
        collected.newest = Some(page);
        collected.arrived = now;
        collected.waiting_since = now;
    }

    /// From `now` on, a snapshot is due every `interval`.
    pub(super) fn set_interval(&self, interval: Duration, now: Instant) {
        let mut collected = self.lock();
        collected.interval = interval;
        collected.waiting_since = now;
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
        let newest = self.lock().newest.clone();
        let why = match newest {
            None => STARTING,
            Some(page) if page.is_last() => ENDING,
            Some(page) => return self.page(headers, &page),
        };
        plain(StatusCode::SERVICE_UNAVAILABLE, why.to_owned())
    }

    fn page(&self, headers: &HeaderMap, page: &Arc<dyn Page>) -> Response<Full<Bytes>> {
        let form = accept::form(all(headers, &header::ACCEPT).as_deref());
        let gzip = accept::gzip(all(headers, &header::ACCEPT_ENCODING).as_deref());
        match self.pages.get(form, gzip, page, self.room.displaced()) {
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
        let collected = self.lock();
        let age = show(now.duration_since(collected.arrived));
        let every = show(collected.interval);
        let limit = collected
            .interval
            .saturating_mul(OVERDUE_INTERVALS)
            .saturating_add(OVERDUE);
        let overdue = now.duration_since(collected.waiting_since) > limit;
        let (status, told) = match &collected.newest {
            Some(page) if page.is_last() => (StatusCode::SERVICE_UNAVAILABLE, ENDING.to_owned()),
            Some(page) if overdue => (
                StatusCode::SERVICE_UNAVAILABLE,
                format!(
                    "no snapshot since number {}, {age} ago, though one is due every {every}",
                    page.interval()
                ),
            ),
            None if overdue => (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("no snapshot yet, {age} after the start, though one is due every {every}"),
            ),
            Some(page) => (
                StatusCode::OK,
                format!(
                    "snapshots keep coming; number {} came {age} ago",
                    page.interval()
                ),
            ),
            None => (StatusCode::OK, STARTING.to_owned()),
        };
        plain(status, told)
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
    use crate::report::prometheus::{EncodeError, Form};

    /// The second of a run, with nothing on it.
    struct Second;

    impl Page for Second {
        fn interval(&self) -> u64 {
            2
        }

        fn is_last(&self) -> bool {
            false
        }

        fn encode(&self, _: Form, _: u64) -> Result<Bytes, EncodeError> {
            Ok(Bytes::new())
        }
    }

    struct Lab {
        site: Site,
        began: Instant,
    }

    impl Lab {
        fn new() -> Self {
            let began = Instant::now();
            Self {
                site: Site::new(Duration::from_secs(1), began),
                began,
            }
        }

        /// A moment of the run.
        fn at(&self, ms: u64) -> Instant {
            self.began + Duration::from_millis(ms)
        }

        fn health(&self, ms: u64) -> (u16, String) {
            let request = Request::get("/healthz").body(Empty::<Bytes>::new());
            let answer = self.site.answer(&request.expect("a request"), self.at(ms));
            let status = answer.status().as_u16();
            let body = tokio::runtime::Builder::new_current_thread()
                .build()
                .expect("a runtime")
                .block_on(answer.into_body().collect());
            let body = body.expect("a body").to_bytes().to_vec();
            (status, String::from_utf8(body).expect("UTF-8"))
        }
    }

    #[test]
    fn a_collection_that_stands_still_is_ill() {
        let lab = Lab::new();
        lab.site.publish(Arc::new(Second), lab.at(1_000));
        assert_eq!(lab.health(9_000).0, 200);
        let (status, why) = lab.health(9_001);
        assert_eq!(status, 503);
        assert_eq!(
            why,
            "no snapshot since number 2, 8.00 s ago, though one is due every 1.00 s\n"
        );
        lab.site.publish(Arc::new(Second), lab.at(9_002));
        assert_eq!(lab.health(9_003).0, 200);
    }

    #[test]
    fn a_start_is_well_until_the_first_snapshot_is_overdue() {
        let lab = Lab::new();
        assert_eq!(
            lab.health(8_000),
            (
                200,
                "smilat is starting: its first interval is not over yet\n".to_owned()
            )
        );
        let (status, why) = lab.health(8_001);
        assert_eq!(status, 503);
        assert_eq!(
            why,
            "no snapshot yet, 8.00 s after the start, though one is due every 1.00 s\n"
        );
    }

    #[test]
    fn another_interval_is_another_measure_of_health() {
        let lab = Lab::new();
        lab.site.publish(Arc::new(Second), lab.at(0));
        lab.site.set_interval(Duration::from_mins(1), lab.at(1_000));
        assert_eq!(lab.health(180_000).0, 200, "one a minute, and it is well");
        assert_eq!(lab.health(186_001).0, 503);

        // A minute without one was no fault before the interval became short.
        lab.site.publish(Arc::new(Second), lab.at(190_000));
        lab.site
            .set_interval(Duration::from_secs(1), lab.at(240_000));
        assert_eq!(lab.health(248_000).0, 200);
        let (status, why) = lab.health(248_001);
        assert_eq!(status, 503, "a hang is noticed by the new interval");
        assert!(why.ends_with("though one is due every 1.00 s\n"), "{why}");
    }
}
