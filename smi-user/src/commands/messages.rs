//! What commands tell people beside their reports, on standard error.

use std::io::Write as _;

/// Messages for people are one plain sentence; those of `-v` have time and place too.
pub(super) fn init(level: log::LevelFilter) {
    let mut logger = env_logger::Builder::new();
    logger.filter_level(level);
    if level < log::LevelFilter::Debug {
        logger.format(|out, record| writeln!(out, "smilat: {}", record.args()));
    }
    logger.init();
}
