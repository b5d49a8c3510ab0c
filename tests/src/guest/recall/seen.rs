//! What was told of the SMIs that came while a tool watched, gap by gap or window by window.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::{
    measured::RECORDING,
    symbols::Symbols,
    truth::{AllTold, Fired, Told, WIDTH, apart},
};

/// How many were seen as gaps. Says of each that was not where it was.
pub(super) fn gaps(fired: &[Fired], told: &AllTold, symbols: &Symbols) -> Value {
    let (mut seen, mut shared, mut missed, mut recording) = (0, 0, 0, 0);
    let mut used = vec![false; told.as_slice().len()];
    for (number, (one, found)) in fired.iter().zip(told.of_each(fired)).enumerate() {
        if let Some(place) = found {
            used[place] = true;
        }
        // The CPU did not get to the next reading of its clock between the two.
        let is_shared = found.is_none() && told.fitting(one).next().is_some();
        let (before, after) = around(one, told);
        match (one.is_inside, found.is_some() || is_shared) {
            (true, true) => {
                seen += 1;
                shared += u32::from(is_shared);
            }
            (true, false) => {
                missed += 1;
                let earlier = number.checked_sub(1).map(|number| &fired[number]);
                println!(
                    "    missed: SMI {number} of {} us in {}; {} after a gap, {} before the next, {} after the SMI before",
                    one.length_ns() / 1000,
                    symbols.place_of(one.smi.rip),
                    micros(before),
                    micros(after),
                    micros(earlier.map(|earlier| apart(one.begin, earlier.end))),
                );
            }
            (false, false) if !one.smi.interrupts_on => {
                recording += u32::from(before.is_some_and(|since| since < RECORDING));
            }
            (false, _) => {}
        }
    }
    let other_ns = || {
        let unused = told
            .as_slice()
            .iter()
            .zip(&used)
            .filter(|(_, used)| !**used);
        unused.map(|(told, _)| told.duration_ns)
    };
    json!({
        "seen": seen,
        "shared": shared,
        "missed": missed,
        "recording": recording,
        "others": other_ns().count(),
        "others_longest_us": other_ns().max().unwrap_or_default() / 1000,
    })
}

/// From the end of the gap before, and to the begin of the gap after it.
fn around(one: &Fired, told: &AllTold) -> (Option<Duration>, Option<Duration>) {
    let told = told.as_slice();
    let after = told.partition_point(|gap| gap.end <= one.begin);
    let before = after
        .checked_sub(1)
        .map(|before| apart(one.begin, told[before].end));
    let after = told.get(after).map(|gap| {
        let begin = gap.end - Duration::from_nanos(gap.duration_ns);
        begin.duration_since(one.end).unwrap_or_default()
    });
    (before, after)
}

fn micros(time: Option<Duration>) -> String {
    time.map_or_else(
        || "long".to_owned(),
        |time| format!("{} us", time.as_micros()),
    )
}

/// A window in which SMIs came while it was sampled.
struct Window<'a> {
    first: &'a Fired,
    last: &'a Fired,
}

/// Interrupts stay off in a window, and it has its width.
fn with_smis(fired: &[Fired]) -> Vec<Window<'_>> {
    let mut windows: Vec<Window<'_>> = Vec::new();
    let mut is_new = true;
    for one in fired {
        if !one.is_inside {
            is_new |= one.smi.interrupts_on;
            continue;
        }
        match windows.last_mut() {
            Some(last) if !is_new && apart(one.begin, last.first.begin) <= WIDTH => last.last = one,
            _ => windows.push(Window {
                first: one,
                last: one,
            }),
        }
        is_new = false;
    }
    windows
}

/// How many windows with SMIs were told.
pub(super) fn windows(fired: &[Fired], mut told: Vec<Told>) -> Value {
    /// What two clocks may differ by.
    const CLOCKS: Duration = Duration::from_millis(1);
    told.sort_by_key(|one| one.end);
    let windows = with_smis(fired);
    let mut used = vec![false; told.len()];
    let mut seen = 0;
    for window in &windows {
        // It is dated by its first gap, which may be another; tools cut parts of a microsecond off.
        let fits = |one: &Told| {
            (window.first.begin - WIDTH..window.last.end + CLOCKS).contains(&one.end)
                && one.duration_ns + 1_000 >= window.first.length_ns().min(window.last.length_ns())
        };
        let found = (0..told.len())
            .filter(|place| !used[*place] && fits(&told[*place]))
            .min_by_key(|place| apart(told[*place].end, window.first.end));
        if let Some(place) = found {
            used[place] = true;
            seen += 1;
        }
    }
    // One SMI at least may be in any other window: those that came while it was entered or left.
    let explained = |one: &Told| {
        let begin = one.end - Duration::from_nanos(one.duration_ns);
        let after = fired.partition_point(|fired| fired.end < begin);
        fired
            .get(after)
            .is_some_and(|next| next.begin < one.end + WIDTH)
    };
    let others = told
        .iter()
        .zip(&used)
        .filter(|(told, used)| !**used && !explained(told));
    json!({
        "with_smis": windows.len(),
        "seen": seen,
        "others": others.count(),
    })
}
