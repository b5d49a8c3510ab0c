//! The machine's tasks (`/proc/PID/task/TID/`, proc(5)).

use std::fs;

/// One that runs, or waits and takes no signals meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Number of the thread.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// `R`, running or ready, or `D`, waiting.
    pub state: char,
    /// Its stack in the kernel, a line for each frame; empty where there is none or it is not shown.
    pub stack: String,
}

/// All of them; those that end meanwhile are left out.
pub fn busy() -> Vec<Task> {
    let numbers = |folder: String| {
        fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
    };
    let mut tasks: Vec<Task> = numbers("/proc".to_owned())
        .flat_map(|process| {
            numbers(format!("/proc/{process}/task"))
                .filter_map(move |thread| task(&format!("/proc/{process}/task/{thread}"), thread))
        })
        .collect();
    tasks.sort_by_key(|task| task.id);
    tasks
}

fn task(folder: &str, id: u32) -> Option<Task> {
    let (name, state) = name_and_state(&fs::read_to_string(format!("{folder}/stat")).ok()?)?;
    matches!(state, 'R' | 'D').then(|| Task {
        id,
        name,
        state,
        stack: fs::read_to_string(format!("{folder}/stack")).unwrap_or_default(),
    })
}

/// The second and third field; the name may hold anything, brackets too.
fn name_and_state(stat: &str) -> Option<(String, char)> {
    let begin = stat.find('(')?;
    let end = stat.rfind(')')?;
    let name = stat.get(begin + 1..end)?.to_owned();
    let state = stat.get(end + 1..)?.trim_start().chars().next()?;
    Some((name, state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_hold_anything() {
        for (stat, name, state) in [
            ("1 (init) S 0 1", "init", 'S'),
            ("77 (a) R (b)) D 1", "a) R (b)", 'D'),
        ] {
            assert_eq!(name_and_state(stat), Some((name.to_owned(), state)));
        }
        assert_eq!(name_and_state("1 init S"), None);
    }

    #[test]
    fn this_thread_runs() {
        let name = fs::read_to_string("/proc/thread-self/comm").expect("a name");
        assert!(
            busy()
                .iter()
                .any(|task| task.name == name.trim_end() && task.state == 'R')
        );
    }
}
