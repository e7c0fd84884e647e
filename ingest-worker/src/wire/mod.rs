//! The network as the drivers see it: open a websocket, put a question and get the answer. Tests put a scripted one in its
//! place.
//!
//! Nothing here knows a feed: a request has a method, an address, headers, a body; an answer has a status and a body. What
//! a vendor means by them is its feed's to say.

mod answer;
mod backoff;
mod budget;
mod network;
mod secret;

use std::{fmt, time::Duration};

use futures_util::future::BoxFuture;
pub use reqwest::Method;

pub use answer::Answer;
pub use backoff::Backoff;
pub use budget::{Bandwidth, Budget, Limit};
pub use network::Network;
pub use secret::{Secret, ask};

use crate::error::FeedError;

/// Largest answer accepted where a request does not say less; the largest real ones (a day of trades) are under 10 MiB.
pub const MAX_BODY: usize = 64 << 20;
/// Time for the whole answer where a request does not say otherwise.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// One HTTP request.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub method: Method,
    /// Without credentials: it may be printed.
    pub url: String,
    /// Parameters that hold credentials, for vendors that take them nowhere else; added to the address when it is sent.
    pub secret_query: Vec<(&'static str, Secret)>,
    pub headers: Vec<(&'static str, Secret)>,
    pub body: Option<Body>,
    /// Requests of a limit that are left to others: where an answer says that no more than these remain, the limit counts as used up.
    pub reserve: u64,
    /// Bytes of the answer that are accepted.
    pub max_body: usize,
    pub timeout: Duration,
}

/// What a request carries. Its `Debug` form hides the text, which may hold credentials.
#[derive(Clone, PartialEq)]
pub struct Body {
    pub content_type: &'static str,
    pub text: String,
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} bytes of {})", self.text.len(), self.content_type)
    }
}

impl Request {
    /// A question without a body.
    pub fn get(url: impl Into<String>) -> Self {
        Request {
            method: Method::GET,
            url: url.into(),
            secret_query: Vec::new(),
            headers: Vec::new(),
            body: None,
            reserve: 0,
            max_body: MAX_BODY,
            timeout: RESPONSE_TIMEOUT,
        }
    }

    /// Anything else, with a body in JSON.
    pub fn json(method: Method, url: impl Into<String>, text: impl Into<String>) -> Self {
        let body = Body { content_type: "application/json", text: text.into() };
        Request { method, body: Some(body), ..Request::get(url) }
    }
}

/// What comes out of an open connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Received {
    /// A text or binary frame.
    Frame(Vec<u8>),
    /// A ping or pong: the peer lives.
    Alive,
    /// The end, with the peer's code and reason where it gave them.
    Closed { code: Option<u16>, reason: String },
}

/// An open websocket. All methods may be dropped while waiting.
pub trait Connection: Send {
    fn send(&mut self, text: String) -> BoxFuture<'_, Result<(), FeedError>>;
    fn ping(&mut self) -> BoxFuture<'_, Result<(), FeedError>>;
    fn receive(&mut self) -> BoxFuture<'_, Received>;
}

/// Opens connections and answers requests.
pub trait Transport: Send + Sync {
    /// Opens a websocket.
    fn open(&self, url: String) -> BoxFuture<'static, Result<Box<dyn Connection>, FeedError>>;

    /// The answer to a request, whatever its status, as it came ([`ask`] is for drivers); an error when none came, or one that is too
    /// large.
    fn ask(&self, request: Request) -> BoxFuture<'static, Result<Answer, FeedError>>;
}
