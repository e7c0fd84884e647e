//! One feed that is polled: what to ask next, how long to wait, what an answer or a refusal means for the rest.
//!
//! Each limit of the feed has a lane of its own that asks one question at a time, that which is late by most of its pause first.
//! The position after an answer is stored with the rows of the answer in one transaction, and what is stored twice is one
//! row, so a worker that is killed at any moment loses and doubles nothing. Time comes from tokio and from [`Clock`], so tests
//! run days of it in milliseconds.

mod lane;
mod reading;
mod task;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, task::JoinSet, time::Instant};

use lane::Lane;
pub use reading::{Outcome, Reading};
use task::Task;

use super::{Attention, Clock, usage::Usage};
use crate::{
    error::FeedError,
    feeds::{PollFeed, Position, Scope},
    kinds::Timestamp,
    store::{Sink, UsageRow},
    symbols::Names,
    wire::{Backoff, Bandwidth, Budget, Transport},
};

/// How long an endpoint rests that the account's plan does not have: plans change, but not by the minute.
const NOT_IN_PLAN: TimeDelta = TimeDelta::days(1);
/// Longest wait between two attempts of one question that fails.
const LONGEST_BACKOFF: Duration = Duration::from_secs(15 * 60);
/// Largest answer that is accepted.
const MAX_BODY: usize = 16 << 20;
/// Stands for all symbols, and for all endpoints.
pub const ALL: &str = "*";

/// Where a question stands, out of `market.feed_cursors`.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    pub endpoint: String,
    /// Canonical; [`ALL`] where the endpoint is asked for all at once.
    pub symbol: String,
    /// Answers stored so far.
    pub sequence: i64,
    pub place: Place,
}

/// What is kept of a question from answer to answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// The feed's own.
    pub position: Option<Position>,
    /// Whether the reading stopped amid its pages.
    pub has_more: bool,
    /// When the last answer came.
    pub asked_at: Timestamp,
}

/// A refusal that an earlier run has met and that still stands.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownRefusal {
    pub endpoint: String,
    pub symbol: String,
    /// `None`: until the worker is started, which it is.
    pub until: Option<Timestamp>,
}

/// A feed that is polled.
pub struct Poller {
    feed: Arc<dyn PollFeed>,
    transport: Arc<dyn Transport>,
    sink: Sink,
    clock: Clock,
    /// Spelling of the feed → ours.
    symbols: Arc<BTreeMap<String, String>>,
    names: Arc<Names>,
    attention: Arc<Attention>,
    tasks: Vec<Task>,
    usage: Arc<Usage>,
    /// The account was refused when the worker ran last.
    was_stopped: bool,
    /// Where it is to end.
    reading: Option<Arc<Reading>>,
}

impl Poller {
    /// `symbols` maps the spelling of the feed to ours; `marks` and `refusals` are what an earlier run has left.
    pub fn new(
        feed: Arc<dyn PollFeed>,
        transport: Arc<dyn Transport>,
        symbols: &BTreeMap<String, String>,
        marks: Vec<Mark>,
        refusals: &[KnownRefusal],
        sink: Sink,
        clock: Clock,
    ) -> Self {
        let now = clock();
        let mut marks: BTreeMap<_, _> =
            marks.into_iter().map(|mark| ((mark.endpoint.clone(), mark.symbol.clone()), mark)).collect();
        let mut tasks = Vec::new();
        for endpoint in feed.endpoints() {
            let whole = [(None, ALL.to_owned())];
            let asked: Vec<(Option<String>, String)> = match endpoint.scope {
                Scope::Whole => whole.into(),
                Scope::Symbol => {
                    symbols.iter().map(|(native, ours)| (Some(native.clone()), ours.clone())).collect()
                }
            };
            for (native, symbol) in asked {
                let mark = marks.remove(&(endpoint.name.to_owned(), symbol.clone()));
                let refusal = refusals.iter().find(|refusal| {
                    refusal.endpoint == endpoint.name && [ALL, &symbol].contains(&refusal.symbol.as_str())
                });
                let (sequence, place) = mark.map_or((0, None), |mark| (mark.sequence, Some(mark.place)));
                let mut task = Task {
                    endpoint,
                    native,
                    symbol,
                    sequence,
                    place,
                    due: Instant::now(),
                    every: endpoint.every,
                    backoff: Backoff::up_to(LONGEST_BACKOFF.min(endpoint.every.max(Duration::from_secs(30)))),
                    is_refused: refusal.is_some(),
                    is_read: false,
                    is_resting: false,
                    failures: 0,
                    reason: String::new(),
                };
                task.every = feed.pace(task.question(now), 1.0);
                let read = task.place.as_ref().filter(|place| !place.has_more).map(|place| place.asked_at);
                let rest = read.and_then(|at| at.checked_add_signed(TimeDelta::from_std(task.every).ok()?));
                let refused = refusal.and_then(|refusal| refusal.until);
                // A clock that has jumped back must not put a question off for longer than it ever rests.
                let wait = |until: Option<Timestamp>, longest: Duration| {
                    until.and_then(|until| (until - now).to_std().ok()).unwrap_or_default().min(longest)
                };
                task.due +=
                    wait(rest, task.every).max(wait(refused, NOT_IN_PLAN.to_std().unwrap_or_default()));
                tasks.push(task);
            }
        }
        let was_stopped = refusals.iter().any(|refusal| refusal.endpoint == ALL);
        let usage = Arc::new(Usage::new(Vec::new(), feed.bandwidth()));
        let (symbols, names, attention) = (Arc::new(symbols.clone()), Arc::default(), Arc::default());
        Poller {
            feed,
            transport,
            sink,
            clock,
            symbols,
            names,
            attention,
            tasks,
            usage,
            was_stopped,
            reading: None,
        }
    }

