//! Models that forecast quantiles: series of all requests run together, a turn at a time.
//!
//! There is no state between two turns, so a turn is a whole pass over a few series: one of each request in turn until
//! enough are together to keep the arithmetic busy. Requests join and leave between turns. Under cross-learning the
//! series of a request depend on each other, and the request is a turn of its own.

use crate::device::Device;
use crate::fault::Fault;
use crate::job::{CallerId, Delivery, Job, Quantiles, Ticket, Work};
use crate::ledger::{Reservation, probe};
use crate::message::{FilePath, LoadedModel, ModelFiles, Reading, Refusal, Reply};
use crate::runner::{Call, End, GLANCE, Runner, threads};
use kronos_models::chronos_bolt::ChronosBolt;
use kronos_models::chronos2::{Chronos2, Chronos2Files, Chronos2Options};
use kronos_models::error::{ModelError, Result};
use kronos_models::interrupt::Interrupt;
use kronos_models::layers::accelerated::Place;
use kronos_models::nbeats::NBeats;
use kronos_models::series::{QuantileForecast, SeriesRequest};
use std::sync::Arc;
use std::time::Instant;

/// Series of a turn.
const SERIES: usize = 64;

/// Values of histories and horizons in a turn, after which no further series joins it.
const VALUES: usize = 1 << 15;

/// Floats that a pass keeps per token and unit of width, beside the hidden layer: stream, norm, queries, keys, values
/// in two layouts, attention and gathered copies.
const FLOATS_PER_WIDTH: usize = 16;

/// Tokens of a pass; what is beyond is one group that is larger by itself.
const TOKENS: usize = 4096;

/// A model in memory.
pub(crate) enum QuantileModel {
    Chronos2(Box<Chronos2>),
    ChronosBolt(Box<ChronosBolt>),
    NBeats(Box<NBeats>),
}

impl QuantileModel {
    pub(crate) fn load(files: &ModelFiles, place: Option<&Place>) -> Result<Self> {
        let cpu = &candle_core::Device::Cpu;
        match files {
            ModelFiles::Chronos2 { model: FilePath(model), adapter } => {
                let adapter = adapter.as_ref().map(|FilePath(path)| path.clone());
                let files = Chronos2Files { model: model.clone(), adapter };
                let model = match place {
                    Some(place) => Chronos2::load_accelerated(&files, place)?,
                    None => Chronos2::load(&files, cpu)?,
                };
                Ok(Self::Chronos2(Box::new(model)))
            }
            ModelFiles::ChronosBolt(FilePath(model)) => {
                Ok(Self::ChronosBolt(Box::new(ChronosBolt::load(model, cpu)?)))
            }
            ModelFiles::NBeats(FilePath(model)) => Ok(Self::NBeats(Box::new(NBeats::load(model, cpu)?))),
            ModelFiles::Kronos(_) => {
                Err(ModelError::Unsupported { family: "kronos", capability: "quantiles of columns".into() })
            }
        }
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        match self {
            Self::Chronos2(model) => model.memory_bytes(),
            Self::ChronosBolt(model) => model.memory_bytes(),
            Self::NBeats(model) => model.memory_bytes(),
        }
    }

    /// Bytes that a turn needs beside the weights, about.
    fn working_bytes(&self, requests: &[SeriesRequest]) -> u64 {
        let (ff, width, patch) = match self {
            Self::Chronos2(model) => {
                let config = model.config();
                (config.d_ff, config.d_model.max(config.num_heads * config.d_kv), config.patch())
            }
            Self::ChronosBolt(model) => {
                let config = model.config();
                let patch = config.chronos_config.input_patch_size;
                (config.d_ff, config.d_model.max(config.num_heads * config.d_kv), patch)
            }
            Self::NBeats(model) => return model.working_bytes(requests),
        };
        let tokens = |request: &SeriesRequest| variates(request) * (values_each(request) / patch + 2);
        let tokens = requests.iter().map(tokens).max().unwrap_or(0).max(TOKENS);
        (tokens * (ff + FLOATS_PER_WIDTH * width) * size_of::<f32>()) as u64
    }

    /// Bytes that the smallest turn needs beside the weights.
    pub(crate) fn least_working_bytes(&self) -> u64 {
        self.working_bytes(&[])
    }

    fn forecast(
        &self,
        requests: &[SeriesRequest],
        reading: &Reading,
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<Result<QuantileForecast>>> {
        match self {
            Self::Chronos2(model) => {
                let most = model.config().chronos_config.context_length;
                let options = Chronos2Options {
                    context_length: Some(reading.context.min(most)),
                    cross_learning: reading.cross_learning,
                    ..Chronos2Options::default()
                };
                model.forecast(requests, &options, interrupt)
            }
            Self::ChronosBolt(model) => model.forecast(requests, interrupt),
            Self::NBeats(model) => model.forecast(requests, interrupt),
        }
    }
}

fn variates(request: &SeriesRequest) -> usize {
    request.targets.len() + request.past_covariates.len() + request.known_covariates.len()
}

fn values_each(request: &SeriesRequest) -> usize {
    request.context_len() + request.horizon
}

/// A loaded model at work.
pub(crate) struct Service<'a> {
    pub(crate) runner: &'a Runner<'a>,
    pub(crate) device: Arc<Device>,
    pub(crate) model: &'a QuantileModel,
    pub(crate) weights: u64,
    pub(crate) jobs: Vec<Job>,
}

/// Series that run together.
struct Turn {
    /// Which request each series belongs to, and its place there.
    places: Vec<(Arc<Ticket>, u32)>,
    requests: Vec<SeriesRequest>,
    reading: Reading,
}

