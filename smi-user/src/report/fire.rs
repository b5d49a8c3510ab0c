//! What came of `smilat fire`, for people.

use std::fmt::Write as _;

use crate::{
    firing::{
        PORT,
        outcome::{Outcome, Verdict},
    },
    units::show_ns,
};

/// The whole report.
pub fn fire(outcome: &Outcome) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _written = write(&mut text, outcome);
    text
}

fn write(text: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let (order, writes) = (&outcome.order, &outcome.writes);
    writeln!(
        text,
        "{:#04x} written to port {PORT:#x} by CPU {}, {}",
        order.value,
        order.cpu,
        order.rhythm()
    )?;
    if writes.count < order.count {
        writeln!(text, "interrupted after {} of them", writes.count)?;
    }
    if writes.count > 0 {
        writeln!(
            text,
            "a write took min {}, mean {}, max {}, system call included\n  \
             a hint, no proof: one that raises an SMI takes several us, one that does nothing about 1 us or less",
            show_ns(writes.min_ns as f64),
            show_ns(writes.mean_ns()),
            show_ns(writes.max_ns as f64)
        )?;
    }
    if let Ok(counted) = &outcome.counted {
        writeln!(text, "\nSMIs counted: {}", counted.source)?;
        for caveat in &counted.caveats {
            writeln!(text, "  {caveat}")?;
        }
        writeln!(
            text,
            "{:>5} {:>12} {:>12} {:>12}",
            "cpu", "before", "after", "moved by"
        )?;
        for one in &counted.cpus {
            let number =
                |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |n| n.to_string());
            let mark = if one.cpu == order.cpu { "  wrote" } else { "" };
            writeln!(
                text,
                "{:>5} {:>12} {:>12} {:>12}{mark}",
                one.cpu,
                one.before,
                number(one.after),
                number(one.by())
            )?;
        }
        if let Some(highest) = outcome.highest_of_several() {
            writeln!(
                text,
                "the highest is CPU {}; the CPUs' counts must not be added up, since one SMI can stop and count on several",
                highest.cpu
            )?;
        }
    }
    writeln!(text, "\n{}", verdict(outcome))
}

fn verdict(outcome: &Outcome) -> String {
    let (cpu, writes) = (outcome.order.cpu, outcome.writes.count);
    match outcome.verdict() {
        Verdict::Proven if writes == 0 => {
            "Nothing was written, and nothing was counted.".to_owned()
        }
        Verdict::Proven => {
            format!("Proven: {writes} writes, and the counter of CPU {cpu} moved by {writes}.")
        }
        Verdict::Differs { moved: 0 } => format!(
            "Not proven: {writes} writes, but the counter of CPU {cpu} did not move. Nothing may listen to the port, or \
             the SMIs may have gone to other CPUs."
        ),
        Verdict::Differs { moved } if moved < writes => format!(
            "Not proven: {writes} writes, but the counter of CPU {cpu} moved by {moved} only. SMIs may have been merged \
             or gone to other CPUs; a longer --interval may help."
        ),
        Verdict::Differs { moved } => format!(
            "Not proven: {writes} writes, but the counter of CPU {cpu} moved by {moved}. Other SMIs came in between, or \
             each write raises more than one."
        ),
        Verdict::Unread => format!(
            "Not proven: {writes} writes, but the counter of CPU {cpu} could not be read afterwards."
        ),
        Verdict::NoCounter => format!(
            "Nothing proves that the {writes} writes raised SMIs: there is no SMI counter here. {}",
            outcome.counted.as_ref().err().map_or("", String::as_str)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firing::outcome::tests::outcome;

    #[test]
    fn the_report_has_every_cpu_the_caveats_and_the_durations() {
        let text = fire(&outcome(&[(7, Some(10)), (2, Some(5)), (0, None)]));
        for told in [
            "0x00 written to port 0xb2 by CPU 0, 3 times, 100 ms apart",
            "min 3.00 us, mean 5.00 us, max 9.00 us",
            "SMIs counted: a counter",
            "to bear in mind",
            "    0            7           10            3  wrote\n",
            "    1            2            5            3\n",
            "    2            0            -            -\n",
            "must not be added up",
            "Proven: 3 writes, and the counter of CPU 0 moved by 3.",
        ] {
            assert!(text.contains(told), "no \"{told}\" in:\n{text}");
        }
    }

    #[test]
    fn an_end_before_the_end_is_said() {
        let mut early = outcome(&[(0, Some(3))]);
        assert!(!fire(&early).contains("interrupted"));
        early.order.count = 9;
        let text = fire(&early);
        assert!(text.contains("interrupted after 3 of them"), "{text}");
        assert!(text.contains("Proven: 3 writes"), "{text}");
    }

    #[test]
    fn what_is_not_proven_is_said_with_what_may_be_behind_it() {
        for (counts, told) in [
            (&[(7, Some(7))][..], "did not move"),
            (&[(7, Some(9))], "moved by 2 only"),
            (&[(7, Some(11))], "moved by 4. Other SMIs"),
            (&[(7, None)], "could not be read afterwards"),
        ] {
            let text = fire(&outcome(counts));
            assert!(text.contains("Not proven") && text.contains(told), "{text}");
        }
        let uncounted = Outcome {
            counted: Err("msr/smi: only CPUs of Intel".to_owned()),
            ..outcome(&[])
        };
        let text = fire(&uncounted);
        assert!(
            text.contains("Nothing proves that the 3 writes raised SMIs"),
            "{text}"
        );
        assert!(text.contains("only CPUs of Intel"), "{text}");
    }
}
