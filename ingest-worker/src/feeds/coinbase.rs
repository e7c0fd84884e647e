//! Coinbase Advanced Trade market data: `wss://advanced-trade-ws.coinbase.com`, public or with a key.
//!
//! Frames are an envelope with a sequence number per connection and a list of events; trades come several to an event,
//! newest first. The side of `market_trades` is the aggressor's (the Exchange feed of the same venue names the maker's);
//! `side` keeps the text, so that a wrong convention can be put right later.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    FeedSettings, History, Message, Page, Plan, Request, StreamFeed, TradeIds, cdp_token::CdpKey, each,
    from_json, not_asked, published,
};
use crate::{
    error::FeedError,
    exact::{Exact, Rfc3339, Whole, micros},
    kinds::{Aggressor, Bar, BarWidth, Quote, Record, Signal, Timestamp, Trade},
};

pub(super) const NAME: &str = "coinbase";
pub(super) const WEBSOCKET: &str = "wss://advanced-trade-ws.coinbase.com";
pub(super) const REST: &str = "https://api.coinbase.com";
/// Trades of one `ticker` response.
const TRADES_PER_PAGE: usize = 1000;
/// Bars of one `candles` response.
const BARS_PER_PAGE: i64 = 350;

pub(super) struct Coinbase {
    settings: FeedSettings,
    rest: String,
    key: Option<CdpKey>,
}

impl Coinbase {
    /// # Errors
    /// A key that is none.
    pub(super) fn new(settings: FeedSettings) -> Result<Self, String> {
        let rest = settings.rest_url_or(REST);
        let key = CdpKey::of(&settings)?;
        Ok(Coinbase { settings, rest, key })
    }

    /// Asks for a channel, with a token of its own where there is a key.
    fn subscribe(&self, channel: &str, products: Option<&[String]>, now: Timestamp) -> Message {
        let mut frame = serde_json::json!({"type": "subscribe", "channel": channel});
        if let Some(products) = products {
            frame["product_ids"] = products.into();
        }
        if let Some(key) = &self.key {
            frame["jwt"] = key.token(channel, now).into();
        }
        Message { text: frame.to_string(), is_secret: self.key.is_some() }
    }

    fn trades_request(&self, history: &History) -> Option<Request> {
        let History::Trades { symbol, from, to, .. } = history else { return None };
        Some(Request {
            url: format!(
                "{}/api/v3/brokerage/market/products/{symbol}/ticker?limit={TRADES_PER_PAGE}&start={}&end={}",
                self.rest,
                from.timestamp(),
                to.timestamp() + 1
            ),
            headers: Vec::new(),
            history: history.clone(),
        })
    }

    fn bars_request(&self, history: &History) -> Option<Request> {
        let History::Bars { symbol, width_seconds, from, to } = history else { return None };
        let granularity = granularity(*width_seconds)?;
        // The interface answers for both ends, hence one bar less than its limit.
        let end = (*to).min(*from + chrono::TimeDelta::seconds(width_seconds * (BARS_PER_PAGE - 1)));
        Some(Request {
            url: format!(
                "{}/api/v3/brokerage/market/products/{symbol}/candles?start={}&end={}&granularity={granularity}",
                self.rest,
                from.timestamp(),
                end.timestamp()
            ),
            headers: Vec::new(),
            history: history.clone(),
        })
    }
}

/// `{"channel":"market_trades","client_id":"","timestamp":"2026-11-20T15:04:05.120034Z","sequence_num":418,"events":[…]}`
///
/// Vendor's description: <https://docs.cdp.coinbase.com/advanced-trade/docs/ws-channels>.
#[derive(Deserialize)]
struct Envelope<'a> {
    channel: Option<&'a str>,
    timestamp: Option<Rfc3339>,
    sequence_num: Option<i64>,
    #[serde(borrow, default)]
    events: Vec<Event<'a>>,
    #[serde(rename = "type")]
    kind: Option<&'a str>,
    #[serde(borrow)]
    message: Option<std::borrow::Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    trades: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    tickers: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    candles: Vec<&'a RawValue>,
    heartbeat_counter: Option<Whole>,
    #[serde(default)]
    subscriptions: std::collections::BTreeMap<String, Vec<String>>,
}

/// `{"trade_id":"1102003344","product_id":"BTC-USD","price":"91234.56","size":"0.0021","side":"SELL","time":"…Z"}`
#[derive(Deserialize)]
struct TradeItem<'a> {
    trade_id: Whole,
    product_id: &'a str,
    price: Exact,
    size: Exact,
    side: &'a str,
    time: Rfc3339,
}