    /// Goes on counting from what was used before, against `allowed` bytes where the configuration knows better than the feed.
    #[must_use]
    pub fn resume(self, used: Vec<UsageRow>, allowed: Option<Bandwidth>) -> Self {
        let usage = Arc::new(Usage::new(used, allowed.or_else(|| self.feed.bandwidth())));
        Poller { usage, ..self }
    }

    /// Knows what names meant on the day.
    #[must_use]
    pub fn naming(self, names: Names) -> Self {
        Poller { names: Arc::new(names), ..self }
    }

    /// Asks more often about what matters more.
    #[must_use]
    pub fn heeding(self, attention: Arc<Attention>) -> Self {
        Poller { attention, ..self }
    }

    /// Leaves out what is asked about everybody: read for some symbols, it would count as read for all.
    #[must_use]
    pub fn about_symbols(mut self) -> Self {
        self.tasks.retain(|task| task.endpoint.scope == Scope::Symbol);
        self
    }

    /// What is due: questions, and requests that they take at most, by the name of their limit.
    pub fn due(&self) -> BTreeMap<&'static str, (u64, u64)> {
        let now = Instant::now();
        let mut due = BTreeMap::<_, (u64, u64)>::new();
        for task in self.tasks.iter().filter(|task| task.due <= now) {
            let effort = self.feed.effort(task.endpoint);
            let is_first = task.place.as_ref().is_none_or(|place| place.has_more);
            let (questions, requests) = due.entry(task.endpoint.limit).or_default();
            *questions += 1;
            *requests += u64::from(if is_first { effort.first } else { effort.later });
        }
        due
    }

    /// Puts what is due now and nothing else, until all of it was answered or given up: `run` ends then.
    #[must_use]
    pub fn to_the_end(mut self, reading: Arc<Reading>) -> Self {
        let now = Instant::now();
        self.tasks.retain(|task| task.due <= now);
        Poller { reading: Some(reading), ..self }
    }

    /// Asks until `shutdown` is true.
    ///
    /// # Errors
    /// [`FeedError::Fatal`] when trying again cannot help, [`FeedError::Transient`] when the writer has stopped.
    pub async fn run(self, shutdown: watch::Receiver<bool>) -> Result<(), FeedError> {
        if self.was_stopped && self.feed.stays_blocked() {
            let reason = "blocked; market.feed_refusals says why and since when, and it asks again when its rows there are deleted";
            return Err(FeedError::Fatal(reason.to_owned()));
        }
        let mut lanes = JoinSet::new();
        let mut tasks = self.tasks;
        for limit in self.feed.limits() {
            let (mine, others): (Vec<_>, Vec<_>) =
                tasks.into_iter().partition(|task| task.endpoint.limit == limit.name);
            tasks = others;
            if mine.is_empty() {
                continue;
            }
            let lane = Lane {
                feed: Arc::clone(&self.feed),
                transport: Arc::clone(&self.transport),
                sink: self.sink.clone(),
                clock: Arc::clone(&self.clock),
                symbols: Arc::clone(&self.symbols),
                names: Arc::clone(&self.names),
                attention: Arc::clone(&self.attention),
                usage: Arc::clone(&self.usage),
                budget: Budget::new(*limit),
                backoff: Backoff::up_to(LONGEST_BACKOFF),
                tasks: mine,
                was_stopped: self.was_stopped,
                reading: self.reading.clone(),
            };
            lanes.spawn(lane.run(shutdown.clone()));
        }
        if let Some(task) = tasks.first() {
            let (endpoint, limit) = (task.endpoint.name, task.endpoint.limit);
            return Err(FeedError::Fatal(format!("endpoint {endpoint} names no limit of the feed: {limit}")));
        }
        while let Some(ended) = lanes.join_next().await {
            // The others end with the set when this returns.
            ended.map_err(|e| FeedError::Fatal(format!("a lane failed: {e}")))??;
        }
        Ok(())
    }
}
