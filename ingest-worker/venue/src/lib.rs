//! An exchange for tests: it publishes a fixed list of trades in a vendor's own frames and answers the vendor's REST
//! questions about them. Pure; [`server`] puts it behind sockets, and the worker's simulated network behind none.
//!
//! It is written from the vendors' descriptions and shares no code with the worker, so a misreading of one is not
//! repeated by the other.

pub mod server;

use chrono::{DateTime, SecondsFormat};

/// One trade of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trade {
    /// Spelling of the vendor.
    pub symbol: String,
    /// Dense per symbol, from 1.
    pub id: i64,
    /// Microseconds since 1970.
    pub micros: i64,
    pub price: String,
    pub size: String,
    /// Side of the aggressor.
    pub is_buy: bool,
}

/// Whose frames are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Coinbase,
    CoinbaseExchange,
    Kraken,
}

/// The exchange: its trades in the order they are published.
#[derive(Clone, Debug)]
pub struct Venue {
    pub protocol: Protocol,
    pub trades: Vec<Trade>,
}

/// Trades of one REST page.
const PAGE: usize = 1_000;

fn rfc3339(micros: i64) -> String {
    DateTime::from_timestamp_micros(micros).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Micros, true)
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
        }
    }

    /// Status and body of the answer to `GET target` while `published` trades are out.
    pub fn answer(&self, target: &str, published: usize) -> (u16, String) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let parameter = |name: &str| {
            query
                .split('&')
                .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name).map(|(_, v)| v))
        };
        let out = &self.trades[..published];
        match self.protocol {
            Protocol::Coinbase if path.ends_with("/ticker") => {
                let symbol = path.split('/').rev().nth(1).unwrap_or_default();
                let second = |name| parameter(name).and_then(|v| v.parse::<i64>().ok());
                let (start, end) =
                    (second("start").unwrap_or(0), second("end").unwrap_or(i64::MAX / 1_000_000));
                let chosen = out.iter().rev().filter(|t| t.symbol == symbol);
                let inside = chosen.filter(|t| (start * 1_000_000..=end * 1_000_000).contains(&t.micros));
                let items: Vec<_> = inside
                    .take(PAGE)
                    .map(|t| {
                        format!(
                            r#"{{"trade_id":"{}","product_id":"{}","price":"{}","size":"{}","time":"{}","side":"{}"}}"#,
                            t.id,
                            t.symbol,
                            t.price,
                            t.size,
                            rfc3339(t.micros),
                            if t.is_buy { "BUY" } else { "SELL" }
                        )
                    })
                    .collect();
                (200, format!(r#"{{"trades":[{}],"best_bid":"1","best_ask":"2"}}"#, items.join(",")))
            }
            Protocol::CoinbaseExchange if path.ends_with("/trades") => {
                let symbol = path.split('/').rev().nth(1).unwrap_or_default();
                let after = parameter("after").and_then(|v| v.parse().ok()).unwrap_or(i64::MAX);
                let chosen = out.iter().rev().filter(|t| t.symbol == symbol && t.id < after);
                let items: Vec<_> = chosen
                    .take(PAGE)
                    .map(|t| {
                        format!(
                            r#"{{"time":"{}","trade_id":{},"price":"{}","size":"{}","side":"{}"}}"#,
                            rfc3339(t.micros),
                            t.id,
                            t.price,
                            t.size,
                            if t.is_buy { "sell" } else { "buy" }
                        )
                    })
                    .collect();
                (200, format!("[{}]", items.join(",")))
            }
            Protocol::Kraken if path.ends_with("/Trades") => {
                let pair = parameter("pair").unwrap_or_default();
                let since = parameter("since").and_then(|v| v.parse::<i64>().ok()).unwrap_or(0);
                let named = |symbol: &str| symbol.replace("BTC", "XBT").replace('/', "") == pair;
                let chosen = out.iter().filter(|t| named(&t.symbol) && t.micros * 1_000 > since);
                let page: Vec<_> = chosen.take(PAGE).collect();
                let items: Vec<_> = page
                    .iter()
                    .map(|t| {
                        format!(
                            r#"["{}","{}",{}.{:06},"{}","m","",{}]"#,
                            t.price,
                            t.size,
                            t.micros / 1_000_000,
                            t.micros % 1_000_000,
                            if t.is_buy { "b" } else { "s" },
                            t.id
                        )
                    })
                    .collect();
                let last = page.last().map_or(since, |t| t.micros * 1_000);
                (
                    200,
                    format!(r#"{{"error":[],"result":{{"X{pair}":[{}],"last":"{last}"}}}}"#, items.join(",")),
                )
            }
            _ => (404, "<html>not found</html>".to_owned()),
        }
    }
}
