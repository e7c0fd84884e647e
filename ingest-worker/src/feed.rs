//! The trait every feed implements, and the table of feeds.
//!
//! A feed is one file of pure functions: which messages subscribe, what a frame means, which request asks for
//! history, what a response means. Sockets, timers, gaps, retries and the database are the same for all feeds and live
//! elsewhere ([`crate::stream`], [`crate::store`]), so a recorded byte string is all a feed's test needs. Rejected: a
//! client object per venue that owns its socket, because its failures can then only be tested against a server.

mod alpaca;
mod cdp_token;
mod coinbase;
mod coinbase_exchange;
mod kraken;
mod kraken_v1;
mod yahoo;

use std::{collections::BTreeMap, fmt, time::Duration};

pub use kraken_v1::KrakenV1;

use crate::{
    error::FeedError,
    kinds::{Record, Timestamp},
};

/// A source of market data, reduced to what is its own.
pub trait Feed: Send + Sync {
    /// Name in the configuration, in `feed` columns and in metrics.
    fn name(&self) -> &'static str;

    /// How to listen from `now`, which dates credentials; `None` for feeds that only have history.
    fn plan(&self, now: Timestamp) -> Option<Plan>;

    /// Decodes one frame. Pure: no I/O, no clock.
    ///
    /// A bad item inside a good frame becomes [`Record::Rejected`], so that the rest of the frame is kept.
    ///
    /// # Errors
    /// [`FeedError::Rejected`] when the whole frame is unreadable; the other kinds when the feed reports an error.
    fn parse(&self, payload: &[u8], received_at: Timestamp) -> Result<Vec<Record>, FeedError>;

    /// First request for a stretch of history; `None` where the feed has no such history.
    fn request(&self, history: &History) -> Option<Request>;

    /// Decodes one response and names the next request of the stretch.
    ///
    /// # Errors
    /// As [`Feed::parse`].
    fn parse_page(&self, request: &Request, body: &[u8], received_at: Timestamp) -> Result<Page, FeedError>;

    /// What the trade ids of this feed can prove.
    fn trade_ids(&self) -> TradeIds;

    /// Timers of the stream at `now`; markets that close are silent by night. See the operators' manual (`docs/feeds.md`).
    fn timers(&self, now: Timestamp) -> Timers {
        let _ = now;
        Timers {
            socket_idle: Duration::from_secs(10),
            data_idle: Duration::from_secs(120),
            compare_every: None,
        }
    }

    /// Shortest time between two REST requests.
    fn request_interval(&self) -> Duration;
}

/// How to listen to a feed.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub url: String,
    /// Sent in this order as soon as the socket is open.
    pub on_open: Vec<Message>,
    /// Sent in this order once the feed has confirmed the credentials; empty for public feeds.
    pub on_authenticated: Vec<Message>,
}

/// A text frame to send. Its `Debug` form hides the text where it holds credentials.
#[derive(Clone, PartialEq)]
pub struct Message {
    pub text: String,
    pub is_secret: bool,
}

impl Message {
    pub fn public(text: impl Into<String>) -> Self {
        Message { text: text.into(), is_secret: false }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_secret { "(secret)" } else { &self.text })
    }
}

/// A value that is never printed.
#[derive(Clone, PartialEq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// What trade ids prove about completeness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TradeIds {
    /// Consecutive integers per symbol: a missing number is a missing trade.
    Dense,
    /// Identities only: a gap can be known by time alone.
    Sparse,
    /// None; identities are made from the content.
    Absent,
}

/// The two silences a stream does not accept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timers {
    /// No frame at all.
    pub socket_idle: Duration,
    /// Frames, but no data of any subscribed channel: an acknowledged subscription can be mute.
    pub data_idle: Duration,
    /// How often REST is asked for what the stream may have lost unnoticed; for feeds without dense ids.
    pub compare_every: Option<Duration>,
}

