//! The engine itself: models by version, each with its runner, and the requests they work on.

use crate::device::Device;
use crate::job::{Asked, CallerId, Delivery, Job, RequestId, Sink, Ticket, Work};
use crate::message::{
    DeviceStatus, Devices, EngineStatus, ModelSource, ModelState, ModelStatus, Progress, Refusal, Reply,
    Request, Settings, Status, UnixMicros,
};
use crate::runner;
use crate::statistics::{Counters, now, resident_bytes};
use kronos_models::ask::Ask;
use kronos_models::device::{Gpu, Opener};
use kronos_models::family::Families;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Component;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

/// The engine. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct Core(Arc<Shared>);

/// What an engine is told once, when it starts.
#[derive(Clone, Copy)]
pub struct Origin {
    /// The families of models that it serves.
    pub families: Families,
    /// How many engines ended before this one.
    pub restarts: u64,
    /// Gives memory that has become free back to the system; called after a model has been loaded or has gone.
    pub trim: fn(),
    /// How GPUs are opened, where this process may use any.
    pub gpus: Option<Opener>,
}

/// What the handles and the runners share.
pub(crate) struct Shared {
    pub(crate) cpu: Arc<Device>,
    gpus: OnceLock<Vec<Arc<Device>>>,
    origin: Origin,
    started_at: UnixMicros,
    sink: Box<dyn Sink>,
    state: Mutex<State>,
}

/// Behind one lock, held for moments only.
pub(crate) struct State {
    pub(crate) settings: Settings,
    pub(crate) slots: HashMap<String, Slot>,
    tickets: BTreeMap<RequestId, Arc<Ticket>>,
    records: BTreeMap<String, Record>,
    since: UnixMicros,
    next_id: RequestId,
    uses: u64,
}

/// The place of a model that has a runner.
pub(crate) struct Slot {
    pub(crate) inbox: VecDeque<Job>,
    /// Wakes the runner.
    pub(crate) wake: Arc<Condvar>,
    /// Whether the runner has nothing to do.
    pub(crate) idle: bool,
    /// Whether the runner, once it has nothing to do, shall drop the model.
    pub(crate) evict: bool,
    /// Where the model is, once it is loaded.
    pub(crate) device: Option<Arc<Device>>,
    used: u64,
}

impl Slot {
    fn new() -> Self {
        Self {
            inbox: VecDeque::new(),
            wake: Arc::new(Condvar::new()),
            idle: false,
            evict: false,
            device: None,
            used: 0,
        }
    }
}

/// What is known of a version for as long as the engine lives.
struct Record {
    state: ModelState,
    device: String,
    memory_bytes: u64,
    counters: Counters,
}

impl Core {
    /// An engine without models; its replies go to `sink`.
    pub fn new(settings: Settings, origin: Origin, sink: impl Sink) -> Self {
        let state = State {
            settings: settings.clone(),
            slots: HashMap::new(),
            tickets: BTreeMap::new(),
            records: BTreeMap::new(),
            since: now(),
            next_id: 1,
            uses: 0,
        };
        Self(Arc::new(Shared {
            cpu: Arc::new(Device::cpu(settings.threads, settings.memory)),
            gpus: OnceLock::new(),
            origin,
            started_at: now(),
            sink: Box::new(sink),
            state: Mutex::new(state),
        }))
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
                shared.enqueue(&mut state, model, ticket, Work::Forecast(Asked::new(series, terms)))
            }
            Request::Load(model) => {
                let ticket = Ticket::new(id, from, model.version.clone(), &[]);
                shared.enqueue(&mut state, model, ticket, Work::Load)
            }
            Request::Unload(version) => match state.slots.contains_key(&version) {
                true => {
                    let ticket = Arc::new(Ticket::new(id, from, version, &[]));
                    shared.put(&mut state, ticket, Work::Unload);
                    Ok(None)
                }
                false => Ok(Some(Reply::Unloaded(false))),
            },
            Request::Status => Ok(Some(Reply::Status(Box::new(shared.status(&state, connections))))),
            Request::ResetStatistics => {
                state.reset();
                Ok(Some(Reply::Acknowledged))
            }
            Request::Configure(settings) => {
                shared.configure(&mut state, settings);
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
}

impl State {
    fn reset(&mut self) {
        self.since = now();
        for record in self.records.values_mut() {
            record.counters = Counters::default();
        }
        let slots = &self.slots;
        self.records.retain(|version, _| slots.contains_key(version));
    }

    /// Tells the model that has been idle longest on a device to go; whether there was one.
    pub(crate) fn evict_one(&mut self, device: &Arc<Device>, except: &str) -> bool {
        let idle = self.slots.iter_mut().filter(|(version, slot)| {
            let there = slot.device.as_ref().is_some_and(|own| Arc::ptr_eq(own, device));
            there && slot.idle && !slot.evict && slot.inbox.is_empty() && version.as_str() != except
        });
        let Some((_, slot)) = idle.min_by_key(|(_, slot)| slot.used) else { return false };
        slot.evict = true;
        slot.wake.notify_all();
        true
    }
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // Runners hold it for plain bookkeeping only; one that panics does so in a model, without this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives work to the runner of its model, starting one where there is none.
    fn enqueue(
        self: &Arc<Self>,
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
        let capabilities = model.capabilities(self.origin.families)?;
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
            let shared = self.clone();
            thread
                .spawn(move || runner::run(&shared, &model))
                .map_err(|error| Refusal::Broken { reason: format!("could not start a thread: {error}") })?;
            place.insert(Slot::new());
        }
        self.put(state, Arc::new(ticket), work);
        Ok(None)
    }

