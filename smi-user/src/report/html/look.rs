//! How each cause looks: a colour, a shape, a hatching and words, so that no one of them is the only carrier.

use std::fmt::Write as _;

use maud::{Markup, html};
use smi_common::cause::SETS;

use super::axes::short;
use crate::model::Cause;

/// Looks by the bits of [`smi_common::cause`].
const LOOKS: [Look; SETS] = [
    Look {
        class: "c-unknown",
        words: "nothing is proven of them",
        shape: Shape::Dot,
    },
    Look {
        class: "c-smi",
        words: "the SMI counter moved across them",
        shape: Shape::TriangleUp,
    },
    Look {
        class: "c-nmi",
        words: "an NMI came across them",
        shape: Shape::Square,
    },
    Look {
        class: "c-smi-nmi",
        words: "SMI counter and NMI",
        shape: Shape::Diamond,
    },
    Look {
        class: "c-steal",
        words: "the hypervisor owns up to them",
        shape: Shape::Cross,
    },
    Look {
        class: "c-smi-steal",
        words: "SMI counter and hypervisor",
        shape: Shape::TriangleDown,
    },
    Look {
        class: "c-nmi-steal",
        words: "NMI and hypervisor",
        shape: Shape::HollowSquare,
    },
    Look {
        class: "c-smi-nmi-steal",
        words: "SMI counter, NMI and hypervisor",
        shape: Shape::Plus,
    },
];

/// How a cause looks.
pub(super) struct Look {
    /// Class that sets its colour.
    pub(super) class: &'static str,
    /// What it means, of gaps.
    pub(super) words: &'static str,
    /// Its mark.
    pub(super) shape: Shape,
}

/// A mark about 7 units wide.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Dot,
    TriangleUp,
    Square,
    Diamond,
    Cross,
    TriangleDown,
    HollowSquare,
    Plus,
}

/// How `cause` looks.
pub(super) fn look(cause: Cause) -> &'static Look {
    let bits = (0..SETS).find(|bits| Cause::of_bits(*bits as u64) == cause);
    // Every cause is one of these sets.
    &LOOKS[bits.unwrap_or(0)]
}

/// The order in which causes are drawn, the one on top last: what is proven lies above what is not.
pub(super) fn order() -> impl Iterator<Item = Cause> {
    [0, 4, 2, 1, 6, 5, 3, 7].into_iter().map(Cause::of_bits)
}

impl Shape {
    /// Adds the mark at this point to `path`; each begins with the path's only kind of capital letter.
    pub(super) fn draw(self, path: &mut String, x: f64, y: f64) {
        let (left, up, rest) = match self {
            Self::Dot => (0.0, 0.0, "h0"),
            Self::TriangleUp => (0.0, 4.0, "l4 7h-8z"),
            Self::Square | Self::HollowSquare => (3.0, 3.0, "h6v6h-6z"),
            Self::Diamond => (0.0, 4.5, "l4 4.5l-4 4.5l-4-4.5z"),
            Self::Cross => (2.5, 2.5, "l5 5m0-5l-5 5"),
            Self::TriangleDown => (0.0, -4.0, "l4-7h-8z"),
            Self::Plus => (4.0, 0.0, "h8m-4-4v8"),
        };
        // Writing to a string cannot fail.
        let _written = write!(path, "M{} {}{rest}", short(x - left), short(y - up));
    }

    /// Class that says whether its outline or its area is coloured.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Dot => "mark dot",
            Self::TriangleUp | Self::Square | Self::Diamond => "mark area",
            Self::Cross | Self::Plus | Self::TriangleDown | Self::HollowSquare => "mark line",
        }
    }
}

/// The mark by itself, to stand in text.
pub(super) fn symbol(cause: Cause) -> Markup {
    let look = look(cause);
    let mut path = String::new();
    look.shape.draw(&mut path, 6.0, 6.0);
    html! {
        svg.symbol.(look.class) viewBox="0 0 12 12" width="12" height="12" aria-hidden="true" focusable="false" {
            path class=(look.shape.class()) d=(path) {}
        }
    }
}

/// A piece of a bar by itself, to stand in text.
pub(super) fn swatch(cause: Cause) -> Markup {
    html! {
        svg.swatch viewBox="0 0 20 12" width="20" height="12" aria-hidden="true" focusable="false" {
            rect width="20" height="12" rx="2" fill=(fill(cause)) {}
        }
    }
}

/// The filling of its bars.
pub(super) fn fill(cause: Cause) -> String {
    format!("url(#p{})", &look(cause).class[1..])
}

/// The hatchings that [`fill`] names, once in a page.
pub(super) fn patterns() -> Markup {
    html! {
        svg.definitions width="0" height="0" aria-hidden="true" focusable="false" {
            defs {
                @for (look, lines) in LOOKS.iter().zip(HATCHINGS) {
                    pattern id=(format!("p{}", &look.class[1..])) class=(look.class) width="6" height="6"
                        patternUnits="userSpaceOnUse" {
                        rect.ground width="6" height="6" {}
                        @if !lines.is_empty() {
                            path.hatching d=(lines) {}
                        }
                    }
                }
                pattern #p-unwatched width="7" height="7" patternUnits="userSpaceOnUse" {
                    path.unwatched-line d="M0 7L7 0" {}
                }
            }
        }
    }
}

/// Lines over the filling, by the bits of [`smi_common::cause`]: of several causes, the lines of each.
const HATCHINGS: [&str; SETS] = [
    "",
    "M0 6L6 0",
    "M0 0L6 6",
    "M0 6L6 0M0 0L6 6",
    "M0 3h6",
    "M0 6L6 0M0 3h6",
    "M0 0L6 6M0 3h6",
    "M0 6L6 0M0 0L6 6M0 3h6",
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_causes_look_alike_in_any_way() {
        let classes: HashSet<_> = LOOKS.iter().map(|look| look.class).collect();
        let words: HashSet<_> = LOOKS.iter().map(|look| look.words).collect();
        let hatchings: HashSet<_> = HATCHINGS.iter().collect();
        let shapes: HashSet<_> = LOOKS
            .iter()
            .map(|look| {
                let mut path = String::new();
                look.shape.draw(&mut path, 10.0, 10.0);
                (path, look.shape.class())
            })
            .collect();
        for alike in [classes.len(), words.len(), hatchings.len(), shapes.len()] {
            assert_eq!(alike, SETS);
        }
    }

    #[test]
    fn classes_are_named_as_the_causes() {
        let drawn: HashSet<_> = order().map(|cause| cause.to_string()).collect();
        assert_eq!(drawn.len(), SETS);
        for cause in order() {
            assert_eq!(look(cause).class, format!("c-{cause}").replace('+', "-"));
        }
    }
}
