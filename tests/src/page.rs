//! The HTML report in a browser, for tests. With `SMILAT_SCREENSHOTS=FOLDER` pictures are kept there, to be looked at.

use std::{env, fs, path::Path};

use serde_json::{Value, json};
use smi_user::{
    model::{Comparison, Summary},
    report,
};
use tempfile::TempDir;

use crate::{
    browser::Browser,
    day::{comparison, day},
};

/// No page is larger, in bytes.
pub const LARGEST: usize = 5_000_000;

/// A page in a browser, with what it was made of.
pub struct Shown {
    /// The browser.
    pub browser: Browser,
    /// What the page tells.
    pub summaries: Vec<Summary>,
    /// What the places in the page point into.
    pub source: Value,
    /// Where the page is.
    pub folder: TempDir,
}

impl Shown {
    /// The page of these recordings, opened.
    ///
    /// # Panics
    /// When it is too large, or there is no browser.
    #[must_use]
    pub fn new(summaries: Vec<Summary>, comparisons: &[Comparison]) -> Self {
        let page = report::html(&summaries, comparisons);
        assert!(page.len() < LARGEST, "{} bytes", page.len());
        let folder = TempDir::new().expect("a folder");
        let file = folder.path().join("report.html");
        fs::write(&file, &page).expect("write");
        if let Some(kept) = env::var_os("SMILAT_SCREENSHOTS") {
            let name = format!("{}.html", summaries.len());
            fs::write(Path::new(&kept).join(name), &page).expect("write");
        }
        let mut browser = Browser::start();
        browser.look(1280, "light");
        browser.open(&file);
        let source = json!({ "summaries": summaries, "comparisons": comparisons });
        Self {
            browser,
            summaries,
            source,
            folder,
        }
    }

    /// That of a recording.
    #[must_use]
    pub fn one() -> Self {
        Self::new(vec![day("cell-07.ndjson", 8, 7)], &[])
    }

    /// That of two, compared.
    #[must_use]
    pub fn two() -> Self {
        let both = vec![
            day("before-bios-update.ndjson", 4, 7),
            day("after-bios-update.ndjson", 4, 8),
        ];
        let compared = comparison(&both[0], &both[1]);
        Self::new(both, &[compared])
    }
}

/// Keeps a picture of the whole page, if that is wanted.
///
/// # Panics
/// When it cannot be taken or kept.
pub fn picture(shown: &mut Shown, name: &str) {
    if env::var_os("SMILAT_SCREENSHOTS").is_some() {
        let taken = shown.browser.call(
            "Page.captureScreenshot",
            &json!({ "captureBeyondViewport": true }),
        );
        keep(
            shown,
            &format!("{name}.png"),
            taken["data"].as_str().expect("base64"),
        );
    }
}

/// Keeps what the browser made of the page as `name`, if that is wanted.
///
/// # Panics
/// When it cannot be written.
pub fn keep(shown: &Shown, name: &str, base64: &str) {
    if let Some(folder) = env::var_os("SMILAT_SCREENSHOTS") {
        let name = format!("{}-{name}.base64", shown.summaries.len());
        fs::write(Path::new(&folder).join(name), base64).expect("write");
    }
}
