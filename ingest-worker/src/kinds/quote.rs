//! Best bids and asks.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use tokio_postgres::types::{ToSql, Type};

use super::{Kind, Placed, Record, Row, Timestamp, Values, digest};

/// Best bid and ask, a row of `market.quotes`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quote {
    pub symbol: String,
    pub event_time: Timestamp,
    /// Tells quotes of one instant apart; see [`Quote::content_sequence`].
    pub sequence: i64,
    pub bid: Option<Decimal>,
    pub bid_size: Option<Decimal>,
    pub ask: Option<Decimal>,
    pub ask_size: Option<Decimal>,
    pub bid_venue: Option<String>,
    pub ask_venue: Option<String>,
    pub conditions: Option<Vec<String>>,
    pub received_at: Timestamp,
    pub known_at: Timestamp,
}

impl Quote {
    /// A number made from the content of the quote, for feeds that number nothing.
    ///
    /// The same quote gives the same number in every connection, so a repeated frame stays one row, and two different
    /// quotes of one instant stay two. 63 bits of SHA-256: stable across releases, unlike the standard hasher.
    pub fn content_sequence(&self) -> i64 {
        let text = format!(
            "{:?}|{:?}|{:?}|{:?}|{:?}|{:?}",
            self.bid, self.bid_size, self.ask, self.ask_size, self.bid_venue, self.ask_venue
        );
        let digest = digest(text.as_bytes());
        let mut head = [0; 8];
        head.copy_from_slice(&digest[..8]);
        i64::from_be_bytes(head) & i64::MAX
    }
}

impl Row for Quote {
    fn kind(&self) -> &'static dyn Kind {
        &Quotes
    }

    fn symbol_mut(&mut self) -> Option<&mut String> {
        Some(&mut self.symbol)
    }

    fn instrument(&self) -> Option<&str> {
        Some(&self.symbol)
    }

    fn received_at(&self) -> Timestamp {
        self.received_at
    }
}

/// The kind of [`Quote`].
pub struct Quotes;

const COLUMNS: &[(&str, Type)] = &[
    ("symbol", Type::TEXT),
    ("feed", Type::TEXT),
    ("event_time", Type::TIMESTAMPTZ),
    ("sequence", Type::INT8),
    ("bid", Type::NUMERIC),
    ("bid_size", Type::NUMERIC),
    ("ask", Type::NUMERIC),
    ("ask_size", Type::NUMERIC),
    ("bid_venue", Type::TEXT),
    ("ask_venue", Type::TEXT),
    ("conditions", Type::TEXT_ARRAY),
    ("received_at", Type::TIMESTAMPTZ),
    ("known_at", Type::TIMESTAMPTZ),
];

impl Kind for Quotes {
    fn table(&self) -> &'static str {
        "quotes"
    }

    fn columns(&self) -> &'static [(&'static str, Type)] {
        COLUMNS
    }

    fn values<'r>(&self, row: &'r Placed<'r>, values: &mut Values<'r>) {
        let Record::Quote(q) = row.record else { return };
        let row: [&(dyn ToSql + Sync); COLUMNS.len()] = [
            &q.symbol,
            &row.source.name,
            &q.event_time,
            &q.sequence,
            &q.bid,
            &q.bid_size,
            &q.ask,
            &q.ask_size,
            &q.bid_venue,
            &q.ask_venue,
            &q.conditions,
            &q.received_at,
            &q.known_at,
        ];
        values.extend(row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_of_one_instant_that_differ_in_anything_have_numbers_of_their_own() {
        let quote = Quote {
            symbol: "AAA".to_owned(),
            event_time: Timestamp::UNIX_EPOCH,
            sequence: 0,
            bid: Some(1.into()),
            bid_size: Some(2.into()),
            ask: Some(3.into()),
            ask_size: Some(4.into()),
            bid_venue: Some("V".to_owned()),
            ask_venue: Some("W".to_owned()),
            conditions: None,
            received_at: Timestamp::UNIX_EPOCH,
            known_at: Timestamp::UNIX_EPOCH,
        };
        let others = [
            Quote { bid: Some(9.into()), ..quote.clone() },
            Quote { bid_size: None, ..quote.clone() },
            Quote { ask: Some(9.into()), ..quote.clone() },
            Quote { ask_size: Some(9.into()), ..quote.clone() },
            Quote { bid_venue: Some("X".to_owned()), ..quote.clone() },
            Quote { ask_venue: None, ..quote.clone() },
        ];
        let numbers: std::collections::BTreeSet<i64> =
            others.iter().chain([&quote]).map(Quote::content_sequence).collect();
        assert_eq!(numbers.len(), 7);
        let again = Quote { received_at: Timestamp::MAX_UTC, ..quote.clone() };
        assert_eq!(again.content_sequence(), quote.content_sequence(), "a repeated frame stays one row");
    }
}
