//! What the handles to an engine and the runners of its models share: models by version, and the requests they work on.

use crate::clock::{UnixMicros, now};
use crate::device::Device;
use crate::job::{Delivery, Job, Outbox, RequestId, Sink, Ticket, Work};
use crate::message::{Devices, ModelState, Refusal, Reply, Settings};
use crate::statistics::Counters;
use kronos_models::device::{Gpu, Opener};
use kronos_models::family::Families;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

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
    pub(crate) origin: Origin,
    pub(crate) started_at: UnixMicros,
    pub(crate) sink: Box<dyn Sink>,
    state: Mutex<State>,
}

/// Behind one lock, held for moments only.
pub(crate) struct State {
    pub(crate) settings: Settings,
    pub(crate) slots: HashMap<String, Slot>,
    pub(crate) tickets: BTreeMap<RequestId, Arc<Ticket>>,
    pub(crate) records: BTreeMap<String, Record>,
    pub(crate) since: UnixMicros,
    pub(crate) next_id: RequestId,
    pub(crate) uses: u64,
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
    pub(crate) used: u64,
}

impl Slot {
    pub(crate) fn new() -> Self {
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
pub(crate) struct Record {
    pub(crate) state: ModelState,
    pub(crate) device: String,
    pub(crate) memory_bytes: u64,
    pub(crate) counters: Counters,
}

impl State {
    /// Begins all statistics anew.
    pub(crate) fn reset(&mut self) {
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

impl Shared {
    pub(crate) fn new(settings: Settings, origin: Origin, sink: impl Sink) -> Self {
        Self {
            cpu: Arc::new(Device::cpu(settings.threads, settings.memory)),
            gpus: OnceLock::new(),
            origin,
            started_at: now(),
            sink: Box::new(sink),
            state: Mutex::new(State {
                settings,
                slots: HashMap::new(),
                tickets: BTreeMap::new(),
                records: BTreeMap::new(),
                since: now(),
                next_id: 1,
                uses: 0,
            }),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // Runners hold it for plain bookkeeping only; one that panics does so in a model, without this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
    pub(crate) fn devices(&self) -> impl Iterator<Item = &Arc<Device>> {
        std::iter::once(&self.cpu).chain(self.gpus.get().into_iter().flatten())
    }

    /// Changes a version's counters, when anybody wants them.
    pub(crate) fn count(&self, version: &str, change: impl FnOnce(&mut Counters)) {
        let mut state = self.state();
        if state.settings.track {
            change(&mut state.record(version).counters);
        }
    }

    /// Gives memory back to the system: what the threads of the devices have to themselves, too.
    pub(crate) fn trim(&self) {
        self.devices().for_each(|device| device.everywhere(self.origin.trim));
        (self.origin.trim)();
    }
}

impl Outbox for Shared {
    fn deliver(&self, ticket: &Ticket, delivery: Delivery) {
        if !ticket.is_cancelled() {
            self.sink.deliver(ticket.caller, ticket.id, delivery);
        }
    }

    fn account(&self, ticket: &Ticket, work: &Work, last: &Reply) {
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

    fn close(&self, ticket: &Ticket) {
        self.state().tickets.remove(&ticket.id);
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
