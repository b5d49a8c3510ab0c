//! One JSON object a line for each snapshot.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;

use super::Report;
use crate::model::Snapshot;

/// See the module. The fields are those of [`Snapshot`].
#[derive(Debug, Default)]
pub struct Ndjson;

impl Ndjson {
    /// The line of `object`, which has string keys and finite numbers only.
    pub(crate) fn line(object: &impl Serialize) -> Bytes {
        let mut line = BytesMut::new().writer();
        // Neither part can fail: the writer grows, and such an object can be written.
        if let Err(error) = serde_json::to_writer(&mut line, object) {
            log::error!("a line could not be written as JSON: {error}");
            return Bytes::new();
        }
        let mut line = line.into_inner();
        line.put_u8(b'\n');
        line.freeze()
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
