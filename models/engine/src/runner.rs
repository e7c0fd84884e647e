//! The life of one model: loading, then a batch that requests join and leave between steps.

use crate::core::Shared;
use crate::device::Device;
use crate::fault::Fault;
use crate::job::{Bars, CallerId, Delivery, Job, Running, Ticket, Work};
use crate::ledger::{Reservation, probe};
use crate::message::{LoadedModel, ModelFiles, ModelSource, ModelState, Refusal, Reply};
use crate::quantiles::{self, QuantileModel};
use kronos_models::artifact::verify;
use kronos_models::bars::{Bar, BarOptions, BarRequest};
use kronos_models::error::{ModelError, Result};
use kronos_models::interrupt::{Interrupt, NeverInterrupt};
use kronos_models::kronos::Kronos;
use kronos_models::kronos::batch::{Batch, Finished, SeriesId};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
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

/// How long a model waits for memory that models in use hold.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often progress is worked out.
const PROGRESS: Duration = Duration::from_millis(100);

/// After how long without work free memory goes back to the system.
const LULL: Duration = Duration::from_secs(1);

/// How often waiting for memory looks at what else has happened.
pub(crate) const GLANCE: Duration = Duration::from_millis(20);

/// Runs a model until it has been told to go and nothing asks for it any more.
pub(crate) fn run(shared: &Arc<Shared>, source: &ModelSource) {
    let runner = Runner { shared, source };
    loop {
        // What a panic leaves behind is dropped with the model; jobs dropped unfinished tell their callers.
        let ended = catch_unwind(AssertUnwindSafe(|| runner.life()));
        if ended.is_err() {
            shared.note(&source.version, ModelState::Failed, 0);
        }
        shared.trim();
        if matches!(ended, Ok(End::Refused)) {
            return;
        }
        let mut state = shared.state();
        let Some(slot) = state.slots.get_mut(&source.version) else { return };
        // Whoever asks for the end of a model that has gone must not bring it back.
        let mut unloads = Vec::new();
        while slot.inbox.front().is_some_and(|job| matches!(job.work, Work::Unload)) {
            unloads.extend(slot.inbox.pop_front());
        }
        let wanted = !slot.inbox.is_empty();
        if wanted {
            (slot.idle, slot.evict) = (false, false);
        } else {
            state.slots.remove(&source.version);
        }
        drop(state);
        if let Ok(End::Unload(unload)) = ended {
            unload.finish(Reply::Unloaded(true));
        }
        unloads.into_iter().for_each(|job| job.finish(Reply::Unloaded(false)));
        if !wanted {
            return;
        }
    }
}

pub(crate) struct Runner<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) source: &'a ModelSource,
}

/// A model in memory, by what it forecasts.
enum Model {
    Bars(Box<Kronos>),
    Quantiles(QuantileModel),
}

impl Model {
    fn memory_bytes(&self) -> u64 {
        match self {
            Self::Bars(model) => model.memory_bytes(),
            Self::Quantiles(model) => model.memory_bytes(),
        }
    }

    /// Bytes that the smallest request of the longest context needs beside the weights.
    fn least_working_bytes(&self) -> u64 {
        match self {
            Self::Bars(model) => model.least_working_bytes(),
            Self::Quantiles(model) => model.least_working_bytes(),
        }
    }
}

/// How the life of a model ended.
pub(crate) enum End {
    /// It could not be loaded; its slot is gone.
    Refused,
    /// A request asked for its end.
    Unload(Job),
    /// Its memory was needed, or its batch was lost.
    Evicted,
}

/// What the inbox asks for.
pub(crate) enum Call {
    Work,
    Unload(Job),
    Evict,
}

