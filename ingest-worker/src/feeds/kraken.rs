//! Kraken websocket v2: `wss://ws.kraken.com/v2`, public, and the public REST interface.
//!
//! Prices are JSON numbers, so they are read from the raw text. Trade ids are dense per pair. REST still uses the older
//! names (`XBT`), and answers errors with status 200.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    FeedSettings, History, Message, Page, Plan, Request, StreamFeed, Timers, TradeIds, coinbase::float, each,
    from_json, not_asked,
};
use crate::{
    error::FeedError,
    exact::{Exact, Rfc3339, micros, unix_seconds},
    kinds::{Aggressor, Bar, BarWidth, Quote, Record, Signal, Timestamp, Trade},
    symbols::kraken_pair,
};

pub(super) const NAME: &str = "kraken";
pub(super) const WEBSOCKET: &str = "wss://ws.kraken.com/v2";
pub(super) const REST: &str = "https://api.kraken.com";
const TRADES_PER_PAGE: usize = 1000;

pub(super) struct Kraken {
    settings: FeedSettings,
    rest: String,
}

impl Kraken {
    pub(super) fn new(settings: FeedSettings) -> Self {
        let rest = settings.rest_url_or(REST);
        Kraken { settings, rest }
    }

    /// `since` of the trades interface is in nanoseconds and excludes itself.
    fn trades_request(&self, history: &History, since: &str) -> Option<Request> {
        let History::Trades { symbol, .. } = history else { return None };
        Some(Request {
            url: format!(
                "{}/0/public/Trades?pair={}&since={since}&count={TRADES_PER_PAGE}",
                self.rest,
                kraken_pair(symbol)
            ),
            headers: Vec::new(),
            history: history.clone(),
        })
    }
}

/// `{"channel":"trade","type":"update","data":[…]}`, or the answer to a method.
///
/// Vendor's description: <https://docs.kraken.com/api/docs/websocket-v2/trade>.
#[derive(Deserialize)]
struct Frame<'a> {
    channel: Option<&'a str>,
    timestamp: Option<Rfc3339>,
    #[serde(borrow, default)]
    data: Vec<&'a RawValue>,
    method: Option<&'a str>,
    success: Option<bool>,
    #[serde(borrow)]
    error: Option<std::borrow::Cow<'a, str>>,
    #[serde(rename = "Error", borrow)]
    rate_error: Option<std::borrow::Cow<'a, str>>,
    symbol: Option<&'a str>,
    #[serde(borrow)]
    result: Option<AckResult<'a>>,
}

/// `{"channel":"trade","symbol":"BTC/USD","snapshot":true}`
#[derive(Deserialize)]
struct AckResult<'a> {
    channel: Option<&'a str>,
    symbol: Option<&'a str>,
}

/// `{"symbol":"BTC/USD","side":"buy","price":91234.5,"qty":0.0021,"ord_type":"market","trade_id":91002233,"timestamp":"…Z"}`
#[derive(Deserialize)]
struct TradeItem<'a> {
    symbol: &'a str,
    side: &'a str,
    price: Exact,
    qty: Exact,
    trade_id: i64,
    timestamp: Rfc3339,
}

/// `{"symbol":"BTC/USD","bid":91234.4,"bid_qty":1.2,"ask":91234.5,"ask_qty":0.4,…,"timestamp":"…Z"}`
#[derive(Deserialize)]
struct TickerItem<'a> {
    symbol: &'a str,
    bid: Option<Exact>,
    bid_qty: Option<Exact>,
    ask: Option<Exact>,
    ask_qty: Option<Exact>,
    timestamp: Option<Rfc3339>,
}

