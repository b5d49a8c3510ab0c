//! The options that say where snapshots are pushed to.

use std::time::Duration;

use clap::Args;

use crate::{
    push::{Endpoint, Headers},
    units::{Bare, parse_time},
};

/// Where snapshots are pushed to.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(next_help_heading = "Push")]
pub struct PushArgs {
    /// Push snapshots to this receiver of OTLP over HTTP, for example <http://localhost:4318>
    ///
    /// To an OpenTelemetry Collector or anything else that takes OTLP, as protobuf packed by gzip. A URL without a path
    /// gets OTLP's own, /v1/metrics; one with a path is taken as it is (Prometheus: /api/v1/otlp/v1/metrics). https is
    /// checked against this machine's certificate authorities (`SSL_CERT_FILE` names others), and the variables
    /// `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` are minded.
    ///
    /// A receiver that is away, or asks to be spared, is tried again while up to 5 snapshots wait; then the oldest is
    /// given up. Counts are totals since start, so that costs resolution, not counts; how many were given up is told
    /// and pushed. docs/otlp.md lists the metrics.
    #[arg(long, value_name = "URL")]
    pub otlp: Option<Endpoint>,

    /// Time from one push to the next, at least --interval [default: 60s, or --interval if longer]
    #[arg(long, value_name = "TIME", requires = "otlp", value_parser = interval)]
    pub otlp_interval: Option<Duration>,

    /// Send this header with each push, for example a token; can be given several times
    ///
    /// Every user of the machine can see a command line: put secrets into a file, a line NAME=VALUE for each header, and
    /// write @FILE. It is read at the start, and on SIGHUP with --config.
    #[arg(long, value_name = "NAME=VALUE|@FILE", requires = "otlp")]
    pub otlp_header: Vec<Headers>,

    /// What tells this smilat from others (`service.instance.id`, Prometheus's `instance`) [default: the host name]
    #[arg(long, value_name = "NAME", requires = "otlp", value_parser = instance)]
    pub otlp_instance: Option<String>,
}

fn interval(text: &str) -> Result<Duration, String> {
    match parse_time(text, Bare::Seconds) {
        Ok(time) if time.is_zero() => Err("0 leaves no time between two pushes".into()),
        Ok(time) => Ok(time),
        Err(error) => Err(error.to_string()),
    }
}

fn instance(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("an empty name tells nothing apart; leave it out for the host name".into());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::Cli;

    #[test]
    fn what_cannot_be_pushed_is_refused() {
        for (options, told) in [
            (&["--otlp=localhost:4318"][..], "http://HOST:4318"),
            (&["--otlp-interval=1min"], "--otlp"),
            (&["--otlp-header=a=b"], "--otlp"),
            (
                &["--otlp=http://localhost", "--otlp-interval=0"],
                "no time between",
            ),
            (
                &["--otlp=http://localhost", "--otlp-header=token"],
                "NAME=VALUE",
            ),
            (
                &["--otlp=http://localhost", "--otlp-instance= "],
                "leave it out",
            ),
        ] {
            let all = ["smilat", "run"].iter().chain(options);
            let error = Cli::try_parse_from(all).expect_err(options[0]).to_string();
            assert!(error.contains(told), "{options:?}: {error}");
        }
    }
}
