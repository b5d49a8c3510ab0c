//! Where to push, and one attempt at it.

use std::{
    fmt,
    io::Write as _,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use thiserror::Error;
use ureq::{
    Agent,
    http::Uri,
    tls::{Certificate, RootCerts, TlsConfig},
};

use super::{
    answer::{self, Answer},
    headers::Headers,
};

/// Where OTLP's metrics go by its specification.
const PATH: &str = "/v1/metrics";
/// OTLP's port for gRPC, which is not spoken here.
const GRPC_PORT: u16 = 4317;
/// No answer worth reading is longer.
const LONGEST_ANSWER: u64 = 64 * 1024;

/// An address that nothing can be pushed to.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum EndpointError {
    /// Not a URL.
    #[error("not a URL ({0}); write http://HOST:4318 or https://HOST/PATH")]
    NotAUrl(String),
    /// Another protocol, or none.
    #[error("only http:// and https:// can be pushed to; write http://HOST:4318")]
    Scheme,
    /// User name and password in the address.
    #[error(
        "a URL is seen by every user of the machine (ps); leave out what stands before the @ and give it by \
         --otlp-header @FILE with the line Authorization=Basic ..."
    )]
    Secret,
    /// A port that speaks something else.
    #[error(
        "4317 is OTLP's port for gRPC, and this is OTLP over HTTP; its port is 4318 where nobody changed it"
    )]
    Grpc,
}

/// Where to push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    url: String,
    headers: Headers,
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uri: Uri = text.parse().map_err(|error: ureq::http::uri::InvalidUri| {
            EndpointError::NotAUrl(error.to_string())
        })?;
        if !["http", "https"].contains(&uri.scheme_str().unwrap_or_default()) {
            return Err(EndpointError::Scheme);
        }
        let authority = uri
            .authority()
            .ok_or_else(|| EndpointError::NotAUrl("no host".to_owned()))?;
        if authority.as_str().contains('@') {
            return Err(EndpointError::Secret);
        }
        if authority.host().is_empty() {
            return Err(EndpointError::NotAUrl("no host".to_owned()));
        }
        if authority.as_str() != authority.host() && authority.port_u16().is_none() {
            let reason = "after the : comes no port, 1 to 65535".to_owned();
            return Err(EndpointError::NotAUrl(reason));
        }
        if uri.port_u16() == Some(GRPC_PORT) {
            return Err(EndpointError::Grpc);
        }
        let bare = uri.path_and_query().is_none_or(|path| path == "/");
        let url = if bare {
            format!("{}{PATH}", text.trim_end_matches('/'))
        } else {
            text.to_owned()
        };
        Ok(Self {
            url,
            headers: Headers::default(),
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.url)
    }
}

impl Endpoint {
    /// With these headers in every request.
    #[must_use]
    pub fn with_headers(self, headers: Headers) -> Self {
        Self { headers, ..self }
    }

    /// What attempts are made with. Nothing is sent yet.
    pub(super) fn connect(self) -> Connection {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // A redirection would take the headers, and the secrets in them, to another place.
            .max_redirects(0)
            .user_agent(concat!("smilat/", env!("CARGO_PKG_VERSION")));
        if self.url.starts_with("https:") {
            let tls = TlsConfig::builder().root_certs(roots()).build();
            config = config.tls_config(tls);
        }
        Connection {
            url: self.url,
            headers: Mutex::new(self.headers),
            agent: config.build().into(),
        }
    }
}

/// The machine's certificate authorities (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others), or Mozilla's, which are built
/// in, where it has none.
fn roots() -> RootCerts {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        log::warn!("a certificate authority of this machine's cannot be used: {error}");
    }
    if found.certs.is_empty() {
        log::warn!("this machine has no certificate authorities, Mozilla's are used");
        return RootCerts::WebPki;
    }
    let certificates = found
        .certs
        .iter()
        .map(|one| Certificate::from_der(one).to_owned());
    RootCerts::Specific(Arc::new(certificates.collect()))
}

/// Attempts to push.
pub(super) struct Connection {
    url: String,
    headers: Mutex<Headers>,
    agent: Agent,
}

impl Connection {
    /// Where to.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Has these headers in every request from now on.
    pub(super) fn set_headers(&self, headers: Headers) {
        *self.headers.lock().unwrap_or_else(PoisonError::into_inner) = headers;
    }

