//! Alpaca market data: stock and crypto streams, and the REST interface that repairs them.
//!
//! Frames are arrays of mixed messages. There is no sequence and ids are not dense, so a gap is known by time only.
//! Corrections (`c`) and cancels (`x`) come unasked with trades and are applied, not dropped.

use std::{borrow::Cow, time::Duration};

use chrono::{Datelike, NaiveTime, TimeDelta, Weekday};
use chrono_tz::America::New_York;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    FeedSettings, History, Message, Page, Plan, Request, Secret, StreamFeed, Timers, TradeIds,
    coinbase::float, each, from_json,
};
use crate::{
    error::FeedError,
    exact::{Exact, Rfc3339},
    kinds::{Aggressor, Bar, BarWidth, Cancel, Quote, Record, Signal, Timestamp, Trade},
};

pub(super) const STOCKS: &str = "alpaca";
pub(super) const CRYPTO: &str = "alpaca_crypto";
pub(super) const CREDENTIALS: &[&str] = &[KEY, SECRET];
const KEY: &str = "APCA_API_KEY_ID";
const SECRET: &str = "APCA_API_SECRET_KEY";
pub(super) const WEBSOCKET: &str = "wss://stream.data.alpaca.markets";
pub(super) const REST: &str = "https://data.alpaca.markets";
/// Tapes of the stock market, each a plan; `iex` is what the free one has.
pub(super) const TAPES: &[&str] = &["iex", "sip", "delayed_sip", "boats", "overnight"];
/// Points of one response, over all symbols.
const POINTS_PER_PAGE: usize = 10_000;

/// Which of the two streams of one account.
#[derive(Clone, Copy, PartialEq)]
enum Market {
    Stocks,
    Crypto,
}

pub(super) struct Alpaca {
    market: Market,
    settings: FeedSettings,
    rest: String,
}

impl Alpaca {
    pub(super) fn stocks(settings: FeedSettings) -> Self {
        let rest = settings.rest_url_or(REST);
        Alpaca { market: Market::Stocks, settings, rest }
    }

    pub(super) fn crypto(settings: FeedSettings) -> Self {
        Alpaca { market: Market::Crypto, ..Alpaca::stocks(settings) }
    }

    fn tape(&self) -> &str {
        self.settings.plan.as_deref().unwrap_or(TAPES[0])
    }

    fn page(&self, history: &History, token: &str) -> Option<Request> {
        let base = match self.market {
            Market::Stocks => "/v2/stocks",
            Market::Crypto => "/v1beta3/crypto/us",
        };
        let tape =
            if self.market == Market::Stocks { format!("&feed={}", self.tape()) } else { String::new() };
        let headers = vec![
            ("APCA-API-KEY-ID", Secret(self.settings.credential(KEY).to_owned())),
            ("APCA-API-SECRET-KEY", Secret(self.settings.credential(SECRET).to_owned())),
        ];
        let (kind, symbol, from, to, more) = match history {
            History::Latest { symbol } => {
                let path = if self.market == Market::Stocks { "trades/latest" } else { "latest/trades" };
                let url = format!("{}{base}/{path}?symbols={}{tape}", self.rest, symbol.replace('/', "%2F"));
                return Some(Request { url, headers, history: history.clone() });
            }
            History::Trades { symbol, from, to, .. } => ("trades", symbol, from, to, String::new()),
            History::Bars { symbol, width_seconds, from, to } => {
                let timeframe = timeframe(*width_seconds)?;
                let adjustment = if self.market == Market::Stocks { "&adjustment=raw" } else { "" };
                ("bars", symbol, from, to, format!("&timeframe={timeframe}{adjustment}"))
            }
        };
        let token = if token.is_empty() { String::new() } else { format!("&page_token={token}") };
        let time = |t: &Timestamp| t.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
        Some(Request {
            url: format!(
                "{}{base}/{kind}?symbols={}&start={}&end={}&limit={POINTS_PER_PAGE}&sort=asc{more}{tape}{token}",
                self.rest,
                symbol.replace('/', "%2F"),
                time(from),
                time(to)
            ),
            headers,
            history: history.clone(),
        })
    }

