//! What is exported, said once for all ways out: each metric's name, unit, kind, meaning, and its values in a snapshot.
//!
//! Names and units are OpenTelemetry's. Prometheus's follow from them by the rule that its receiver of OTLP has, too
//! (<https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/>): `smilat.gap.duration` in `s` is
//! `smilat_gap_duration_seconds`. So `docs/metrics.md` and `docs/otlp.md` list the same.

mod families;
pub(super) mod iommu;
pub(super) mod irqsoff;
mod sizes;
mod way;

use jiff::Timestamp;

use crate::model::{CpuSnapshot, Interval};

pub(super) use families::families;
pub(super) use sizes::Sizes;
pub(super) use way::Way;

/// What kind of family it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A total since start, which only grows.
    Counter,
    /// A value of this moment.
    Gauge,
    /// Says something in its labels; its value is 1.
    Info,
    /// Durations or sizes since start, counted by size.
    Histogram,
}

/// A family of metrics.
#[derive(Debug)]
pub(super) struct Family {
    /// Its name in OpenTelemetry.
    pub(super) name: &'static str,
    /// Its unit in UCUM: `s`, `By`, a thing that is counted in braces, or nothing.
    pub(super) unit: &'static str,
    /// What kind it is.
    pub(super) kind: Kind,
    /// What it says, for people.
    pub(super) help: &'static str,
    /// Its values; never empty: a family without any says nothing, and some receivers refuse it.
    pub(super) samples: Vec<Sample>,
}

/// A family's value for one set of labels.
#[derive(Debug)]
pub(super) struct Sample {
    /// The CPU it is of, its first label; `None` for one of all.
    pub(super) cpu: Option<u32>,
    /// Names and values of the other labels.
    pub(super) labels: Vec<(&'static str, String)>,
    /// The value.
    pub(super) value: Value,
}

/// A value as the model has it.
#[derive(Debug)]
pub(super) enum Value {
    /// A number of things.
    Count(u64),
    /// A time in ns, of a family whose unit is the second.
    Ns(u64),
    /// A moment, exported as seconds since 1970.
    Time(Timestamp),
    /// Of histograms: the gaps with their sum and extremes.
    Gaps(Box<Interval>),
    /// Of histograms: sizes in bytes.
    Bytes(Box<Sizes>),
}

impl Sample {
    /// A value of `cpu`.
    fn of(cpu: &CpuSnapshot, value: Value) -> Self {
        Self {
            cpu: Some(cpu.cpu),
            ..value.into()
        }
    }

    /// With one more label.
    fn with(mut self, name: &'static str, value: &impl ToString) -> Self {
        self.labels.push((name, value.to_string()));
        self
    }
}

/// A value without labels.
impl From<Value> for Sample {
    fn from(value: Value) -> Self {
        Self {
            cpu: None,
            labels: Vec::new(),
            value,
        }
    }
}

/// The families so far. All methods add one, unless it has no samples.
#[derive(Default)]
struct List(Vec<Family>);

impl List {
    /// A total of what `unit` says.
    fn counter(
        &mut self,
        name: &'static str,
        unit: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item: Into<Sample>>,
    ) {
        self.add(Kind::Counter, name, unit, help, samples);
    }

    /// A value in `unit`.
    fn gauge(
        &mut self,
        name: &'static str,
        unit: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item: Into<Sample>>,
    ) {
        self.add(Kind::Gauge, name, unit, help, samples);
    }

    /// These labels.
    fn info<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: [(&'static str, String); N],
    ) {
        let sample = Sample {
            labels: labels.into(),
            ..Value::Count(1).into()
        };
        // Without a unit: Prometheus's receiver makes a gauge of unit 1 a ratio.
        self.add(Kind::Info, name, "", help, [sample]);
    }

    /// Durations.
    fn histogram(
        &mut self,
        name: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item: Into<Sample>>,
    ) {
        self.add(Kind::Histogram, name, "s", help, samples);
    }

    /// Sizes in bytes.
    fn sizes(
        &mut self,
        name: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item: Into<Sample>>,
    ) {
        self.add(Kind::Histogram, name, "By", help, samples);
    }

    /// Which smilat it is.
    fn build(&mut self) {
        self.info(
            "smilat.build_info",
            "Which smilat this is.",
            [("version", env!("CARGO_PKG_VERSION").to_owned())],
        );
    }

    /// When the snapshot was taken.
    fn taken(&mut self, time: Timestamp) {
        self.gauge(
            "smilat.snapshot.timestamp",
            "s",
            "When the snapshot was taken that all of this is from, since 1970.",
            [Value::Time(time)],
        );
    }

    /// Connections closed for others.
    fn displaced(&mut self, connections: u64) {
        self.counter(
            "smilat.http.connections.displaced",
            "{connection}",
            "Connections that were closed, the one idle longest first, because too many were open and another came.",
            [Value::Count(connections)],
        );
    }

    fn add(
        &mut self,
        kind: Kind,
        name: &'static str,
        unit: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item: Into<Sample>>,
    ) {
        let samples: Vec<Sample> = samples.into_iter().map(Into::into).collect();
        if !samples.is_empty() {
            self.0.push(Family {
                name,
                unit,
                kind,
                help,
                samples,
            });
        }
    }
}
