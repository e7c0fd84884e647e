//! Models that forecast step by step: one batch of paths, that requests join and leave between steps.

use crate::device::Device;
use crate::fault::Fault;
use crate::job::{Asked, CallerId, Delivery, Job, Outbox, Running, Ticket, Work};
use crate::ledger::{Reservation, probe};
use crate::message::{LoadedModel, Refusal, Reply};
use crate::runner::{Call, End, GLANCE, Runner, awaits, threads};
use crate::shared::Shared;
use kronos_models::ask::{Ask, Terms, Wanted};
use kronos_models::error::{ModelError, Result};
use kronos_models::interrupt::{Interrupt, NeverInterrupt};
use kronos_models::model::{Batch, Entrant, Finished, SeriesId, Stepping};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Paths in a batch: enough to be bound by arithmetic instead of memory traffic.
const ROWS: usize = 512;

/// Steps of contexts after which no further series joins a pass of the encoder.
const STEPS_PER_PASS: usize = 2048;

/// How long contexts are encoded between two steps, so that those in the batch are not held up.
const ADMISSION: Duration = Duration::from_millis(20);

/// How long steps follow each other before others are looked after: short for whoever waits to join or has cancelled, long
/// beside the tenth of a millisecond that it takes to wake the threads of the device.
const TURN: Duration = Duration::from_millis(2);

/// How often progress is worked out.
const PROGRESS: Duration = Duration::from_millis(100);

/// A series on its way into the batch.
struct Newcomer {
    ticket: Arc<Ticket>,
    index: u32,
    horizon: u64,
    ask: Ask,
    terms: Terms,
    /// Bytes that it may take.
    memory: u64,
    /// Paths decoded together.
    rows: usize,
    caches: Reservation,
    result: Reservation,
}

/// Contexts are encoded as long as anybody waits for one of them.
struct Awaited<'a>(&'a [Newcomer]);

impl Interrupt for Awaited<'_> {
    fn check(&self) -> Result<()> {
        if self.0.iter().all(|newcomer| newcomer.ticket.is_cancelled()) {
            Err(ModelError::Cancelled)
        } else {
            Ok(())
        }
    }
}

/// A loaded model at work.
pub(crate) struct Service<'a> {
    runner: &'a Runner<'a>,
    device: Arc<Device>,
    model: &'a dyn Stepping,
    weights: u64,
    batch: Box<dyn Batch + 'a>,
    jobs: Vec<Job>,
    /// Steps of contexts encoded per second, lately.
    pace: f64,
    tempo: Tempo,
    /// Since when requests wait for others to join the batch with.
    newcomers_since: Option<Instant>,
}

/// How fast steps were lately.
#[derive(Default)]
struct Tempo {
    rows: usize,
    step: Duration,
}

impl Tempo {
    /// Steps of so many rows that fit into a time, at least one; one where the last steps had fewer rows than these.
    fn steps(&self, rows: usize, time: Duration) -> usize {
        if rows > self.rows || self.step.is_zero() {
            return 1;
        }
        (time.as_secs_f64() / self.step.as_secs_f64()).max(1.0) as usize
    }

    fn note(&mut self, rows: usize, steps: usize, time: Duration) {
        *self = Self { rows, step: time / (steps as u32).max(1) };
    }
}

impl<'a> Service<'a> {
    pub(crate) fn new(
        runner: &'a Runner<'a>,
        device: Arc<Device>,
        model: &'a dyn Stepping,
        weights: u64,
    ) -> Self {
        Self {
            runner,
            device,
            model,
            weights,
            batch: model.batch(),
            jobs: Vec::new(),
            pace: 0.0,
            tempo: Tempo::default(),
            newcomers_since: None,
        }
    }

