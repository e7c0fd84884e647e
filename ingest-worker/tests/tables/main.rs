//! What the worker leaves in real tables.

// This file is tests alone, where a panic is how a failure is told.
#![allow(clippy::unwrap_used)]

#[path = "../database/mod.rs"]
mod database;
mod documents;
mod factors;
mod metrics;
mod queue;
mod resume;
mod store;
mod writer;

use kronos_ingest::{
    exact::micros,
    kinds::{Quote, Record, Timestamp, Trade},
    store::{Batch, GapRow, GapStatus},
};

/// 2023-11-14 22:13:20 UTC.
const START: i64 = 1_700_000_000;

fn at(second: i64) -> Timestamp {
    micros((START + second) * 1_000_000).unwrap()
}

/// A trade that is known by its number, one each second.
fn trade(id: i64) -> Trade {
    Trade {
        symbol: "AAA".to_owned(),
        trade_id: id.to_string(),
        sequence: id,
        event_time: at(id),
        price: 100.into(),
        size: 1.into(),
        side: None,
        aggressor: None,
        venue: None,
        conditions: None,
        received_at: at(id),
        known_at: at(id),
        corrects: None,
    }
}

fn trades(feed: &str, trades: impl IntoIterator<Item = Trade>) -> Batch {
    Batch { records: trades.into_iter().map(Record::Trade).collect(), ..Batch::new(feed) }
}

/// A quote whose bid is its number, one each second.
fn quote(id: i64) -> Quote {
    Quote {
        symbol: "AAA".to_owned(),
        event_time: at(id),
        sequence: 1,
        bid: Some(id.into()),
        bid_size: None,
        ask: None,
        ask_size: None,
        bid_venue: None,
        ask_venue: None,
        conditions: None,
        received_at: at(id),
        known_at: at(id),
    }
}

/// Trades 11 to 13 are missing.
fn gap(status: GapStatus) -> GapRow {
    GapRow {
        channel: "trades".to_owned(),
        symbol: "AAA".to_owned(),
        cause: "id".to_owned(),
        from_seq: 11,
        to_seq: 13,
        from_time: Some(at(10)),
        to_time: Some(at(14)),
        detected_at: at(14),
        status,
        filled_at: None,
        filled_rows: None,
        note: None,
    }
}
