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
    let (text, received_at) = if let Some(record) = batch.records.first() {
        let row = record.row()?;
        if row.kind().is_quarantine() {
            return None;
        }
        (serde_json::to_string(record), row.received_at())
    } else if let Some(session) = batch.sessions.first() {
        (serde_json::to_string(session), session.opened_at)
    } else if let Some(gap) = batch.gaps.first() {
        (serde_json::to_string(gap), gap.detected_at)
    } else if let Some(refusal) = batch.refusals.first() {
        (serde_json::to_string(refusal), refusal.at)
    } else if let Some(mark) = batch.marks.first() {
        (serde_json::to_string(mark), mark.event_time.unwrap_or(Timestamp::UNIX_EPOCH))
    } else {
        let cursor = batch.cursors.first()?;
        (serde_json::to_string(cursor), cursor.event_time.unwrap_or(Timestamp::UNIX_EPOCH))
    };
    let text = text.unwrap_or_else(|e| format!("(unprintable row: {e})"));
    let row = Record::Rejected(Rejected::new(text.as_bytes(), reason, received_at));
    Some(Batch { records: vec![row], ..Batch::new(&batch.feed) })
}