    fn message(&self, item: Item, received_at: Timestamp) -> Result<Option<Record>, String> {
        let symbol = || item.symbol.as_deref().map(str::to_owned).ok_or("message without S".to_owned());
        let time = || item.time.map(|t| t.0).ok_or("message without t".to_owned());
        Ok(Some(match &*item.kind {
            "t" => Record::Trade(item.trade(&symbol()?, received_at.max(time()?), received_at)?),
            "q" => Record::Quote(item.quote(symbol()?, received_at)?),
            // A final minute bar, a revised minute bar, the running daily bar.
            "b" => Record::Bar(item.bar(symbol()?, 60, received_at)?),
            "u" => {
                let bar = item.bar(symbol()?, 60, received_at)?;
                // Trades that were late are in it: nobody knew it at its end.
                Record::Bar(Bar { known_at: received_at.max(bar.known_at), ..bar })
            }
            "d" => Record::OpenBar(item.bar(symbol()?, 86400, received_at)?),
            "x" => Record::Cancel(Cancel {
                symbol: symbol()?,
                trade_id: item.identity(item.id.as_ref())?,
                cancelled_at: time()?,
                is_correction: false,
                received_at,
            }),
            _ => return Ok(None),
        }))
    }

    /// A correction is a cancel of the original and the corrected trade.
    fn correction(item: &Item, received_at: Timestamp) -> Result<[Record; 2], String> {
        let symbol = item.symbol.as_deref().ok_or("correction without S")?.to_owned();
        let event_time = item.time.ok_or("correction without t")?.0;
        let original = item.identity(item.original_id.as_ref())?;
        let known_at = received_at.max(event_time);
        let trade = Trade {
            symbol: symbol.clone(),
            trade_id: item.identity(item.corrected_id.as_ref())?,
            sequence: item.corrected_id.as_ref().and_then(|id| id.get().parse().ok()).unwrap_or(0),
            event_time,
            price: item.corrected_price.ok_or("correction without cp")?.0,
            size: item.corrected_size.ok_or("correction without cs")?.0,
            side: None,
            aggressor: None,
            venue: item.venue.as_deref().map(str::to_owned),
            conditions: item.corrected_conditions.clone(),
            received_at,
            known_at,
            corrects: Some(original.clone()),
        };
        let cancel =
            Cancel { symbol, trade_id: original, cancelled_at: event_time, is_correction: true, received_at };
        Ok([Record::Cancel(cancel), Record::Trade(trade)])
    }
}

/// What the stock market does; holidays count as sessions, because a question too many costs a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Regular,
    Extended,
    Closed,
}

impl Phase {
    fn of(now: Timestamp) -> Self {
        let local = now.with_timezone(&New_York);
        let at = |hour, minute| NaiveTime::from_hms_opt(hour, minute, 0).unwrap_or(NaiveTime::MIN);
        let is_within = |from, to| (from..to).contains(&local.time());
        match local.weekday() {
            Weekday::Sat | Weekday::Sun => Phase::Closed,
            _ if is_within(at(9, 30), at(16, 0)) => Phase::Regular,
            _ if is_within(at(4, 0), at(20, 0)) => Phase::Extended,
            _ => Phase::Closed,
        }
    }
}

/// `{"trades":{"AAPL":{"t":"…Z","x":"V","p":231.22,"s":100,"c":["@"],"i":52983525029461,"z":"C"}}}`
fn latest(body: &[u8], received_at: Timestamp) -> Result<Page, FeedError> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        trades: std::collections::BTreeMap<String, &'a RawValue>,
    }
    let body: Body = from_json(body)?;
    let mut records = Vec::new();
    for (symbol, row) in body.trades {
        each(&[row], received_at, &mut records, |item: Item| {
            let known_at = item.time.ok_or("trade without t")?.0;
            item.trade(&symbol, known_at, received_at).map(Record::Trade)
        });
    }
    Ok(Page { records, next: None })
}

fn timeframe(width_seconds: i64) -> Option<String> {
    match width_seconds {
        86_400 => Some("1Day".to_owned()),
        604_800 => Some("1Week".to_owned()),
        w if w % 3600 == 0 && w / 3600 < 24 => Some(format!("{}Hour", w / 3600)),
        w if w % 60 == 0 && w / 60 < 60 => Some(format!("{}Min", w / 60)),
        _ => None,
    }
}

