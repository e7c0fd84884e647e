//! The questions that count against one limit, one asked after the other.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

use super::{
    super::{Attention, Clock, stopped, usage::Usage},
    ALL, MAX_BODY, NOT_IN_PLAN, Place, Reading,
    task::Task,
};
use crate::{
    error::FeedError,
    feeds::{PollFeed, Polled, Scope},
    kinds::{Record, Rejected, Timestamp},
    store::{Batch, MarkMove, RefusalRow, Sink},
    symbols::{Names, of_feed},
    wire::{Answer, Backoff, Budget, Request, Transport, ask},
};

/// The questions that count against one limit.
pub(super) struct Lane {
    pub(super) feed: Arc<dyn PollFeed>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) sink: Sink,
    pub(super) clock: Clock,
    pub(super) symbols: Arc<BTreeMap<String, String>>,
    pub(super) names: Arc<Names>,
    pub(super) attention: Arc<Attention>,
    pub(super) usage: Arc<Usage>,
    pub(super) budget: Budget,
    /// Of the limit: refusals without a time.
    pub(super) backoff: Backoff,
    pub(super) tasks: Vec<Task>,
    pub(super) was_stopped: bool,
    pub(super) reading: Option<Arc<Reading>>,
}

impl Lane {
    pub(super) async fn run(mut self, mut shutdown: watch::Receiver<bool>) -> Result<(), FeedError> {
        loop {
            if let Some(reading) = &self.reading {
                self.tasks.retain(|task| !reading.is_over(task));
            }
            let now = Instant::now();
            let Some(next) = (0..self.tasks.len()).min_by_key(|i| self.tasks[*i].turn(now)) else {
                return Ok(());
            };
            let task = &self.tasks[next];
            let due = async {
                tokio::time::sleep_until(task.due).await;
                self.budget.ready().await;
                while let Some(wait) = self.usage.wait((self.clock)()) {
                    let (feed, hours) = (self.feed.name(), wait.as_secs() / 3_600);
                    tracing::warn!(feed, hours, "the bandwidth of the last days is used up");
                    tokio::time::sleep(wait).await;
                }
            };
            tokio::select! {
                () = stopped(&mut shutdown) => return Ok(()),
                () = due => {}
            }
            let asked_at = (self.clock)();
            let mut request = self.feed.request(task.question(asked_at))?;
            request.max_body = request.max_body.min(MAX_BODY);
            let answer = tokio::select! {
                () = stopped(&mut shutdown) => return Ok(()),
                answer = ask(&*self.transport, &request) => answer,
            };
            let now = (self.clock)();
            self.settle(next, (&request, asked_at), answer, now).await?;
        }
    }

    /// What an answer, or none, means for its question and for the others.
    async fn settle(
        &mut self,
        which: usize,
        (request, asked_at): (&Request, Timestamp),
        answer: Result<Answer, FeedError>,
        now: Timestamp,
    ) -> Result<(), FeedError> {
        let feed = self.feed.name();
        let task = &self.tasks[which];
        let endpoint = task.endpoint;
        metrics::counter!("kronos_ingest_requests_total", "feed" => feed, "endpoint" => endpoint.name)
            .increment(1);
        self.usage.count(now, answer.as_ref().map_or(0, |answer| answer.body.len()));
        let mut body = Vec::new();
        let polled = answer.and_then(Answer::json).and_then(|json| {
            body = json;
            // As of when it was put: midnight may have passed.
            self.feed.parse(task.question(asked_at), &body, now)
        });
        let polled = polled.map_err(|refusal| self.feed.meaning(refusal));
        match polled.and_then(|polled| task.goes_on(polled)) {
            Ok(polled) => self.take(which, polled, now).await,
            Err(FeedError::RateLimited { reason, retry_after }) => {
                let reason = request.conceal(&reason);
                let wait = retry_after.unwrap_or_default().max(self.backoff.next_delay());
                tracing::info!(
                    feed,
                    endpoint = endpoint.name,
                    reason,
                    seconds = wait.as_secs(),
                    "limit reached"
                );
                self.budget.hold(wait);
                Ok(())
            }
            Err(FeedError::Transient(reason)) => {
                self.postpone(which, &request.conceal(&reason));
                Ok(())
            }
            Err(FeedError::Rejected(reason)) => {
                let reason = request.conceal(&reason);
                self.postpone(which, &reason);
                metrics::counter!("kronos_ingest_rejected_total", "feed" => feed).increment(1);
                let mut batch = Batch::new(feed);
                let reason = format!("{}: {reason}", endpoint.name);
                // A refusal by status has no body that is kept apart from the reason.
                let body = request.conceal(&String::from_utf8_lossy(&body));
                let payload = if body.is_empty() { &reason } else { &body };
                batch.records.push(Record::Rejected(Rejected::new(payload.as_bytes(), &*reason, now)));
                self.send(batch).await
            }
            Err(FeedError::NotInPlan(reason)) if !self.feed.stays_blocked() => {
                self.rest(which, request.conceal(&reason), now).await
            }
            Err(FeedError::NotInPlan(reason) | FeedError::Fatal(reason)) => {
                let reason = request.conceal(&reason);
                let mut batch = Batch::new(feed);
                batch.refusals.push(RefusalRow::new(ALL, ALL, now, None, &reason));
                self.send(batch).await?;
                Err(FeedError::Fatal(reason))
            }
        }
    }

