//! One JSON object a line for each snapshot.

use bytes::Bytes;
use serde::Serialize;

use super::Report;
use crate::model::Snapshot;

/// See the module. The fields are those of [`Snapshot`].
#[derive(Debug, Default)]
pub struct Ndjson;

impl Ndjson {
    /// The line of `object`, which has string keys and finite numbers only.
    pub(crate) fn line(object: &impl Serialize) -> Bytes {
        match serde_json::to_vec(object) {
            Ok(mut line) => {
                line.push(b'\n');
                line.into()
            }
            // It cannot fail with such an object.
            Err(error) => {
                log::error!("a line could not be written as JSON: {error}");
                Bytes::new()
            }
        }
    }
}

impl Report for Ndjson {
    fn plan(&mut self, _plan: &str) -> Bytes {
        Bytes::new()
    }

    fn interval(&mut self, snapshot: &Snapshot) -> Bytes {
        Self::line(snapshot)
    }

    fn end(&mut self, snapshot: &Snapshot) -> Bytes {
        Self::line(snapshot)
    }
}