/// Any message of the stream, or any row of a REST page (which has no `T` and no `S`).
///
/// `{"T":"t","S":"AAPL","i":52983525029461,"x":"V","p":231.22,"s":100,"c":["@"],"z":"C","t":"2026-11-20T15:04:05.123456789Z"}`
///
/// Vendor's description: <https://docs.alpaca.markets/docs/real-time-stock-pricing-data>.
#[derive(Deserialize)]
struct Item<'a> {
    #[serde(rename = "T", borrow, default)]
    kind: Cow<'a, str>,
    #[serde(rename = "S", borrow)]
    symbol: Option<Cow<'a, str>>,
    #[serde(rename = "t")]
    time: Option<Rfc3339>,
    #[serde(rename = "i", borrow)]
    id: Option<&'a RawValue>,
    #[serde(rename = "x", borrow)]
    venue: Option<Cow<'a, str>>,
    #[serde(rename = "p")]
    price: Option<Exact>,
    #[serde(rename = "s")]
    size: Option<Exact>,
    #[serde(rename = "tks", borrow)]
    taker_side: Option<Cow<'a, str>>,
    /// Conditions of trades and quotes, the close of bars.
    #[serde(rename = "c", borrow)]
    c: Option<&'a RawValue>,
    #[serde(rename = "bx", borrow)]
    bid_venue: Option<Cow<'a, str>>,
    #[serde(rename = "ax", borrow)]
    ask_venue: Option<Cow<'a, str>>,
    #[serde(rename = "bp")]
    bid: Option<Exact>,
    #[serde(rename = "bs")]
    bid_size: Option<Exact>,
    #[serde(rename = "ap")]
    ask: Option<Exact>,
    #[serde(rename = "as")]
    ask_size: Option<Exact>,
    #[serde(rename = "o")]
    open: Option<Exact>,
    #[serde(rename = "h")]
    high: Option<Exact>,
    #[serde(rename = "l")]
    low: Option<Exact>,
    #[serde(rename = "v")]
    volume: Option<Exact>,
    #[serde(rename = "vw")]
    vwap: Option<Exact>,
    #[serde(rename = "n")]
    trade_count: Option<i64>,
    #[serde(rename = "oi", borrow)]
    original_id: Option<&'a RawValue>,
    #[serde(rename = "ci", borrow)]
    corrected_id: Option<&'a RawValue>,
    #[serde(rename = "cp")]
    corrected_price: Option<Exact>,
    #[serde(rename = "cs")]
    corrected_size: Option<Exact>,
    #[serde(rename = "cc")]
    corrected_conditions: Option<Vec<String>>,
    #[serde(rename = "msg", borrow)]
    message: Option<Cow<'a, str>>,
    code: Option<i64>,
    #[serde(default)]
    trades: Option<Vec<String>>,
    #[serde(default)]
    quotes: Option<Vec<String>>,
    #[serde(default)]
    bars: Option<Vec<String>>,
}

