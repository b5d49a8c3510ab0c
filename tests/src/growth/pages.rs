//! How large the page for Prometheus is, at the start and after long.

use std::{collections::BTreeSet, io::Write as _, sync::Arc};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use serde::Serialize;
use smi_user::{
    model::Snapshot,
    report::prometheus::{About, Form},
    serve::GapPages,
};

use super::{Failure, widened};

/// The size of a page.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Size {
    /// Series it makes in a server that takes histograms as classic ones.
    series: usize,
    /// Series it makes in a server that takes native histograms.
    native_series: usize,
    /// Bytes as `OpenMetrics` text.
    text: usize,
    /// Bytes of that as servers fetch it, compressed.
    text_packed: usize,
    /// Bytes as protobuf, which servers ask for that take native histograms.
    protobuf: usize,
    /// Bytes of that, compressed.
    protobuf_packed: usize,
}

impl Size {
    /// That of the page of `snapshot`, if its machine had so many CPUs.
    ///
    /// # Errors
    /// When the page cannot be written.
    pub fn of(snapshot: &Snapshot, cpus: u32) -> Result<Self, Failure> {
        let text = encoded(snapshot, cpus, Form::OpenMetrics)?;
        let protobuf = encoded(snapshot, cpus, Form::Protobuf)?;
        let [series, native_series] = series(std::str::from_utf8(&text)?);
        Ok(Self {
            series,
            native_series,
            text: text.len(),
            text_packed: packed(&text)?,
            protobuf: protobuf.len(),
            protobuf_packed: packed(&protobuf)?,
        })
    }
}

/// The page of `snapshot` as `OpenMetrics`, if its machine had so many CPUs.
///
/// # Errors
/// When it cannot be written.
pub fn text(snapshot: &Snapshot, cpus: u32) -> Result<String, Failure> {
    Ok(String::from_utf8(
        encoded(snapshot, cpus, Form::OpenMetrics)?.to_vec(),
    )?)
}

fn encoded(snapshot: &Snapshot, cpus: u32, form: Form) -> Result<Bytes, Failure> {
    let mut pages = GapPages::new(About {
        started: snapshot.time,
        hardlimit: None,
        per_cpu_histograms: false,
    });
    let page = pages.page(&Arc::new(widened(snapshot, cpus)));
    Ok(page.encode(form, 0)?)
}

/// Bytes left of `plain` by the compression that the server of metrics uses.
fn packed(plain: &[u8]) -> std::io::Result<usize> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(plain)?;
    Ok(packer.finish()?.len())
}

/// Samples of an `OpenMetrics` page, each of which is a series, and how many there are when a histogram is a single one.
fn series(text: &str) -> [usize; 2] {
    let histograms: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" histogram"))
        .collect();
    let mut all = 0;
    let mut native = 0;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        all += 1;
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        let part = histograms
            .iter()
            .find_map(|histogram| name.strip_prefix(histogram));
        native += usize::from(matches!(part, None | Some("_count")));
    }
    [all, native]
}
