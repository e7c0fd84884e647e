//! Batches in parts: what the database refuses is halved until it is alone, then put into quarantine.

use super::batch::Batch;
use crate::kinds::{Record, Rejected, Timestamp};

/// The rows in two parts of a size.
pub(super) fn halves(batches: &[Batch], total: usize) -> Vec<Vec<Batch>> {
    let (mut front, mut back) = (Vec::new(), Vec::new());
    let mut seen = 0;
    for batch in batches {
        let mut early = Batch::new(&batch.feed);
        // Cursors and gaps are proven by all rows of their batch, so they go with its last one.
        let mut late = Batch { records: Vec::new(), ..batch.clone() };
        for record in &batch.records {
            seen += 1;
            if seen <= total / 2 {
                early.records.push(record.clone())
            } else {
                late.records.push(record.clone())
            }
        }
        front.push(early);
        back.push(late);
    }
    vec![front, back]
}

/// A batch of one row, or of one piece of bookkeeping, as a row of the quarantine; `None` where it is one already, or empty.
pub(super) fn quarantined(batch: &Batch, reason: &str) -> Option<Batch> {
    let text =
        |printed: serde_json::Result<String>| printed.unwrap_or_else(|e| format!("(unprintable row: {e})"));
    let (text, received_at) = match (batch.records.first(), batch.sessions.first(), batch.gaps.first()) {
        (Some(record), ..) => {
            let row = record.row()?;
            if row.kind().is_quarantine() {
                return None;
            }
            (text(serde_json::to_string(record)), row.received_at())
        }
        (_, Some(session), _) => (text(serde_json::to_string(session)), session.opened_at),
        (_, _, Some(gap)) => (text(serde_json::to_string(gap)), gap.detected_at),
        _ => {
            let cursor = batch.cursors.first()?;
            (text(serde_json::to_string(cursor)), cursor.event_time.unwrap_or(Timestamp::UNIX_EPOCH))
        }
    };
    let row = Record::Rejected(Rejected::new(text.as_bytes(), reason, received_at));
    Some(Batch { records: vec![row], ..Batch::new(&batch.feed) })
}