/// `{"symbol":"BTC/USD","interval":1,"interval_begin":"…Z","open":…,"high":…,"low":…,"close":…,"volume":…,"vwap":…,"trades":27,…}`
#[derive(Deserialize)]
struct OhlcItem<'a> {
    symbol: &'a str,
    /// Minutes.
    interval: i64,
    interval_begin: Rfc3339,
    open: Exact,
    high: Exact,
    low: Exact,
    close: Exact,
    volume: Exact,
    vwap: Option<Exact>,
    trades: Option<i64>,
}

impl OhlcItem<'_> {
    fn bar(self, published_at: Timestamp, received_at: Timestamp) -> Result<Bar, String> {
        let width_seconds = self.interval.checked_mul(60).filter(|w| (60..=31_622_400).contains(w));
        let width_seconds =
            width_seconds.ok_or_else(|| format!("interval {} is out of range", self.interval))?;
        let volume = float(self.volume)?;
        Ok(Bar {
            symbol: self.symbol.to_owned(),
            width: BarWidth::of_seconds(width_seconds),
            time: self.interval_begin.0,
            open: float(self.open)?,
            high: float(self.high)?,
            low: float(self.low)?,
            close: float(self.close)?,
            volume: Some(volume),
            amount: self.vwap.map(float).transpose()?.map(|vwap| vwap * volume),
            trade_count: self.trades,
            close_adj: None,
            sequence: published_at.timestamp_micros(),
            received_at,
            known_at: self.interval_begin.0 + chrono::TimeDelta::seconds(width_seconds),
        })
    }
}

