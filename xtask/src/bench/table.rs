//! What a benchmark comes to: tables of measured values, and the aims that they are held against. All of it is kept as JSON,
//! of which the Markdown is made.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

/// What one benchmark found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Section {
    pub(super) title: String,
    /// How it was measured, and what to know when reading it. Markdown.
    pub(super) about: String,
    pub(super) tables: Vec<Table>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) aims: Vec<Aim>,
    /// What it was compared with, and which version of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) versions: Vec<String>,
}

/// A table, with a word on it where a section has several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Table {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) caption: String,
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<Cell>>,
}

/// One field of a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Cell {
    /// What was measured again and again.
    Rounds(Rounds),
    /// What was measured or counted once.
    Number {
        value: f64,
        digits: usize,
    },
    Text(String),
}

/// What was measured in each round; the Markdown has the median, and in brackets the lowest and the highest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Rounds {
    median: f64,
    lowest: f64,
    highest: f64,
    rounds: Vec<f64>,
    /// Digits behind the point that the Markdown has.
    digits: usize,
}

/// A bound that the project has set itself, and what was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Aim {
    pub(super) what: String,
    pub(super) bound: Bound,
    pub(super) limit: f64,
    /// What limit and measured value are counted in, as it follows a number: `" ns"`, `" %"`, `" x"`.
    pub(super) unit: String,
    pub(super) measured: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Bound {
    AtMost,
    AtLeast,
}