    fn put(self: &Arc<Self>, state: &mut State, ticket: Arc<Ticket>, work: Work) {
        state.tickets.insert(ticket.id, ticket.clone());
        state.uses += 1;
        let used = state.uses;
        if let Some(slot) = state.slots.get_mut(&ticket.version) {
            slot.used = used;
            slot.inbox.push_back(Job::new(self.clone(), ticket, work));
            slot.wake.notify_all();
        }
    }

    pub(crate) fn deliver(&self, ticket: &Ticket, delivery: Delivery) {
        if !ticket.is_cancelled() {
            self.sink.deliver(ticket.caller, ticket.id, delivery);
        }
    }

    /// A request is over.
    pub(crate) fn close(&self, ticket: &Ticket) {
        self.state().tickets.remove(&ticket.id);
    }

    /// Notes where a version stands.
    pub(crate) fn note(&self, version: &str, model: ModelState, memory_bytes: u64) {
        let mut state = self.state();
        let record = state.record(version);
        (record.state, record.memory_bytes) = (model, memory_bytes);
    }

    /// Notes on which device a version is loaded.
    pub(crate) fn settle(&self, version: &str, device: &Arc<Device>) {
        let mut state = self.state();
        state.record(version).device.clone_from(&device.label);
        if let Some(slot) = state.slots.get_mut(version) {
            slot.device = Some(device.clone());
        }
    }

    /// The families of models that the engine serves.
    pub(crate) fn families(&self) -> Families {
        self.origin.families
    }

    /// The GPUs that models may run on, opened at the first call; one line on standard error when none can be.
    pub(crate) fn gpus(&self) -> &[Arc<Device>] {
        let settings = self.state().settings.clone();
        self.gpus.get_or_init(|| {
            let wanted = match &settings.devices {
                Devices::Cpu => return Vec::new(),
                Devices::Auto => None,
                Devices::Gpus(ordinals) => Some(ordinals.as_slice()),
            };
            let opened = match (self.origin.gpus, wanted) {
                (Some(open), wanted) => open(wanted),
                // Nobody asked for what this build does not have.
                (None, None) => return Vec::new(),
                (None, Some(_)) => Err("this build has no CUDA".into()),
            };
            match opened {
                Ok(gpus) => {
                    let bound = |gpu: &Gpu| settings.gpu_memory.of(gpu.total_bytes);
                    let device = |gpu: Gpu| Arc::new(Device::gpu(gpu.clone(), settings.threads, bound(&gpu)));
                    gpus.into_iter().map(device).collect()
                }
                Err(reason) => {
                    eprintln!("kronos engine: no GPU can be used, models run on the CPU: {reason}");
                    Vec::new()
                }
            }
        })
    }

    /// Every device opened so far, the CPU first.
    fn devices(&self) -> impl Iterator<Item = &Arc<Device>> {
        std::iter::once(&self.cpu).chain(self.gpus.get().into_iter().flatten())
    }

    /// Changes a version's counters, when anybody wants them.
    pub(crate) fn count(&self, version: &str, change: impl FnOnce(&mut Counters)) {
        let mut state = self.state();
        if state.settings.track {
            change(&mut state.record(version).counters);
        }
    }

    /// Counts a request that is over.
    pub(crate) fn account(&self, ticket: &Ticket, work: &Work, last: &Reply) {
        self.count(&ticket.version, |counters| {
            if let Reply::Refused(refusal) = last {
                counters.fail(reason(refusal));
            }
            let rows = match work {
                Work::Forecast(asked) => Some(asked.rows),
                Work::Load | Work::Unload => None,
            };
            if let Some(rows) = rows {
                let (total, queued) = ticket.times();
                counters.calls += 1;
                counters.series += ticket.status().series;
                counters.rows += rows;
                counters.total += total;
                counters.queued += queued;
            }
        });
    }

    /// Gives memory back to the system: what the threads of the devices have to themselves, too.
    pub(crate) fn trim(&self) {
        self.devices().for_each(|device| device.everywhere(self.origin.trim));
        (self.origin.trim)();
    }

    fn configure(&self, state: &mut State, settings: Settings) {
        for device in self.devices() {
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
                started_at: self.started_at,
                restarts: self.origin.restarts,
                resident_bytes: resident_bytes(),
                connections,
                queued,
                running: state.tickets.len() as u64 - queued,
            },
            devices: self.devices().map(device).collect(),
            models: state.records.iter().map(model).collect(),
            requests: state.tickets.values().map(|ticket| ticket.status()).collect(),
        }
    }
}

impl State {
    fn record(&mut self, version: &str) -> &mut Record {
        let fresh = || Record {
            state: ModelState::Idle,
            device: "cpu".into(),
            memory_bytes: 0,
            counters: Counters::default(),
        };
        self.records.entry(version.to_owned()).or_insert_with(fresh)
    }
}

/// A refusal in words, for statistics.
fn reason(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Model(fault) => kronos_models::ModelError::from(fault.clone()).to_string(),
        Refusal::QueueFull { limit } => format!("{limit} requests are waiting"),
        Refusal::Broken { reason } | Refusal::Protocol { reason } => reason.clone(),
    }
}

#[cfg(test)]
mod tests;
