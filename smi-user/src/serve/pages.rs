//! Answers that are made once for each snapshot, however many ask.

use std::{
    collections::HashMap,
    io::Write as _,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};

use crate::{
    model::Snapshot,
    report::prometheus::{self, About, EncodeError, Form, Served},
};

/// Which page: its form, and whether it is compressed.
type Key = (Form, bool);

/// See the module.
#[derive(Default)]
pub(super) struct Pages(Mutex<Made>);

#[derive(Default)]
struct Made {
    of: Option<Arc<Snapshot>>,
    pages: HashMap<Key, Bytes>,
}

impl Pages {
    /// `snapshot` as `form`, compressed by gzip if asked for.
    ///
    /// # Errors
    /// When it cannot be written in that form.
    pub(super) fn get(
        &self,
        form: Form,
        gzip: bool,
        snapshot: &Arc<Snapshot>,
        about: &About,
        served: &Served,
    ) -> Result<Bytes, EncodeError> {
        // Whoever panicked with it left whole pages at worst too few of them.
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if made.of.as_ref().is_none_or(|of| !Arc::ptr_eq(of, snapshot)) {
            *made = Made {
                of: Some(Arc::clone(snapshot)),
                pages: HashMap::new(),
            };
        }
        if let Some(page) = made.pages.get(&(form, gzip)) {
            return Ok(page.clone());
        }
        let plain = match made.pages.get(&(form, false)) {
            Some(plain) => plain.clone(),
            None => prometheus::encode(form, snapshot, about, served)?,
        };
        made.pages.insert((form, false), plain.clone());
        if !gzip {
            return Ok(plain);
        }
        let packed = compressed(&plain);
        made.pages.insert((form, true), packed.clone());
        Ok(packed)
    }
}

fn compressed(plain: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing to memory does not fail.
    match encoder.write_all(plain).and_then(|()| encoder.finish()) {
        Ok(packed) => packed.into(),
        Err(error) => {
            log::error!("metrics could not be compressed: {error}");
            Bytes::new()
        }
    }
}