impl TradeItem<'_> {
    fn record(self, known_at: Timestamp, received_at: Timestamp) -> Record {
        Record::Trade(Trade {
            symbol: self.product_id.to_owned(),
            trade_id: self.trade_id.0.to_string(),
            sequence: self.trade_id.0,
            event_time: self.time.0,
            price: self.price.0,
            size: self.size.0,
            side: Some(self.side.to_owned()),
            aggressor: Aggressor::parse(self.side),
            venue: None,
            conditions: None,
            received_at,
            known_at,
            corrects: None,
        })
    }
}

/// `{"type":"ticker","product_id":"BTC-USD","best_bid":"91234.55","best_bid_quantity":"0.40","best_ask":"91234.56",…}`
#[derive(Deserialize)]
struct TickerItem<'a> {
    product_id: &'a str,
    best_bid: Option<Exact>,
    best_bid_quantity: Option<Exact>,
    best_ask: Option<Exact>,
    best_ask_quantity: Option<Exact>,
}

/// `{"start":"1763510400","low":"…","high":"…","open":"…","close":"…","volume":"…","product_id":"BTC-USD"}`
#[derive(Deserialize)]
struct CandleItem<'a> {
    start: Whole,
    low: Exact,
    high: Exact,
    open: Exact,
    close: Exact,
    volume: Exact,
    product_id: Option<&'a str>,
}

impl CandleItem<'_> {
    fn bar(
        self,
        symbol: &str,
        width_seconds: i64,
        sequence: i64,
        received_at: Timestamp,
    ) -> Result<Bar, String> {
        let time = self
            .start
            .0
            .checked_mul(1_000_000)
            .and_then(micros)
            .ok_or_else(|| format!("start {} is out of range", self.start.0))?;
        Ok(Bar {
            symbol: self.product_id.unwrap_or(symbol).to_owned(),
            width: BarWidth::of_seconds(width_seconds),
            time,
            open: float(self.open)?,
            high: float(self.high)?,
            low: float(self.low)?,
            close: float(self.close)?,
            volume: Some(float(self.volume)?),
            amount: None,
            trade_count: None,
            close_adj: None,
            sequence,
            received_at,
            known_at: time + chrono::TimeDelta::seconds(width_seconds),
        })
    }
}

/// The double next to the text of a decimal.
pub(super) fn float(value: Exact) -> Result<f64, String> {
    value.0.to_string().parse().map_err(|e| format!("{}: {e}", value.0))
}

