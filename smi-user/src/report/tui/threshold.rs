//! The thresholds that keys step through.

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Longer.
    Up,
    /// Shorter.
    Down,
}

/// The next of 1, 2, 5, 10, 20, 50, ... ns above or below `now_ns`; `None` below 1 ns and above 2^63 ns.
pub fn step(now_ns: u64, direction: Direction) -> Option<u64> {
    let mut steps = (0..19).flat_map(|power| {
        let decade = 10u64.pow(power);
        // 5 * 10^18 still fits.
        [decade, 2 * decade, 5 * decade]
    });
    match direction {
        Direction::Up => steps.find(|step| *step > now_ns),
        Direction::Down => steps.take_while(|step| *step < now_ns).last(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_1_2_5_and_from_between_go_to_the_nearest() {
        let up = |ns| step(ns, Direction::Up);
        let down = |ns| step(ns, Direction::Down);
        assert_eq!(up(10_000), Some(20_000));
        assert_eq!(up(20_000), Some(50_000));
        assert_eq!(up(50_000), Some(100_000));
        assert_eq!(down(10_000), Some(5_000));
        assert_eq!(down(1_000_000), Some(500_000));
        assert_eq!((down(13_000), up(13_000)), (Some(10_000), Some(20_000)));
    }

    #[test]
    fn there_is_an_end_on_both_sides() {
        assert_eq!(step(1, Direction::Down), None);
        assert_eq!(step(u64::MAX, Direction::Up), None);
        assert_eq!(step(0, Direction::Up), Some(1));
    }
}
