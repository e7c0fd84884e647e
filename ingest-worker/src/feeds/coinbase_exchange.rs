//! Coinbase Exchange market data: `wss://ws-feed.exchange.coinbase.com`, public; also its older recordings ("Pro").
//!
//! `sequence` counts over all channels of a product, so it orders but proves nothing; `trade_id` is dense per product,
//! and `last_match` after a subscription is the anchor after a reconnect. `side` is the maker's.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    FeedSettings, History, Message, Page, Plan, Request, StreamFeed, TradeIds, coinbase::float,
    coinbase::stream_error, each, from_json, not_asked,
};
use crate::{
    error::FeedError,
    exact::{Exact, Rfc3339, micros},
    kinds::{Aggressor, Bar, BarWidth, Quote, Record, Signal, Timestamp, Trade},
};

pub(super) const NAME: &str = "coinbase_exchange";
pub(super) const WEBSOCKET: &str = "wss://ws-feed.exchange.coinbase.com";
pub(super) const REST: &str = "https://api.exchange.coinbase.com";
const TRADES_PER_PAGE: usize = 1000;
const BARS_PER_PAGE: i64 = 300;

pub(super) struct CoinbaseExchange {
    settings: FeedSettings,
    rest: String,
}

impl CoinbaseExchange {
    pub(super) fn new(settings: FeedSettings) -> Self {
        let rest = settings.rest_url_or(REST);
        CoinbaseExchange { settings, rest }
    }

    fn trades_request(&self, history: &History) -> Option<Request> {
        let History::Trades { symbol, to_id, .. } = history else { return None };
        let after = to_id.map_or(String::new(), |id| format!("&after={}", id.saturating_add(1)));
        Some(Request {
            url: format!("{}/products/{symbol}/trades?limit={TRADES_PER_PAGE}{after}", self.rest),
            headers: Vec::new(),
            history: history.clone(),
        })
    }

    fn bars_request(&self, history: &History) -> Option<Request> {
        let History::Bars { symbol, width_seconds, from, to } = history else { return None };
        if ![60, 300, 900, 3600, 21600, 86400].contains(width_seconds) {
            return None;
        }
        let end = (*to).min(*from + chrono::TimeDelta::seconds(width_seconds * (BARS_PER_PAGE - 1)));
        Some(Request {
            url: format!(
                "{}/products/{symbol}/candles?start={}&end={}&granularity={width_seconds}",
                self.rest,
                from.timestamp(),
                end.timestamp()
            ),
            headers: Vec::new(),
            history: history.clone(),
        })
    }
}

/// The kind of a frame, read before the rest of it.
#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
}

/// `{"type":"match","trade_id":880012,"side":"buy","size":"0.0021","price":"91230.09","product_id":"BTC-USD",
/// "sequence":99210033140,"time":"2026-11-20T15:04:01.320118Z"}`; `last_match` has the same fields.
///
/// Vendor's description: <https://docs.cdp.coinbase.com/exchange/docs/websocket-channels>.
#[derive(Deserialize)]
struct Match<'a> {
    trade_id: i64,
    product_id: Option<&'a str>,
    price: Exact,
    size: Exact,
    side: &'a str,
    time: Rfc3339,
}

impl Match<'_> {
    fn record(self, symbol: &str, known_at: Timestamp, received_at: Timestamp) -> Record {
        Record::Trade(Trade {
            symbol: self.product_id.unwrap_or(symbol).to_owned(),
            trade_id: self.trade_id.to_string(),
            sequence: self.trade_id,
            event_time: self.time.0,
            price: self.price.0,
            size: self.size.0,
            side: Some(self.side.to_owned()),
            aggressor: Aggressor::parse(self.side).map(Aggressor::opposite),
            venue: None,
            conditions: None,
            received_at,
            known_at,
            corrects: None,
        })
    }
}

/// `{"type":"ticker","sequence":…,"product_id":"BTC-USD","best_bid":"…","best_bid_size":"…","best_ask":"…",
/// "best_ask_size":"…","time":"…Z",…}`; the sizes are missing in older recordings.
#[derive(Deserialize)]
struct Ticker<'a> {
    product_id: &'a str,
    best_bid: Option<Exact>,
    best_bid_size: Option<Exact>,
    best_ask: Option<Exact>,
    best_ask_size: Option<Exact>,
    sequence: i64,
    time: Option<Rfc3339>,
}

/// `{"type":"heartbeat","sequence":99210033150,"last_trade_id":880012,"product_id":"BTC-USD","time":"…Z"}`
#[derive(Deserialize)]
struct Heartbeat<'a> {
    product_id: &'a str,
    last_trade_id: i64,
}