impl Item<'_> {
    /// Ids are unique per symbol, exchange and tape only.
    fn identity(&self, id: Option<&&RawValue>) -> Result<String, String> {
        let id = id.ok_or("message without a trade id")?.get().trim_matches('"');
        Ok(match &self.venue {
            Some(venue) => format!("{venue}:{id}"),
            None => id.to_owned(),
        })
    }

    fn trade(&self, symbol: &str, known_at: Timestamp, received_at: Timestamp) -> Result<Trade, String> {
        let conditions: Option<Vec<String>> = self
            .c
            .map(|c| serde_json::from_str(c.get()))
            .transpose()
            .map_err(|e| format!("conditions: {e}"))?;
        Ok(Trade {
            symbol: symbol.to_owned(),
            trade_id: self.identity(self.id.as_ref())?,
            sequence: self.id.and_then(|id| id.get().parse().ok()).unwrap_or(0),
            event_time: self.time.ok_or("trade without t")?.0,
            price: self.price.ok_or("trade without p")?.0,
            size: self.size.ok_or("trade without s")?.0,
            side: self.taker_side.as_deref().map(str::to_owned),
            aggressor: self
                .taker_side
                .as_deref()
                .map(str::to_lowercase)
                .as_deref()
                .and_then(Aggressor::parse),
            venue: self.venue.as_deref().map(str::to_owned),
            conditions,
            received_at,
            known_at,
            corrects: None,
        })
    }

    fn quote(&self, symbol: String, received_at: Timestamp) -> Result<Quote, String> {
        let event_time = self.time.ok_or("quote without t")?.0;
        let mut quote = Quote {
            symbol,
            event_time,
            sequence: 0,
            bid: self.bid.map(|x| x.0),
            bid_size: self.bid_size.map(|x| x.0),
            ask: self.ask.map(|x| x.0),
            ask_size: self.ask_size.map(|x| x.0),
            bid_venue: self.bid_venue.as_deref().map(str::to_owned),
            ask_venue: self.ask_venue.as_deref().map(str::to_owned),
            conditions: self.c.and_then(|c| serde_json::from_str(c.get()).ok()),
            received_at,
            known_at: received_at.max(event_time),
        };
        quote.sequence = quote.content_sequence();
        Ok(quote)
    }

    fn bar(&self, symbol: String, width_seconds: i64, received_at: Timestamp) -> Result<Bar, String> {
        let close: Exact = self
            .c
            .ok_or("bar without c".to_owned())
            .and_then(|c| serde_json::from_str(c.get()).map_err(|e| format!("close: {e}")))?;
        let start = self.time.ok_or("bar without t")?.0;
        let time = if width_seconds >= 86_400 { session_midnight(start)? } else { start };
        let volume = self.volume.map(float).transpose()?;
        let vwap = self.vwap.map(float).transpose()?;
        let end = time + TimeDelta::seconds(width_seconds);
        Ok(Bar {
            symbol,
            width: BarWidth::of_seconds(width_seconds),
            time,
            open: float(self.open.ok_or("bar without o")?)?,
            high: float(self.high.ok_or("bar without h")?)?,
            low: float(self.low.ok_or("bar without l")?)?,
            close: float(close)?,
            volume,
            amount: volume.zip(vwap).map(|(volume, vwap)| volume * vwap),
            trade_count: self.trade_count,
            close_adj: None,
            // Revisions of a bar come in order of arrival.
            sequence: received_at.timestamp_micros(),
            received_at,
            known_at: end,
        })
    }
}

/// Daily bars are stamped with midnight in New York; our daily bars start at 00:00 UTC of the session date.
fn session_midnight(start: Timestamp) -> Result<Timestamp, String> {
    let date = start.with_timezone(&New_York).date_naive();
    date.and_hms_opt(0, 0, 0).map(|t| t.and_utc()).ok_or_else(|| format!("{start} is out of range"))
}