    /// Answers requests until the model has to go.
    pub(crate) fn run(mut self) -> End {
        let mut lately: Vec<(CallerId, Instant)> = Vec::new();
        let mut reported = Instant::now();
        loop {
            match self.runner.collect(&mut self.jobs, &mut lately) {
                Call::Work => {}
                Call::Unload(job) => return End::Unload(job),
                Call::Evict => return End::Evicted,
            }
            self.drop_cancelled();
            if !self.gathers(&mut lately) {
                self.admit();
            }
            if !self.batch.is_empty() && !self.step() {
                return End::Evicted;
            }
            self.finish(&mut lately);
            if reported.elapsed() > PROGRESS {
                reported = Instant::now();
                self.report();
            }
        }
    }

    fn drop_cancelled(&mut self) {
        let batch = &mut self.batch;
        self.jobs.retain(|job| {
            let cancelled = job.ticket.is_cancelled();
            if let (true, Work::Forecast(asked)) = (cancelled, &job.work) {
                asked.running.iter().for_each(|series| batch.remove(series.id));
            }
            !cancelled
        });
    }

    /// Whether newcomers wait for others to join with, while the batch goes on: contexts encoded together take less time
    /// than one after the other.
    fn gathers(&mut self, lately: &mut Vec<(CallerId, Instant)>) -> bool {
        let is_new = |job: &Job| matches!(&job.work, Work::Forecast(asked) if asked.running.is_empty());
        let has_more = |job: &Job| matches!(&job.work, Work::Forecast(asked) if !asked.waiting.is_empty());
        let newcomers = self.jobs.iter().any(|job| is_new(job) && has_more(job));
        if self.batch.is_empty() || !newcomers || self.jobs.iter().any(|job| !is_new(job) && has_more(job)) {
            self.newcomers_since = None;
            return false;
        }
        let window = self.runner.shared.state().settings.batch_window;
        let since = *self.newcomers_since.get_or_insert_with(Instant::now);
        let gathers = since.elapsed() < window && awaits(lately, &self.jobs, window);
        if !gathers {
            self.newcomers_since = None;
        }
        gathers
    }

    /// Lets series join, one of each request in turn, until the batch is full or the others have waited long enough.
    fn admit(&mut self) {
        let since = Instant::now();
        // Nobody is held up while the batch is empty.
        let window = if self.batch.is_empty() { ADMISSION * 10 } else { ADMISSION };
        loop {
            let left = window.saturating_sub(since.elapsed());
            let steps = (self.pace * left.as_secs_f64()) as usize;
            let newcomers = self.gather(steps.min(STEPS_PER_PASS));
            if newcomers.is_empty() {
                return;
            }
            self.join(newcomers);
            if since.elapsed() > window {
                return;
            }
        }
    }

    /// Series to join together, one of each request in turn; at least one, if any can.
    fn gather(&mut self, steps: usize) -> Vec<Newcomer> {
        let share = ROWS / self.jobs.len().max(1);
        let mut newcomers: Vec<Newcomer> = Vec::new();
        let (mut rows, mut encoded) = (self.batch.rows(), 0);
        loop {
            let mut joined = false;
            for at in 0..self.jobs.len() {
                let id = self.jobs[at].ticket.id;
                let own: usize = newcomers.iter().filter(|n| n.ticket.id == id).map(|n| n.rows).sum();
                let (moved, newcomer) = self.next_newcomer(at, share, rows, own);
                joined |= moved;
                if let Some(newcomer) = newcomer {
                    (rows, encoded) = (rows + newcomer.rows, encoded + newcomer.ask.context_len());
                    newcomers.push(newcomer);
                }
                if encoded >= steps && !newcomers.is_empty() {
                    // The next round begins with those that had no turn in this one.
                    self.jobs.rotate_left(at + 1);
                    return newcomers;
                }
            }
            if !joined {
                return newcomers;
            }
        }
    }