impl StreamFeed for Kraken {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, _now: Timestamp) -> Option<Plan> {
        let symbols = &self.settings.symbols;
        let mut params = Vec::new();
        if self.settings.trades {
            // The snapshot is the anchor after a reconnect: it usually closes the gap by itself.
            params.push(serde_json::json!({"channel": "trade", "symbol": symbols, "snapshot": true}));
        }
        if self.settings.quotes {
            params.push(serde_json::json!({"channel": "ticker", "symbol": symbols}));
        }
        for width in &self.settings.bars {
            let minutes = width / 60;
            params.push(serde_json::json!({"channel": "ohlc", "symbol": symbols, "interval": minutes}));
        }
        let on_open = params
            .into_iter()
            .zip(1..)
            .map(|(params, id)| {
                let frame = serde_json::json!({"method": "subscribe", "params": params, "req_id": id});
                Message::public(frame.to_string())
            })
            .collect();
        Some(Plan { url: self.settings.url_or(WEBSOCKET), on_open, on_authenticated: Vec::new() })
    }

    fn parse(&self, payload: &[u8], received_at: Timestamp) -> Result<Vec<Record>, FeedError> {
        let frame: Frame = from_json(payload)?;
        if let Some(reason) = frame.rate_error {
            return Err(FeedError::RateLimited { reason: reason.into_owned(), retry_after: None });
        }
        if frame.method == Some("subscribe") {
            let result = frame.result.unwrap_or(AckResult { channel: None, symbol: None });
            let channel = result.channel.unwrap_or_default().to_owned();
            let symbol = result.symbol.or(frame.symbol).unwrap_or_default().to_owned();
            return Ok(vec![Record::Signal(if frame.success == Some(true) {
                Signal::Subscribed { channel, symbols: vec![symbol] }
            } else {
                let reason = frame.error.map_or_else(|| "no reason given".to_owned(), |e| e.into_owned());
                Signal::Refused { channel, symbol, reason }
            })]);
        }
        let published_at = frame.timestamp.map(|t| t.0);
        let mut records = Vec::new();
        match frame.channel {
            Some("trade") => each(&frame.data, received_at, &mut records, |item: TradeItem| {
                Ok(Record::Trade(Trade {
                    symbol: item.symbol.to_owned(),
                    trade_id: item.trade_id.to_string(),
                    sequence: item.trade_id,
                    event_time: item.timestamp.0,
                    price: item.price.0,
                    size: item.qty.0,
                    side: Some(item.side.to_owned()),
                    aggressor: Aggressor::parse(item.side),
                    venue: None,
                    conditions: None,
                    received_at,
                    known_at: received_at.max(item.timestamp.0),
                    corrects: None,
                }))
            }),
            Some("ticker") => each(&frame.data, received_at, &mut records, |item: TickerItem| {
                let event_time = item.timestamp.map_or(received_at, |t| t.0);
                let mut quote = Quote {
                    symbol: item.symbol.to_owned(),
                    event_time,
                    sequence: 0,
                    bid: item.bid.map(|x| x.0),
                    bid_size: item.bid_qty.map(|x| x.0),
                    ask: item.ask.map(|x| x.0),
                    ask_size: item.ask_qty.map(|x| x.0),
                    bid_venue: None,
                    ask_venue: None,
                    conditions: None,
                    received_at,
                    known_at: received_at.max(event_time),
                };
                quote.sequence = quote.content_sequence();
                Ok(Record::Quote(quote))
            }),
            Some("ohlc") => each(&frame.data, received_at, &mut records, |item: OhlcItem| {
                item.bar(published_at.unwrap_or(received_at), received_at).map(Record::OpenBar)
            }),
            Some("heartbeat") => records.push(Record::Signal(Signal::Heartbeat { counter: None })),
            Some("status") => {
                #[derive(Deserialize)]
                struct Status {
                    system: String,
                }
                each(&frame.data, received_at, &mut records, |item: Status| {
                    Ok(Record::Signal(Signal::System { status: item.system }))
                });
            }
            // Order books and whatever else the venue adds.
            Some(_) => {}
            None if frame.method.is_some() => {}
            None => return Err(FeedError::Rejected("frame without a channel".to_owned())),
        }
        Ok(records)
    }

    fn request(&self, history: &History) -> Option<Request> {
        match history {
            History::Trades { from, .. } => {
                // A nanosecond earlier: `since` excludes itself.
                let since = from.timestamp_micros().checked_mul(1000)?.checked_sub(1)?;
                self.trades_request(history, &since.to_string())
            }
            History::Bars { symbol, width_seconds, from, .. } => {
                let minutes = width_seconds / 60;
                [1, 5, 15, 30, 60, 240, 1440, 10080, 21600].contains(&minutes).then(|| Request {
                    url: format!(
                        "{}/0/public/OHLC?pair={}&interval={minutes}&since={}",
                        self.rest,
                        kraken_pair(symbol),
                        from.timestamp() - 1
                    ),
                    headers: Vec::new(),
                    history: history.clone(),
                })
            }
            History::Latest { .. } => None,
        }
    }

    fn parse_page(&self, request: &Request, body: &[u8], received_at: Timestamp) -> Result<Page, FeedError> {
        #[derive(Deserialize)]
        struct Body<'a> {
            error: Vec<String>,
            #[serde(borrow)]
            result: Option<std::collections::BTreeMap<String, &'a RawValue>>,
        }
        let body: Body = from_json(body)?;
        if let Some(error) = body.error.first() {
            return Err(rest_error(error));
        }
        let result = body.result.unwrap_or_default();
        let rows =
            result.iter().find(|(name, _)| *name != "last").map(|(_, rows)| rows.get()).unwrap_or("[]");
        let rows: Vec<&RawValue> = from_json(rows.as_bytes())?;
        let mut records = Vec::new();
        match &request.history {
            History::Trades { symbol, to, to_id, .. } => {
                let mut newest: Option<(i64, Timestamp)> = None;
                // [price, volume, time, "b|s", "m|l", misc, trade_id]
                each(
                    &rows,
                    received_at,
                    &mut records,
                    |item: (Exact, Exact, &RawValue, &str, &str, &str, i64)| {
                        let (price, size, time, side, _, _, id) = item;
                        let event_time = unix_seconds(time.get())?;
                        newest = Some(newest.map_or((id, event_time), |n| n.max((id, event_time))));
                        Ok(Record::Trade(Trade {
                            symbol: symbol.clone(),
                            trade_id: id.to_string(),
                            sequence: id,
                            event_time,
                            price: price.0,
                            size: size.0,
                            side: Some(if side == "b" { "buy" } else { "sell" }.to_owned()),
                            aggressor: Aggressor::parse(side),
                            venue: None,
                            conditions: None,
                            received_at,
                            known_at: event_time,
                            corrects: None,
                        }))
                    },
                );
                let last = result.get("last").map(|raw| raw.get().trim_matches('"').to_owned());
                let more = newest.is_some_and(|(id, time)| to_id.map_or(time <= *to, |end| id < end));
                let next = last
                    .filter(|_| more && rows.len() >= TRADES_PER_PAGE)
                    .and_then(|last| self.trades_request(&request.history, &last))
                    .filter(|next| next.url != request.url);
                Ok(Page { records, next })
            }
            History::Bars { symbol, width_seconds, from, to } => {
                // [time, open, high, low, close, vwap, volume, count]
                type Row = (i64, Exact, Exact, Exact, Exact, Exact, Exact, i64);
                each(&rows, received_at, &mut records, |item: Row| {
                    let (start, open, high, low, close, vwap, volume, count) = item;
                    let time = start
                        .checked_mul(1_000_000)
                        .and_then(micros)
                        .ok_or_else(|| format!("time {start} is out of range"))?;
                    let volume = float(volume)?;
                    let bar = Bar {
                        symbol: symbol.clone(),
                        width: BarWidth::of_seconds(*width_seconds),
                        time,
                        open: float(open)?,
                        high: float(high)?,
                        low: float(low)?,
                        close: float(close)?,
                        volume: Some(volume),
                        amount: Some(float(vwap)? * volume),
                        trade_count: Some(count),
                        close_adj: None,
                        sequence: 0,
                        received_at,
                        known_at: time + chrono::TimeDelta::seconds(*width_seconds),
                    };
                    Ok(if bar.end() > received_at { Record::OpenBar(bar) } else { Record::Bar(bar) })
                });
                records.retain(|record| match record {
                    Record::Bar(bar) | Record::OpenBar(bar) => bar.time >= *from && bar.time < *to,
                    _ => true,
                });
                // The interface gives the newest 720 bars whatever is asked: there is no second page.
                Ok(Page { records, next: None })
            }
            History::Latest { .. } => Err(not_asked()),
        }
    }

    fn trade_ids(&self) -> TradeIds {
        TradeIds::Dense
    }

    fn timers(&self, _now: Timestamp) -> Timers {
        // A heartbeat comes each second when nothing else does.
        Timers {
            socket_idle: Duration::from_secs(5),
            data_idle: Duration::from_secs(120),
            compare_every: None,
        }
    }

    fn request_interval(&self) -> Duration {
        Duration::from_secs(1)
    }
}

