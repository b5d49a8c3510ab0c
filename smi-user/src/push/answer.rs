//! What a receiver's answer means, by OTLP's specification ("OTLP/HTTP Response").

use std::time::Duration;

use jiff::Timestamp;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message;
use ureq::http::{HeaderMap, StatusCode, header};

use super::backoff::retry_after;

/// A receiver's words are shown up to this many characters.
const SHOWN: usize = 200;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It has the snapshot but for `rejected` data points.
    Taken { rejected: u64, message: String },
    /// It may have it later, and perhaps said when.
    TryAgain {
        why: String,
        after: Option<Duration>,
    },
    /// It will never have it.
    Refused { why: String },
}

/// The message of `google.rpc.Status`, which receivers explain failures with.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
}

/// What `status` with these headers and this body means.
pub(super) fn of(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Answer {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if status.is_success() {
        // A receiver that says nothing, or nothing that can be read, took all.
        let partial = ExportMetricsServiceResponse::decode(body)
            .ok()
            .and_then(|response| response.partial_success)
            .unwrap_or_default();
        return Answer::Taken {
            rejected: u64::try_from(partial.rejected_data_points).unwrap_or(0),
            message: shown(&partial.error_message),
        };
    }
    let mut why = format!("it answered {status}");
    if status.is_redirection()
        && let Some(place) = header(header::LOCATION)
    {
        let place = shown(place);
        why = format!("{why} and points to {place}: give that address if it is right");
    } else {
        let words = explanation(header(header::CONTENT_TYPE).unwrap_or_default(), body);
        if !words.is_empty() {
            why = format!("{why} ({words})");
        }
    }
    match status.as_u16() {
        429 | 502..=504 => Answer::TryAgain {
            why,
            after: header(header::RETRY_AFTER)
                .and_then(|value| retry_after(value, Timestamp::now())),
        },
        _ => Answer::Refused { why },
    }
}

/// What it means that there was no answer.
pub(super) fn without(error: &ureq::Error) -> Answer {
    let why = match error {
        ureq::Error::Timeout(_) => "it did not answer in time".to_owned(),
        ureq::Error::HostNotFound => "there is no such host".to_owned(),
        ureq::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    };
    Answer::TryAgain { why, after: None }
}

/// What a failure's body says for people.
fn explanation(content_type: &str, body: &[u8]) -> String {
    if content_type.contains("protobuf") {
        return Status::decode(body)
            .map_or_else(|_| String::new(), |status| shown(&status.message));
    }
    if content_type.starts_with("text/html") {
        return String::new();
    }
    shown(&String::from_utf8_lossy(body))
}

/// The first line, bounded, and without what could command a terminal.
fn shown(words: &str) -> String {
    let line = words.lines().find(|line| !line.trim().is_empty());
    line.unwrap_or_default()
        .trim()
        .chars()
        .filter(|character| !character.is_control())
        .take(SHOWN)
        .collect()
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsPartialSuccess;

    use super::*;

    fn answered(status: u16, headers: &[(&'static str, &str)], body: &[u8]) -> Answer {
        let headers = headers
            .iter()
            .map(|(name, value)| {
                let name = header::HeaderName::from_static(name);
                (name, value.parse().expect("a value"))
            })
            .collect();
        of(
            StatusCode::from_u16(status).expect("a status"),
            &headers,
            body,
        )
    }

    #[test]
    fn what_may_pass_is_tried_again_and_nothing_else() {
        for status in [429, 502, 503, 504] {
            let answer = answered(status, &[("retry-after", "7")], b"");
            let Answer::TryAgain { after, .. } = answer else {
                panic!("{status}: {answer:?}");
            };
            assert_eq!(after, Some(Duration::from_secs(7)));
        }
        for status in [301, 307, 400, 401, 404, 408, 413, 415, 500, 501, 505] {
            let answer = answered(status, &[("retry-after", "7")], b"");
            assert!(
                matches!(answer, Answer::Refused { .. }),
                "{status}: {answer:?}"
            );
        }
    }

    #[test]
    fn points_rejected_are_counted() {
        let response = ExportMetricsServiceResponse {
            partial_success: Some(ExportMetricsPartialSuccess {
                rejected_data_points: 3,
                error_message: "too old\nsecond line".to_owned(),
            }),
        };
        assert_eq!(
            answered(200, &[], &response.encode_to_vec()),
            Answer::Taken {
                rejected: 3,
                message: "too old".to_owned()
            }
        );
        for body in [&b""[..], b"{}", b"OK"] {
            assert_eq!(
                answered(202, &[], body),
                Answer::Taken {
                    rejected: 0,
                    message: String::new()
                }
            );
        }
    }

    #[test]
    fn the_receivers_reason_is_told_without_commands_for_the_terminal() {
        let why = |answer| match answer {
            Answer::Refused { why } | Answer::TryAgain { why, .. } => why,
            Answer::Taken { .. } => panic!("taken"),
        };
        let status = Status {
            message: "unknown tenant".to_owned(),
        };
        let protobuf = [("content-type", "application/x-protobuf")];
        assert_eq!(
            why(answered(400, &protobuf, &status.encode_to_vec())),
            "it answered 400 Bad Request (unknown tenant)"
        );
        assert_eq!(
            why(answered(401, &[], b"\n\x1b[2Jno token\n")),
            "it answered 401 Unauthorized ([2Jno token)"
        );
        let html = [("content-type", "text/html")];
        assert_eq!(
            why(answered(404, &html, b"<html>")),
            "it answered 404 Not Found"
        );
        let long = "x".repeat(9_999);
        assert!(why(answered(400, &[], long.as_bytes())).len() < 300);
        let moved = [("location", "https://other/v1/metrics")];
        assert!(why(answered(301, &moved, b"")).contains("https://other/v1/metrics"));
    }
}
