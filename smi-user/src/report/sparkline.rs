//! A course over time on one line.

/// Characters of a line at the most.
pub(super) const WIDTH: usize = 80;
/// From low to high.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A value to be drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Point {
    /// Nothing is known: a space.
    Unknown,
    /// Nothing was there: a dot.
    Nothing,
    /// So much.
    Value(f64),
}

/// Draws the values between the lowest and the highest of them, or from 0 on.
pub(super) fn line(points: &[Point], from_zero: bool) -> String {
    let values = points.iter().filter_map(|point| match point {
        Point::Value(value) => Some(*value),
        Point::Unknown | Point::Nothing => None,
    });
    let high = values.clone().fold(f64::MIN, f64::max);
    let low = if from_zero {
        0.0
    } else {
        values.fold(f64::MAX, f64::min)
    };
    points
        .iter()
        .map(|point| match point {
            Point::Unknown => ' ',
            Point::Nothing => '.',
            Point::Value(value) => {
                let part = if high > low {
                    (value - low) / (high - low)
                } else {
                    1.0
                };
                LEVELS[((part * LEVELS.len() as f64) as usize).min(LEVELS.len() - 1)]
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_and_the_highest_are_the_ends_of_the_scale() {
        let points = [
            Point::Value(10.0),
            Point::Nothing,
            Point::Value(20.0),
            Point::Unknown,
            Point::Value(15.0),
        ];
        assert_eq!(line(&points, false), "▁.█ ▅");
        assert_eq!(line(&points, true), "▅.█ ▇");
        assert_eq!(line(&[Point::Value(3.0)], false), "█");
        assert_eq!(line(&[], true), "");
    }
}