impl StreamFeed for Alpaca {
    fn name(&self) -> &'static str {
        match self.market {
            Market::Stocks => STOCKS,
            Market::Crypto => CRYPTO,
        }
    }

    fn plan(&self, _now: Timestamp) -> Option<Plan> {
        let auth = serde_json::json!({
            "action": "auth", "key": self.settings.credential(KEY), "secret": self.settings.credential(SECRET),
        });
        let symbols = &self.settings.symbols;
        let none: &Vec<String> = &Vec::new();
        let pick = |wanted: bool| if wanted { symbols } else { none };
        let minute_bars = pick(self.settings.bars.contains(&60));
        let subscribe = serde_json::json!({
            "action": "subscribe",
            "trades": pick(self.settings.trades),
            "quotes": pick(self.settings.quotes),
            "bars": minute_bars,
            "updatedBars": minute_bars,
        });
        let url = self.settings.url.clone().unwrap_or_else(|| match self.market {
            Market::Stocks => format!("{WEBSOCKET}/v2/{}", self.tape()),
            Market::Crypto => format!("{WEBSOCKET}/v1beta3/crypto/us"),
        });
        Some(Plan {
            url,
            on_open: vec![Message { text: auth.to_string(), is_secret: true }],
            on_authenticated: vec![Message::public(subscribe.to_string())],
        })
    }

    fn parse(&self, payload: &[u8], received_at: Timestamp) -> Result<Vec<Record>, FeedError> {
        let items: Vec<&RawValue> = from_json(payload)?;
        let mut records = Vec::with_capacity(items.len());
        for raw in items {
            let rejected = |reason: String| {
                Record::Rejected(crate::kinds::Rejected::new(raw.get().as_bytes(), reason, received_at))
            };
            let item: Item = match serde_json::from_str(raw.get()) {
                Ok(item) => item,
                Err(e) => {
                    records.push(rejected(e.to_string()));
                    continue;
                }
            };
            match &*item.kind {
                "error" => return Err(stream_error(item.code, item.message.as_deref().unwrap_or_default())),
                "success" if item.message.as_deref() == Some("authenticated") => {
                    records.push(Record::Signal(Signal::Authenticated));
                }
                "subscription" => {
                    for (channel, symbols) in
                        [("trades", item.trades), ("quotes", item.quotes), ("bars", item.bars)]
                    {
                        let (channel, symbols) = (channel.to_owned(), symbols.unwrap_or_default());
                        records.push(Record::Signal(Signal::Subscribed { channel, symbols }));
                    }
                }
                "c" => match Self::correction(&item, received_at) {
                    Ok(both) => records.extend(both),
                    Err(reason) => records.push(rejected(reason)),
                },
                _ => match self.message(item, received_at) {
                    Ok(record) => records.extend(record),
                    Err(reason) => records.push(rejected(reason)),
                },
            }
        }
        Ok(records)
    }

    fn request(&self, history: &History) -> Option<Request> {
        self.page(history, "")
    }

    fn parse_page(&self, request: &Request, body: &[u8], received_at: Timestamp) -> Result<Page, FeedError> {
        if matches!(request.history, History::Latest { .. }) {
            return latest(body, received_at);
        }
        type Rows<'a> = std::collections::BTreeMap<String, Option<Vec<&'a RawValue>>>;
        #[derive(Deserialize)]
        struct Body<'a> {
            #[serde(borrow)]
            bars: Option<Rows<'a>>,
            #[serde(borrow)]
            trades: Option<Rows<'a>>,
            next_page_token: Option<String>,
        }
        let body: Body = from_json(body)?;
        let mut records = Vec::new();
        for (symbol, rows) in body.trades.into_iter().flatten() {
            each(&rows.unwrap_or_default(), received_at, &mut records, |item: Item| {
                let known_at = item.time.ok_or("trade without t")?.0;
                item.trade(&symbol, known_at, received_at).map(Record::Trade)
            });
        }
        for (symbol, rows) in body.bars.into_iter().flatten() {
            let History::Bars { width_seconds, .. } = request.history else {
                return Err(FeedError::Rejected("bars in answer to a request for trades".to_owned()));
            };
            each(&rows.unwrap_or_default(), received_at, &mut records, |item: Item| {
                let bar = item.bar(symbol.clone(), width_seconds, received_at)?;
                Ok(if bar.end() > received_at { Record::OpenBar(bar) } else { Record::Bar(bar) })
            });
        }
        // A page may end inside a symbol: the token alone tells the end.
        let next = body.next_page_token.and_then(|token| self.page(&request.history, &token));
        Ok(Page { records, next })
    }

    fn trade_ids(&self) -> TradeIds {
        TradeIds::Sparse
    }

    fn timers(&self, now: Timestamp) -> Timers {
        // The stream has neither heartbeats nor numbers, so REST alone can tell silence and loss from a quiet market.
        let (data_idle, compare_every) = match (self.market, Phase::of(now)) {
            (Market::Crypto, _) => (120, Some(60)),
            (Market::Stocks, Phase::Regular) => (60, Some(60)),
            (Market::Stocks, Phase::Extended) => (300, Some(60)),
            (Market::Stocks, Phase::Closed) => (3_600, None),
        };
        Timers {
            socket_idle: Duration::from_secs(30),
            data_idle: Duration::from_secs(data_idle),
            compare_every: compare_every.map(Duration::from_secs),
        }
    }

    fn request_interval(&self) -> Duration {
        // 200 a minute on the basic plan.
        Duration::from_millis(300)
    }
}