    /// The next series of a request, with memory for it, while `rows` paths of all requests and `own` of this one wait
    /// to join or are in the batch; and whether the request has moved on.
    fn next_newcomer(
        &mut self,
        at: usize,
        share: usize,
        rows: usize,
        own: usize,
    ) -> (bool, Option<Newcomer>) {
        let job = &mut self.jobs[at];
        let ticket = job.ticket.clone();
        let Work::Forecast(asked) = &mut job.work else { return (false, None) };
        let Wanted::Paths(drawing) = &asked.terms.wanted else { return (false, None) };
        let own = own + asked.running.iter().map(|series| series.rows).sum::<usize>();
        // A request without any series in the batch always gets one in: it must not wait for the longest running.
        if own > 0 && (rows >= ROWS || own >= share) {
            return (false, None);
        }
        let Some((index, ask)) = asked.waiting.pop_front() else { return (false, None) };
        let horizon = ask.horizon as u64;
        let memory = &self.device.memory;
        let room = memory.limit().saturating_sub(self.weights);
        let result = drawing.bytes(&ask);
        let whole = room.saturating_sub(result);
        let cost = |bytes| self.model.cost(&ask, &asked.terms, bytes).map(|cost| (bytes, cost));
        // Half of the room for one series, so that another always fits beside it; all of it when nothing less will do.
        let planned = match cost(whole.min(room / 2)) {
            Err(ModelError::MemoryLimit { .. }) => cost(whole),
            planned => planned,
        };
        let reserved = planned.and_then(|(bytes, cost)| {
            if let Some((caches, result)) = memory.reserve(cost.bytes).zip(memory.reserve(result)) {
                probe("the forecast", caches.bytes() + result.bytes())?;
                return Ok(Some((bytes, cost.rows, caches, result)));
            }
            let needed = cost.bytes + result;
            // What models, caches and results of others hold comes back sooner or later.
            if memory.used() > self.weights
                || self.runner.shared.state().evict_one(&self.device, &self.runner.source.version)
            {
                return Ok(None);
            }
            Err(ModelError::MemoryLimit { what: "the forecast", needed, limit: room })
        });
        match reserved {
            Ok(Some((memory, rows, caches, result))) => {
                let terms = asked.terms.clone();
                (true, Some(Newcomer { ticket, index, horizon, ask, terms, memory, rows, caches, result }))
            }
            Ok(None) => {
                asked.waiting.push_front((index, ask));
                if rows == 0 {
                    self.runner.shared.state().evict_one(&self.device, &self.runner.source.version);
                    memory.wait_for_change(GLANCE);
                }
                (false, None)
            }
            Err(error) => {
                ticket.start();
                fail_series(asked, index, horizon, error, &self.runner.shared.clone(), &ticket);
                (true, None)
            }
        }
    }

    /// Encodes the contexts of several series together and puts them into the batch.
    fn join(&mut self, newcomers: Vec<Newcomer>) {
        let began = Instant::now();
        let together: Vec<Entrant<'_>> = newcomers
            .iter()
            .map(|Newcomer { ask, terms, memory, .. }| Entrant { ask, terms, memory: *memory })
            .collect();
        let encoded: usize = newcomers.iter().map(|newcomer| newcomer.ask.context_len()).sum();
        let (batch, awaited) = (&mut self.batch, Awaited(&newcomers));
        let work = || batch.admit(&together, &awaited);
        let shared = self.runner.shared;
        let admitted = match self.device.compute(work).map_err(threads).flatten() {
            Ok(admitted) => admitted,
            Err(error) => {
                let fault = Fault::from(error);
                newcomers.iter().map(|_| Err(fault.clone().into())).collect()
            }
        };
        self.pace = encoded as f64 / began.elapsed().as_secs_f64().max(1e-6);
        for (newcomer, admitted) in newcomers.into_iter().zip(admitted) {
            let Newcomer { ticket, index, horizon, rows, caches, result, .. } = newcomer;
            let Some(job) = self.jobs.iter_mut().find(|job| job.ticket.id == ticket.id) else { continue };
            let Work::Forecast(asked) = &mut job.work else { continue };
            ticket.start();
            match admitted {
                Ok(id) => asked.running.push(Running { id, index, horizon, rows, caches, result }),
                Err(error) => fail_series(asked, index, horizon, error, shared, &ticket),
            }
        }
    }