    /// Hands over the records of an answer and where it stands after them.
    async fn take(&mut self, which: usize, polled: Polled, now: Timestamp) -> Result<(), FeedError> {
        let feed = self.feed.name();
        let mut batch = Batch::new(feed);
        let task = &mut self.tasks[which];
        for mut record in polled.records {
            let time = record.time();
            if let Some(symbol) = record.symbol_mut() {
                // What is told of one symbol goes by its name of today; a list of everybody calls each as it was called then.
                let then = self.names.of_day(symbol, time).filter(|_| task.endpoint.scope == Scope::Whole);
                let ours = then.or_else(|| self.symbols.get(symbol)).cloned();
                *symbol = ours.unwrap_or_else(|| of_feed(symbol));
            }
            batch.records.push(record);
        }
        let event_time = batch.records.iter().filter_map(Record::time).max();
        task.sequence += 1;
        task.backoff.reset();
        (task.is_read, task.failures) = (!polled.has_more, 0);
        let place = Place { position: polled.position, has_more: polled.has_more, asked_at: now };
        batch.marks.push(MarkMove {
            endpoint: task.endpoint.name.to_owned(),
            symbol: task.symbol.clone(),
            sequence: task.sequence,
            event_time,
            position: serde_json::to_value(&place).unwrap_or_default(),
        });
        let has_more = place.has_more;
        task.place = Some(place);
        task.every = self.feed.pace(task.question(now), self.attention.of(&task.symbol));
        task.due = Instant::now() + if has_more { Duration::ZERO } else { task.every };
        if std::mem::take(&mut task.is_refused) {
            let scope = if task.endpoint.is_planned_by_symbol { &task.symbol } else { ALL };
            batch.refusals.push(RefusalRow::lifted(task.endpoint.name, scope, now));
        }
        if std::mem::take(&mut self.was_stopped) {
            batch.refusals.push(RefusalRow::lifted(ALL, ALL, now));
        }
        self.backoff.reset();
        self.send(batch).await
    }

    /// Tries a question again later; the others go on.
    fn postpone(&mut self, which: usize, reason: &str) {
        let task = &mut self.tasks[which];
        let wait = task.backoff.next_delay();
        task.due = Instant::now() + wait;
        task.failures += 1;
        reason.clone_into(&mut task.reason);
        let (feed, endpoint, symbol) = (self.feed.name(), task.endpoint.name, &task.symbol);
        tracing::warn!(feed, endpoint, symbol, reason, seconds = wait.as_secs(), "question failed");
    }

    /// The plan does not have it: a day of rest, for the symbol or for the whole endpoint, that everybody can see.
    async fn rest(&mut self, which: usize, reason: String, now: Timestamp) -> Result<(), FeedError> {
        let (feed, endpoint) = (self.feed.name(), self.tasks[which].endpoint);
        let symbol =
            if endpoint.is_planned_by_symbol { self.tasks[which].symbol.clone() } else { ALL.to_owned() };
        tracing::warn!(feed, endpoint = endpoint.name, symbol, reason, "not in the plan of this account");
        metrics::counter!("kronos_ingest_not_in_plan_total", "feed" => feed, "endpoint" => endpoint.name)
            .increment(1);
        let due = Instant::now() + NOT_IN_PLAN.to_std().unwrap_or_default();
        for task in &mut self.tasks {
            if task.endpoint.name == endpoint.name && (symbol == ALL || task.symbol == symbol) {
                task.due = due;
                (task.is_refused, task.is_resting) = (true, true);
            }
        }
        let mut batch = Batch::new(feed);
        let until = now.checked_add_signed(NOT_IN_PLAN);
        batch.refusals.push(RefusalRow::new(endpoint.name, &symbol, now, until, &reason));
        self.send(batch).await
    }

    async fn send(&self, mut batch: Batch) -> Result<(), FeedError> {
        batch.usage.extend(self.usage.row((self.clock)()));
        self.sink.send(batch).await.map_err(|e| FeedError::Transient(e.to_string()))
    }
}