/// Sorts the codes of `{"T":"error","code":406,"msg":"connection limit exceeded"}`.
fn stream_error(code: Option<i64>, message: &str) -> FeedError {
    let text = format!("{} {message}", code.map_or("error".to_owned(), |code| code.to_string()));
    match code {
        // Wrong credentials, plan or syntax: the same message again gives the same answer.
        Some(400 | 401 | 402 | 405 | 408 | 409 | 410) => FeedError::Fatal(text),
        // A connection that died uncleanly still counts for about 90 seconds.
        Some(406) => FeedError::RateLimited { reason: text, retry_after: Some(Duration::from_secs(90)) },
        _ => FeedError::Transient(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed() -> Alpaca {
        let credentials = [(KEY, Secret("k".into())), (SECRET, Secret("hunter2".into()))].into();
        let symbols = vec!["AAPL".to_owned()];
        Alpaca::stocks(FeedSettings { symbols, trades: true, credentials, ..FeedSettings::default() })
    }

    fn parse(text: &str) -> Result<Vec<Record>, FeedError> {
        feed().parse(text.as_bytes(), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn one_frame_carries_messages_of_every_kind() {
        let records = parse(
            r#"[{"T":"t","S":"AAPL","i":52983525029461,"x":"V","p":231.22,"s":100,"c":["@"],"z":"C","t":"2026-11-20T15:04:05.123456789Z"},
                {"T":"q","S":"AAPL","bx":"V","bp":231.21,"bs":3,"ax":"V","ap":231.23,"as":1,"c":["R"],"z":"C","t":"2026-11-20T15:04:05.124001Z"},
                {"T":"t","S":"AAPL"},
                {"T":"b","S":"AAPL","o":231.2,"h":231.4,"l":231.1,"c":231.3,"v":18211,"n":214,"vw":231.24,"t":"2026-11-20T15:04:00Z"},
                {"T":"s","S":"AAPL","sc":"H","t":"2026-11-20T15:06:00Z"}]"#,
        )
        .unwrap();
        let [Record::Trade(trade), Record::Quote(quote), Record::Rejected(_), Record::Bar(bar)] =
            &records[..]
        else {
            panic!("{records:?}")
        };
        assert_eq!(trade.trade_id, "V:52983525029461");
        assert_eq!(trade.conditions, Some(vec!["@".to_owned()]));
        assert_eq!(quote.ask.unwrap().to_string(), "231.23");
        assert_eq!((bar.close, bar.trade_count), (231.3, Some(214)));
    }

    #[test]
    fn a_revised_bar_is_not_known_before_its_revision() {
        let bar = |kind: &str| {
            let text = format!(
                r#"[{{"T":"{kind}","S":"AAPL","o":231.2,"h":231.4,"l":231.1,"c":231.3,"v":18211,"n":214,"vw":231.24,"t":"2026-11-20T15:04:00Z"}}]"#
            );
            let received_at = "2026-11-20T15:05:31Z".parse().unwrap();
            let [Record::Bar(bar)] = &feed().parse(text.as_bytes(), received_at).unwrap()[..] else {
                panic!()
            };
            bar.known_at.to_rfc3339()
        };
        assert_eq!(bar("b"), "2026-11-20T15:05:00+00:00");
        assert_eq!(bar("u"), "2026-11-20T15:05:31+00:00");
    }

    #[test]
    fn a_correction_cancels_one_trade_and_adds_another() {
        let records = parse(r#"[{"T":"c","S":"AAPL","x":"V","oi":52983525029461,"op":231.22,"os":100,"oc":["@"],"ci":52983525029999,"cp":231.20,"cs":100,"cc":["@"],"z":"C","t":"2026-11-20T15:05:01Z"},
            {"T":"x","S":"AAPL","i":1,"x":"V","p":231.22,"s":100,"a":"C","z":"C","t":"2026-11-20T15:05:02Z"}]"#).unwrap();
        let [Record::Cancel(old), Record::Trade(new), Record::Cancel(plain)] = &records[..] else {
            panic!("{records:?}")
        };
        assert_eq!(old.trade_id, "V:52983525029461");
        assert_eq!(new.corrects.as_ref(), Some(&old.trade_id));
        assert_eq!(new.price.to_string(), "231.20");
        assert!(old.is_correction && !plain.is_correction);
    }

    #[test]
    fn credentials_are_sent_and_never_printed() {
        let plan = feed().plan(Timestamp::UNIX_EPOCH).unwrap();
        assert!(plan.on_open[0].text.contains("hunter2"));
        let (from, to) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
        let history = History::Bars { symbol: "AAPL".into(), width_seconds: 86_400, from, to };
        let request = feed().request(&history).unwrap();
        assert!(!format!("{plan:?} {request:?}").contains("hunter2"));
        assert!(!request.url.contains("hunter2"));
    }

    #[test]
    fn silence_is_judged_by_the_hours_of_the_market() {
        // Summer and winter time of New York; a Saturday.
        for (now, phase) in [
            ("2026-07-01T13:29:59Z", Phase::Extended),
            ("2026-07-01T13:30:00Z", Phase::Regular),
            ("2026-12-01T14:29:59Z", Phase::Extended),
            ("2026-12-01T20:59:59Z", Phase::Regular),
            ("2026-12-01T21:00:00Z", Phase::Extended),
            ("2026-12-02T01:00:00Z", Phase::Closed),
            ("2026-12-05T15:00:00Z", Phase::Closed),
        ] {
            assert_eq!(Phase::of(now.parse().unwrap()), phase, "{now}");
        }
        let idle = |now: &str| feed().timers(now.parse().unwrap()).data_idle.as_secs();
        assert_eq!((idle("2026-12-01T15:00:00Z"), idle("2026-12-05T15:00:00Z")), (60, 3_600));
    }

    #[test]
    fn the_newest_trade_is_asked_for_and_read() {
        let request = feed().request(&History::Latest { symbol: "AAPL".into() }).unwrap();
        assert!(request.url.ends_with("/v2/stocks/trades/latest?symbols=AAPL&feed=iex"), "{}", request.url);
        let body = br#"{"trades":{"AAPL":{"t":"2026-11-20T15:04:05.123456789Z","x":"V","p":231.22,"s":100,"c":["@"],"i":7,"z":"C"}}}"#;
        let page = feed().parse_page(&request, body, Timestamp::UNIX_EPOCH).unwrap();
        let [Record::Trade(trade)] = &page.records[..] else { panic!("{page:?}") };
        assert_eq!((trade.trade_id.as_str(), trade.price.to_string().as_str()), ("V:7", "231.22"));
    }

    #[test]
    fn errors_of_the_account_stop_the_feed_and_a_second_connection_waits() {
        let error = |code| parse(&format!(r#"[{{"T":"error","code":{code},"msg":"m"}}]"#)).unwrap_err();
        assert!(matches!(error(402), FeedError::Fatal(_)));
        assert!(matches!(error(406), FeedError::RateLimited { retry_after: Some(_), .. }));
        assert!(matches!(error(407), FeedError::Transient(_)));
    }

    #[test]
    fn daily_bars_are_labelled_by_their_session_and_pages_follow_the_token() {
        let (from, to) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
        let history = History::Bars { symbol: "AAPL".into(), width_seconds: 86_400, from, to };
        let request = feed().request(&history).unwrap();
        let body = br#"{"bars":{"AAPL":[{"t":"2026-11-19T05:00:00Z","o":1,"h":2,"l":0.5,"c":1.5,"v":10,"n":2,"vw":1.2}]},"next_page_token":"abc"}"#;
        let now: Timestamp = "2026-12-01T00:00:00Z".parse().unwrap();
        let page = feed().parse_page(&request, body, now).unwrap();
        let [Record::Bar(bar)] = &page.records[..] else { panic!("{page:?}") };
        assert_eq!(bar.time.to_rfc3339(), "2026-11-19T00:00:00+00:00");
        let amid_the_session: Timestamp = "2026-11-19T20:00:00Z".parse().unwrap();
        let page = feed().parse_page(&request, body, amid_the_session).unwrap();
        assert!(matches!(&page.records[..], [Record::OpenBar(_)]), "a part of a bar is none: {page:?}");
        assert!(page.next.unwrap().url.ends_with("&page_token=abc"));
    }
}