/// A stretch of history of one symbol (spelling of the feed).
#[derive(Clone, Debug, PartialEq)]
pub enum History {
    /// Trades from `from` to `to`, both included; the ids, where they are known, bound it more tightly.
    Trades { symbol: String, from: Timestamp, to: Timestamp, from_id: Option<i64>, to_id: Option<i64> },
    /// Bars that start from `from` (included) to `to` (excluded).
    Bars { symbol: String, width_seconds: i64, from: Timestamp, to: Timestamp },
    /// The newest trade alone.
    Latest { symbol: String },
}

/// One REST request.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub url: String,
    pub headers: Vec<(&'static str, Secret)>,
    pub history: History,
}

/// A decoded response.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    pub records: Vec<Record>,
    pub next: Option<Request>,
}

/// What a feed is built from: its part of the configuration and the credentials of the environment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeedSettings {
    /// Spellings of the feed.
    pub symbols: Vec<String>,
    pub trades: bool,
    pub quotes: bool,
    /// Widths in seconds of the bars to subscribe to.
    pub bars: Vec<i64>,
    /// Replaces the vendor's websocket address (tests, regional hosts).
    pub url: Option<String>,
    /// Replaces the vendor's REST address.
    pub rest_url: Option<String>,
    /// Choice within the vendor's offer, for example Alpaca's `iex` or `sip`.
    pub plan: Option<String>,
    /// Environment variables the feed asked for, by name.
    pub credentials: BTreeMap<&'static str, Secret>,
}

impl FeedSettings {
    /// The value of an environment variable the feed asked for; empty where it is not set.
    fn credential(&self, name: &str) -> &str {
        self.credentials.get(name).map_or("", |secret| &secret.0)
    }

    fn url_or(&self, default: &str) -> String {
        self.url.clone().unwrap_or_else(|| default.to_owned())
    }

    fn rest_url_or(&self, default: &str) -> String {
        self.rest_url.clone().unwrap_or_else(|| default.to_owned()).trim_end_matches('/').to_owned()
    }
}

/// One line of the table of feeds.
pub struct FeedEntry {
    pub name: &'static str,
    pub description: &'static str,
    /// Environment variables without which it cannot work.
    pub credentials: &'static [&'static str],
    /// Environment variables it can do without, all of them or none.
    pub optional_credentials: &'static [&'static str],
    /// Whether notices of it take trades back, so that each new trade must be looked for among them.
    pub takes_trades_back: bool,
    /// Fails with the reason when credentials or settings cannot be used.
    pub build: fn(FeedSettings) -> Result<Box<dyn Feed>, String>,
}

/// Every feed the worker speaks. Adding one is its file and a line here.
pub const FEEDS: &[FeedEntry] = &[
    FeedEntry {
        name: coinbase::NAME,
        description: "Coinbase Advanced Trade: trades, quotes, bars",
        credentials: &[],
        optional_credentials: cdp_token::CREDENTIALS,
        takes_trades_back: false,
        build: |settings| Ok(Box::new(coinbase::Coinbase::new(settings)?)),
    },
    FeedEntry {
        name: coinbase_exchange::NAME,
        description: "Coinbase Exchange: trades, quotes",
        credentials: &[],
        optional_credentials: &[],
        takes_trades_back: false,
        build: |settings| Ok(Box::new(coinbase_exchange::CoinbaseExchange::new(settings))),
    },
    FeedEntry {
        name: kraken::NAME,
        description: "Kraken websocket v2: trades, quotes, bars",
        credentials: &[],
        optional_credentials: &[],
        takes_trades_back: false,
        build: |settings| Ok(Box::new(kraken::Kraken::new(settings))),
    },
    FeedEntry {
        name: kraken_v1::NAME,
        description: "Kraken websocket v1, for recordings: trades, quotes",
        credentials: &[],
        optional_credentials: &[],
        takes_trades_back: false,
        build: |_| Ok(Box::new(KrakenV1)),
    },
    FeedEntry {
        name: alpaca::STOCKS,
        description: "Alpaca stocks: trades, quotes, bars, corrections",
        credentials: alpaca::CREDENTIALS,
        optional_credentials: &[],
        takes_trades_back: true,
        build: |settings| Ok(Box::new(alpaca::Alpaca::stocks(settings))),
    },
    FeedEntry {
        name: alpaca::CRYPTO,
        description: "Alpaca crypto: trades, quotes, bars",
        credentials: alpaca::CREDENTIALS,
        optional_credentials: &[],
        takes_trades_back: true,
        build: |settings| Ok(Box::new(alpaca::Alpaca::crypto(settings))),
    },
    FeedEntry {
        name: yahoo::NAME,
        description: "Yahoo chart: daily bars of the leaders, back-fill only",
        credentials: &[],
        optional_credentials: &[],
        takes_trades_back: false,
        build: |settings| Ok(Box::new(yahoo::Yahoo::new(settings))),
    },
];