impl Table {
    /// An empty one.
    pub(super) fn new(columns: &[&str]) -> Self {
        Self {
            caption: String::new(),
            columns: columns.iter().map(|&column| column.to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// The same with a word on it.
    pub(super) fn captioned(self, caption: &str) -> Self {
        Self {
            caption: caption.to_owned(),
            ..self
        }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl Cell {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A number with so many digits behind the point.
    pub(super) fn number(value: f64, digits: usize) -> Self {
        Self::Number { value, digits }
    }

    /// What is counted.
    pub(super) fn count(value: u64) -> Self {
        Self::number(value as f64, 0)
    }

    /// What was measured in each round.
    ///
    /// # Panics
    /// When there was none.
    pub(super) fn rounds(rounds: &[f64], digits: usize) -> Self {
        Self::Rounds(Rounds {
            median: median(rounds),
            lowest: rounds.iter().copied().fold(f64::INFINITY, f64::min),
            highest: rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            rounds: rounds.to_vec(),
            digits,
        })
    }
}

impl Aim {
    pub(super) fn at_most(what: &str, limit: f64, unit: &str, measured: f64) -> Self {
        Self {
            what: what.to_owned(),
            bound: Bound::AtMost,
            limit,
            unit: unit.to_owned(),
            measured,
        }
    }

    pub(super) fn at_least(what: &str, limit: f64, unit: &str, measured: f64) -> Self {
        Self {
            bound: Bound::AtLeast,
            ..Self::at_most(what, limit, unit, measured)
        }
    }

    pub(super) fn is_met(&self) -> bool {
        match self.bound {
            Bound::AtMost => self.measured <= self.limit,
            Bound::AtLeast => self.measured >= self.limit,
        }
    }

    /// The row of a table of aims.
    pub(super) fn row(&self, section: &str) -> Vec<Cell> {
        let unit = &self.unit;
        let bound = match self.bound {
            Bound::AtMost => "at most",
            Bound::AtLeast => "at least",
        };
        let outcome = if self.is_met() {
            "yes".to_owned()
        } else {
            format!(
                "**no**: {} times the limit",
                beside(self.measured / self.limit, 1.0)
            )
        };
        vec![
            Cell::text(&self.what),
            Cell::text(format!("{bound} {}{unit}", short(self.limit))),
            Cell::text(format!("{}{unit}", beside(self.measured, self.limit))),
            Cell::text(outcome),
            Cell::text(section),
        ]
    }
}

/// A number as people write it: three digits that say something, no more.
fn short(value: f64) -> String {
    let digits = match value.abs() {
        value if value >= 100.0 || value == 0.0 => 0,
        value if value >= 10.0 => 1,
        value if value >= 1.0 => 2,
        value => (2 - value.log10().floor() as i32).max(0) as usize,
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// The same with as many digits more as it takes to tell it from `other`.
fn beside(value: f64, other: f64) -> String {
    let text = short(value);
    if text != short(other) {
        return text;
    }
    (1..=6)
        .map(|digits| (format!("{value:.digits$}"), format!("{other:.digits$}")))
        .find(|(value, other)| value != other)
        .map_or(text, |(value, _)| value)
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number { value, digits } => write!(f, "{value:.digits$}"),
            Self::Rounds(Rounds {
                median,
                lowest,
                highest,
                digits,
                ..
            }) => write!(
                f,
                "{median:.digits$} ({lowest:.digits$} to {highest:.digits$})"
            ),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.caption.is_empty() {
            writeln!(f, "{}\n", self.caption)?;
        }
        let line = |f: &mut fmt::Formatter<'_>, cells: &mut dyn Iterator<Item = String>| {
            for cell in cells {
                write!(f, "| {cell} ")?;
            }
            writeln!(f, "|")
        };
        line(f, &mut self.columns.iter().cloned())?;
        line(f, &mut self.columns.iter().map(|_| "---".to_owned()))?;
        for row in &self.rows {
            line(f, &mut row.iter().map(Cell::to_string))?;
        }
        Ok(())
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "## {}\n\n{}", self.title, self.about)?;
        for table in &self.tables {
            write!(f, "\n{table}")?;
        }
        if !self.versions.is_empty() {
            let mut versions = String::new();
            for version in &self.versions {
                write!(versions, ", {version}")?;
            }
            writeln!(f, "\nCompared with: {}.", versions.trim_start_matches(", "))?;
        }
        Ok(())
    }
}

/// The middle one, or the upper of the two in the middle.
///
/// # Panics
/// When there is none.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// What each of `values` is to that of the same round in `to`.
pub(super) fn ratios(values: &[f64], to: &[f64]) -> Vec<f64> {
    values
        .iter()
        .zip(to)
        .map(|(value, to)| value / to)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section() -> Section {
        let mut table = Table::new(&["who", "ns", "times"]).captioned("On CPU 1:");
        table.row([
            Cell::text("smilat"),
            Cell::rounds(&[3.0, 1.0, 2.25], 1),
            Cell::count(7),
        ]);
        Section {
            title: "One".to_owned(),
            about: "How.".to_owned(),
            tables: vec![table],
            aims: vec![Aim::at_most("a step", 2.0, " ns", 2.5)],
            versions: vec!["oslat 2.5".to_owned(), "rtla 6.12".to_owned()],
        }
    }

    #[test]
    fn a_section_is_a_page_of_markdown() {
        assert_eq!(
            section().to_string(),
            "## One\n\nHow.\n\nOn CPU 1:\n\n| who | ns | times |\n| --- | --- | --- |\n\
             | smilat | 2.2 (1.0 to 3.0) | 7 |\n\nCompared with: oslat 2.5, rtla 6.12.\n"
        );
    }

    #[test]
    fn what_is_kept_is_what_was_measured() {
        let kept = serde_json::to_string(&section()).expect("JSON");
        assert_eq!(
            serde_json::from_str::<Section>(&kept).expect("a section"),
            section()
        );
    }

    #[test]
    fn an_aim_is_met_up_to_its_limit() {
        let missed = &section().aims[0];
        assert!(!missed.is_met());
        let row: Vec<String> = missed.row("One").iter().map(Cell::to_string).collect();
        assert_eq!(
            row,
            [
                "a step",
                "at most 2 ns",
                "2.5 ns",
                "**no**: 1.25 times the limit",
                "One"
            ]
        );
        let barely: Vec<String> = Aim::at_least("SMIs", 100.0, " %", 99.95)
            .row("One")
            .iter()
            .map(Cell::to_string)
            .collect();
        assert_eq!(
            barely[1..4],
            [
                "at least 100 %",
                "99.95 %",
                "**no**: 0.9995 times the limit"
            ]
        );
        assert!(Aim::at_most("", 2.0, "", 2.0).is_met());
        assert!(Aim::at_least("", 100.0, "", 100.0).is_met());
        assert!(!Aim::at_least("", 100.0, "", 99.0).is_met());
    }

    #[test]
    fn numbers_are_as_long_as_they_say_something() {
        for (value, text) in [
            (0.0, "0"),
            (0.001_234, "0.00123"),
            (0.1, "0.1"),
            (1.6, "1.6"),
            (12.34, "12.3"),
            (100_000.4, "100000"),
        ] {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn the_median_of_an_even_number_is_the_upper() {
        assert!((median(&[4.0, 1.0, 3.0, 2.0]) - 3.0).abs() < f64::EPSILON);
        assert_eq!(ratios(&[4.0, 9.0], &[2.0, 3.0]), [2.0, 3.0]);
    }
}
