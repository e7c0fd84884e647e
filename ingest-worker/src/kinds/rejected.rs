//! What could not be read, or not be stored.

use serde::{Deserialize, Serialize};
use tokio_postgres::types::{ToSql, Type};

use super::{Kind, Placed, Record, Row, Timestamp, Values, digest};
use crate::text::clean;

/// What could not be read, a row of `market.rejected_rows`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rejected {
    pub received_at: Timestamp,
    pub reason: String,
    pub payload: String,
    /// SHA-256 of the whole payload.
    pub digest: Vec<u8>,
}

impl Rejected {
    /// Bytes of a payload that are kept; the digest covers all of it.
    pub const MAX_PAYLOAD: usize = 8192;

    /// Quarantines `payload`: invalid UTF-8 and what [`clean`] replaces are replaced, the rest is cut.
    pub fn new(payload: &[u8], reason: impl Into<String>, received_at: Timestamp) -> Self {
        let head = &payload[..payload.len().min(Self::MAX_PAYLOAD)];
        let payload_text = clean(&String::from_utf8_lossy(head)).into_owned();
        let reason = clean(&reason.into()).into_owned();
        Rejected { received_at, reason, payload: payload_text, digest: digest(payload).to_vec() }
    }
}

impl Row for Rejected {
    fn kind(&self) -> &'static dyn Kind {
        &RejectedRows
    }

    fn received_at(&self) -> Timestamp {
        self.received_at
    }
}

/// The kind of [`Rejected`].
pub struct RejectedRows;

const COLUMNS: &[(&str, Type)] = &[
    ("feed", Type::TEXT),
    ("received_at", Type::TIMESTAMPTZ),
    ("reason", Type::TEXT),
    ("payload", Type::TEXT),
    ("digest", Type::BYTEA),
];

impl Kind for RejectedRows {
    fn table(&self) -> &'static str {
        "rejected_rows"
    }

    fn columns(&self) -> &'static [(&'static str, Type)] {
        COLUMNS
    }

    fn values<'r>(&self, row: &'r Placed<'r>, values: &mut Values<'r>) {
        let Record::Rejected(r) = row.record else { return };
        let row: [&(dyn ToSql + Sync); COLUMNS.len()] =
            [&row.source.name, &r.received_at, &r.reason, &r.payload, &r.digest];
        values.extend(row);
    }

    fn is_quarantine(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejected_payloads_are_cut_but_digested_whole() {
        let long = vec![b'x'; Rejected::MAX_PAYLOAD + 1];
        let a = Rejected::new(&long, "too long", Timestamp::UNIX_EPOCH);
        let b = Rejected::new(&long[1..], "too long", Timestamp::UNIX_EPOCH);
        assert_eq!(a.payload, b.payload);
        assert_ne!(a.digest, b.digest);
    }

    #[test]
    fn rejected_payloads_can_be_stored_as_text() {
        let rejected = Rejected::new(b"\xff\0{", "bad", Timestamp::UNIX_EPOCH);
        assert_eq!(rejected.payload, "\u{fffd}\u{fffd}{");
    }
}
