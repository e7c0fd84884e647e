//! One feed, live: connection, timers, reconnects and repairs around the pure parts.
//!
//! One task owns all state of its feed, so there is nothing to lock; frames and REST answers are handled in the order
//! they arrive. Time comes from tokio and from [`Clock`], so tests run hours of it in milliseconds.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::TimeDelta;
use tokio::{sync::watch, time::Instant};

use super::{
    repair::{ANSWERS_BEFORE_LOST, Progress, Reason, Repair, Repairs},
    track::{Stretch, TRADES, Tracker},
};
use crate::{
    error::FeedError,
    feeds::{Plan, StreamFeed, TradeIds},
    kinds::{Record, Rejected, Signal, Timestamp},
    store::{Batch, GapRow, GapStatus, SessionRow, Sink},
    symbols::of_feed,
    wire::{Backoff, Connection, Received, Transport},
};

/// Health that forgives earlier failures; a completed handshake is no health.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// How long REST may take to list a trade.
const SETTLING: TimeDelta = TimeDelta::seconds(30);
/// How often the row of an open session is brought up to date.
const SESSION_EVERY: Duration = Duration::from_secs(10);

/// The wall clock; injected, because tests have their own.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// A live feed.
pub struct Stream {
    feed: Arc<dyn StreamFeed>,
    transport: Arc<dyn Transport>,
    tracker: Tracker,
    repairs: Repairs,
    sink: Sink,
    clock: Clock,
    /// Canonical symbol → spelling of the feed.
    native: BTreeMap<String, String>,
    canonical: BTreeMap<String, String>,
    backoff: Backoff,
    /// A probe found rows that the silent subscription should have brought.
    is_mute: bool,
    /// Up to here probes have compared the stream with REST.
    asked_until: Option<Timestamp>,
}

/// Why a connection ended.
struct End {
    code: Option<u16>,
    reason: String,
    wait: Option<Duration>,
    is_shutdown: bool,
}

impl End {
    fn because(reason: impl Into<String>) -> Self {
        End { code: None, reason: reason.into(), wait: None, is_shutdown: false }
    }
}

enum Event {
    Received(Received),
    Timer,
}

impl Stream {
    /// `symbols` maps the spelling of the feed to ours.
    pub fn new(
        feed: Arc<dyn StreamFeed>,
        transport: Arc<dyn Transport>,
        tracker: Tracker,
        symbols: BTreeMap<String, String>,
        sink: Sink,
        clock: Clock,
    ) -> Self {
        let native = symbols.iter().map(|(native, ours)| (ours.clone(), native.clone())).collect();
        let repairs = Repairs::new(Arc::clone(&feed), Arc::clone(&transport));
        let backoff = Backoff::default();
        Stream {
            feed,
            transport,
            tracker,
            repairs,
            sink,
            clock,
            native,
            canonical: symbols,
            backoff,
            is_mute: false,
            asked_until: None,
        }
    }

    /// Takes over gaps of time that an earlier run left open.
    pub fn resume(&mut self, known: Vec<GapRow>) {
        for row in known.into_iter().filter(|row| row.cause != "id") {
            let stretches = self.stretches_of(&row);
            self.repairs.push(Reason::Time(row), stretches);
        }
        self.queue_gaps();
    }

