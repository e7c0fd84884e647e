//! An exchange for tests: it publishes a fixed list of trades in a vendor's own frames and answers the vendor's REST
//! questions about them. Pure; [`server`] puts it behind sockets, and the worker's simulated network behind none.
//!
//! It is written from the vendors' descriptions and shares no code with the worker, so a misreading of one is not
//! repeated by the other.

mod alpaca;
mod bars;
mod hello;
mod protocol;
mod question;
mod rest;
pub mod server;
mod trade;

pub use alpaca::{KEY, SECRET};
pub use protocol::Protocol;
pub use trade::Trade;
use trade::rfc3339;

/// The exchange: its trades in the order they are published.
#[derive(Clone, Debug)]
pub struct Venue {
    pub protocol: Protocol,
    pub trades: Vec<Trade>,
    /// Whether the server publishes a quote after each frame of trades.
    pub has_quotes: bool,
}

impl Venue {
    /// The frame that publishes `trades` (one of them where the protocol packs none), and its number in the connection.
    pub fn frame(&self, trades: &[Trade], sequence: i64) -> String {
        match self.protocol {
            Protocol::Coinbase => {
                // Newest first, as the venue packs them.
                let items: Vec<_> = trades
                    .iter()
                    .rev()
                    .map(|t| {
                        format!(
                            r#"{{"trade_id":"{}","product_id":"{}","price":"{}","size":"{}","side":"{}","time":"{}"}}"#,
                            t.id,
                            t.symbol,
                            t.price,
                            t.size,
                            if t.is_buy { "BUY" } else { "SELL" },
                            rfc3339(t.micros)
                        )
                    })
                    .collect();
                let published = rfc3339(trades.last().map_or(0, |t| t.micros + 1_000));
                format!(
                    r#"{{"channel":"market_trades","client_id":"","timestamp":"{published}","sequence_num":{sequence},"events":[{{"type":"update","trades":[{}]}}]}}"#,
                    items.join(",")
                )
            }
            Protocol::CoinbaseExchange => {
                let Some(t) = trades.first() else { return String::new() };
                format!(
                    r#"{{"type":"match","trade_id":{},"maker_order_id":"m","taker_order_id":"t","side":"{}","size":"{}","price":"{}","product_id":"{}","sequence":{},"time":"{}"}}"#,
                    t.id,
                    // The maker's side.
                    if t.is_buy { "sell" } else { "buy" },
                    t.size,
                    t.price,
                    t.symbol,
                    t.id * 7,
                    rfc3339(t.micros)
                )
            }
            Protocol::Kraken => {
                let items: Vec<_> = trades
                    .iter()
                    .map(|t| {
                        format!(
                            r#"{{"symbol":"{}","side":"{}","price":{},"qty":{},"ord_type":"market","trade_id":{},"timestamp":"{}"}}"#,
                            t.symbol,
                            if t.is_buy { "buy" } else { "sell" },
                            t.price,
                            t.size,
                            t.id,
                            rfc3339(t.micros)
                        )
                    })
                    .collect();
                format!(r#"{{"channel":"trade","type":"update","data":[{}]}}"#, items.join(","))
            }
            Protocol::Alpaca | Protocol::AlpacaCrypto => alpaca::trades(self.protocol, trades),
            Protocol::Yahoo | Protocol::Hello => String::new(),
        }
    }

    /// The frame that publishes the best bid and ask after `trade`: a cent below and above its price, sizes 1 and 2.
    pub fn quote(&self, trade: &Trade, sequence: i64) -> String {
        let (bid, ask) = quote_prices(trade);
        let time = rfc3339(trade.micros);
        match self.protocol {
            Protocol::Coinbase => format!(
                r#"{{"channel":"ticker","client_id":"","timestamp":"{time}","sequence_num":{sequence},"events":[{{"type":"update","tickers":[{{"type":"ticker","product_id":"{}","price":"{}","best_bid":"{bid}","best_bid_quantity":"1","best_ask":"{ask}","best_ask_quantity":"2"}}]}}]}}"#,
                trade.symbol, trade.price
            ),
            Protocol::CoinbaseExchange => format!(
                r#"{{"type":"ticker","sequence":{},"product_id":"{}","price":"{}","best_bid":"{bid}","best_bid_size":"1","best_ask":"{ask}","best_ask_size":"2","time":"{time}"}}"#,
                trade.id * 7,
                trade.symbol,
                trade.price
            ),
            Protocol::Kraken => format!(
                r#"{{"channel":"ticker","type":"update","data":[{{"symbol":"{}","bid":{bid},"bid_qty":1,"ask":{ask},"ask_qty":2,"last":{},"timestamp":"{time}"}}]}}"#,
                trade.symbol, trade.price
            ),
            Protocol::Alpaca | Protocol::AlpacaCrypto => alpaca::quote(trade, &bid, &ask),
            Protocol::Yahoo | Protocol::Hello => String::new(),
        }
    }

    /// Whether `message` asks for data, so that publication to this listener begins.
    pub fn is_subscription(&self, message: &str) -> bool {
        match self.protocol {
            Protocol::Alpaca | Protocol::AlpacaCrypto => message.contains(r#""action":"subscribe""#),
            _ => true,
        }
    }

    /// The sign of life the venue sends each second; `published` trades are out.
    pub fn heartbeat(&self, published: usize, counter: i64, sequence: i64) -> Vec<String> {
        match self.protocol {
            Protocol::Coinbase => vec![format!(
                r#"{{"channel":"heartbeats","client_id":"","timestamp":"2026-11-20T15:04:07Z","sequence_num":{sequence},"events":[{{"current_time":"2026-11-20 15:04:07.000 +0000 UTC m=+1","heartbeat_counter":{counter}}}]}}"#
            )],
            Protocol::CoinbaseExchange => {
                let mut newest = std::collections::BTreeMap::<&str, &Trade>::new();
                for trade in &self.trades[..published] {
                    newest.insert(&trade.symbol, trade);
                }
                newest
                    .into_values()
                    .map(|t| {
                        format!(
                            r#"{{"type":"heartbeat","sequence":{},"last_trade_id":{},"product_id":"{}","time":"{}"}}"#,
                            t.id * 7 + 1,
                            t.id,
                            t.symbol,
                            rfc3339(t.micros)
                        )
                    })
                    .collect()
            }
            Protocol::Kraken => vec![r#"{"channel":"heartbeat"}"#.to_owned()],
            // The peer's pong is its only sign of life.
            Protocol::Alpaca | Protocol::AlpacaCrypto | Protocol::Yahoo | Protocol::Hello => Vec::new(),
        }
    }

    /// The answers to a subscribe message.
    pub fn acknowledge(&self, message: &str) -> Vec<String> {
        let message: serde_json::Value = serde_json::from_str(message).unwrap_or_default();
        match self.protocol {
            Protocol::Coinbase => vec![format!(
                r#"{{"channel":"subscriptions","client_id":"","timestamp":"2026-11-20T15:04:07Z","sequence_num":0,"events":[{{"subscriptions":{{{}:{}}}}}]}}"#,
                message["channel"], message["product_ids"]
            )],
            Protocol::CoinbaseExchange => vec![format!(
                r#"{{"type":"subscriptions","channels":[{{"name":"matches","product_ids":{}}}]}}"#,
                message["product_ids"]
            )],
            Protocol::Kraken => {
                let symbols = message["params"]["symbol"].as_array().cloned().unwrap_or_default();
                symbols
                    .iter()
                    .map(|symbol| {
                        format!(
                            r#"{{"method":"subscribe","result":{{"channel":{},"symbol":{symbol},"snapshot":true}},"success":true,"req_id":1}}"#,
                            message["params"]["channel"]
                        )
                    })
                    .collect()
            }
            Protocol::Alpaca | Protocol::AlpacaCrypto => alpaca::acknowledge(&message),
            Protocol::Yahoo | Protocol::Hello => Vec::new(),
        }
    }
}

/// Best bid and ask after a trade, to the digits of its price.
pub fn quote_prices(trade: &Trade) -> (String, String) {
    let cents: i64 = trade.price.replace('.', "").parse().unwrap_or(0);
    let written = |cents: i64| format!("{}.{:02}", cents / 100, cents % 100);
    (written(cents - 1), written(cents + 1))
}
