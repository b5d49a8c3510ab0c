//! What is around every chart: its name and gist for those who cannot see it, a caption, and its numbers as a table.

use maud::{Markup, html};

use super::axes::Frame;

/// What is said of a chart.
pub(super) struct Chart<'a> {
    /// Unique in the page.
    pub(super) id: String,
    /// What it shows.
    pub(super) title: &'a str,
    /// What is to be seen in it, in words and numbers.
    pub(super) gist: String,
    /// What its marks are.
    pub(super) caption: Markup,
    /// What its colours and shapes are.
    pub(super) legend: Markup,
    /// What opens the table.
    pub(super) table_title: &'a str,
    /// The same in numbers.
    pub(super) table: Markup,
}

impl Chart<'_> {
    /// The figure, drawn once for each frame.
    pub(super) fn render(self, frames: [Frame; 2], draw: impl Fn(&Frame) -> Markup) -> Markup {
        html! {
            figure {
                @for frame in &frames {
                    @let id = format!("{}-{}", self.id, frame.name);
                    svg.chart.(frame.name) viewBox=(format!("0 0 {} {}", frame.width, frame.height)) role="img"
                        aria-labelledby=(format!("{id}-title")) aria-describedby=(format!("{id}-gist")) {
                        title id=(format!("{id}-title")) { (self.title) }
                        desc id=(format!("{id}-gist")) { (self.gist) }
                        (draw(frame))
                    }
                }
                (self.legend)
                figcaption { (self.caption) }
                details {
                    summary { (self.table_title) }
                    (self.table)
                }
            }
        }
    }
}

/// A table in a box that scrolls by itself where the window is too narrow for it.
pub(super) fn table(name: &str, head: &Markup, body: &Markup) -> Markup {
    html! {
        div.scroll role="region" aria-label=(name) tabindex="0" {
            table {
                caption.unseen { (name) }
                thead { tr { (head) } }
                tbody { (body) }
            }
        }
    }
}

/// Headings of columns of words.
pub(super) fn word_heads(names: &[&str]) -> Markup {
    html! {
        @for name in names {
            th.words scope="col" { (name) }
        }
    }
}

/// Headings of columns; those after the first stand over numbers.
pub(super) fn heads(names: &[&str]) -> Markup {
    html! {
        @for name in names {
            th scope="col" { (name) }
        }
    }
}
