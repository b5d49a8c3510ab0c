//! Pages of what `smilat irqsoff` counts.

use bytes::Bytes;
use jiff::Timestamp;

use super::pages::Page;
use crate::{
    model::irqsoff::IrqsoffSnapshot,
    report::prometheus::{self, EncodeError, Form},
};

/// What was counted since `started`.
pub struct IrqsoffPage {
    /// See there.
    pub started: Timestamp,
    /// Up to then.
    pub snapshot: IrqsoffSnapshot,
}

impl Page for IrqsoffPage {
    fn interval(&self) -> u64 {
        self.snapshot.interval
    }

    fn is_last(&self) -> bool {
        self.snapshot.last
    }

    fn encode(&self, form: Form, connections_displaced: u64) -> Result<Bytes, EncodeError> {
        prometheus::encode_irqsoff(form, &self.snapshot, self.started, connections_displaced)
    }
}
