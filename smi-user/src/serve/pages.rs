//! Answers that are made once for each snapshot, however many ask.

use std::{
    collections::HashMap,
    io::Write as _,
    ptr,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};

use crate::report::prometheus::{EncodeError, Form};

/// What is told of a moment; another one of the same kind takes its place.
pub trait Page: Send + Sync {
    /// Number of the interval that it ends.
    fn interval(&self) -> u64;

    /// Whether nothing follows it.
    fn is_last(&self) -> bool;

    /// It as `form`, and what the server knows beside: connections that were closed to make room for others.
    ///
    /// # Errors
    /// When it cannot be written in that form.
    fn encode(&self, form: Form, connections_displaced: u64) -> Result<Bytes, EncodeError>;
}

/// Which page: its form, and whether it is compressed.
type Key = (Form, bool);

/// See the module.
#[derive(Default)]
pub(super) struct Pages(Mutex<Made>);

#[derive(Default)]
struct Made {
    of: Option<Arc<dyn Page>>,
    pages: HashMap<Key, Bytes>,
}

impl Pages {
    /// `page` as `form`, compressed by gzip if asked for.
    ///
    /// # Errors
    /// When it cannot be written in that form.
    pub(super) fn get(
        &self,
        form: Form,
        gzip: bool,
        page: &Arc<dyn Page>,
        connections_displaced: u64,
    ) -> Result<Bytes, EncodeError> {
        // Whoever panicked with it left whole pages at worst too few of them.
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if made
            .of
            .as_ref()
            .is_none_or(|of| !ptr::addr_eq(Arc::as_ptr(of), Arc::as_ptr(page)))
        {
            *made = Made {
                of: Some(Arc::clone(page)),
                pages: HashMap::new(),
            };
        }
        if let Some(had) = made.pages.get(&(form, gzip)) {
            return Ok(had.clone());
        }
        let plain = match made.pages.get(&(form, false)) {
            Some(plain) => plain.clone(),
            None => page.encode(form, connections_displaced)?,
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
