//! A request on its way through the engine.

use crate::clock::{UnixMicros, now};
use crate::ledger::Reservation;
use crate::message::{Progress, Refusal, Reply, RequestStatus};
use kronos_models::answer::Paths;
use kronos_models::ask::{Ask, Terms};
use kronos_models::model::SeriesId;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Names a caller: a connection, as a rule.
pub type CallerId = u64;

/// Names a request within its engine.
pub type RequestId = u64;

/// Values of one piece of a reply at most, as far as whole steps go into them; 96 KiB.
const PIECE_VALUES: usize = 12_288;

/// Where replies go. Called from the engine's threads; must not block.
pub trait Sink: Send + Sync + 'static {
    /// Takes one reply, or all paths of a series.
    fn deliver(&self, caller: CallerId, request: RequestId, delivery: Delivery);
}

/// What a sink gets.
#[derive(Debug)]
pub enum Delivery {
    /// A reply.
    Reply(Reply),
    /// The paths of one series, to be sent in pieces; their memory stays reserved until this is dropped.
    Paths(SeriesPaths),
}

/// The paths of one series and the part of them not sent yet.
#[derive(Debug)]
pub struct SeriesPaths {
    index: u32,
    paths: Paths,
    sent: usize,
    _memory: Reservation,
}

impl Delivery {
    pub(crate) fn paths(index: u32, paths: Paths, memory: Reservation) -> Self {
        Self::Paths(SeriesPaths { index, paths, sent: 0, _memory: memory })
    }

    /// The whole delivery in one reply.
    pub fn into_reply(self) -> Reply {
        match self {
            Self::Reply(reply) => reply,
            Self::Paths(mut series) => {
                let samples = series.paths.samples();
                let values = std::mem::take(&mut series.paths.values);
                series.reply(samples, values)
            }
        }
    }
}

impl SeriesPaths {
    /// The next piece, `None` after the last.
    pub fn next_piece(&mut self) -> Option<Reply> {
        let left = self.paths.values.get(self.sent..).filter(|left| !left.is_empty())?;
        let channels = self.paths.channels.max(1);
        let piece = (PIECE_VALUES / channels).max(1) * channels;
        let values = left[..left.len().min(piece)].to_vec();
        self.sent += values.len();
        Some(self.reply(self.paths.samples(), values))
    }

    fn reply(&self, samples: usize, values: Vec<f64>) -> Reply {
        // Each of these came as a u32 with the request, or is a length below the window of the model.
        let short = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Reply::Paths {
            index: self.index,
            channels: short(self.paths.channels),
            horizon: short(self.paths.horizon),
            samples: short(samples),
            context_used: short(self.paths.context_used),
            values,
        }
    }
}

/// What everybody may know about a request: its runner, the views, whoever cancels it.
#[derive(Debug)]
pub struct Ticket {
    pub(crate) id: RequestId,
    pub(crate) caller: CallerId,
    pub(crate) version: String,
    /// Set when nobody waits any more.
    pub(crate) cancelled: AtomicBool,
    pid: u32,
    series: u64,
    queued_at: UnixMicros,
    arrived: Instant,
    started: OnceLock<(Instant, UnixMicros)>,
    done: AtomicU64,
    total: u64,
}

