//! Feeds that are polled: what each says for itself.

use std::time::Duration;

use crate::{
    error::FeedError,
    kinds::{Record, Timestamp},
    wire::{Bandwidth, Limit, Request},
};

/// Where the reading of an endpoint stands, in a form of the feed's own: a number, a time, the token of a page. It is stored
/// with the rows that it proves, and all that a worker needs to resume.
pub type Position = serde_json::Value;

/// What an endpoint is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Each symbol of the configuration on its own.
    Symbol,
    /// All at once.
    Whole,
}

/// One line of a feed's table of endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Name in cursors, refusals and metrics.
    pub name: &'static str,
    /// Path after the address of the feed.
    pub path: &'static str,
    /// Name of the limit that its requests count against.
    pub limit: &'static str,
    /// Time from one reading to the next.
    pub every: Duration,
    pub scope: Scope,
    /// Whether the account's plan may have it for some symbols and not for others.
    pub is_planned_by_symbol: bool,
}

/// What to ask: an endpoint, a symbol in the spelling of the feed where its scope wants one, from where.
#[derive(Clone, Copy, Debug)]
pub struct Question<'q> {
    pub endpoint: &'static Endpoint,
    pub symbol: Option<&'q str>,
    /// `None` before the first answer.
    pub position: Option<&'q Position>,
    /// When it is put.
    pub now: Timestamp,
}

/// How many questions an endpoint takes for one symbol, or for all where it is asked for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// At the first reading, at most.
    pub first: u32,
    /// At a later one, usually.
    pub later: u32,
}

/// A decoded answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Polled {
    pub records: Vec<Record>,
    /// Where the next question begins; `None` where each reading is of everything.
    pub position: Option<Position>,
    /// Whether there is more to be read at once, from `position`.
    pub has_more: bool,
}

/// A feed that is polled, reduced to what is its own: pure functions, no I/O, no clock. `hello.rs` is the smallest, and the
/// manual of how to write one.
pub trait PollFeed: Send + Sync {
    /// Name in the configuration, in `source` and `feed` columns and in metrics.
    fn name(&self) -> &'static str;

    /// The limits of the vendor, each of them shared by the endpoints that name it.
    fn limits(&self) -> &'static [Limit];

    /// Bytes that the vendor allows, where it counts them.
    fn bandwidth(&self) -> Option<Bandwidth> {
        None
    }

    /// Bytes of an answer, about.
    fn answer_bytes(&self, endpoint: &Endpoint) -> u64 {
        let _ = endpoint;
        10_000
    }

    /// What there is to read.
    fn endpoints(&self) -> Vec<&'static Endpoint>;

    /// What a reading of one of its endpoints takes.
    fn effort(&self, endpoint: &Endpoint) -> Effort {
        let _ = endpoint;
        Effort { first: 1, later: 1 }
    }

    /// How long a question rests after a reading, whose position it has. `urgency` says how many times as much as others its symbol
    /// matters at this time (1: as others).
    fn pace(&self, question: Question<'_>, urgency: f64) -> Duration {
        let _ = urgency;
        question.endpoint.every
    }

    /// Whether [`PollFeed::pace`] depends on urgency, so that it is worth finding out.
    fn heeds_attention(&self) -> bool {
        false
    }

    /// Whether its symbols are instruments, and not accounts of people.
    fn asks_about_instruments(&self) -> bool {
        true
    }

    /// Whether a refusal (HTTP 403) stops it until somebody lifts it by hand: asking on would be no accident.
    fn stays_blocked(&self) -> bool {
        false
    }

    /// The request that puts a question.
    ///
    /// # Errors
    /// [`FeedError::Fatal`] for an endpoint that is not of this feed.
    fn request(&self, question: Question<'_>) -> Result<Request, FeedError>;

    /// What a refusal means, where that is not what its status says: a 403 of a vendor without plans is meant for the worker.
    fn meaning(&self, refusal: FeedError) -> FeedError {
        refusal
    }

    /// Decodes the answer to a question: JSON with a status of success.
    ///
    /// A bad item inside a good answer becomes [`Record::Rejected`], so that the rest of it is kept.
    ///
    /// # Errors
    /// [`FeedError::Rejected`] when the whole answer is unreadable; the other kinds when it reports an error.
    fn parse(&self, question: Question<'_>, body: &[u8], received_at: Timestamp)
    -> Result<Polled, FeedError>;
}
