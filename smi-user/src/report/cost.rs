//! The share of cycles that SMIs took, as text.

use crate::model::SmiCost;

/// A table by CPU and of all; empty where it was not measured.
pub(super) fn table(costs: &[(u32, SmiCost)]) -> Vec<String> {
    if costs.is_empty() {
        return Vec::new();
    }
    let row = |name: &str, cost: &SmiCost| {
        format!(
            "{name:>5} {:>8} {:>16} {:>16} {:>9.4} %",
            cost.smis,
            cost.aperf,
            cost.cycles,
            cost.share * 100.0
        )
    };
    let mut lines = vec![
        "Cycles lost to SMIs, of those the CPUs were awake".to_owned(),
        format!(
            "{:>5} {:>8} {:>16} {:>16} {:>11}",
            "cpu", "SMIs", "awake (aperf)", "outside SMIs", "lost"
        ),
    ];
    lines.extend(costs.iter().map(|(cpu, cost)| row(&cpu.to_string(), cost)));
    if costs.len() > 1 {
        let total = SmiCost::total(costs.iter().map(|(_, cost)| *cost));
        lines.push(row("all", &total));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cpu_has_its_share_and_all_have_theirs() {
        let cost = SmiCost::of(3, 1_000_000, 990_000);
        let lines = table(&[(0, cost), (4, SmiCost::of(3, 3_000_000, 3_000_000))]);
        assert_eq!(lines.len(), 5, "{lines:#?}");
        for (line, name, lost) in [
            (2, "0", "1.0000 %"),
            (3, "4", "0.0000 %"),
            (4, "all", "0.2500 %"),
        ] {
            let line = &lines[line];
            assert!(line.trim_start().starts_with(name), "{line}");
            assert!(line.ends_with(lost), "{line}");
        }
        assert_eq!(table(&[(0, cost)]).len(), 3);
    }

    #[test]
    fn what_was_not_measured_is_not_told() {
        assert!(table(&[]).is_empty());
    }
}