impl Ticket {
    pub(crate) fn new(
        id: RequestId,
        (caller, pid): (CallerId, u32),
        version: String,
        horizons: &[u32],
    ) -> Self {
        Self {
            id,
            caller,
            version,
            cancelled: AtomicBool::new(false),
            pid,
            series: horizons.len() as u64,
            queued_at: now(),
            arrived: Instant::now(),
            started: OnceLock::new(),
            done: AtomicU64::new(0),
            total: horizons.iter().map(|&horizon| 1 + u64::from(horizon)).sum(),
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    pub(crate) fn is_queued(&self) -> bool {
        self.started.get().is_none()
    }

    pub(crate) fn start(&self) {
        self.started.get_or_init(|| (Instant::now(), now()));
    }

    pub(crate) fn set_done(&self, steps: u64) {
        self.done.store(steps, Ordering::Relaxed);
    }

    /// How far it has come.
    pub(crate) fn progress(&self) -> Progress {
        Progress { queued: self.is_queued(), done: self.done.load(Ordering::Relaxed), total: self.total }
    }

    /// Time since it came, and the part of it before its first series was admitted.
    pub(crate) fn times(&self) -> (Duration, Duration) {
        let total = self.arrived.elapsed();
        (total, self.started.get().map_or(total, |(started, _)| started.duration_since(self.arrived)))
    }

    pub(crate) fn status(&self) -> RequestStatus {
        RequestStatus {
            id: self.id,
            pid: self.pid,
            version: self.version.clone(),
            series: self.series,
            queued_at: self.queued_at,
            started_at: self.started.get().map(|(_, at)| *at),
            progress: self.progress(),
        }
    }
}

/// Where what comes of a job goes: to its caller, and into the books of the engine.
pub(crate) trait Outbox: Send + Sync {
    /// Sends a reply to the caller, unless nobody waits any more.
    fn deliver(&self, ticket: &Ticket, delivery: Delivery);

    /// Counts a request that is over.
    fn account(&self, ticket: &Ticket, work: &Work, last: &Reply);

    /// A request is over.
    fn close(&self, ticket: &Ticket);
}

/// A request as its model's runner works on it. One that is dropped unfinished tells its caller that the engine broke.
pub(crate) struct Job {
    pub(crate) ticket: Arc<Ticket>,
    pub(crate) work: Work,
    outbox: Arc<dyn Outbox>,
    finished: bool,
}

pub(crate) enum Work {
    Forecast(Asked),
    Load,
    Unload,
}

/// Series that wait for a place in the batch or for a pass, and series in the batch.
pub(crate) struct Asked {
    pub(crate) waiting: VecDeque<(u32, Ask)>,
    pub(crate) terms: Terms,
    pub(crate) running: Vec<Running>,
    /// Steps of the series already answered.
    pub(crate) steps_answered: u64,
    pub(crate) rows: u64,
}

impl Asked {
    pub(crate) fn new(series: Vec<Ask>, terms: Terms) -> Self {
        let waiting = (0..).zip(series).collect();
        Self { waiting, terms, running: Vec::new(), steps_answered: 0, rows: 0 }
    }
}

/// One series in the batch.
pub(crate) struct Running {
    pub(crate) id: SeriesId,
    pub(crate) index: u32,
    pub(crate) horizon: u64,
    /// Paths decoded together.
    pub(crate) rows: usize,
    pub(crate) caches: Reservation,
    pub(crate) result: Reservation,
}

impl Job {
    pub(crate) fn new(outbox: Arc<dyn Outbox>, ticket: Arc<Ticket>, work: Work) -> Self {
        Self { ticket, work, outbox, finished: false }
    }

    pub(crate) fn deliver(&self, delivery: Delivery) {
        self.outbox.deliver(&self.ticket, delivery);
    }

    /// Sends the last reply.
    pub(crate) fn finish(mut self, last: Reply) {
        self.end(last);
    }

    fn end(&mut self, last: Reply) {
        self.finished = true;
        if !self.ticket.is_cancelled() {
            self.outbox.account(&self.ticket, &self.work, &last);
        }
        self.outbox.close(&self.ticket);
        self.deliver(Delivery::Reply(last));
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // A cancelled one has no caller, and may be dropped by somebody who holds the lock that its end would take.
        if self.finished || self.ticket.is_cancelled() {
            return;
        }
        let reason = "the thread of the model ended early".into();
        self.end(Reply::Refused(Refusal::Broken { reason }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;

    /// 2,048 steps of six channels a piece: of 25 paths of 200 steps two whole pieces and 904 steps.
    #[test]
    fn long_paths_are_sent_in_pieces_that_follow_each_other_and_give_their_memory_back() {
        let ledger = Ledger::new(1000);
        let values: Vec<_> = (0..30_000).map(f64::from).collect();
        let paths = Paths { channels: 6, horizon: 200, values: values.clone(), context_used: 9 };
        let Delivery::Paths(mut series) = Delivery::paths(7, paths, ledger.reserve(600).unwrap()) else {
            unreachable!("these are paths")
        };
        let (mut lengths, mut sent) = (Vec::new(), Vec::new());
        while let Some(piece) = series.next_piece() {
            let Reply::Paths { index, channels, horizon, samples, context_used, values } = piece else {
                unreachable!("a piece of paths")
            };
            assert_eq!((index, channels, horizon, samples, context_used), (7, 6, 200, 25, 9));
            lengths.push(values.len() / 6);
            sent.extend(values);
        }
        assert_eq!(lengths, [2048, 2048, 904]);
        assert_eq!(sent, values);
        assert_eq!(ledger.used(), 600, "reserved until the last of it has been sent");
        drop(series);
        assert_eq!(ledger.used(), 0);
    }

    /// Horizons of 4 and 9 steps, and a step for the context of each.
    #[test]
    fn a_request_is_queued_until_its_first_series_is_admitted() {
        let ticket = Ticket::new(3, (5, 99), "m@1".into(), &[4, 9]);
        assert_eq!(ticket.progress(), Progress { queued: true, done: 0, total: 15 });
        assert_eq!(ticket.status().started_at, None);
        ticket.start();
        ticket.set_done(6);
        let status = ticket.status();
        assert_eq!(status.progress, Progress { queued: false, done: 6, total: 15 });
        assert_eq!((status.id, status.pid, status.series), (3, 99, 2));
        let (total, queued) = ticket.times();
        assert!(queued <= total && status.started_at >= Some(status.queued_at));
    }
}