/// Sorts the texts of `error`: `EService:Busy`, `EGeneral:Too many requests`, `EQuery:Unknown asset pair`, … The last concerns the
/// question alone: other pairs have their history.
fn rest_error(error: &str) -> FeedError {
    let text = error.to_owned();
    if error.contains("Too many requests") || error.contains("Rate limit") {
        FeedError::RateLimited { reason: text, retry_after: None }
    } else if error.starts_with("EService") || error.contains("Internal error") {
        FeedError::Transient(text)
    } else if error.starts_with("EQuery") || error.contains("Invalid arguments") {
        FeedError::Rejected(text)
    } else {
        FeedError::Fatal(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed() -> Kraken {
        let symbols = vec!["BTC/USD".to_owned()];
        Kraken::new(FeedSettings { symbols, trades: true, bars: vec![60], ..FeedSettings::default() })
    }

    fn parse(text: &str) -> Result<Vec<Record>, FeedError> {
        feed().parse(text.as_bytes(), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn numbers_are_read_from_the_text() {
        let records = parse(r#"{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"buy","price":91234.50,"qty":0.00027625,"ord_type":"market","trade_id":91002233,"timestamp":"2026-11-20T15:00:02.440295Z"}]}"#).unwrap();
        let [Record::Trade(trade)] = &records[..] else { panic!("{records:?}") };
        assert_eq!(
            (trade.price.to_string().as_str(), trade.size.to_string().as_str()),
            ("91234.50", "0.00027625")
        );
        assert_eq!(trade.aggressor, Some(Aggressor::Buy));
    }

    #[test]
    fn acknowledgements_name_the_symbol_and_refusals_the_reason() {
        let ack = r#"{"method":"subscribe","result":{"channel":"trade","symbol":"BTC/USD","snapshot":true},"success":true,"time_in":"2026-11-20T15:00:00.1Z","time_out":"2026-11-20T15:00:00.1Z","req_id":11}"#;
        let subscribed = Signal::Subscribed { channel: "trade".into(), symbols: vec!["BTC/USD".into()] };
        assert_eq!(parse(ack).unwrap(), [Record::Signal(subscribed)]);
        let refusal = r#"{"method":"subscribe","error":"Currency pair not supported XBT/EUR","success":false,"symbol":"XBT/EUR"}"#;
        let records = parse(refusal).unwrap();
        assert!(
            matches!(&records[..], [Record::Signal(Signal::Refused { symbol, .. })] if symbol == "XBT/EUR")
        );
        assert!(matches!(parse(r#"{"Error":"Exceeded msg rate"}"#), Err(FeedError::RateLimited { .. })));
    }

    #[test]
    fn bars_stay_open_until_the_next_one_starts() {
        let records = parse(r#"{"channel":"ohlc","type":"update","timestamp":"2026-11-20T15:00:03.0Z","data":[{"symbol":"BTC/USD","interval":1,"interval_begin":"2026-11-20T15:00:00.000000000Z","open":91230.0,"high":91240.0,"low":91229.9,"close":91234.5,"volume":3.2,"vwap":91233.1,"trades":27,"timestamp":"2026-11-20T15:01:00Z"}]}"#).unwrap();
        let [Record::OpenBar(bar)] = &records[..] else { panic!("{records:?}") };
        assert_eq!((bar.width.seconds, bar.high, bar.trade_count), (60, 91240.0, Some(27)));
        assert_eq!(bar.known_at, bar.end());
    }

    #[test]
    fn errors_in_a_response_of_status_200_are_seen() {
        let (from, to) = (micros(0).unwrap(), micros(1).unwrap());
        let history = History::Trades { symbol: "BTC/USD".into(), from, to, from_id: None, to_id: None };
        let request = feed().request(&history).unwrap();
        assert!(request.url.contains("pair=XBTUSD&since=-1&count=1000"), "{}", request.url);
        let page = |body: &str| feed().parse_page(&request, body.as_bytes(), from);
        assert!(matches!(
            page(r#"{"error":["EGeneral:Too many requests"]}"#),
            Err(FeedError::RateLimited { .. })
        ));
        assert!(matches!(page(r#"{"error":["EQuery:Unknown asset pair"]}"#), Err(FeedError::Rejected(_))));
        assert!(matches!(page(r#"{"error":["EGeneral:Permission denied"]}"#), Err(FeedError::Fatal(_))));
        let rows = r#"{"error":[],"result":{"XXBTZUSD":[["91234.50000","0.00210000",1763650802.4402951,"b","m","",91002233]],"last":"1763650802440295100"}}"#;
        let page = page(rows).unwrap();
        let [Record::Trade(trade)] = &page.records[..] else { panic!("{page:?}") };
        assert_eq!(trade.event_time.timestamp_subsec_micros(), 440_295);
        assert_eq!(trade.price.to_string(), "91234.50000");
        assert_eq!(page.next, None);
    }
}