/// The entry called `name`.
pub fn find(name: &str) -> Option<&'static FeedEntry> {
    FEEDS.iter().find(|entry| entry.name == name)
}

/// The feed whose frames a recording of `url` holds; `None` for venues the worker does not speak.
pub fn of_url(url: &str) -> Option<&'static FeedEntry> {
    let name = match url {
        _ if url.starts_with("wss://advanced-trade-ws.coinbase.com") => coinbase::NAME,
        _ if url.starts_with("wss://ws-feed.") && url.contains("coinbase.com") => coinbase_exchange::NAME,
        _ if url.starts_with("wss://ws.kraken.com/v2") => kraken::NAME,
        _ if url.starts_with("wss://ws.kraken.com") => kraken_v1::NAME,
        _ if url.starts_with("wss://stream.data.alpaca.markets/v2/") => alpaca::STOCKS,
        _ if url.starts_with("wss://stream.data.alpaca.markets/v1beta3/crypto") => alpaca::CRYPTO,
        _ => return None,
    };
    find(name)
}

/// Reads a JSON frame; the position of the first error goes into the reason.
fn from_json<'a, T: serde::Deserialize<'a>>(payload: &'a [u8]) -> Result<T, FeedError> {
    serde_json::from_slice(payload).map_err(|e| FeedError::Rejected(format!("unreadable frame: {e}")))
}

