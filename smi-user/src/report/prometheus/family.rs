//! What a family of metrics is, whatever form it is written in.

use crate::model::Histogram;

/// What kind of family it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Says something in its labels; its name ends in `_info` and its value is 1.
    Info,
    /// Counts by size.
    Histogram,
}

/// A family of metrics.
#[derive(Debug)]
pub(super) struct Family {
    /// Its whole name, endings included.
    pub(super) name: &'static str,
    /// What kind it is.
    pub(super) kind: Kind,
    /// What it says, for people.
    pub(super) help: &'static str,
    /// Its values; never empty.
    pub(super) samples: Vec<Sample>,
}

/// A family's value for one set of labels.
#[derive(Debug)]
pub(super) struct Sample {
    /// The labels.
    pub(super) labels: Labels,
    /// The value.
    pub(super) value: Value,
}

/// Names and values of labels.
pub(super) type Labels = Vec<(&'static str, String)>;

/// A value.
#[derive(Debug)]
pub(super) enum Value {
    /// Of counters, gauges and infos.
    Number(f64),
    /// Of histograms.
    Histogram {
        /// Of all durations, in seconds.
        sum: f64,
        /// The durations.
        histogram: Box<Histogram>,
    },
}

/// The families so far.
#[derive(Default)]
pub(super) struct List(pub(super) Vec<Family>);

impl List {
    /// Adds a family, unless it has no values.
    pub(super) fn values(
        &mut self,
        name: &'static str,
        kind: Kind,
        help: &'static str,
        samples: impl IntoIterator<Item = Sample>,
    ) {
        let samples: Vec<Sample> = samples.into_iter().collect();
        if !samples.is_empty() {
            self.0.push(Family {
                name,
                kind,
                help,
                samples,
            });
        }
    }

    /// Adds a family of numbers.
    pub(super) fn add(
        &mut self,
        name: &'static str,
        kind: Kind,
        help: &'static str,
        numbers: impl IntoIterator<Item = (Labels, f64)>,
    ) {
        let samples = numbers.into_iter().map(|(labels, number)| Sample {
            labels,
            value: Value::Number(number),
        });
        self.values(name, kind, help, samples);
    }

    /// Adds a family of one number without labels, if there is one.
    pub(super) fn one(
        &mut self,
        name: &'static str,
        kind: Kind,
        help: &'static str,
        number: Option<f64>,
    ) {
        self.add(
            name,
            kind,
            help,
            number.map(|number| (Labels::new(), number)),
        );
    }
}
