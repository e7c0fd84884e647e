//! Models that forecast bars: one batch of paths, decoded step by step, that requests join and leave between steps.

use crate::core::Shared;
use crate::device::Device;
use crate::fault::Fault;
use crate::job::{Bars, CallerId, Delivery, Job, Running, Ticket, Work};
use crate::ledger::{Reservation, probe};
use crate::message::{LoadedModel, Refusal, Reply};
use crate::runner::{Call, End, GLANCE, Runner, awaits, threads};
use kronos_models::bars::{Bar, BarOptions, BarRequest};
use kronos_models::error::{ModelError, Result};
use kronos_models::interrupt::{Interrupt, NeverInterrupt};
use kronos_models::kronos::Kronos;
use kronos_models::kronos::batch::{Batch, Finished, SeriesId};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Paths in a batch: enough to be bound by arithmetic instead of memory traffic.
const ROWS: usize = 512;

/// Bars of contexts after which no further series joins a pass of the encoder.
const BARS_PER_PASS: usize = 2048;

/// How long contexts are encoded between two steps, so that those in the batch are not held up.
const ADMISSION: Duration = Duration::from_millis(20);

/// How long steps follow each other before others are looked after: short for whoever waits to join or has cancelled, long
/// beside the tenth of a millisecond that it takes to wake the threads of the device.
const TURN: Duration = Duration::from_millis(2);

/// How often progress is worked out.
const PROGRESS: Duration = Duration::from_millis(100);

/// A series on its way into the batch.
struct Entrant {
    ticket: Arc<Ticket>,
    index: u32,
    horizon: u64,
    request: BarRequest,
    options: BarOptions,
    wave: usize,
    caches: Reservation,
    result: Reservation,
}

/// Contexts are encoded as long as anybody waits for one of them.
struct Awaited<'a>(&'a [Entrant]);

