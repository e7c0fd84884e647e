//! What feeds deliver, normalised: one type per kind of row, and the signals that carry no row.
//!
//! Records keep the spelling of prices and sizes exactly (`Decimal` with its scale), because `market.trades` stores
//! them as `numeric`; only bars, which are derived by their publisher, are `f64`.

use std::borrow::Cow;

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// An instant in UTC; PostgreSQL keeps its microseconds.
pub type Timestamp = DateTime<Utc>;

/// Side that took liquidity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggressor {
    Buy,
    Sell,
}

impl Aggressor {
    /// The word stored in `market.trades.aggressor`.
    pub fn as_str(self) -> &'static str {
        match self {
            Aggressor::Buy => "buy",
            Aggressor::Sell => "sell",
        }
    }

    /// The other side: a maker's side names the aggressor's opposite.
    pub fn opposite(self) -> Self {
        match self {
            Aggressor::Buy => Aggressor::Sell,
            Aggressor::Sell => Aggressor::Buy,
        }
    }

    /// Reads `buy`/`sell` in any case, and Kraken's `b`/`s`.
    pub fn parse(side: &str) -> Option<Self> {
        match side {
            "buy" | "BUY" | "b" => Some(Aggressor::Buy),
            "sell" | "SELL" | "s" => Some(Aggressor::Sell),
            _ => None,
        }
    }
}

/// One executed trade, a row of `market.trades`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trade {
    /// Spelling of the feed until the stream maps it to the canonical symbol.
    pub symbol: String,
    pub trade_id: String,
    /// Order among trades of one instant; the trade id itself where ids are dense.
    pub sequence: i64,
    pub event_time: Timestamp,
    pub price: Decimal,
    pub size: Decimal,
    pub side: Option<String>,
    pub aggressor: Option<Aggressor>,
    pub venue: Option<String>,
    pub conditions: Option<Vec<String>>,
    pub received_at: Timestamp,
    pub known_at: Timestamp,
    /// `trade_id` of the cancelled trade this one replaces.
    pub corrects: Option<String>,
}

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

/// A bar as published by a source, a row of `market.bars`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    pub symbol: String,
    /// Width in seconds; 86400 is a daily bar.
    pub width_seconds: i64,
    /// Start of the bar.
    pub time: Timestamp,
    pub open: f64,
    pub high: f64,
    pub low: f64,
    pub close: f64,
    pub volume: Option<f64>,
    pub amount: Option<f64>,
    pub trade_count: Option<i64>,
    pub close_adj: Option<f64>,
    /// Revision: the higher one wins in the table, whatever arrives last.
    pub sequence: i64,
    pub received_at: Timestamp,
    pub known_at: Timestamp,
}

impl Bar {
    /// End of the bar: the earliest instant at which it is known.
    pub fn end(&self) -> Timestamp {
        self.time + TimeDelta::seconds(self.width_seconds)
    }
}

/// Notice that a trade is taken back, a row of `market.trade_cancels`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cancel {
    pub symbol: String,
    pub trade_id: String,
    pub cancelled_at: Timestamp,
    /// Whether another trade replaces it.
    pub is_correction: bool,
    pub received_at: Timestamp,
}

/// What could not be read, a row of `market.rejected_rows`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rejected {
    pub received_at: Timestamp,
    pub reason: String,
    pub payload: String,
    pub digest: [u8; 32],
}

impl Rejected {
    /// Bytes of a payload that are kept; the digest covers all of it.
    pub const MAX_PAYLOAD: usize = 8192;

    /// Quarantines `payload`: invalid UTF-8 and what [`clean`] replaces are replaced, the rest is cut.
    pub fn new(payload: &[u8], reason: impl Into<String>, received_at: Timestamp) -> Self {
        let head = &payload[..payload.len().min(Self::MAX_PAYLOAD)];
        let payload_text = clean(&String::from_utf8_lossy(head)).into_owned();
        let reason = clean(&reason.into()).into_owned();
        Rejected { received_at, reason, payload: payload_text, digest: digest(payload) }
    }
}

/// A text of a venue as it is stored: NUL, which `text` cannot hold, and other control characters, which would command the
/// terminals of those who read it, are replaced by U+FFFD; tabs and ends of lines stay.
pub fn clean(text: &str) -> Cow<'_, str> {
    let commands = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r');
    match text.contains(commands) {
        true => Cow::Owned(text.replace(commands, "\u{fffd}")),
        false => Cow::Borrowed(text),
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).into()
}

/// What a frame says about the stream itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Signal {
    /// Sequence number of the frame within its connection; consecutive numbers differ by one.
    FrameSequence(i64),
    /// Sign of life; the counter, where there is one, rises by one.
    Heartbeat { counter: Option<i64> },
    /// The subscription is confirmed for these symbols (spelling of the feed).
    Subscribed { channel: String, symbols: Vec<String> },
    /// The subscription is refused; the rest of the connection is sound.
    Refused { channel: String, symbol: String, reason: String },
    /// The feed asks for the credentials message and confirms it.
    Authenticated,
    /// Newest trade id of a symbol, as told by a heartbeat.
    NewestTrade { symbol: String, trade_id: i64 },
    /// State of the venue's matching engine, for the log.
    System { status: String },
}

/// One decoded item of a frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Record {
    Trade(Trade),
    Quote(Quote),
    /// A finished bar.
    Bar(Bar),
    /// A bar that may still change; it is final when a later one of the same series starts.
    OpenBar(Bar),
    Cancel(Cancel),
    Rejected(Rejected),
    Signal(Signal),
}

impl Record {
    /// The symbol of the row, to be replaced by its canonical spelling; `None` for signals and rejected rows.
    pub fn symbol_mut(&mut self) -> Option<&mut String> {
        match self {
            Record::Trade(trade) => Some(&mut trade.symbol),
            Record::Quote(quote) => Some(&mut quote.symbol),
            Record::Bar(bar) | Record::OpenBar(bar) => Some(&mut bar.symbol),
            Record::Cancel(cancel) => Some(&mut cancel.symbol),
            Record::Signal(Signal::NewestTrade { symbol, .. }) => Some(symbol),
            Record::Rejected(_) | Record::Signal(_) => None,
        }
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

    #[test]
    fn rejected_payloads_can_be_stored_as_text() {
        let rejected = Rejected::new(b"\xff\0{", "bad", Timestamp::UNIX_EPOCH);
        assert_eq!(rejected.payload, "\u{fffd}\u{fffd}{");
    }
}
