//! The feeds: a trait for those that are listened to, one for those that are polled, and the table of all.
//!
//! A feed is one file of pure functions: what subscribes or asks, what a frame or response means. Sockets, timers, gaps,
//! limits, retries and the database are the same for all feeds and live elsewhere ([`crate::drive`], [`crate::wire`],
//! [`crate::store`]), so a recorded byte string is all a feed's test needs. Rejected: a client object per venue that owns its
//! socket, because its failures can then only be tested against a server.

mod alpaca;
mod alpaca_assets;
mod alpaca_news;
mod capitoltrades;
mod cdp_token;
mod coinbase;
mod coinbase_exchange;
mod fmp;
mod fred;
mod hello;
mod kraken;
mod kraken_v1;
mod listed;
mod poll;
mod quiver;
mod settings;
mod stocktwits;
mod stream;
mod truthsocial;
mod yahoo;

pub use kraken_v1::KrakenV1;
pub use poll::{Effort, Endpoint, PollFeed, Polled, Position, Question, Scope};
pub use settings::FeedSettings;
pub use stream::{History, Message, Page, Plan, Request, StreamFeed, Timers, TradeIds};

use std::sync::Arc;

use crate::{
    error::FeedError,
    kinds::{Record, Timestamp},
    wire::Secret,
};

/// Where a vendor is reached; the configuration may replace what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    pub stream: Option<&'static str>,
    pub rest: Option<&'static str>,
}

/// A feed of either form.
#[derive(Clone)]
pub enum Feed {
    /// It is listened to, or has history alone.
    Stream(Arc<dyn StreamFeed>),
    /// It is asked again and again.
    Poll(Arc<dyn PollFeed>),
}

impl Feed {
    /// Name in the configuration, in `feed` columns and in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Feed::Stream(feed) => feed.name(),
            Feed::Poll(feed) => feed.name(),
        }
    }
}

/// How a feed is made from its settings; fails with the reason when credentials or settings cannot be used.
pub enum Build {
    Stream(fn(FeedSettings) -> Result<Box<dyn StreamFeed>, String>),
    Poll(fn(FeedSettings) -> Result<Box<dyn PollFeed>, String>),
}

/// One line of the table of feeds: all that others need to know of a feed.
pub struct FeedEntry {
    pub name: &'static str,
    pub description: &'static str,
    /// What it is in `market.sources`: `venue` (its own trades) or `vendor` (redistributes).
    pub source: &'static str,
    /// Where two sources have the same bar, the views show that of the lower rank.
    pub rank: i32,
    pub addresses: Addresses,
    /// Beginnings of the addresses whose recorded frames it decodes; the longest that fits decides.
    pub recorded_as: &'static [&'static str],
    /// What `plan` in the configuration may be; empty where there is no choice.
    pub plans: &'static [&'static str],
    /// Environment variables without which it cannot work.
    pub credentials: &'static [&'static str],
    /// Environment variables it can do without, all of them or none.
    pub optional_credentials: &'static [&'static str],
    /// Whether notices of it take trades back, so that each new trade must be looked for among them.
    pub takes_trades_back: bool,
    /// The calendar of what it trades, as `market.instruments` has it; `None` where its bars have to tell.
    pub calendar: Option<&'static str>,
    /// Whether people are told of it; what only tests and recordings need is found by name.
    pub is_offered: bool,
    /// Whether its section has to say `enabled = true`: sources without an official interface, whose terms are the user's to read.
    pub is_opt_in: bool,
    pub build: Build,
}

