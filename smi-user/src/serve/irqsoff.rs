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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::irqsoff::made_up::snapshot;

    #[test]
    fn what_was_counted_is_exported_and_what_was_not_is_zero() {
        let page = IrqsoffPage {
            started: Timestamp::UNIX_EPOCH,
            snapshot: snapshot(),
        };
        let text = page.encode(Form::Text, 3).expect("text");
        let text = String::from_utf8(text.to_vec()).expect("UTF-8");
        for line in [
            "smilat_irqsoff_stretches_total{cpu=\"1\",kind=\"disabled\"} 1",
            "smilat_irqsoff_stretches_total{cpu=\"0\",kind=\"disabled\"} 0",
            "smilat_irqsoff_stretches_total{cpu=\"1\",kind=\"steal\"} 0",
            "smilat_irqsoff_stretch_seconds_total{cpu=\"1\",kind=\"disabled\"} 0.542",
            "smilat_irqsoff_stretch_max_seconds{cpu=\"1\",kind=\"disabled\"} 0.542",
            "smilat_irqsoff_stretch_length_seconds_count{kind=\"disabled\"} 1",
            "smilat_irqsoff_ticks_missed_total{cpu=\"1\"} 54",
            "smilat_irqsoff_threshold_seconds 0.04",
            "smilat_irqsoff_entries_total{outcome=\"logged\"} 1",
            "smilat_http_connections_displaced_total 3",
        ] {
            assert!(text.lines().any(|had| had == line), "no {line} in\n{text}");
        }
    }
}
