//! What to ask REST for, in which order and how often: the queue of repairs of one feed.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::Instant;

use super::track::Stretch;
use crate::{
    error::FeedError,
    feeds::{History, Request, StreamFeed},
    store::GapRow,
    wire::{Backoff, Transport, ask},
};

/// A frame that overtook another closes the gap by itself: REST is asked only after this grace.
const GRACE: Duration = Duration::from_secs(1);
/// REST lists a trade some seconds after the stream: an id is called lost only after this many complete answers.
pub const ANSWERS_BEFORE_LOST: u32 = 6;
/// Time between two complete answers for the same gap.
const BETWEEN_ANSWERS: Duration = Duration::from_secs(5);

/// Why history is fetched.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// A run of missing ids.
    Ids(GapRow),
    /// A stretch of time: a reconnect, a jump in the numbering of frames.
    Time(GapRow),
    /// Did the stream bring everything? After silence an answer with more means that the subscription is mute.
    Probe { is_silent: bool },
}

/// One piece of work of the queue.
pub struct Repair {
    pub reason: Reason,
    /// Rows it brought that were new.
    pub accepted: i64,
    /// Complete answers so far.
    pub answers: u32,
    stretches: VecDeque<Stretch>,
    all_stretches: Vec<Stretch>,
    request: Option<Request>,
    not_before: Instant,
    backoff: Backoff,
}

/// What is left of a repair after a page.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    More,
    Complete,
}

/// The queue; one request is in flight at a time, and never sooner than the feed's limit allows.
pub struct Repairs {
    feed: Arc<dyn StreamFeed>,
    transport: Arc<dyn Transport>,
    queue: VecDeque<Repair>,
    /// Gaps that are in the queue, by symbol and first id.
    queued: HashSet<(String, i64)>,
    in_flight: Option<BoxFuture<'static, Result<Vec<u8>, FeedError>>>,
    next_request: Instant,
}

impl Repairs {
    pub fn new(feed: Arc<dyn StreamFeed>, transport: Arc<dyn Transport>) -> Self {
        let next_request = Instant::now();
        Repairs {
            feed,
            transport,
            queue: VecDeque::new(),
            queued: HashSet::new(),
            in_flight: None,
            next_request,
        }
    }

    /// Whether nothing is waiting.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether such a probe waits already.
    pub fn has_probe(&self, is_silent: bool) -> bool {
        self.queue.iter().any(|repair| repair.reason == Reason::Probe { is_silent })
    }

    /// Adds a repair; `stretches` in the spelling of the feed.
    pub fn push(&mut self, reason: Reason, stretches: Vec<Stretch>) {
        let mut not_before = Instant::now();
        if let Reason::Ids(row) = &reason {
            if !self.queued.insert((row.symbol.clone(), row.from_seq)) {
                return;
            }
            not_before += GRACE;
        }
        self.queue.push_back(Repair {
            reason,
            accepted: 0,
            answers: 0,
            stretches: stretches.iter().cloned().collect(),
            all_stretches: stretches,
            request: None,
            not_before,
            backoff: Backoff::default(),
        });
    }

    /// Sends the next request, if one is due and none is in flight.
    ///
    /// Returns a repair that needs no request: nothing to ask, or no way to.
    pub fn start(&mut self, is_needed: impl Fn(&Reason) -> bool) -> Option<(Repair, bool)> {
        if self.in_flight.is_some() {
            return None;
        }
        let next = (0..self.queue.len()).min_by_key(|i| self.queue[*i].not_before)?;
        self.queue.swap(0, next);
        let repair = self.queue.front_mut()?;
        if !is_needed(&repair.reason) {
            return self.finish().map(|repair| (repair, true));
        }
        if repair.request.is_none() {
            let Some(stretch) = repair.stretches.front() else {
                return self.finish().map(|repair| (repair, true));
            };
            let history = History::Trades {
                symbol: stretch.symbol.clone(),
                from: stretch.from,
                to: stretch.to,
                from_id: stretch.from_id,
                to_id: stretch.to_id,
            };
            match self.feed.request(&history) {
                Some(request) => repair.request = Some(request),
                None => return self.finish().map(|repair| (repair, false)),
            }
        }
        let request = repair.request.as_ref()?.wire();
        let at = repair.not_before.max(self.next_request);
        let transport = Arc::clone(&self.transport);
        self.in_flight = Some(
            async move {
                tokio::time::sleep_until(at).await;
                ask(&*transport, &request).await?.success()
            }
            .boxed(),
        );
        None
    }

    /// The answer to the request in flight; never, when there is none. May be dropped while waiting.
    pub async fn answer(&mut self) -> Result<Vec<u8>, FeedError> {
        let body = match &mut self.in_flight {
            Some(request) => request.await,
            None => std::future::pending().await,
        };
        self.in_flight = None;
        self.next_request = Instant::now() + self.feed.request_interval();
        body
    }

    /// The request that [`Repairs::answer`] belongs to.
    pub fn current(&self) -> Option<&Request> {
        self.queue.front()?.request.as_ref()
    }

    /// Notes a page of the current repair.
    pub fn advance(&mut self, accepted: i64, next: Option<Request>) -> Progress {
        let Some(repair) = self.queue.front_mut() else { return Progress::Complete };
        repair.accepted += accepted;
        repair.backoff.reset();
        repair.request = next;
        if repair.request.is_none() {
            repair.stretches.pop_front();
        }
        if repair.request.is_none() && repair.stretches.is_empty() {
            Progress::Complete
        } else {
            Progress::More
        }
    }

    /// Tries the current repair again later; others go first.
    pub fn postpone(&mut self, at_least: Option<Duration>) {
        if let Some(mut repair) = self.queue.pop_front() {
            let delay = repair.backoff.next_delay().max(at_least.unwrap_or_default());
            repair.not_before = Instant::now() + delay;
            if at_least.is_some() {
                // The limit is the feed's, not the request's.
                self.next_request = self.next_request.max(repair.not_before);
            }
            self.queue.push_back(repair);
        }
    }

    /// Asks all of a finished repair again: the complete answer lacked something.
    pub fn repeat(&mut self, mut repair: Repair) {
        if let Reason::Ids(row) = &repair.reason {
            self.queued.insert((row.symbol.clone(), row.from_seq));
        }
        repair.answers += 1;
        repair.request = None;
        repair.stretches = repair.all_stretches.iter().cloned().collect();
        repair.not_before = Instant::now() + BETWEEN_ANSWERS;
        self.queue.push_back(repair);
    }

    /// Takes the current repair off the queue.
    pub fn finish(&mut self) -> Option<Repair> {
        let repair = self.queue.pop_front()?;
        if let Reason::Ids(row) = &repair.reason {
            self.queued.remove(&(row.symbol.clone(), row.from_seq));
        }
        Some(repair)
    }
}