impl Runner<'_> {
    /// Loads the model and serves it.
    fn life(&self) -> End {
        let version = &self.source.version;
        self.shared.note(version, ModelState::Loading, 0);
        let (model, weights, device) = match self.load() {
            Ok(loaded) => loaded,
            Err(error) => {
                self.refuse(error);
                return End::Refused;
            }
        };
        // What the files were read into is free again.
        self.shared.trim();
        self.shared.settle(version, &device);
        self.shared.note(version, ModelState::Loaded, weights.bytes());
        let (weights_bytes, jobs) = (weights.bytes(), Vec::new());
        let end = match &model {
            Model::Bars(model) => {
                let batch = Batch::new(model);
                Service {
                    runner: self,
                    device,
                    model,
                    weights: weights_bytes,
                    batch,
                    jobs,
                    pace: 0.0,
                    tempo: Tempo::default(),
                    newcomers_since: None,
                }
                .run()
            }
            Model::Quantiles(model) => {
                quantiles::Service { runner: self, device, model, weights: weights_bytes, jobs }.run()
            }
        };
        drop(model);
        drop(weights);
        self.shared.note(version, ModelState::Idle, 0);
        end
    }

    /// Answers everybody who waits for a model that could not be loaded. Whoever comes next begins anew.
    fn refuse(&self, error: ModelError) {
        let cancelled = matches!(error, ModelError::Cancelled);
        self.shared.note(
            &self.source.version,
            if cancelled { ModelState::Idle } else { ModelState::Failed },
            0,
        );
        let fault = Fault::from(error);
        let slot = self.shared.state().slots.remove(&self.source.version);
        for job in slot.into_iter().flat_map(|slot| slot.inbox) {
            let last = match job.work {
                Work::Unload => Reply::Unloaded(false),
                _ => Reply::Refused(Refusal::Model(fault.clone())),
            };
            job.finish(last);
        }
    }

    /// Loads the model on the first device that it fits, the CPU being the last.
    fn load(&self) -> Result<(Model, Reservation, Arc<Device>)> {
        if self.source.files.run_on_gpus() {
            for gpu in self.shared.gpus() {
                match self.load_on(gpu) {
                    Ok((model, weights)) => return Ok((model, weights, gpu.clone())),
                    Err(
                        error @ (ModelError::MemoryLimit { .. }
                        | ModelError::OutOfMemory { .. }
                        | ModelError::Unsupported { .. }
                        | ModelError::Backend(_)),
                    ) => {
                        let (version, label) = (&self.source.version, &gpu.label);
                        eprintln!("kronos engine: model \"{version}\" is not put on {label}: {error}");
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        let cpu = &self.shared.cpu;
        self.load_on(cpu).map(|(model, weights)| (model, weights, cpu.clone()))
    }

    fn load_on(&self, device: &Arc<Device>) -> Result<(Model, Reservation)> {
        // The files are about as large as the tensors they become; what they become is known exactly only afterwards.
        let sizes = self
            .source
            .checksums
            .iter()
            .map(|(path, _)| std::fs::metadata(&path.0).map_or(0, |file| file.len()));
        let sizes = sizes.sum();
        let mut weights = self.reserve(device, sizes)?;
        // A file as it was read, the tensors in it, and the part of them packed so far.
        probe("the model", sizes / 2 * 5)?;
        for (path, expected) in &self.source.checksums {
            self.check_wanted()?;
            verify(&path.0, expected)?;
        }
        self.check_wanted()?;
        let place = device.place(self.shared.state().settings.gpu_precision);
        let model = match (&self.source.files, &place) {
            (ModelFiles::Kronos(files), Some(place)) => {
                Model::Bars(Box::new(Kronos::load_accelerated(files, place)?))
            }
            (ModelFiles::Kronos(files), None) => Model::Bars(Box::new(Kronos::load(files, &device.tensors)?)),
            (files, place) => Model::Quantiles(QuantileModel::load(files, place.as_ref())?),
        };
        weights.correct(model.memory_bytes());
        while weights.is_over() && self.shared.state().evict_one(device, &self.source.version) {}
        let limit = device.memory.limit();
        if weights.bytes() > limit {
            return Err(ModelError::MemoryLimit { what: "the model", needed: weights.bytes(), limit });
        }
        if !device.is_cpu() {
            // Weights that leave no room to compute would have every request refused, where the CPU could serve it.
            let room = model.least_working_bytes();
            if device.memory.reserve(room).is_none() {
                let needed = weights.bytes() + room;
                return Err(ModelError::MemoryLimit { what: "the model and a request", needed, limit });
            }
        }
        Ok((model, weights))
    }

    /// Bytes for the weights, at the cost of models that nobody uses at the moment.
    fn reserve(&self, device: &Arc<Device>, needed: u64) -> Result<Reservation> {
        let memory = &device.memory;
        let since = Instant::now();
        loop {
            if let Some(reservation) = memory.reserve(needed) {
                return Ok(reservation);
            }
            // There is another device behind a full GPU, and nobody has to go for it.
            if !device.is_cpu() || needed > memory.limit() || since.elapsed() > PATIENCE {
                return Err(ModelError::MemoryLimit { what: "the model", needed, limit: memory.limit() });
            }
            self.check_wanted()?;
            self.shared.state().evict_one(device, &self.source.version);
            memory.wait_for_change(GLANCE);
        }
    }

    /// Takes what is in the inbox, waiting for it when there is nothing else to do.
    pub(crate) fn collect(&self, jobs: &mut Vec<Job>, lately: &mut Vec<(CallerId, Instant)>) -> Call {
        let version = &self.source.version;
        let mut state = self.shared.state();
        let window = state.settings.batch_window;
        let was_idle = jobs.is_empty();
        let shared = self.shared;
        let mut trimmed = false;
        let mut deadline = None;
        loop {
            // This thread alone removes its slot, and only after it has left this function.
            let Some(slot) = state.slots.get_mut(version) else { return Call::Evict };
            while let Some(job) = slot.inbox.pop_front() {
                if job.ticket.is_cancelled() {
                    drop(state);
                    drop(job);
                    return Call::Work;
                }
                match job.work {
                    Work::Unload if jobs.is_empty() => return Call::Unload(job),
                    Work::Unload => {
                        // Everything that came before it is answered first.
                        slot.inbox.push_front(job);
                        return Call::Work;
                    }
                    _ => jobs.push(job),
                }
            }
            slot.idle = jobs.is_empty();
            if slot.idle && slot.evict {
                return Call::Evict;
            }
            let wake = slot.wake.clone();
            if slot.idle && trimmed {
                state = wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            if slot.idle {
                let (kept, waited) = wake.wait_timeout(state, LULL).unwrap_or_else(PoisonError::into_inner);
                state = kept;
                if waited.timed_out() {
                    drop(state);
                    shared.trim();
                    trimmed = true;
                    state = shared.state();
                }
                continue;
            }
            if !was_idle {
                return Call::Work;
            }
            // Callers served a moment ago are about to ask again: those few milliseconds make one batch of them.
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + window);
            let left = deadline.saturating_duration_since(Instant::now());
            if !awaits(lately, jobs, window) || left.is_zero() {
                return Call::Work;
            }
            state = wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// [`ModelError::Cancelled`] when everybody who waited for the model has gone.
    fn check_wanted(&self) -> Result<()> {
        let mut state = self.shared.state();
        let wanted = state.slots.get_mut(&self.source.version).is_some_and(|slot| {
            slot.inbox.retain(|job| !job.ticket.is_cancelled());
            !slot.inbox.is_empty()
        });
        if wanted { Ok(()) } else { Err(ModelError::Cancelled) }
    }
}

/// Whether callers served a moment ago have not asked again.
fn awaits(lately: &mut Vec<(CallerId, Instant)>, jobs: &[Job], window: Duration) -> bool {
    lately.retain(|(_, at)| at.elapsed() < 4 * window);
    lately.iter().any(|(caller, _)| jobs.iter().all(|job| job.ticket.caller != *caller))
}

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
struct Service<'a> {
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

impl Service<'_> {
    fn run(mut self) -> End {
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

pub(crate) fn threads(error: rayon::ThreadPoolBuildError) -> ModelError {
    ModelError::Backend(candle_core::Error::Msg(format!("could not start threads: {error}")))
}