/// Decodes each item on its own: a bad one is quarantined, the others are kept.
fn each<'a, T: serde::Deserialize<'a>>(
    items: &[&'a serde_json::value::RawValue],
    received_at: Timestamp,
    records: &mut Vec<Record>,
    mut decode: impl FnMut(T) -> Result<Record, String>,
) {
    for item in items {
        let decoded = serde_json::from_str::<T>(item.get()).map_err(|e| e.to_string()).and_then(&mut decode);
        records.push(decoded.unwrap_or_else(|reason| {
            Record::Rejected(crate::kinds::Rejected::new(item.get().as_bytes(), reason, received_at))
        }));
    }
}

/// The error of a response to a question that the feed never puts.
fn not_asked() -> FeedError {
    FeedError::Rejected("response to a question that this feed does not put".to_owned())
}

/// When a trade or quote could be known: as published if the feed says so, but never before it happened.
fn published(event_time: Timestamp, published_at: Option<Timestamp>, received_at: Timestamp) -> Timestamp {
    published_at.unwrap_or(received_at).max(event_time)
}

#[cfg(test)]
mod tests {
    use kronos_venue::{Protocol, Trade, Venue};

    use super::*;
    use crate::exact::micros;

    #[test]
    fn feed_names_are_unique_and_agree_with_their_feeds() {
        for (i, entry) in FEEDS.iter().enumerate() {
            assert_eq!((entry.build)(FeedSettings::default()).map(|feed| feed.name()), Ok(entry.name));
            assert!(FEEDS[..i].iter().all(|earlier| earlier.name != entry.name), "{}", entry.name);
        }
    }

    /// 2023-11-14 22:13:20 UTC.
    const TRADED: i64 = 1_700_000_000_000_000;

    /// Symbols, times and times of knowledge, in microseconds after the trade, of the rows of a live frame that arrives
    /// `delay` after the trade, and of a page of history that arrives an hour later.
    fn known(protocol: Protocol, delay: i64) -> [Vec<(i64, i64)>; 3] {
        let symbol = if protocol.feed().starts_with("coinbase") { "BTC-USD" } else { "BTC/USD" };
        let trade = Trade {
            symbol: symbol.to_owned(),
            id: 1,
            micros: TRADED,
            price: "100.00".to_owned(),
            size: "1.0".to_owned(),
            is_buy: true,
        };
        let venue = Venue { protocol, trades: vec![trade.clone()], has_quotes: true };
        let settings = FeedSettings { rest_url: Some("http://venue".to_owned()), ..FeedSettings::default() };
        let feed = (find(protocol.feed()).unwrap().build)(settings).unwrap();
        let after = |delay: i64| micros(TRADED + delay).unwrap();
        let live = [venue.frame(&venue.trades, 1), venue.quote(&trade, 2)];
        let live = live.map(|frame| feed.parse(frame.as_bytes(), after(delay)).unwrap());
        let (from, to) = (after(-1), after(1));
        let history = History::Trades { symbol: symbol.to_owned(), from, to, from_id: None, to_id: None };
        let request = feed.request(&history).unwrap();
        let (_, body) = venue.answer(request.url.strip_prefix("http://venue").unwrap(), 1);
        let page = feed.parse_page(&request, body.as_bytes(), after(3_600_000_000)).unwrap();
        let [trades, quotes] = live;
        [trades, quotes, page.records].map(|records| {
            let times = |record: &Record| match record {
                Record::Trade(t) => Some((t.event_time, t.known_at)),
                Record::Quote(q) => Some((q.event_time, q.known_at)),
                _ => None,
            };
            let since = |time: Timestamp| time.timestamp_micros() - TRADED;
            records.iter().filter_map(times).map(|(event, known)| (since(event), since(known))).collect()
        })
    }

    #[test]
    fn what_is_live_is_known_when_it_was_published_or_received_and_history_when_it_happened() {
        const DELAY: i64 = 5_000_000;
        for protocol in
            [Protocol::CoinbaseExchange, Protocol::Kraken, Protocol::Alpaca, Protocol::AlpacaCrypto]
        {
            let expected = [vec![(0, DELAY)], vec![(0, DELAY)], vec![(0, 0)]];
            assert_eq!(known(protocol, DELAY), expected, "{protocol:?}");
            // A clock of ours that is behind makes nothing known before it happened.
            assert_eq!(known(protocol, -DELAY), [[(0, 0)], [(0, 0)], [(0, 0)]], "{protocol:?}");
        }
        // The envelope says when it was published: a millisecond after the trade, at once with the quote.
        for delay in [DELAY, -DELAY] {
            assert_eq!(known(Protocol::Coinbase, delay), [[(0, 1_000)], [(0, 0)], [(0, 0)]]);
        }
    }

    #[test]
    fn recordings_are_attributed_by_their_address() {
        for (url, name) in [
            ("wss://ws-feed.pro.coinbase.com", Some("coinbase_exchange")),
            ("wss://ws.kraken.com", Some("kraken_v1")),
            ("wss://ws.kraken.com/v2", Some("kraken")),
            ("wss://stream.binance.com:9443/stream", None),
        ] {
            assert_eq!(of_url(url).map(|entry| entry.name), name, "{url}");
        }
    }

    #[test]
    fn secrets_are_never_printed() {
        let message = Message { text: "hunter2".into(), is_secret: true };
        let header = Secret("hunter2".into());
        assert!(!format!("{message:?} {header:?}").contains("hunter2"));
    }
}
