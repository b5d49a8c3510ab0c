//! Colours and characters. What a colour says is said by words, too.

use ratatui::{
    style::{Color, Modifier, Style},
    symbols::{bar, border},
};

use crate::model::Cause;

/// What the terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theme {
    /// Colours beside bold and reversed; off where `NO_COLOR` is set.
    pub colour: bool,
    /// Lines and bars of Unicode; off where the locale has another character set.
    pub unicode: bool,
}

const ASCII_BARS: bar::Set<'static> = bar::Set {
    full: "#",
    seven_eighths: "#",
    three_quarters: "+",
    five_eighths: "+",
    half: "=",
    three_eighths: "-",
    one_quarter: "_",
    one_eighth: "_",
    empty: " ",
};

const ASCII_BORDER: border::Set<'static> = border::Set {
    top_left: "+",
    top_right: "+",
    bottom_left: "+",
    bottom_right: "+",
    vertical_left: "|",
    vertical_right: "|",
    horizontal_top: "-",
    horizontal_bottom: "-",
};

impl Theme {
    fn coloured(self, colour: Color) -> Style {
        if self.colour {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }

    /// Headings.
    pub(in crate::report) fn heading() -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// Lines between panels.
    pub(in crate::report) fn border(self) -> Style {
        self.coloured(Color::DarkGray)
    }

    /// The row under the cursor, and the column that is sorted by.
    pub(in crate::report) fn chosen() -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// What wants attention: pause, warnings.
    pub(in crate::report) fn alert(self) -> Style {
        self.coloured(Color::Yellow).add_modifier(Modifier::BOLD)
    }

    /// Bars.
    pub(in crate::report) fn bar(self) -> Style {
        self.coloured(Color::Cyan)
    }

    /// Keys in the key line.
    pub(in crate::report) fn key(self) -> Style {
        self.coloured(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    /// A gap with this cause.
    pub(in crate::report) fn cause(self, cause: Cause) -> Style {
        if cause.has_smi() {
            self.coloured(Color::Red)
        } else if cause.is_unknown() {
            Style::new()
        } else {
            self.coloured(Color::Yellow)
        }
    }

    pub(in crate::report) fn bars(self) -> bar::Set<'static> {
        if self.unicode {
            bar::NINE_LEVELS
        } else {
            ASCII_BARS
        }
    }

    pub(in crate::report) fn borders(self) -> border::Set<'static> {
        if self.unicode {
            border::PLAIN
        } else {
            ASCII_BORDER
        }
    }

    /// A horizontal bar of `length` out of `full` eighths of a character; what is there at all is seen.
    pub(in crate::report) fn horizontal(self, eighths: usize) -> String {
        const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
        if self.unicode {
            "█".repeat(eighths / 8) + PARTS[eighths % 8]
        } else if eighths < 4 {
            ".".to_owned()
        } else {
            "#".repeat((eighths + 4) / 8)
        }
    }

    /// Mark of the sorted column: highest first or lowest first.
    pub(in crate::report) fn order(self, descending: bool) -> &'static str {
        match (self.unicode, descending) {
            (true, true) => "▼",
            (true, false) => "▲",
            (false, true) => "v",
            (false, false) => "^",
        }
    }
}
