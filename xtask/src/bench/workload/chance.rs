//! How likely an SMI is to be seen, by how much is sampled. One is seen when it comes while a CPU that it stops is sampled.

/// SMIs of the table: one a minute, for an hour.
const SMIS: i32 = 60;

/// The share of time in which at least one CPU is sampled, of the shares of each: the chance to see an SMI that stops all.
pub(super) fn any(shares: &[f64], one_after_another: bool) -> f64 {
    if one_after_another {
        return shares.iter().sum();
    }
    // Each CPU's windows come at random distances of their own.
    1.0 - shares.iter().map(|share| 1.0 - share).product::<f64>()
}

/// The chance to see an SMI that stops one CPU only, whichever that is.
pub(super) fn mean(shares: &[f64]) -> f64 {
    shares.iter().sum::<f64>() / shares.len() as f64
}

/// The chance to see at least one SMI within the hour, of that to see each.
pub(super) fn within_an_hour(each: f64) -> f64 {
    1.0 - (1.0 - each).powi(SMIS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn close(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1e-9, "{value} is no {expected}");
    }

    #[test]
    fn cpus_that_take_turns_add_up_and_others_overlap_by_chance() {
        close(any(&[0.005, 0.005], true), 0.01);
        close(any(&[0.5, 0.5], false), 0.75);
        close(any(&[0.2, 0.5], false), 0.6);
        close(any(&[0.3], false), 0.3);
    }

    #[test]
    fn one_cpu_alone_is_sampled_for_the_mean_share() {
        close(mean(&[0.2, 0.4]), 0.3);
    }

    #[test]
    fn sixty_chances_are_nearly_as_good_as_sixty_times_a_small_one() {
        close(within_an_hour(0.0), 0.0);
        close(within_an_hour(1.0), 1.0);
        close(within_an_hour(0.5), 1.0 - 0.5f64.powi(60));
        let small = within_an_hour(0.0001);
        assert!((0.005_98..0.006).contains(&small), "{small}");
        // 1 % of the time: as README.md says, some 14 of the 1440 of a day.
        let one_percent = within_an_hour(0.01);
        assert!((0.452..0.453).contains(&one_percent), "{one_percent}");
    }
}
