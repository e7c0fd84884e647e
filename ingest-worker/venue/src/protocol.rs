//! The vendors, and how they number their trades.

use crate::trade::Trade;

/// Exchange code of every trade of Alpaca.
pub(crate) const ALPACA_EXCHANGE: &str = "V";

/// Whose frames are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Coinbase,
    CoinbaseExchange,
    Kraken,
    /// Stocks; the stream names no aggressor.
    Alpaca,
    AlpacaCrypto,
    /// History alone.
    Yahoo,
    /// Asked again and again.
    Hello,
}

impl Protocol {
    /// Name of the feed in the worker's configuration.
    pub fn feed(self) -> &'static str {
        match self {
            Protocol::Coinbase => "coinbase",
            Protocol::CoinbaseExchange => "coinbase_exchange",
            Protocol::Kraken => "kraken",
            Protocol::Alpaca => "alpaca",
            Protocol::AlpacaCrypto => "alpaca_crypto",
            Protocol::Yahoo => "yahoo",
            Protocol::Hello => "hello",
        }
    }

    /// Trades that fit into one frame.
    pub fn packed(self) -> usize {
        if self == Protocol::CoinbaseExchange { 1 } else { 8 }
    }

    /// `trade_id` of a trade as the tables have it.
    pub fn trade_id(self, trade: &Trade) -> String {
        match self {
            // Unique per exchange only.
            Protocol::Alpaca => format!("{ALPACA_EXCHANGE}:{}", trade.id),
            _ => trade.id.to_string(),
        }
    }
}
