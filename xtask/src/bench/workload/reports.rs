//! What redis-benchmark and stress-ng report.

use anyhow::{Context as _, Result};

/// What redis-benchmark says of its requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Served {
    /// Requests a second.
    pub(super) rate: f64,
    /// Time from a request to its answer, in milliseconds.
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// The first that it lists at or above 99.9 %: it halves the rest each time, so that is 99.902 %.
    pub(super) p99_9_ms: f64,
    pub(super) max_ms: f64,
}

impl Served {
    /// Of its text: lines `99.902% <= 0.719 milliseconds (cumulative count 99903)`, then
    /// `throughput summary: 123456.78 requests per second`, and at the end numbers under `avg min p50 p95 p99 max`.
    pub(super) fn parse(report: &str) -> Result<Self> {
        Self::find(report).with_context(|| format!("redis-benchmark says: {report}"))
    }

    fn find(report: &str) -> Option<Self> {
        let mut lines = report.lines().map(str::trim);
        let rest = |line: &'static str| report.lines().find_map(|at| at.trim().strip_prefix(line));
        let rate = rest("throughput summary: ")?.strip_suffix(" requests per second")?;
        let p99_9_ms = report.lines().find_map(|line| {
            let (percent, ms) = line.split_once("% <= ")?;
            let ms = ms.split_once(" milliseconds")?.0;
            (percent.parse::<f64>().ok()? >= 99.9).then(|| ms.parse().ok())?
        })?;
        lines.find(|line| {
            line.split_whitespace()
                .eq(["avg", "min", "p50", "p95", "p99", "max"])
        })?;
        let numbers: Vec<f64> = lines
            .next()?
            .split_whitespace()
            .map(|number| number.parse().ok())
            .collect::<Option<_>>()?;
        let [_, _, p50_ms, _, p99_ms, max_ms] = numbers[..] else {
            return None;
        };
        Some(Self {
            rate: rate.parse().ok()?,
            p50_ms,
            p99_ms,
            p99_9_ms,
            max_ms,
        })
    }
}

/// Operations a second that stress-ng did, by the YAML that it writes.
pub(super) fn operations_a_second(yaml: &str) -> Result<f64> {
    yaml.lines()
        .find_map(|line| line.trim().strip_prefix("bogo-ops-per-second-real-time: "))
        .and_then(|rate| rate.parse().ok())
        .with_context(|| format!("stress-ng says: {yaml}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of redis-benchmark 7.0.15, shortened.
    const REDIS: &str = "\
====== GET ======
  100000 requests completed in 5.29 seconds
  50 parallel clients
  3 bytes payload
  keep alive: 1
  host configuration \"save\": \n  host configuration \"appendonly\": no
  multi-thread: yes
  threads: 2

Latency by percentile distribution:
0.000% <= 0.055 milliseconds (cumulative count 1)
50.000% <= 0.543 milliseconds (cumulative count 50030)
99.805% <= 20.223 milliseconds (cumulative count 99805)
99.902% <= 26.335 milliseconds (cumulative count 99903)
99.951% <= 30.143 milliseconds (cumulative count 99952)
100.000% <= 39.423 milliseconds (cumulative count 100000)

Cumulative distribution of latencies:
0.044% <= 0.103 milliseconds (cumulative count 44)
99.900% <= 25.103 milliseconds (cumulative count 99900)
100.000% <= 40.127 milliseconds (cumulative count 100000)

Summary:
  throughput summary: 18889.31 requests per second
  latency summary (msec):
          avg       min       p50       p95       p99       max
        2.343     0.048     0.543     8.455    13.495    39.423
";

    #[test]
    fn a_report_of_redis_benchmark_is_understood() {
        assert_eq!(
            Served::parse(REDIS).expect("a report"),
            Served {
                rate: 18889.31,
                p50_ms: 0.543,
                p99_ms: 13.495,
                p99_9_ms: 26.335,
                max_ms: 39.423,
            }
        );
        let half = &REDIS[..REDIS.len() / 2];
        let error = Served::parse(half).expect_err("half a report").to_string();
        assert!(error.contains("50 parallel clients"), "{error}");
    }

    #[test]
    fn a_report_of_stress_ng_is_understood() {
        let yaml = "\
metrics:
    - stressor: cpu
      bogo-ops: 927
      bogo-ops-per-second-usr-sys-time: 2332.075472
      bogo-ops-per-second-real-time: 924.932736
      wall-clock-time: 1.002241
";
        let rate = operations_a_second(yaml).expect("a rate");
        assert!((rate - 924.932_736).abs() < 1e-9, "{rate}");
        assert!(operations_a_second("metrics:").is_err());
    }
}
