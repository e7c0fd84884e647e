//! The engine itself: models by version, each with its runner, and the requests they work on.

use crate::device::Device;
use crate::job::{Asked, CallerId, Delivery, Job, RequestId, Sink, Ticket, Work};
use crate::life;
use crate::message::{
    DeviceStatus, EngineStatus, ModelSource, ModelState, ModelStatus, Progress, Refusal, Reply, Request,
    Settings, Status,
};
pub use crate::shared::Origin;
use crate::shared::{Record, Shared, Slot, State};
use crate::statistics::resident_bytes;
use kronos_models::ask::Ask;
use std::collections::hash_map::Entry;
use std::path::Component;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The engine. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct Core(Arc<Shared>);

impl Core {
    /// An engine without models; its replies go to `sink`.
    pub fn new(settings: Settings, origin: Origin, sink: impl Sink) -> Self {
        Self(Arc::new(Shared::new(settings, origin, sink)))
    }

    /// Takes a request of a caller. Every reply to it bears the number returned, the last one included; it may come
    /// before this returns.
    pub fn submit(&self, caller: CallerId, pid: u32, request: Request, connections: u64) -> RequestId {
        let shared = &self.0;
        let mut state = shared.state();
        let id = state.next_id;
        state.next_id += 1;
        let from = (caller, pid);
        let accepted = match request {
            Request::Forecast { model, series, terms } => {
                // A horizon beyond this is refused by the model.
                let horizon = |ask: &Ask| u32::try_from(ask.horizon).unwrap_or(u32::MAX);
                let horizons: Vec<u32> = series.iter().map(horizon).collect();
                let ticket = Ticket::new(id, from, model.version.clone(), &horizons);
                self.enqueue(&mut state, model, ticket, Work::Forecast(Asked::new(series, terms)))
            }
            Request::Load(model) => {
                let ticket = Ticket::new(id, from, model.version.clone(), &[]);
                self.enqueue(&mut state, model, ticket, Work::Load)
            }
            Request::Unload(version) => match state.slots.contains_key(&version) {
                true => {
                    let ticket = Arc::new(Ticket::new(id, from, version, &[]));
                    self.put(&mut state, ticket, Work::Unload);
                    Ok(None)
                }
                false => Ok(Some(Reply::Unloaded(false))),
            },
            Request::Status => Ok(Some(Reply::Status(Box::new(self.status(&state, connections))))),
            Request::ResetStatistics => {
                state.reset();
                Ok(Some(Reply::Acknowledged))
            }
            Request::Configure(settings) => {
                self.configure(&mut state, settings);
                Ok(Some(Reply::Acknowledged))
            }
        };
        drop(state);
        let reply = accepted.unwrap_or_else(|refusal| Some(Reply::Refused(refusal)));
        if let Some(reply) = reply {
            shared.sink.deliver(caller, id, Delivery::Reply(reply));
        }
        id
    }

    /// Stops working on a request at the next step; whatever of it has not been delivered will not be.
    pub fn cancel(&self, id: RequestId) {
        let mut state = self.0.state();
        let Some(ticket) = state.tickets.remove(&id) else { return };
        ticket.cancelled.store(true, Ordering::Relaxed);
        if let Some(slot) = state.slots.get(&ticket.version) {
            slot.wake.notify_all();
        }
    }

    /// Requests in work with their callers and how far they have come.
    pub fn progress(&self) -> Vec<(CallerId, RequestId, Progress)> {
        let state = self.0.state();
        state.tickets.values().map(|ticket| (ticket.caller, ticket.id, ticket.progress())).collect()
    }

    /// Gives work to the runner of its model, starting one where there is none.
    fn enqueue(
        &self,
        state: &mut State,
        model: ModelSource,
        ticket: Ticket,
        work: Work,
    ) -> Result<Option<Reply>, Refusal> {
        let allowed = [&state.settings.model_dir, &state.settings.built_in_dir];
        if let Some(path) = model.paths().find(|path| {
            !allowed.iter().any(|directory| path.starts_with(directory))
                || path.components().any(|part| part == Component::ParentDir)
        }) {
            let reason = format!("\"{}\" is not in the directory of models", path.display());
            return Err(Refusal::Protocol { reason });
        }
        let capabilities = model.capabilities(self.0.families())?;
        let suits = match &work {
            Work::Forecast(asked) => capabilities.answer(&asked.terms),
            Work::Load | Work::Unload => true,
        };
        if !suits {
            return Err(Refusal::of_another_kind(&model.version));
        }
        let limit = state.settings.max_queue;
        if state.tickets.values().filter(|ticket| ticket.is_queued()).count() >= limit {
            return Err(Refusal::QueueFull { limit });
        }
        if let Entry::Vacant(place) = state.slots.entry(model.version.clone()) {
            let thread = std::thread::Builder::new().name("kronos-model".into());
            let shared = self.0.clone();
            thread
                .spawn(move || life::run(&shared, &model))
                .map_err(|error| Refusal::Broken { reason: format!("could not start a thread: {error}") })?;
            place.insert(Slot::new());
        }
        self.put(state, Arc::new(ticket), work);
        Ok(None)
    }

    fn put(&self, state: &mut State, ticket: Arc<Ticket>, work: Work) {
        state.tickets.insert(ticket.id, ticket.clone());
        state.uses += 1;
        let used = state.uses;
        if let Some(slot) = state.slots.get_mut(&ticket.version) {
            slot.used = used;
            slot.inbox.push_back(Job::new(self.0.clone(), ticket, work));
            slot.wake.notify_all();
        }
    }

    fn configure(&self, state: &mut State, settings: Settings) {
        for device in self.0.devices() {
            device.set_threads(settings.threads);
            let limit = device.total_bytes().map_or(settings.memory, |total| settings.gpu_memory.of(total));
            device.memory.set_limit(limit);
            if device.memory.used() > limit {
                while state.evict_one(device, "") {}
            }
        }
        state.settings = settings;
    }

    fn status(&self, state: &State, connections: u64) -> Status {
        let queued = state.tickets.values().filter(|ticket| ticket.is_queued()).count() as u64;
        let model = |(version, record): (&String, &Record)| ModelStatus {
            version: version.clone(),
            device: record.device.clone(),
            state: record.state,
            memory_bytes: record.memory_bytes,
            counters: record.counters.clone(),
            since: state.since,
        };
        let device = |device: &Arc<Device>| DeviceStatus {
            device: device.label.clone(),
            name: device.name(),
            used_bytes: device.memory.used(),
            limit_bytes: device.memory.limit(),
            utilization: device.utilization(),
            models: state
                .records
                .values()
                .filter(|record| record.state == ModelState::Loaded && record.device == device.label)
                .count() as u64,
        };
        Status {
            engine: EngineStatus {
                pid: std::process::id(),
                started_at: self.0.started_at,
                restarts: self.0.origin.restarts,
                resident_bytes: resident_bytes(),
                connections,
                queued,
                running: state.tickets.len() as u64 - queued,
            },
            devices: self.0.devices().map(device).collect(),
            models: state.records.iter().map(model).collect(),
            requests: state.tickets.values().map(|ticket| ticket.status()).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