    fn headers(&self) -> Headers {
        let headers = self.headers.lock();
        headers.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends `body`, a request in protobuf, and waits for the answer no longer than `patience`.
    pub(super) fn send(&self, body: &[u8], patience: Duration) -> Answer {
        let packed = match gzip(body) {
            Ok(packed) => packed,
            Err(error) => {
                return Answer::Refused {
                    why: format!("cannot compress it: {error}"),
                };
            }
        };
        let mut request = self
            .agent
            .post(self.url())
            .config()
            .timeout_global(Some(patience))
            .build()
            .content_type("application/x-protobuf")
            .header("content-encoding", "gzip");
        for header in self.headers().iter() {
            request = request.header(header.name(), header.value());
        }
        match request.send(packed.as_slice()) {
            Ok(mut response) => {
                let body = response
                    .body_mut()
                    .with_config()
                    .limit(LONGEST_ANSWER)
                    .read_to_vec();
                match body {
                    Ok(body) => answer::of(response.status(), response.headers(), &body),
                    // Whatever else it said is lost; the status alone tells what to do.
                    Err(_) => answer::of(response.status(), response.headers(), &[]),
                }
            }
            Err(error) => answer::without(&error),
        }
    }
}

fn gzip(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::default());
    packer.write_all(body)?;
    packer.finish()
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Read as _},
        net::TcpListener,
        thread,
    };

    use super::*;

    #[test]
    fn headers_that_were_changed_are_in_the_next_request() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let receiver = thread::spawn(move || {
            let mut tokens = Vec::new();
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().expect("a request");
                let mut request = BufReader::new(&stream);
                let (mut line, mut length) = (String::new(), 0);
                while line != "\r\n" {
                    line.clear();
                    request.read_line(&mut line).expect("a head");
                    if let Some(token) = line.strip_prefix("x-token: ") {
                        tokens.push(token.trim_end().to_owned());
                    }
                    if let Some(text) = line.strip_prefix("content-length: ") {
                        length = text.trim_end().parse().expect("a length");
                    }
                }
                request.read_exact(&mut vec![0; length]).expect("a body");
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                    .expect("an answer");
            }
            tokens
        });
        let headers = |text: &str| text.parse::<Headers>().expect("a header");
        let endpoint: Endpoint = url.parse().expect("a URL");
        let connection = endpoint.with_headers(headers("X-Token=old")).connect();
        for _ in 0..2 {
            let answer = connection.send(b"", Duration::from_secs(20));
            assert!(matches!(answer, Answer::Taken { .. }));
            connection.set_headers(headers("X-Token=new"));
        }
        assert_eq!(receiver.join().expect("no panic"), ["old", "new"]);
    }

    #[test]
    fn an_address_without_a_path_gets_that_of_otlp() {
        for (given, used) in [
            ("http://localhost:4318", "http://localhost:4318/v1/metrics"),
            ("http://localhost:4318/", "http://localhost:4318/v1/metrics"),
            ("https://[::1]", "https://[::1]/v1/metrics"),
            (
                "http://prometheus:9090/api/v1/otlp/v1/metrics",
                "http://prometheus:9090/api/v1/otlp/v1/metrics",
            ),
            ("https://host/otlp?tenant=7", "https://host/otlp?tenant=7"),
            ("https://host/?tenant=7", "https://host/?tenant=7"),
        ] {
            let endpoint: Endpoint = given.parse().expect(given);
            assert_eq!(endpoint.to_string(), used);
        }
    }

    #[test]
    fn what_cannot_be_pushed_to_is_refused_with_what_to_write() {
        for (given, told) in [
            ("", "not a URL"),
            ("localhost", "http://HOST:4318"),
            ("localhost:4318", "http://HOST:4318"),
            ("/v1/metrics", "http://HOST:4318"),
            ("grpc://localhost:4317", "only http://"),
            ("file:///tmp/otlp", "not a URL"),
            ("http://", "not a URL"),
            ("http://:4318", "not a URL"),
            ("http://host:", "no port"),
            ("http://host:99999", "no port"),
            ("http://host:4318/ v1", "not a URL"),
            ("http://user:secret@host", "--otlp-header @FILE"),
            ("http://localhost:4317", "gRPC"),
        ] {
            let error = given.parse::<Endpoint>().expect_err(given).to_string();
            assert!(error.contains(told), "{given:?}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