    /// Listens until `shutdown` is true.
    ///
    /// # Errors
    /// [`FeedError::Fatal`] when trying again cannot help, [`FeedError::Transient`] when the writer has stopped.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) -> Result<(), FeedError> {
        loop {
            let Some(plan) = self.feed.plan((self.clock)()) else {
                return Err(FeedError::Fatal("has no stream; use backfill".to_owned()));
            };
            let opening = self.transport.open(plan.url.clone());
            let Some(opened) = self.drive(opening, &mut shutdown).await? else { return Ok(()) };
            let mut wait = None;
            match opened {
                Ok(mut connection) => {
                    let started = Instant::now();
                    let end = self.session(&mut *connection, &plan, &mut shutdown).await?;
                    if end.is_shutdown {
                        return Ok(());
                    }
                    if started.elapsed() >= HEALTHY_AFTER {
                        self.backoff.reset();
                    }
                    tracing::warn!(feed = self.feed.name(), reason = end.reason, "connection ended");
                    wait = end.wait;
                }
                Err(error @ (FeedError::Fatal(_) | FeedError::NotInPlan(_))) => return Err(error),
                Err(error) => {
                    if let FeedError::RateLimited { retry_after, .. } = error {
                        wait = retry_after;
                    }
                    tracing::warn!(feed = self.feed.name(), %error, "could not connect");
                }
            }
            metrics::counter!("kronos_ingest_reconnects_total", "feed" => self.feed.name()).increment(1);
            let delay = self.backoff.next_delay().max(wait.unwrap_or_default());
            let sleeping = tokio::time::sleep(delay);
            if self.drive(sleeping, &mut shutdown).await?.is_none() {
                return Ok(());
            }
        }
    }

    /// Waits for `work` while repairs go on; `None` at shutdown.
    async fn drive<T>(
        &mut self,
        work: impl Future<Output = T>,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Result<Option<T>, FeedError> {
        let mut work = std::pin::pin!(work);
        loop {
            self.start_repairs().await?;
            tokio::select! {
                biased;
                () = stopped(shutdown) => return Ok(None),
                done = &mut work => return Ok(Some(done)),
                answer = self.repairs.answer() => self.on_answer(answer).await?,
            }
        }
    }

    async fn session(
        &mut self,
        connection: &mut dyn Connection,
        plan: &Plan,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Result<End, FeedError> {
        let opened_at = (self.clock)();
        let mut row = SessionRow {
            url: plan.url.split('?').next().unwrap_or(&plan.url).to_owned(),
            opened_at,
            closed_at: None,
            close_code: None,
            close_reason: None,
            frames: 0,
            bytes: 0,
            last_frame_at: None,
        };
        tracing::info!(feed = self.feed.name(), url = row.url, "connected");
        self.tracker.on_connect();
        self.is_mute = false;
        self.ask_since_last("reconnect", opened_at).await?;
        self.send_session(&row).await?;
        let end = self.listen(connection, plan, &mut row, shutdown).await?;
        row.closed_at = Some((self.clock)());
        row.close_code = end.code.map(i32::from);
        row.close_reason = Some(end.reason.clone());
        self.send_session(&row).await?;
        Ok(end)
    }

    async fn listen(
        &mut self,
        connection: &mut dyn Connection,
        plan: &Plan,
        row: &mut SessionRow,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Result<End, FeedError> {
        for message in &plan.on_open {
            if let Err(error) = connection.send(message.text.clone()).await {
                return Ok(End::because(error.to_string()));
            }
        }
        let (mut last_frame, mut last_data) = (Instant::now(), Instant::now());
        let (mut last_session, mut last_ping, mut last_comparison) =
            (Instant::now(), Instant::now(), Instant::now());
        loop {
            let timers = self.feed.timers((self.clock)());
            let comparison = timers.compare_every.map(|every| last_comparison + every);
            let timer = (last_frame + timers.socket_idle)
                .min(last_data + timers.data_idle)
                .min(comparison.unwrap_or(last_frame + timers.socket_idle))
                .min(last_frame.max(last_ping) + timers.socket_idle / 3)
                .min(last_session + SESSION_EVERY);
            let event = async {
                tokio::select! {
                    received = connection.receive() => Event::Received(received),
                    () = tokio::time::sleep_until(timer) => Event::Timer,
                }
            };
            let Some(event) = self.drive(event, shutdown).await? else {
                return Ok(End { is_shutdown: true, ..End::because("shutdown") });
            };
            match event {
                Event::Received(Received::Frame(payload)) => {
                    last_frame = Instant::now();
                    row.frames += 1;
                    row.bytes += i64::try_from(payload.len()).unwrap_or(i64::MAX);
                    row.last_frame_at = Some((self.clock)());
                    match self.on_frame(&payload).await? {
                        Ok(signals) => {
                            if signals.has_data {
                                last_data = Instant::now();
                            }
                            if signals.is_authenticated {
                                for message in &plan.on_authenticated {
                                    if let Err(error) = connection.send(message.text.clone()).await {
                                        return Ok(End::because(error.to_string()));
                                    }
                                }
                            }
                        }
                        Err(end) => return Ok(end),
                    }
                }
                Event::Received(Received::Alive) => last_frame = Instant::now(),
                Event::Received(Received::Closed { code, reason }) => {
                    return Ok(End { code, ..End::because(reason) });
                }
                Event::Timer => {}
            }
            if self.is_mute {
                return Ok(End::because("subscription is mute: REST has trades that it did not bring"));
            }
            let now = Instant::now();
            if now >= last_frame + timers.socket_idle {
                return Ok(End::because(format!("no frame in {} s", timers.socket_idle.as_secs())));
            }
            if now >= last_data + timers.data_idle {
                last_data = now;
                self.probe(true);
            }
            if comparison.is_some_and(|due| now >= due) {
                last_comparison = now;
                self.probe(false);
            }
            if now >= last_frame.max(last_ping) + timers.socket_idle / 3 {
                last_ping = now;
                if let Err(error) = connection.ping().await {
                    return Ok(End::because(error.to_string()));
                }
            }
            if now >= last_session + SESSION_EVERY {
                last_session = now;
                self.send_session(row).await?;
            }
        }
    }

    /// Decodes and stores a frame; the inner error ends the connection.
    async fn on_frame(&mut self, payload: &[u8]) -> Result<Result<Signals, End>, FeedError> {
        let now = (self.clock)();
        let feed = self.feed.name();
        metrics::counter!("kronos_ingest_frames_total", "feed" => feed).increment(1);
        let records = match self.feed.parse(payload, now) {
            Ok(records) => records,
            Err(FeedError::Rejected(reason)) => {
                metrics::counter!("kronos_ingest_rejected_total", "feed" => feed).increment(1);
                vec![Record::Rejected(Rejected::new(payload, reason, now))]
            }
            Err(error @ (FeedError::Fatal(_) | FeedError::NotInPlan(_))) => return Err(error),
            Err(FeedError::RateLimited { reason, retry_after }) => {
                return Ok(Err(End { wait: retry_after, ..End::because(reason) }));
            }
            Err(FeedError::Transient(reason)) => return Ok(Err(End::because(reason))),
        };
        let mut signals = Signals::default();
        for record in &records {
            match record {
                Record::Signal(Signal::Authenticated) => signals.is_authenticated = true,
                Record::Signal(Signal::Refused { channel, symbol, reason }) => {
                    tracing::error!(feed, channel, symbol, reason, "subscription refused");
                }
                Record::Signal(Signal::System { status }) => {
                    tracing::info!(feed, status, "state of the venue")
                }
                Record::Signal(Signal::Subscribed { .. }) => signals.is_subscribed = true,
                Record::Signal(_) | Record::Rejected(_) => {}
                _ => signals.has_data = true,
            }
        }
        let batch = self.absorb(records, now);
        let skipped: Vec<_> = batch.gaps.iter().filter(|gap| gap.cause == "seq").cloned().collect();
        self.send(batch).await?;
        for gap in skipped {
            let stretches = self.stretches_of(&gap);
            self.repairs.push(Reason::Time(gap), stretches);
        }
        self.queue_gaps();
        // What was published after the answer to the reconnect and before this shows no gap where nothing is numbered.
        if signals.is_subscribed && self.feed.trade_ids() == TradeIds::Sparse {
            self.probe(false);
        }
        Ok(Ok(signals))
    }

    fn absorb(&mut self, mut records: Vec<Record>, now: Timestamp) -> Batch {
        for record in &mut records {
            if let Some(symbol) = record.symbol_mut() {
                let ours = self.canonical.get(symbol).cloned();
                *symbol = ours.unwrap_or_else(|| of_feed(symbol));
            }
        }
        self.tracker.absorb(records, now)
    }

    /// The stretches that close a gap of time: of one symbol, or of all that the connection carries.
    fn stretches_of(&self, row: &GapRow) -> Vec<Stretch> {
        let now = (self.clock)();
        let since_last = self.tracker.since_last(now);
        match (row.from_time, row.symbol.as_str()) {
            (Some(from), symbol) if symbol != "*" => {
                let to = row.to_time.unwrap_or(now).max(now);
                let symbol = self.native_symbol(symbol);
                vec![Stretch { symbol, from, to, from_id: None, to_id: None }]
            }
            _ => since_last.into_iter().map(|stretch| self.in_native(stretch)).collect(),
        }
    }

    fn native_symbol(&self, ours: &str) -> String {
        self.native.get(ours).cloned().unwrap_or_else(|| ours.to_owned())
    }

    fn in_native(&self, stretch: Stretch) -> Stretch {
        Stretch { symbol: self.native_symbol(&stretch.symbol), ..stretch }
    }

    /// A gap row for each symbol from its newest row to now, and the repair that closes it.
    async fn ask_since_last(&mut self, cause: &str, now: Timestamp) -> Result<(), FeedError> {
        let mut batch = Batch::new(self.feed.name());
        for stretch in self.tracker.since_last(now) {
            let row = GapRow {
                channel: TRADES.to_owned(),
                symbol: stretch.symbol.clone(),
                cause: cause.to_owned(),
                from_seq: stretch.from.timestamp_micros(),
                to_seq: stretch.to.timestamp_micros(),
                from_time: Some(stretch.from),
                to_time: Some(stretch.to),
                detected_at: now,
                status: GapStatus::Open,
                filled_at: None,
                filled_rows: None,
                note: None,
            };
            batch.gaps.push(row.clone());
            let stretch = self.in_native(stretch);
            self.repairs.push(Reason::Time(row), vec![stretch]);
        }
        self.send(batch).await
    }

    /// Asks REST for what the stream has not brought: all since its newest row, and since the last question.
    fn probe(&mut self, is_silent: bool) {
        if self.repairs.has_probe(is_silent) {
            return;
        }
        let now = (self.clock)();
        let since = self.asked_until.unwrap_or(now);
        let mut stretches = self.tracker.since_last(now);
        for stretch in &mut stretches {
            stretch.from = stretch.from.min(since);
        }
        let stretches: Vec<_> = stretches.into_iter().map(|stretch| self.in_native(stretch)).collect();
        if !stretches.is_empty() {
            // REST lists a trade some seconds after the stream.
            self.asked_until = Some(now - SETTLING);
            self.repairs.push(Reason::Probe { is_silent }, stretches);
        }
    }

    fn queue_gaps(&mut self) {
        let open = self.tracker.open_gaps();
        metrics::gauge!("kronos_ingest_open_gaps", "feed" => self.feed.name()).set(open.len() as f64);
        for (row, stretch) in open {
            let stretch = self.in_native(stretch);
            self.repairs.push(Reason::Ids(row), vec![stretch]);
        }
    }

    async fn start_repairs(&mut self) -> Result<(), FeedError> {
        loop {
            let open = if self.repairs.is_empty() { Vec::new() } else { self.tracker.open_gaps() };
            let is_open = |row: &GapRow| {
                open.iter().any(|(gap, _)| gap.symbol == row.symbol && gap.from_seq == row.from_seq)
            };
            let is_needed = |reason: &Reason| match reason {
                Reason::Ids(row) => is_open(row),
                Reason::Time(_) | Reason::Probe { .. } => true,
            };
            match self.repairs.start(is_needed) {
                None => return Ok(()),
                Some((repair, true)) => self.close(repair, None).await?,
                Some((repair, false)) => {
                    self.close(repair, Some("the feed has no history of trades".to_owned())).await?;
                }
            }
        }
    }

    async fn on_answer(&mut self, answer: Result<Vec<u8>, FeedError>) -> Result<(), FeedError> {
        let now = (self.clock)();
        let Some(request) = self.repairs.current().cloned() else { return Ok(()) };
        match answer.and_then(|body| self.feed.parse_page(&request, &body, now)) {
            Ok(page) => {
                let batch = self.absorb(page.records, now);
                let accepted = batch.records.iter().filter(|r| matches!(r, Record::Trade(_))).count();
                self.send(batch).await?;
                let progress = self.repairs.advance(i64::try_from(accepted).unwrap_or(i64::MAX), page.next);
                self.queue_gaps();
                if progress == Progress::Complete {
                    self.complete().await?;
                }
                Ok(())
            }
            Err(FeedError::Transient(reason)) => {
                tracing::debug!(feed = self.feed.name(), reason, "history request failed");
                self.repairs.postpone(None);
                Ok(())
            }
            Err(FeedError::RateLimited { reason, retry_after }) => {
                tracing::debug!(feed = self.feed.name(), reason, "history request was rate limited");
                self.repairs.postpone(Some(retry_after.unwrap_or(Duration::from_secs(1))));
                Ok(())
            }
            Err(FeedError::Rejected(reason)) => match self.repairs.finish() {
                Some(repair) => self.close(repair, Some(reason)).await,
                None => Ok(()),
            },
            Err(error @ (FeedError::Fatal(_) | FeedError::NotInPlan(_))) => Err(error),
        }
    }

    /// Every page of the current repair has come.
    async fn complete(&mut self) -> Result<(), FeedError> {
        let open = self.tracker.open_gaps();
        let Some(repair) = self.repairs.finish() else { return Ok(()) };
        let Reason::Ids(row) = &repair.reason else { return self.close(repair, None).await };
        if !open.iter().any(|(gap, _)| gap.symbol == row.symbol && gap.from_seq == row.from_seq) {
            return Ok(());
        }
        if repair.answers + 1 < ANSWERS_BEFORE_LOST {
            self.repairs.repeat(repair);
            return Ok(());
        }
        self.close(repair, Some("the venue does not list these trades".to_owned())).await
    }

    /// Writes the outcome of a repair; `failure` says why it cannot be filled.
    async fn close(&mut self, repair: Repair, failure: Option<String>) -> Result<(), FeedError> {
        let now = (self.clock)();
        let mut batch = Batch::new(self.feed.name());
        match repair.reason {
            Reason::Ids(row) => {
                if let Some(note) = failure {
                    batch.gaps.extend(self.tracker.give_up(&row, now, note));
                }
            }
            Reason::Time(mut row) => {
                row.status = if failure.is_some() { GapStatus::Unfillable } else { GapStatus::Filled };
                row.filled_at = Some(now);
                row.filled_rows = Some(repair.accepted);
                row.note = failure.or(row.note);
                batch.gaps.push(row);
            }
            Reason::Probe { is_silent } => {
                if repair.accepted > 0 {
                    self.is_mute |= is_silent;
                    let at = now.timestamp_micros();
                    batch.gaps.push(GapRow {
                        channel: TRADES.to_owned(),
                        symbol: "*".to_owned(),
                        cause: "idle".to_owned(),
                        from_seq: at,
                        to_seq: at,
                        from_time: Some(now),
                        to_time: Some(now),
                        detected_at: now,
                        status: GapStatus::Filled,
                        filled_at: Some(now),
                        filled_rows: Some(repair.accepted),
                        note: (!is_silent).then(|| "REST listed trades that the stream lost".to_owned()),
                    });
                }
            }
        }
        self.send(batch).await
    }

    async fn send_session(&mut self, row: &SessionRow) -> Result<(), FeedError> {
        let mut batch = Batch::new(self.feed.name());
        batch.sessions.push(row.clone());
        self.send(batch).await
    }

    async fn send(&mut self, batch: Batch) -> Result<(), FeedError> {
        self.sink.send(batch).await.map_err(|e| FeedError::Transient(e.to_string()))
    }
}

/// Waits until `shutdown` is true, or until nobody can set it any more.
pub async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    drop(shutdown.wait_for(|stop| *stop).await);
}

/// What a frame told besides its rows.
#[derive(Default)]
struct Signals {
    has_data: bool,
    is_authenticated: bool,
    is_subscribed: bool,
}
