//! What feeds say that is no row.

use serde::{Deserialize, Serialize};

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

impl Signal {
    /// The symbol that it is about, where the stream maps it.
    pub(super) fn symbol_mut(&mut self) -> Option<&mut String> {
        match self {
            Signal::NewestTrade { symbol, .. } => Some(symbol),
            _ => None,
        }
    }
}