impl Interrupt for Awaited<'_> {
    fn check(&self) -> Result<()> {
        if self.0.iter().all(|entrant| entrant.ticket.is_cancelled()) {
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
    model: &'a Kronos,
    weights: u64,
    batch: Batch<'a>,
    jobs: Vec<Job>,
    /// Bars of contexts encoded per second, lately.
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
    pub(crate) fn new(runner: &'a Runner<'a>, device: Arc<Device>, model: &'a Kronos, weights: u64) -> Self {
        Self {
            runner,
            device,
            model,
            weights,
            batch: Batch::new(model),
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
            if let (true, Work::Bars(bars)) = (cancelled, &job.work) {
                bars.running.iter().for_each(|series| batch.remove(series.id));
            }
            !cancelled
        });
    }

    /// Whether newcomers wait for others to join with, while the batch goes on: contexts encoded together take less time
    /// than one after the other.
    fn gathers(&mut self, lately: &mut Vec<(CallerId, Instant)>) -> bool {
        let is_new = |job: &Job| matches!(&job.work, Work::Bars(bars) if bars.running.is_empty());
        let has_more = |job: &Job| matches!(&job.work, Work::Bars(bars) if !bars.waiting.is_empty());
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
            let bars = (self.pace * left.as_secs_f64()) as usize;
            let entrants = self.gather(bars.min(BARS_PER_PASS));
            if entrants.is_empty() {
                return;
            }
            self.join(entrants);
            if since.elapsed() > window {
                return;
            }
        }
    }

    /// Series to join together, one of each request in turn; at least one, if any can.
    fn gather(&mut self, bars: usize) -> Vec<Entrant> {
        let share = ROWS / self.jobs.len().max(1);
        let mut entrants: Vec<Entrant> = Vec::new();
        let (mut rows, mut encoded) = (self.batch.rows(), 0);
        loop {
            let mut joined = false;
            for at in 0..self.jobs.len() {
                let id = self.jobs[at].ticket.id;
                let own: usize = entrants.iter().filter(|e| e.ticket.id == id).map(|e| e.wave).sum();
                let (moved, entrant) = self.next_entrant(at, share, rows, own);
                joined |= moved;
                if let Some(entrant) = entrant {
                    (rows, encoded) = (rows + entrant.wave, encoded + entrant.request.bars.len());
                    entrants.push(entrant);
                }
                if encoded >= bars && !entrants.is_empty() {
                    // The next round begins with those that had no turn in this one.
                    self.jobs.rotate_left(at + 1);
                    return entrants;
                }
            }
            if !joined {
                return entrants;
            }
        }
    }

    /// The next series of a request, with memory for it, while `rows` paths of all requests and `own` of this one wait
    /// to join or are in the batch; and whether the request has moved on.
    fn next_entrant(&mut self, at: usize, share: usize, rows: usize, own: usize) -> (bool, Option<Entrant>) {
        let job = &mut self.jobs[at];
        let ticket = job.ticket.clone();
        let Work::Bars(bars) = &mut job.work else { return (false, None) };
        let own = own + bars.running.iter().map(|series| series.wave).sum::<usize>();
        // A request without any series in the batch always gets one in: it must not wait for the longest running.
        if own > 0 && (rows >= ROWS || own >= share) {
            return (false, None);
        }
        let Some((index, request)) = bars.waiting.pop_front() else { return (false, None) };
        let horizon = request.horizon as u64;
        let memory = &self.device.memory;
        let room = memory.limit().saturating_sub(self.weights);
        let result = horizon * u64::from(bars.drawing.samples) * size_of::<Bar>() as u64;
        let whole = room.saturating_sub(result);
        // Half of the room for one series, so that another always fits beside it; all of it when nothing less will do.
        let planned = bars.drawing.options(whole.min(room / 2)).and_then(|half| {
            match self.model.plan(&request, &half) {
                Err(ModelError::MemoryLimit { .. }) => {
                    let options = bars.drawing.options(whole)?;
                    Ok((options, self.model.plan(&request, &options)?))
                }
                plan => Ok((half, plan?)),
            }
        });
        let reserved = planned.and_then(|(options, plan)| {
            if let Some((caches, result)) = memory.reserve(plan.bytes).zip(memory.reserve(result)) {
                probe("the forecast", caches.bytes() + result.bytes())?;
                return Ok(Some((options, plan.wave, caches, result)));
            }
            let needed = plan.bytes + result;
            // What models, caches and results of others hold comes back sooner or later.
            if memory.used() > self.weights
                || self.runner.shared.state().evict_one(&self.device, &self.runner.source.version)
            {
                return Ok(None);
            }
            Err(ModelError::MemoryLimit { what: "the forecast", needed, limit: room })
        });
        match reserved {
            Ok(Some((options, wave, caches, result))) => {
                let entrant = Entrant { ticket, index, horizon, request, options, wave, caches, result };
                (true, Some(entrant))
            }
            Ok(None) => {
                bars.waiting.push_front((index, request));
                if rows == 0 {
                    self.runner.shared.state().evict_one(&self.device, &self.runner.source.version);
                    memory.wait_for_change(GLANCE);
                }
                (false, None)
            }
            Err(error) => {
                ticket.start();
                fail_series(bars, index, horizon, error, &self.runner.shared.clone(), &ticket);
                (true, None)
            }
        }
    }

    /// Encodes the contexts of several series together and puts them into the batch.
    fn join(&mut self, entrants: Vec<Entrant>) {
        let began = Instant::now();
        let together: Vec<(&BarRequest, BarOptions)> =
            entrants.iter().map(|entrant| (&entrant.request, entrant.options)).collect();
        let encoded: usize = together.iter().map(|(request, _)| request.bars.len()).sum();
        let (batch, awaited) = (&mut self.batch, Awaited(&entrants));
        let work = || batch.admit_all(&together, &awaited);
        let shared = self.runner.shared;
        let admitted = match self.device.compute(work).map_err(threads).flatten() {
            Ok(admitted) => admitted,
            Err(error) => {
                let fault = Fault::from(error);
                entrants.iter().map(|_| Err(fault.clone().into())).collect()
            }
        };
        self.pace = encoded as f64 / began.elapsed().as_secs_f64().max(1e-6);
        for (entrant, admitted) in entrants.into_iter().zip(admitted) {
            let Entrant { ticket, index, horizon, wave, caches, result, .. } = entrant;
            let Some(job) = self.jobs.iter_mut().find(|job| job.ticket.id == ticket.id) else { continue };
            let Work::Bars(bars) = &mut job.work else { continue };
            ticket.start();
            match admitted {
                Ok(id) => bars.running.push(Running { id, index, horizon, wave, caches, result }),
                Err(error) => fail_series(bars, index, horizon, error, shared, &ticket),
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
                let done = batch.take_finished(&NeverInterrupt)?;
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
    fn answer(&mut self, id: SeriesId, finished: Result<Finished>) {
        let shared = self.runner.shared;
        for job in &mut self.jobs {
            let Work::Bars(bars) = &mut job.work else { continue };
            let Some(at) = bars.running.iter().position(|series| series.id == id) else { continue };
            let Running { index, horizon, caches, result, .. } = bars.running.swap_remove(at);
            match finished.and_then(Finished::into_paths) {
                Ok(paths) => {
                    bars.steps_answered += 1 + horizon;
                    bars.rows += horizon;
                    drop(caches);
                    shared.deliver(&job.ticket, Delivery::paths(index, paths, result));
                }
                Err(error) => fail_series(bars, index, horizon, error, shared, &job.ticket),
            }
            return;
        }
    }

    /// Ends the requests that have all their answers.
    fn finish(&mut self, lately: &mut Vec<(CallerId, Instant)>) {
        let (version, memory_bytes) = (&self.runner.source.version, self.weights);
        let over = |job: &mut Job| match &job.work {
            Work::Bars(bars) => bars.waiting.is_empty() && bars.running.is_empty(),
            Work::Quantiles(_) | Work::Load | Work::Unload => true,
        };
        for job in self.jobs.extract_if(.., over) {
            let last = match job.work {
                Work::Bars(_) => {
                    lately.retain(|(caller, _)| *caller != job.ticket.caller);
                    lately.push((job.ticket.caller, Instant::now()));
                    Reply::Done
                }
                Work::Quantiles(_) => {
                    Reply::Refused(Refusal::Protocol { reason: "the model forecasts bars".into() })
                }
                _ => Reply::Loaded(LoadedModel { version: version.clone(), memory_bytes }),
            };
            job.finish(last);
        }
    }

    /// Works out how far each request has come.
    fn report(&self) {
        for job in &self.jobs {
            let Work::Bars(bars) = &job.work else { continue };
            let running = bars.running.iter().filter_map(|series| {
                let (done, total) = self.batch.progress(series.id)?;
                Some(done as u64 * (1 + series.horizon) / (total as u64).max(1))
            });
            job.ticket.set_done(bars.steps_answered + running.sum::<u64>());
        }
    }
}

fn fail_series(
    bars: &mut Bars,
    index: u32,
    horizon: u64,
    error: ModelError,
    shared: &Shared,
    ticket: &Ticket,
) {
    bars.steps_answered += 1 + horizon;
    bars.errors += 1;
    shared.count(&ticket.version, |counters| counters.fail(error.to_string()));
    shared.deliver(ticket, Delivery::Reply(Reply::Fault { index, fault: error.into() }));
}
