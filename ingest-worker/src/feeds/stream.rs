//! Feeds that are listened to: what each says for itself.

use std::{fmt, time::Duration};

use crate::{
    error::FeedError,
    kinds::{Record, Timestamp},
    wire::{self, Secret},
};

/// A feed with a stream, or with history alone, reduced to what is its own.
pub trait StreamFeed: Send + Sync {
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
    /// As [`StreamFeed::parse`].
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

/// One request for history.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub url: String,
    pub headers: Vec<(&'static str, Secret)>,
    pub history: History,
}

impl Request {
    /// The request as it is sent.
    pub fn wire(&self) -> wire::Request {
        wire::Request { headers: self.headers.clone(), ..wire::Request::get(&self.url) }
    }
}

/// A decoded response.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    pub records: Vec<Record>,
    pub next: Option<Request>,
}
