//! The life of one model: loading, then serving what is in its inbox until nobody asks for it any more.

use crate::core::Shared;
use crate::device::Device;
use crate::fault::Fault;
use crate::job::{self, CallerId, Job};
use crate::ledger::{Reservation, probe};
use crate::message::{ModelSource, ModelState, Refusal, Reply};
use crate::{passes, steps};
use kronos_models::artifact::verify;
use kronos_models::error::{ModelError, Result};
use kronos_models::model::{Model, Work};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// How long a model waits for memory that models in use hold.
const PATIENCE: Duration = Duration::from_secs(10);

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
        while slot.inbox.front().is_some_and(|job| matches!(job.work, job::Work::Unload)) {
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

/// How the life of a model ended.
pub(crate) enum End {
    /// It could not be loaded; its slot is gone.
    Refused,
    /// A request asked for its end.
    Unload(Job),
    /// Its memory was needed, its batch was lost, or nobody waited for it any more.
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
            Err(error) => return self.refuse(error),
        };
        // What the files were read into is free again.
        self.shared.trim();
        self.shared.settle(version, &device);
        self.shared.note(version, ModelState::Loaded, weights.bytes());
        let weights_bytes = weights.bytes();
        let end = match model.work() {
            Work::Steps(stepping) => steps::Service::new(self, device, stepping, weights_bytes).run(),
            Work::Passes(passing) => {
                let jobs = Vec::new();
                passes::Service { runner: self, device, model: passing, weights: weights_bytes, jobs }.run()
            }
        };
        drop(model);
        drop(weights);
        self.shared.note(version, ModelState::Idle, 0);
        end
    }

    /// Answers everybody who waits for a model that could not be loaded. Whoever comes next begins anew, and so does
    /// whoever has come since nobody waited for it.
    pub(crate) fn refuse(&self, error: ModelError) -> End {
        if matches!(error, ModelError::Cancelled) {
            self.shared.note(&self.source.version, ModelState::Idle, 0);
            return End::Evicted;
        }
        self.shared.note(&self.source.version, ModelState::Failed, 0);
        let fault = Fault::from(error);
        let slot = self.shared.state().slots.remove(&self.source.version);
        for job in slot.into_iter().flat_map(|slot| slot.inbox) {
            let last = match job.work {
                job::Work::Unload => Reply::Unloaded(false),
                _ => Reply::Refused(Refusal::Model(fault.clone())),
            };
            job.finish(last);
        }
        End::Refused
    }

    /// Loads the model on the first device that it fits, the CPU being the last.
    fn load(&self) -> Result<(Box<dyn Model>, Reservation, Arc<Device>)> {
        if self.source.capabilities(self.shared.families())?.runs_on_gpus {
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

    fn load_on(&self, device: &Arc<Device>) -> Result<(Box<dyn Model>, Reservation)> {
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
        let family = self.source.family(self.shared.families())?;
        let files = self.source.files(family)?;
        let read = || family.load(&files, place.as_ref());
        let model = device.prepare(read).map_err(threads)??;
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
                    job::Work::Unload if jobs.is_empty() => return Call::Unload(job),
                    job::Work::Unload => {
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
pub(crate) fn awaits(lately: &mut Vec<(CallerId, Instant)>, jobs: &[Job], window: Duration) -> bool {
    lately.retain(|(_, at)| at.elapsed() < 4 * window);
    lately.iter().any(|(caller, _)| jobs.iter().all(|job| job.ticket.caller != *caller))
}

pub(crate) fn threads(error: rayon::ThreadPoolBuildError) -> ModelError {
    ModelError::Backend(candle_core::Error::Msg(format!("could not start threads: {error}")))
}