/// `{"type":"subscriptions","channels":[{"name":"matches","product_ids":["BTC-USD"]}]}`
#[derive(Deserialize)]
struct Subscriptions {
    channels: Vec<Channel>,
}

#[derive(Deserialize)]
struct Channel {
    name: String,
    #[serde(default)]
    product_ids: Vec<String>,
}

/// `{"type":"error","message":"Failed to subscribe","reason":"x-usd is not a valid product"}`
#[derive(Deserialize)]
struct ErrorFrame {
    message: Option<String>,
    reason: Option<String>,
}

impl StreamFeed for CoinbaseExchange {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, _now: Timestamp) -> Option<Plan> {
        let mut channels = vec!["heartbeat"];
        channels.extend(self.settings.trades.then_some("matches"));
        channels.extend(self.settings.quotes.then_some("ticker"));
        let frame = serde_json::json!({
            "type": "subscribe", "product_ids": self.settings.symbols, "channels": channels,
        });
        Some(Plan {
            url: self.settings.url_or(WEBSOCKET),
            on_open: vec![Message::public(frame.to_string())],
            on_authenticated: Vec::new(),
        })
    }

    fn parse(&self, payload: &[u8], received_at: Timestamp) -> Result<Vec<Record>, FeedError> {
        let kind: Kind = from_json(payload)?;
        let record = match kind.kind {
            "match" | "last_match" => {
                let trade: Match = from_json(payload)?;
                let symbol =
                    trade.product_id.ok_or_else(|| FeedError::Rejected("match without product_id".into()))?;
                // The frame has no time of publication of its own.
                let known_at = received_at.max(trade.time.0);
                trade.record(symbol, known_at, received_at)
            }
            "ticker" => {
                let ticker: Ticker = from_json(payload)?;
                let event_time = ticker.time.map_or(received_at, |t| t.0);
                Record::Quote(Quote {
                    symbol: ticker.product_id.to_owned(),
                    event_time,
                    sequence: ticker.sequence,
                    bid: ticker.best_bid.map(|x| x.0),
                    bid_size: ticker.best_bid_size.map(|x| x.0),
                    ask: ticker.best_ask.map(|x| x.0),
                    ask_size: ticker.best_ask_size.map(|x| x.0),
                    bid_venue: None,
                    ask_venue: None,
                    conditions: None,
                    received_at,
                    known_at: received_at.max(event_time),
                })
            }
            "heartbeat" => {
                let heartbeat: Heartbeat = from_json(payload)?;
                // Zero has been sent for hours while trades went on: it tells nothing.
                return Ok(if heartbeat.last_trade_id > 0 {
                    vec![Record::Signal(Signal::NewestTrade {
                        symbol: heartbeat.product_id.to_owned(),
                        trade_id: heartbeat.last_trade_id,
                    })]
                } else {
                    vec![Record::Signal(Signal::Heartbeat { counter: None })]
                });
            }
            "subscriptions" => {
                let subscriptions: Subscriptions = from_json(payload)?;
                return Ok(subscriptions
                    .channels
                    .into_iter()
                    .map(|c| Record::Signal(Signal::Subscribed { channel: c.name, symbols: c.product_ids }))
                    .collect());
            }
            "error" => {
                let error: ErrorFrame = from_json(payload)?;
                let text = [error.message, error.reason].into_iter().flatten().collect::<Vec<_>>().join(": ");
                return Err(stream_error(&text));
            }
            // The vendor adds types without notice; order-book channels are not ours.
            _ => return Ok(Vec::new()),
        };
        Ok(vec![record])
    }

    fn request(&self, history: &History) -> Option<Request> {
        self.trades_request(history).or_else(|| self.bars_request(history))
    }

    fn parse_page(&self, request: &Request, body: &[u8], received_at: Timestamp) -> Result<Page, FeedError> {
        let items: Vec<&RawValue> = from_json(body)?;
        let mut records = Vec::new();
        match &request.history {
            History::Trades { symbol, from, to, from_id, .. } => {
                let mut oldest: Option<(i64, Timestamp)> = None;
                each(&items, received_at, &mut records, |item: Match| {
                    let place = (item.trade_id, item.time.0);
                    oldest = Some(oldest.map_or(place, |o| o.min(place)));
                    let known_at = item.time.0;
                    Ok(item.record(symbol, known_at, received_at))
                });
                let next = oldest.filter(|(id, time)| match from_id {
                    Some(first) => id > first,
                    None => time > from,
                });
                let next = next.and_then(|(id, _)| {
                    self.trades_request(&History::Trades {
                        symbol: symbol.clone(),
                        from: *from,
                        to: *to,
                        from_id: *from_id,
                        to_id: Some(id - 1),
                    })
                });
                Ok(Page { records, next })
            }
            History::Bars { symbol, width_seconds, from, to } => {
                // [time, low, high, open, close, volume]: low and high come before open.
                each(&items, received_at, &mut records, |item: (i64, Exact, Exact, Exact, Exact, Exact)| {
                    let (start, low, high, open, close, volume) = item;
                    let time = start
                        .checked_mul(1_000_000)
                        .and_then(micros)
                        .ok_or_else(|| format!("time {start} is out of range"))?;
                    let bar = Bar {
                        symbol: symbol.clone(),
                        width: BarWidth::of_seconds(*width_seconds),
                        time,
                        open: float(open)?,
                        high: float(high)?,
                        low: float(low)?,
                        close: float(close)?,
                        volume: Some(float(volume)?),
                        amount: None,
                        trade_count: None,
                        close_adj: None,
                        sequence: 0,
                        received_at,
                        known_at: time + chrono::TimeDelta::seconds(*width_seconds),
                    };
                    Ok(if bar.end() > received_at { Record::OpenBar(bar) } else { Record::Bar(bar) })
                });
                let from = *from + chrono::TimeDelta::seconds(width_seconds * BARS_PER_PAGE);
                let rest =
                    History::Bars { symbol: symbol.clone(), width_seconds: *width_seconds, from, to: *to };
                let next = if from < *to { self.bars_request(&rest) } else { None };
                Ok(Page { records, next })
            }
            History::Latest { .. } => Err(not_asked()),
        }
    }

    fn trade_ids(&self) -> TradeIds {
        TradeIds::Dense
    }

    fn request_interval(&self) -> Duration {
        Duration::from_millis(125)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<Record>, FeedError> {
        CoinbaseExchange::new(FeedSettings::default()).parse(text.as_bytes(), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn matches_name_the_maker_and_rows_the_aggressor() {
        let records = parse(r#"{"type":"last_match","trade_id":880011,"maker_order_id":"8c0e","taker_order_id":"f2aa","side":"sell","size":"0.0100","price":"91230.10","product_id":"BTC-USD","sequence":99210033111,"time":"2026-11-20T15:04:01.120031Z"}"#).unwrap();
        let [Record::Trade(trade)] = &records[..] else { panic!("{records:?}") };
        assert_eq!((trade.side.as_deref(), trade.aggressor), (Some("sell"), Some(Aggressor::Buy)));
        assert_eq!(trade.price.to_string(), "91230.10");
    }

    #[test]
    fn a_heartbeat_with_trade_id_zero_tells_nothing() {
        let frame = r#"{"type":"heartbeat","sequence":9,"last_trade_id":0,"product_id":"BTC-USD","time":"2026-11-20T15:04:02.000131Z"}"#;
        assert_eq!(parse(frame).unwrap(), [Record::Signal(Signal::Heartbeat { counter: None })]);
    }

    #[test]
    fn unknown_types_are_ignored_and_wrong_products_stop_the_feed() {
        assert_eq!(parse(r#"{"type":"l2update","product_id":"BTC-USD","changes":[]}"#).unwrap(), []);
        let error = parse(
            r#"{"type":"error","message":"Failed to subscribe","reason":"X-USD is not a valid product"}"#,
        );
        assert!(matches!(error, Err(FeedError::Fatal(text)) if text.contains("X-USD")));
    }

    #[test]
    fn trades_page_by_id() {
        let feed = CoinbaseExchange::new(FeedSettings::default());
        let at = |s: i64| micros(s * 1_000_000).unwrap();
        let history = History::Trades {
            symbol: "BTC-USD".into(),
            from: at(0),
            to: at(9),
            from_id: Some(5),
            to_id: Some(8),
        };
        let request = feed.request(&history).unwrap();
        assert!(request.url.ends_with("/products/BTC-USD/trades?limit=1000&after=9"), "{}", request.url);
        let body = br#"[{"time":"2026-11-20T15:04:01Z","trade_id":8,"price":"1","size":"2","side":"buy"},{"time":"2026-11-20T15:04:00Z","trade_id":7,"price":"1","size":"2","side":"buy"}]"#;
        let page = feed.parse_page(&request, body, at(9)).unwrap();
        assert_eq!(page.records.len(), 2);
        assert!(page.next.unwrap().url.ends_with("&after=7"));
        let body = br#"[{"time":"2026-11-20T15:04:01Z","trade_id":5,"price":"1","size":"2","side":"buy"}]"#;
        assert_eq!(feed.parse_page(&request, body, at(9)).unwrap().next, None);
    }
}