impl FeedEntry {
    /// The feed.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub fn build(&self, settings: FeedSettings) -> Result<Feed, String> {
        let also = settings.also.clone();
        let feed = match self.build {
            Build::Stream(build) => Feed::Stream(Arc::from(build(settings)?)),
            Build::Poll(build) => Feed::Poll(Arc::from(build(settings)?)),
        };
        let is_read = |name: &String| matches!(&feed, Feed::Poll(feed) if feed.endpoints().iter().any(|endpoint| endpoint.name == name));
        match also.iter().find(|name| !is_read(name)) {
            Some(name) => Err(format!("feeds.{}.also: \"{name}\" is none of its endpoints", self.name)),
            None => Ok(feed),
        }
    }

    /// The feed, where it is one that is listened to.
    ///
    /// # Errors
    /// Why it cannot be made, also where it is polled.
    pub fn stream(&self, settings: FeedSettings) -> Result<Arc<dyn StreamFeed>, String> {
        match self.build(settings)? {
            Feed::Stream(feed) => Ok(feed),
            Feed::Poll(feed) => {
                Err(format!("feed \"{}\" is polled by run: it has no frames and no back-fill", feed.name()))
            }
        }
    }
}

/// Every feed the worker speaks. Adding one is its file and a line here.
pub const FEEDS: &[FeedEntry] = &[
    FeedEntry {
        name: coinbase::NAME,
        description: "Coinbase Advanced Trade: trades, quotes, bars",
        source: "venue",
        rank: 10,
        addresses: Addresses { stream: Some(coinbase::WEBSOCKET), rest: Some(coinbase::REST) },
        recorded_as: &["wss://advanced-trade-ws.coinbase.com"],
        plans: &[],
        credentials: &[],
        optional_credentials: cdp_token::CREDENTIALS,
        takes_trades_back: false,
        calendar: Some("24x7"),
        is_offered: true,
        is_opt_in: false,
        build: Build::Stream(|settings| Ok(Box::new(coinbase::Coinbase::new(settings)?))),
    },
    FeedEntry {
        name: coinbase_exchange::NAME,
        description: "Coinbase Exchange: trades, quotes",
        source: "venue",
        rank: 11,
        addresses: Addresses {
            stream: Some(coinbase_exchange::WEBSOCKET),
            rest: Some(coinbase_exchange::REST),
        },
        recorded_as: &["wss://ws-feed.exchange.coinbase.com", "wss://ws-feed.pro.coinbase.com"],
        plans: &[],
        credentials: &[],
        optional_credentials: &[],
        takes_trades_back: false,
        calendar: Some("24x7"),
        is_offered: true,
        is_opt_in: false,
        build: Build::Stream(|settings| Ok(Box::new(coinbase_exchange::CoinbaseExchange::new(settings)))),
    },
    FeedEntry {
        name: kraken::NAME,
        description: "Kraken websocket v2: trades, quotes, bars",
        source: "venue",
        rank: 20,
        addresses: Addresses { stream: Some(kraken::WEBSOCKET), rest: Some(kraken::REST) },
        recorded_as: &["wss://ws.kraken.com/v2"],
        plans: &[],
        credentials: &[],
        optional_credentials: &[],
        takes_trades_back: false,
        calendar: Some("24x7"),
        is_offered: true,
        is_opt_in: false,
        build: Build::Stream(|settings| Ok(Box::new(kraken::Kraken::new(settings)))),
    },
    FeedEntry {
        name: kraken_v1::NAME,
        description: "Kraken websocket v1, for recordings: trades, quotes",
        source: "venue",
        rank: 21,
        addresses: Addresses { stream: None, rest: None },
        recorded_as: &["wss://ws.kraken.com"],
        plans: &[],
        credentials: &[],
        optional_credentials: &[],
        takes_trades_back: false,
        calendar: Some("24x7"),
        is_offered: true,
        is_opt_in: false,
        build: Build::Stream(|_| Ok(Box::new(KrakenV1))),
    },
    FeedEntry {
        name: alpaca::STOCKS,
        description: "Alpaca stocks: trades, quotes, bars, corrections",
        source: "vendor",
        rank: 30,
        addresses: Addresses { stream: Some(alpaca::WEBSOCKET), rest: Some(alpaca::REST) },
        recorded_as: &["wss://stream.data.alpaca.markets/v2/"],
        plans: alpaca::TAPES,
        credentials: alpaca::CREDENTIALS,
        optional_credentials: &[],
        takes_trades_back: true,
        calendar: Some("XNYS"),
        is_offered: true,
        is_opt_in: false,
        build: Build::Stream(|settings| Ok(Box::new(alpaca::Alpaca::stocks(settings)))),
    },
    FeedEntry {
        name: alpaca::CRYPTO,
        description: "Alpaca crypto: trades, quotes, bars",
        source: "vendor",
        rank: 31,
        addresses: Addresses { stream: Some(alpaca::WEBSOCKET), rest: Some(alpaca::REST) },
        recorded_as: &["wss://stream.data.alpaca.markets/v1beta3/crypto"],
        plans: &[],
        credentials: alpaca::CREDENTIALS,
        optional_credentials: &[],
        takes_trades_back: true,
        calendar: Some("24x7"),
        is_offered: true,
        is_opt_in: false,
        build: Build::Stream(|settings| Ok(Box::new(alpaca::Alpaca::crypto(settings)))),
    },
    FeedEntry {
        name: alpaca_news::NAME,
        description: "Alpaca news: headlines and summaries, with their revisions",
        source: "vendor",
        rank: 32,
        addresses: Addresses { stream: None, rest: Some(alpaca::REST) },
        recorded_as: &[],
        plans: &[],
        credentials: alpaca::CREDENTIALS,
        optional_credentials: &[],
        takes_trades_back: false,
        calendar: None,
        is_offered: true,
        is_opt_in: false,
        build: Build::Poll(|settings| Ok(Box::new(alpaca_news::AlpacaNews::new(settings)))),
    },
    FeedEntry {
        name: yahoo::NAME,
        description: "Yahoo chart: daily bars of the leaders, back-fill only",
        source: "vendor",
        rank: 40,
        addresses: Addresses { stream: None, rest: Some(yahoo::REST) },
        recorded_as: &[],
        plans: &[],
        credentials: &[],
        optional_credentials: &[],
        takes_trades_back: false,
        calendar: None,
        is_offered: true,
        is_opt_in: false,
        build: Build::Stream(|settings| Ok(Box::new(yahoo::Yahoo::new(settings)))),
    },
    FeedEntry {
        name: fmp::NAME,
        description: "Financial Modeling Prep: statements, expectations, opinions, news, calendars",
        source: "vendor",
        rank: 45,
        addresses: Addresses { stream: None, rest: Some(fmp::REST) },
        recorded_as: &[],
        plans: fmp::PLANS,
        credentials: fmp::CREDENTIALS,
        optional_credentials: &[],
        takes_trades_back: false,
        calendar: None,
        is_offered: true,
        is_opt_in: false,
        build: Build::Poll(|settings| Ok(Box::new(fmp::Fmp::new(settings)))),
    },
    FeedEntry {
        name: fred::NAME,
        description: "FRED and ALFRED: economic series with their vintages, days of release",
        source: "vendor",
        rank: 46,
        addresses: Addresses { stream: None, rest: Some(fred::REST) },
        recorded_as: &[],
        plans: &[],
        credentials: fred::CREDENTIALS,
        optional_credentials: &[],
        takes_trades_back: false,
        calendar: None,
        is_offered: true,
        is_opt_in: false,
        build: Build::Poll(|settings| Ok(Box::new(fred::Fred::new(settings)))),
    },
    FeedEntry {
        name: quiver::NAME,
        description: "QuiverQuant: trades of Congress and of insiders, lobbying, contracts, apps, volume off exchanges",
        source: "vendor",
        rank: 50,
        addresses: Addresses { stream: None, rest: Some(quiver::REST) },
        recorded_as: &[],
        plans: &[],
        credentials: quiver::CREDENTIALS,
        optional_credentials: &[],
        takes_trades_back: false,
        calendar: None,
        is_offered: true,
        is_opt_in: false,
        build: Build::Poll(|settings| Ok(Box::new(quiver::Quiver::new(settings)))),
    },
    FeedEntry {
        name: capitoltrades::NAME,
        description: "CapitolTrades: trades of Congress, by an interface that is not official",
        source: "vendor",
        rank: 51,
        addresses: Addresses { stream: None, rest: Some(capitoltrades::REST) },
        recorded_as: &[],
        plans: &[],
        credentials: &[],
        optional_credentials: &[],
        takes_trades_back: false,
        calendar: None,
        is_offered: true,
        is_opt_in: true,
        build: Build::Poll(|settings| Ok(Box::new(capitoltrades::CapitolTrades::new(settings)))),
    },
    FeedEntry {
        name: alpaca_assets::NAME,
        description: "Alpaca: which shares can be traded, and which can be borrowed",
        source: "vendor",
        rank: 52,
        addresses: Addresses { stream: None, rest: Some(alpaca_assets::PAPER) },
        recorded_as: &[],
        plans: alpaca_assets::PLANS,
        credentials: alpaca::CREDENTIALS,
        optional_credentials: &[],
        takes_trades_back: false,
        calendar: Some("XNYS"),
        is_offered: true,
        is_opt_in: false,
        build: Build::Poll(|settings| Ok(Box::new(alpaca_assets::AlpacaAssets::new(settings)))),
    },
    FeedEntry {
        name: stocktwits::NAME,
        description: "Stocktwits: messages about symbols",
        source: "vendor",
        rank: 60,
        addresses: Addresses { stream: None, rest: Some(stocktwits::REST) },
        recorded_as: &[],
        plans: &[],
        credentials: &[],
        optional_credentials: stocktwits::CREDENTIALS,
        takes_trades_back: false,
        calendar: None,
        is_offered: true,
        is_opt_in: false,
        build: Build::Poll(|settings| Ok(Box::new(stocktwits::Stocktwits::new(settings)))),
    },
    FeedEntry {
        name: truthsocial::NAME,
        description: "Truth Social: posts of accounts",
        source: "vendor",
        rank: 61,
        addresses: Addresses { stream: None, rest: Some(truthsocial::REST) },
        recorded_as: &[],
        plans: &[],
        credentials: truthsocial::CREDENTIALS,
        optional_credentials: &[],
        takes_trades_back: false,
        calendar: None,
        is_offered: true,
        is_opt_in: true,
        build: Build::Poll(|settings| Ok(Box::new(truthsocial::TruthSocial::new(settings)))),
    },
    FeedEntry {
        name: hello::NAME,
        description: "Greetings of the test venue: the smallest feed that is polled",
        source: "vendor",
        rank: 80,
        addresses: Addresses { stream: None, rest: Some(hello::REST) },
        recorded_as: &[],
        plans: &[],
        credentials: &[],
        optional_credentials: &[],
        takes_trades_back: false,
        calendar: None,
        is_offered: false,
        is_opt_in: false,
        build: Build::Poll(|settings| Ok(Box::new(hello::Hello::new(settings)))),
    },
];

/// The entry called `name`.
pub fn find(name: &str) -> Option<&'static FeedEntry> {
    FEEDS.iter().find(|entry| entry.name == name)
}

/// The feed whose frames a recording of `url` holds; `None` for venues the worker does not speak.
pub fn of_url(url: &str) -> Option<&'static FeedEntry> {
    let fit = |entry: &FeedEntry| {
        entry.recorded_as.iter().filter(|start| url.starts_with(**start)).map(|start| start.len()).max()
    };
    FEEDS
        .iter()
        .filter_map(|entry| Some((fit(entry)?, entry)))
        .max_by_key(|(fit, _)| *fit)
        .map(|(_, entry)| entry)
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
mod tests;
