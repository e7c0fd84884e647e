//! The life of one model: loading, then serving what is in its inbox until nobody asks for it any more.

use crate::device::Device;
use crate::fault::Fault;
use crate::job;
use crate::ledger::{Reservation, probe};
use crate::message::{ModelSource, ModelState, Refusal, Reply};
use crate::runner::{End, GLANCE, Runner, threads};
use crate::shared::Shared;
use crate::{passes, steps};
use kronos_models::artifact::verify;
use kronos_models::error::{ModelError, Result};
use kronos_models::model::{Model, Work};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a model waits for memory that models in use hold.
const PATIENCE: Duration = Duration::from_secs(10);

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