/// A turn goes on as long as anybody waits for it.
impl Interrupt for Turn {
    fn check(&self) -> Result<()> {
        if self.places.iter().all(|(ticket, _)| ticket.is_cancelled()) {
            Err(ModelError::Cancelled)
        } else {
            Ok(())
        }
    }
}

impl Service<'_> {
    pub(crate) fn run(mut self) -> End {
        let mut lately: Vec<(CallerId, Instant)> = Vec::new();
        loop {
            match self.runner.collect(&mut self.jobs, &mut lately) {
                Call::Work => {}
                Call::Unload(job) => return End::Unload(job),
                Call::Evict => return End::Evicted,
            }
            self.jobs.retain(|job| !job.ticket.is_cancelled());
            if let Some(turn) = self.next() {
                self.take(turn);
            }
            self.finish(&mut lately);
        }
    }

    /// Series for one turn: one of each request in turn, as far as they are read alike.
    fn next(&mut self) -> Option<Turn> {
        let first =
            self.jobs.iter_mut().find_map(|job| waiting(job).map(|quantiles| quantiles.reading.clone()))?;
        let mut turn = Turn { places: Vec::new(), requests: Vec::new(), reading: first };
        let alike = |reading: &Reading| {
            (reading.context, reading.cross_learning) == (turn.reading.context, turn.reading.cross_learning)
        };
        let mut values = 0;
        let mut joined = true;
        while joined {
            joined = false;
            for job in &mut self.jobs {
                let ticket = job.ticket.clone();
                let Some(quantiles) = waiting(job).filter(|quantiles| alike(&quantiles.reading)) else {
                    continue;
                };
                let whole = quantiles.reading.cross_learning.is_some();
                if whole && !turn.requests.is_empty() {
                    continue;
                }
                while let Some((index, request)) = quantiles.waiting.pop_front() {
                    values += variates(&request) * values_each(&request);
                    turn.places.push((ticket.clone(), index));
                    turn.requests.push(request);
                    joined = true;
                    if !whole {
                        break;
                    }
                }
                ticket.start();
                if whole || turn.requests.len() >= SERIES || values >= VALUES {
                    // The next turn begins with those that had no part in this one.
                    self.jobs.rotate_left(1);
                    return Some(turn);
                }
            }
        }
        Some(turn)
    }

    /// Runs a turn and sends what came of it.
    fn take(&mut self, turn: Turn) {
        let shared = self.runner.shared;
        let forecasts = self.reserve(&turn).and_then(|_memory| {
            self.device
                .compute(|| self.model.forecast(&turn.requests, &turn.reading, &turn))
                .map_err(threads)?
        });
        shared.count(&self.runner.source.version, |counters| {
            counters.steps += 1;
            counters.step_rows += turn.requests.len() as u64;
        });
        let forecasts = match forecasts {
            Ok(forecasts) => forecasts,
            Err(ModelError::Cancelled) => return,
            Err(error) => {
                let fault = Fault::from(error);
                turn.places.iter().map(|_| Err(fault.clone().into())).collect()
            }
        };
        for (((ticket, index), request), forecast) in turn.places.iter().zip(&turn.requests).zip(forecasts) {
            let Some(job) = self.jobs.iter_mut().find(|job| job.ticket.id == ticket.id) else { continue };
            let Work::Quantiles(quantiles) = &mut job.work else { continue };
            quantiles.steps_answered += 1 + request.horizon as u64;
            let reply = match forecast.and_then(|forecast| forecast.at(&quantiles.reading.levels)) {
                Ok(forecast) => {
                    quantiles.rows += request.horizon as u64;
                    Reply::Quantiles { index: *index, forecast }
                }
                Err(error) => {
                    shared.count(&ticket.version, |counters| counters.fail(error.to_string()));
                    Reply::Fault { index: *index, fault: error.into() }
                }
            };
            ticket.set_done(quantiles.steps_answered);
            job.deliver(Delivery::Reply(reply));
        }
    }

    /// Memory for a turn, at the cost of models that nobody uses at the moment.
    fn reserve(&self, turn: &Turn) -> Result<Reservation> {
        let memory = &self.device.memory;
        let needed = self.model.working_bytes(&turn.requests);
        loop {
            if let Some(reservation) = memory.reserve(needed) {
                return probe("the forecast", needed).map(|()| reservation);
            }
            let room = memory.limit().saturating_sub(self.weights);
            if needed > room {
                return Err(ModelError::MemoryLimit { what: "the forecast", needed, limit: room });
            }
            turn.check()?;
            self.runner.shared.state().evict_one(&self.device, &self.runner.source.version);
            memory.wait_for_change(GLANCE);
        }
    }

    /// Ends the requests that have all their answers.
    fn finish(&mut self, lately: &mut Vec<(CallerId, Instant)>) {
        let (version, memory_bytes) = (&self.runner.source.version, self.weights);
        let over = |job: &mut Job| waiting(job).is_none();
        for job in self.jobs.extract_if(.., over) {
            let last = match job.work {
                Work::Quantiles(_) => {
                    lately.retain(|(caller, _)| *caller != job.ticket.caller);
                    lately.push((job.ticket.caller, Instant::now()));
                    Reply::Done
                }
                Work::Bars(_) => {
                    Reply::Refused(Refusal::Protocol { reason: "the model does not forecast bars".into() })
                }
                _ => Reply::Loaded(LoadedModel { version: version.clone(), memory_bytes }),
            };
            job.finish(last);
        }
    }
}

/// What a request still waits for; `None` when it waits for nothing of this kind.
fn waiting(job: &mut Job) -> Option<&mut Quantiles> {
    match &mut job.work {
        Work::Quantiles(quantiles) if !quantiles.waiting.is_empty() => Some(quantiles),
        _ => None,
    }
}
