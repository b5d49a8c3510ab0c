//! Several failures as one: none hides another.

use anyhow::{Error, anyhow};

/// One error that tells all of these, the same ones once; `None` if there is none.
pub(super) fn together(errors: impl IntoIterator<Item = Option<Error>>) -> Option<Error> {
    errors.into_iter().flatten().reduce(|first, next| {
        let (told, more) = (format!("{first:#}"), format!("{next:#}"));
        if told.contains(&more) {
            first
        } else {
            anyhow!("{told}; {more}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_errors_are_told_and_the_same_once() {
        assert!(together([None, None]).is_none());
        let one = || Some(anyhow!("the disk").context("cannot write"));
        let told = together([one(), None, one(), Some(anyhow!("other"))]).expect("errors");
        assert_eq!(format!("{told:#}"), "cannot write: the disk; other");
        let alone = together([None, one()]).expect("an error");
        assert_eq!(alone.to_string(), "cannot write");
    }
}