impl StreamFeed for Coinbase {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, now: Timestamp) -> Option<Plan> {
        let channels = [
            (self.settings.trades, "market_trades"),
            (self.settings.quotes, "ticker"),
            // The channel serves one width.
            (self.settings.bars.contains(&300), "candles"),
        ];
        let mut on_open: Vec<_> = channels
            .iter()
            .filter(|(wanted, _)| *wanted)
            .map(|(_, channel)| self.subscribe(channel, Some(&self.settings.symbols), now))
            .collect();
        // Without it most channels close after a minute without updates.
        on_open.push(self.subscribe("heartbeats", None, now));
        Some(Plan { url: self.settings.url_or(WEBSOCKET), on_open, on_authenticated: Vec::new() })
    }

    fn parse(&self, payload: &[u8], received_at: Timestamp) -> Result<Vec<Record>, FeedError> {
        let frame: Envelope = from_json(payload)?;
        if frame.kind == Some("error") {
            return Err(stream_error(frame.message.as_deref().unwrap_or("error without a message")));
        }
        let published_at = frame.timestamp.map(|t| t.0);
        let mut records = Vec::new();
        records.extend(frame.sequence_num.map(|n| Record::Signal(Signal::FrameSequence(n))));
        for event in frame.events {
            each(&event.trades, received_at, &mut records, |item: TradeItem| {
                let known_at = published(item.time.0, published_at, received_at);
                Ok(item.record(known_at, received_at))
            });
            each(&event.tickers, received_at, &mut records, |item: TickerItem| {
                let event_time = published_at.ok_or("ticker frame without a timestamp")?;
                let mut quote = Quote {
                    symbol: item.product_id.to_owned(),
                    event_time,
                    sequence: 0,
                    bid: item.best_bid.map(|x| x.0),
                    bid_size: item.best_bid_quantity.map(|x| x.0),
                    ask: item.best_ask.map(|x| x.0),
                    ask_size: item.best_ask_quantity.map(|x| x.0),
                    bid_venue: None,
                    ask_venue: None,
                    conditions: None,
                    received_at,
                    known_at: event_time,
                };
                quote.sequence = quote.content_sequence();
                Ok(Record::Quote(quote))
            });
            each(&event.candles, received_at, &mut records, |item: CandleItem| {
                let symbol = item.product_id.ok_or("candle without product_id")?.to_owned();
                let sequence = published_at.unwrap_or(received_at).timestamp_micros();
                item.bar(&symbol, 300, sequence, received_at).map(Record::OpenBar)
            });
            if let Some(counter) = event.heartbeat_counter {
                records.push(Record::Signal(Signal::Heartbeat { counter: Some(counter.0) }));
            }
            records.extend(
                event
                    .subscriptions
                    .into_iter()
                    .map(|(channel, symbols)| Record::Signal(Signal::Subscribed { channel, symbols })),
            );
        }
        if frame.channel.is_none() {
            return Err(FeedError::Rejected("frame without a channel".to_owned()));
        }
        Ok(records)
    }

    fn request(&self, history: &History) -> Option<Request> {
        self.trades_request(history).or_else(|| self.bars_request(history))
    }

    fn parse_page(&self, request: &Request, body: &[u8], received_at: Timestamp) -> Result<Page, FeedError> {
        #[derive(Deserialize)]
        struct Body<'a> {
            #[serde(borrow)]
            trades: Option<Vec<&'a RawValue>>,
            #[serde(borrow)]
            candles: Option<Vec<&'a RawValue>>,
        }
        let body: Body = from_json(body)?;
        let mut records = Vec::new();
        match &request.history {
            History::Trades { symbol, from, from_id, to_id, .. } => {
                let trades =
                    body.trades.ok_or_else(|| FeedError::Rejected("response without trades".into()))?;
                let mut oldest: Option<(i64, Timestamp)> = None;
                each(&trades, received_at, &mut records, |item: TradeItem| {
                    let place = (item.trade_id.0, item.time.0);
                    oldest = Some(oldest.map_or(place, |o| o.min(place)));
                    // Published live by the venue when it happened, whenever we ask for it.
                    let known_at = item.time.0;
                    Ok(item.record(known_at, received_at))
                });
                let next = oldest.filter(|(id, time)| {
                    trades.len() >= TRADES_PER_PAGE && from_id.is_none_or(|first| *id > first) && time > from
                });
                let next = next.and_then(|(_, to)| {
                    let rest = History::Trades {
                        symbol: symbol.clone(),
                        from: *from,
                        to,
                        from_id: *from_id,
                        to_id: *to_id,
                    };
                    // A second that holds more than a page cannot be paged further by time.
                    (rest != request.history).then(|| self.trades_request(&rest)).flatten()
                });
                Ok(Page { records, next })
            }
            History::Bars { symbol, width_seconds, from, to } => {
                let bars =
                    body.candles.ok_or_else(|| FeedError::Rejected("response without candles".into()))?;
                each(&bars, received_at, &mut records, |item: CandleItem| {
                    let bar = item.bar(symbol, *width_seconds, 0, received_at)?;
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
        // Ten a second: the public limit of the Exchange interface, below that of this one.
        Duration::from_millis(100)
    }
}

fn granularity(width_seconds: i64) -> Option<&'static str> {
    Some(match width_seconds {
        60 => "ONE_MINUTE",
        300 => "FIVE_MINUTE",
        900 => "FIFTEEN_MINUTE",
        1800 => "THIRTY_MINUTE",
        3600 => "ONE_HOUR",
        7200 => "TWO_HOUR",
        21600 => "SIX_HOUR",
        86400 => "ONE_DAY",
        _ => return None,
    })
}

/// Sorts the texts of `{"type":"error"}` frames: credentials and unknown names cannot get better by trying again.
pub(super) fn stream_error(message: &str) -> FeedError {
    let lower = message.to_lowercase();
    let lasting =
        ["authentication", "unauthorized", "forbidden", "invalid product", "is not a valid", "malformed"];
    if lower.contains("rate limit") || lower.contains("too many") {
        FeedError::RateLimited { reason: message.to_owned(), retry_after: None }
    } else if lasting.iter().any(|text| lower.contains(text)) {
        FeedError::Fatal(message.to_owned())
    } else {
        FeedError::Transient(message.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<Record>, FeedError> {
        Coinbase::new(FeedSettings::default()).unwrap().parse(text.as_bytes(), Timestamp::UNIX_EPOCH)
    }

    const PACKED: &str = r#"{"channel":"market_trades","client_id":"","timestamp":"2026-11-20T15:04:05.120034Z","sequence_num":418,"events":[{"type":"update","trades":[
 {"trade_id":"1102003344","product_id":"BTC-USD","price":"91234.56","size":"0.00210000","side":"SELL","time":"2026-11-20T15:04:05.101220Z"},
 {"trade_id":"oops","product_id":"BTC-USD","price":"91234.57","size":"0.01000000","side":"BUY","time":"2026-11-20T15:04:05.098114Z"},
 {"trade_id":"1102003342","product_id":"BTC-USD","price":"91234.57","size":"0.01000000","side":"BUY","time":"2026-11-20T15:04:05.098114Z"}]}]}"#;

    #[test]
    fn every_trade_of_a_packed_event_is_kept_and_a_bad_one_is_quarantined() {
        let records = parse(PACKED).unwrap();
        assert_eq!(records[0], Record::Signal(Signal::FrameSequence(418)));
        let Record::Trade(newest) = &records[1] else { panic!("{records:?}") };
        assert_eq!(
            (newest.trade_id.as_str(), newest.size.to_string().as_str()),
            ("1102003344", "0.00210000")
        );
        assert_eq!(newest.aggressor, Some(Aggressor::Sell));
        assert_eq!(newest.known_at.timestamp_subsec_micros(), 120_034);
        assert!(matches!(&records[2], Record::Rejected(r) if r.reason.contains("oops")), "{records:?}");
        assert!(matches!(&records[3], Record::Trade(t) if t.trade_id == "1102003342"));
    }

    #[test]
    fn a_trade_is_not_known_before_it_happened_whenever_its_frame_is_said_to_be_published() {
        let early = PACKED.replace("2026-11-20T15:04:05.120034Z", "2026-11-20T15:04:05.100000Z");
        let Record::Trade(newest) = &parse(&early).unwrap()[1] else { panic!() };
        assert_eq!(newest.known_at.timestamp_subsec_micros(), 101_220);
    }

    #[test]
    fn heartbeats_and_acknowledgements_are_signals() {
        let heartbeat = r#"{"channel":"heartbeats","client_id":"","timestamp":"2026-11-20T15:04:07Z","sequence_num":7,"events":[{"current_time":"2026-11-20 15:04:07.000 +0000 UTC m=+1","heartbeat_counter":99123}]}"#;
        assert_eq!(parse(heartbeat).unwrap()[1], Record::Signal(Signal::Heartbeat { counter: Some(99123) }));
        let ack = r#"{"channel":"subscriptions","client_id":"","timestamp":"2026-11-20T15:04:07Z","sequence_num":0,"events":[{"subscriptions":{"market_trades":["BTC-USD"]}}]}"#;
        let subscribed =
            Signal::Subscribed { channel: "market_trades".into(), symbols: vec!["BTC-USD".into()] };
        assert_eq!(parse(ack).unwrap()[1], Record::Signal(subscribed));
    }

    #[test]
    fn errors_are_told_apart() {
        for (message, fatal) in
            [("authentication failure", true), ("rate limit exceeded", false), ("internal", false)]
        {
            let error = parse(&format!(r#"{{"type":"error","message":"{message}"}}"#)).unwrap_err();
            assert_eq!(matches!(error, FeedError::Fatal(_)), fatal, "{message}");
        }
    }

    #[test]
    fn history_pages_back_in_time_until_the_first_id() {
        let feed = Coinbase::new(FeedSettings::default()).unwrap();
        let at = |s: i64| micros(s * 1_000_000).unwrap();
        let history = History::Trades {
            symbol: "BTC-USD".into(),
            from: at(1000),
            to: at(2000),
            from_id: Some(10),
            to_id: Some(2000),
        };
        let request = feed.request(&history).unwrap();
        assert!(
            request.url.ends_with("/products/BTC-USD/ticker?limit=1000&start=1000&end=2001"),
            "{}",
            request.url
        );
        let trade = |id: i64| {
            format!(
                r#"{{"trade_id":"{id}","product_id":"BTC-USD","price":"1","size":"1","side":"BUY","time":"1970-01-01T00:{:02}:00Z"}}"#,
                20 + id % 10
            )
        };
        let full: Vec<_> = (500..1500).rev().map(trade).collect();
        let body = format!(r#"{{"trades":[{}],"best_bid":"1","best_ask":"1"}}"#, full.join(","));
        let page = feed.parse_page(&request, body.as_bytes(), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(page.records.len(), 1000);
        assert!(page.next.is_some());
        let last = feed.parse_page(&request, br#"{"trades":[]}"#, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(last.next, None);
    }

    #[test]
    fn a_running_bar_is_not_a_bar() {
        let feed = Coinbase::new(FeedSettings::default()).unwrap();
        let (from, to) = (micros(0).unwrap(), micros(120_000_000).unwrap());
        let request =
            feed.request(&History::Bars { symbol: "BTC-USD".into(), width_seconds: 60, from, to }).unwrap();
        let body = br#"{"candles":[{"start":"60","low":"1","high":"4","open":"2","close":"3","volume":"5"},{"start":"0","low":"1","high":"4","open":"2","close":"3","volume":"5"}]}"#;
        let page = feed.parse_page(&request, body, micros(90_000_000).unwrap()).unwrap();
        assert!(
            matches!(&page.records[..], [Record::OpenBar(_), Record::Bar(done)] if done.high == 4.0 && done.low == 1.0)
        );
    }
}
