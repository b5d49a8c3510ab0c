//! What `smilat verify` found, for people.

use std::fmt::Write as _;

use crate::verifying::{State, Step};

/// The whole report.
pub fn verify(steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps {
        let mark = match step.state {
            State::Proven => "proven",
            State::Refuted => "REFUTED",
            State::Unproven => "not proven",
        };
        // Writing to a string cannot fail.
        let _written = writeln!(
            text,
            "{mark:<11} {}\n            {}",
            step.claim, step.evidence
        );
    }
    let _written = writeln!(text, "\n{}", verdict(steps));
    text
}

fn verdict(steps: &[Step]) -> String {
    let count = |state| steps.iter().filter(|step| step.state == state).count();
    let (refuted, unproven) = (count(State::Refuted), count(State::Unproven));
    match (refuted, unproven) {
        (0, 0) => {
            "Verified: what fires, what counts, what detects and what attributes agree.".to_owned()
        }
        (0, unproven) => format!(
            "Not verified: {unproven} of {} steps cannot be proven here; nothing speaks against them.",
            steps.len()
        ),
        (refuted, 0) => format!("Failed: {refuted} of {} steps are refuted.", steps.len()),
        (refuted, unproven) => format!(
            "Failed: {refuted} of {} steps are refuted, and {unproven} cannot be proven.",
            steps.len()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_is_that_of_the_worst_step() {
        let step = |state| Step {
            claim: "a claim",
            state,
            evidence: "an evidence".to_owned(),
        };
        for (states, told) in [
            (&[State::Proven, State::Proven][..], "Verified:"),
            (&[State::Proven, State::Unproven], "Not verified: 1 of 2"),
            (
                &[State::Refuted, State::Proven],
                "Failed: 1 of 2 steps are refuted.",
            ),
            (
                &[State::Refuted, State::Unproven],
                "are refuted, and 1 cannot be proven",
            ),
        ] {
            let steps: Vec<Step> = states.iter().copied().map(step).collect();
            let text = verify(&steps);
            assert!(text.contains(told), "{text}");
            assert!(
                text.contains("a claim\n            an evidence\n"),
                "{text}"
            );
        }
    }
}