    /// Steps of everything in the batch until a series is finished or the turn is over; `false` when the batch is lost.
    fn step(&mut self) -> bool {
        let (batch, tempo) = (&mut self.batch, &mut self.tempo);
        let work = || {
            let began = Instant::now();
            let (mut steps, mut rows) = (0, 0);
            loop {
                let (together, since) = (batch.rows(), Instant::now());
                let burst = batch
                    .steps(tempo.steps(together, TURN.saturating_sub(began.elapsed())), &NeverInterrupt)?;
                tempo.note(together, burst, since.elapsed());
                steps += burst as u64;
                rows += (burst * together) as u64;
                let done = batch.finished(&NeverInterrupt)?;
                if !done.is_empty() || began.elapsed() >= TURN {
                    return Ok((steps, rows, done));
                }
            }
        };
        let shared = self.runner.shared;
        match self.device.compute(work).map_err(threads).flatten() {
            Ok((steps, rows, done)) => {
                shared.count(&self.runner.source.version, |counters| {
                    counters.steps += steps;
                    counters.step_rows += rows;
                });
                for (id, finished) in done {
                    self.answer(id, finished);
                }
                true
            }
            Err(error) => {
                let fault = Fault::from(error);
                for job in self.jobs.drain(..) {
                    job.finish(Reply::Refused(Refusal::Model(fault.clone())));
                }
                false
            }
        }
    }

    /// Sends a finished series to whoever asked for it.
    fn answer(&mut self, id: SeriesId, finished: Result<Box<dyn Finished>>) {
        let shared = self.runner.shared;
        for job in &mut self.jobs {
            let Work::Forecast(asked) = &mut job.work else { continue };
            let Some(at) = asked.running.iter().position(|series| series.id == id) else { continue };
            let Running { index, horizon, caches, result, .. } = asked.running.swap_remove(at);
            match finished.and_then(|finished| finished.into_paths()) {
                Ok(paths) => {
                    asked.steps_answered += 1 + horizon;
                    asked.rows += horizon;
                    drop(caches);
                    shared.deliver(&job.ticket, Delivery::paths(index, paths, result));
                }
                Err(error) => fail_series(asked, index, horizon, error, shared, &job.ticket),
            }
            return;
        }
    }

    /// Ends the requests that have all their answers.
    fn finish(&mut self, lately: &mut Vec<(CallerId, Instant)>) {
        let (version, memory_bytes) = (&self.runner.source.version, self.weights);
        let over = |job: &mut Job| match &job.work {
            Work::Forecast(asked) => {
                asked.waiting.is_empty() && asked.running.is_empty() || !wants_paths(asked)
            }
            Work::Load | Work::Unload => true,
        };
        for job in self.jobs.extract_if(.., over) {
            let last = match &job.work {
                Work::Forecast(asked) if !wants_paths(asked) => {
                    Reply::Refused(Refusal::of_another_kind(version))
                }
                Work::Forecast(_) => {
                    lately.retain(|(caller, _)| *caller != job.ticket.caller);
                    lately.push((job.ticket.caller, Instant::now()));
                    Reply::Done
                }
                _ => Reply::Loaded(LoadedModel { version: version.clone(), memory_bytes }),
            };
            job.finish(last);
        }
    }

    /// Works out how far each request has come.
    fn report(&self) {
        for job in &self.jobs {
            let Work::Forecast(asked) = &job.work else { continue };
            let running = asked.running.iter().filter_map(|series| {
                let (done, total) = self.batch.progress(series.id)?;
                Some(done as u64 * (1 + series.horizon) / (total as u64).max(1))
            });
            job.ticket.set_done(asked.steps_answered + running.sum::<u64>());
        }
    }
}

/// Whether a request is of the kind that such a model answers.
fn wants_paths(asked: &Asked) -> bool {
    matches!(asked.terms.wanted, Wanted::Paths(_))
}

fn fail_series(
    asked: &mut Asked,
    index: u32,
    horizon: u64,
    error: ModelError,
    shared: &Shared,
    ticket: &Ticket,
) {
    asked.steps_answered += 1 + horizon;
    shared.count(&ticket.version, |counters| counters.fail(error.to_string()));
    shared.deliver(ticket, Delivery::Reply(Reply::Fault { index, fault: error.into() }));
}
