//! What is stored together: rows of one feed, and the bookkeeping they prove.

use serde::{Deserialize, Serialize};

use crate::kinds::{Record, Timestamp};

/// Where a stream of a feed stands, a row of `market.feed_cursors`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CursorMove {
    pub channel: String,
    pub symbol: String,
    pub sequence: i64,
    pub event_time: Option<Timestamp>,
}

/// What happened to a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GapStatus {
    Open,
    Filled,
    Unfillable,
}

impl GapStatus {
    /// The word stored in `market.feed_gaps.status`.
    pub fn as_str(self) -> &'static str {
        match self {
            GapStatus::Open => "open",
            GapStatus::Filled => "filled",
            GapStatus::Unfillable => "unfillable",
        }
    }
}

/// A run of missing messages, a row of `market.feed_gaps`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GapRow {
    pub channel: String,
    pub symbol: String,
    /// `seq`, `id`, `reconnect`, `idle` or `clock`.
    pub cause: String,
    pub from_seq: i64,
    pub to_seq: i64,
    pub from_time: Option<Timestamp>,
    pub to_time: Option<Timestamp>,
    pub detected_at: Timestamp,
    pub status: GapStatus,
    pub filled_at: Option<Timestamp>,
    pub filled_rows: Option<i64>,
    pub note: Option<String>,
}

/// A connection, a row of `market.feed_sessions`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionRow {
    pub url: String,
    pub opened_at: Timestamp,
    pub closed_at: Option<Timestamp>,
    pub close_code: Option<i32>,
    pub close_reason: Option<String>,
    pub frames: i64,
    pub bytes: i64,
    pub last_frame_at: Option<Timestamp>,
}

/// How far an endpoint that is polled is read, a row of `market.feed_cursors`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MarkMove {
    pub endpoint: String,
    pub symbol: String,
    /// Rises with each answer.
    pub sequence: i64,
    /// When the newest thing happened that the answer told of.
    pub event_time: Option<Timestamp>,
    /// What the driver needs to go on.
    pub position: serde_json::Value,
}

/// A refusal of a vendor's, or its end: a row of `market.feed_refusals`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefusalRow {
    /// The endpoint; `*` for all of the feed.
    pub channel: String,
    /// Canonical; `*` for all.
    pub symbol: String,
    pub at: Timestamp,
    /// Until when nobody asks again; for as long as the worker runs without it.
    pub until: Option<Timestamp>,
    /// What the vendor said; `None`: it answers again.
    pub reason: Option<String>,
}

impl RefusalRow {
    /// It refuses `channel` for `symbol`.
    pub fn new(channel: &str, symbol: &str, at: Timestamp, until: Option<Timestamp>, reason: &str) -> Self {
        let (channel, symbol) = (channel.to_owned(), symbol.to_owned());
        RefusalRow { channel, symbol, at, until, reason: Some(reason.to_owned()) }
    }

    /// It answers again.
    pub fn lifted(channel: &str, symbol: &str, at: Timestamp) -> Self {
        let (channel, symbol) = (channel.to_owned(), symbol.to_owned());
        RefusalRow { channel, symbol, at, until: None, reason: None }
    }
}

/// What a feed has taken of its vendor in a day, a row of `market.feed_usage`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UsageRow {
    /// By the clock of Greenwich.
    pub day: chrono::NaiveDate,
    pub requests: i64,
    pub bytes: i64,
    /// What the plan allows in the days that the vendor counts.
    pub allowed: Option<i64>,
}

/// What is stored together: rows of one feed and the bookkeeping they prove.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    pub feed: String,
    pub records: Vec<Record>,
    pub cursors: Vec<CursorMove>,
    pub gaps: Vec<GapRow>,
    pub sessions: Vec<SessionRow>,
    // Absent from the spill files of older versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<MarkMove>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refusals: Vec<RefusalRow>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub usage: Vec<UsageRow>,
}

impl Batch {
    pub fn new(feed: impl Into<String>) -> Self {
        Batch { feed: feed.into(), ..Batch::default() }
    }

    /// Pieces that are no rows of data: cursors, gaps, sessions, marks, refusals, usage.
    pub fn bookkeeping(&self) -> usize {
        self.cursors.len()
            + self.gaps.len()
            + self.sessions.len()
            + self.marks.len()
            + self.refusals.len()
            + self.usage.len()
    }

    /// Each piece of the bookkeeping as a batch of its own.
    pub fn apart(&self) -> Vec<Self> {
        let cursors =
            self.cursors.iter().map(|one| Self { cursors: vec![one.clone()], ..Self::new(&self.feed) });
        let gaps = self.gaps.iter().map(|one| Self { gaps: vec![one.clone()], ..Self::new(&self.feed) });
        let sessions =
            self.sessions.iter().map(|one| Self { sessions: vec![one.clone()], ..Self::new(&self.feed) });
        let marks = self.marks.iter().map(|one| Self { marks: vec![one.clone()], ..Self::new(&self.feed) });
        let refusals =
            self.refusals.iter().map(|one| Self { refusals: vec![one.clone()], ..Self::new(&self.feed) });
        let usage = self.usage.iter().map(|one| Self { usage: vec![one.clone()], ..Self::new(&self.feed) });
        cursors.chain(gaps).chain(sessions).chain(marks).chain(refusals).chain(usage).collect()
    }

    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.bookkeeping() == 0
    }
}

/// What became of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Stored, or changed by a newer version of theirs.
    pub stored: u64,
    /// Stored before.
    pub known: u64,
    /// Quarantined, those that were quarantined before included.
    pub rejected: u64,
}

impl std::ops::AddAssign for Written {
    fn add_assign(&mut self, other: Self) {
        self.stored += other.stored;
        self.known += other.known;
        self.rejected += other.rejected;
    }
}
