//! Models that forecast a whole horizon at once: series of all requests run together, a turn at a time.
//!
//! There is no state between two turns, so a turn is a whole pass over a few series: one of each request in turn until
//! enough are together to keep the arithmetic busy. Requests join and leave between turns. Under cross-learning the
//! series of a request depend on each other, and the request is a turn of its own.

use crate::device::Device;
use crate::fault::Fault;
use crate::job::{Asked, CallerId, Delivery, Job, Ticket, Work};
use crate::ledger::{Reservation, probe};
use crate::message::{LoadedModel, Reply};
use crate::runner::{Call, End, GLANCE, Runner, threads};
use kronos_models::answer::Forecast;
use kronos_models::ask::{Ask, Terms, Wanted};
use kronos_models::error::{ModelError, Result};
use kronos_models::interrupt::Interrupt;
use kronos_models::model::Passing;
use std::sync::Arc;
use std::time::Instant;

/// Series of a turn.
const SERIES: usize = 64;

/// Values of histories and horizons in a turn, after which no further series joins it.
const VALUES: usize = 1 << 15;

/// A loaded model at work.
pub(crate) struct Service<'a> {
    pub(crate) runner: &'a Runner<'a>,
    pub(crate) device: Arc<Device>,
    pub(crate) model: &'a dyn Passing,
    pub(crate) weights: u64,
    pub(crate) jobs: Vec<Job>,
}

/// Series that run together.
struct Turn {
    /// Which request each series belongs to, and its place there.
    places: Vec<(Arc<Ticket>, u32)>,
    asks: Vec<Ask>,
    terms: Terms,
    /// Memory for the paths of each, once it is reserved; quantiles are too small to count.
    results: Vec<Reservation>,
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

    /// Series for one turn: one of each request in turn, as far as they are asked alike.
    fn next(&mut self) -> Option<Turn> {
        let terms = self.jobs.iter_mut().find_map(|job| waiting(job).map(|asked| asked.terms.clone()))?;
        let mut turn = Turn { places: Vec::new(), asks: Vec::new(), terms, results: Vec::new() };
        let mut values = 0;
        let mut joined = true;
        while joined {
            joined = false;
            for job in &mut self.jobs {
                let ticket = job.ticket.clone();
                let Some(asked) = waiting(job).filter(|asked| alike(&asked.terms, &turn.terms)) else {
                    continue;
                };
                let whole = asked.terms.cross_learning.is_some();
                if whole && !turn.asks.is_empty() {
                    continue;
                }
                while let Some((index, ask)) = asked.waiting.pop_front() {
                    values += ask.variates() * (ask.context_len() + ask.horizon);
                    turn.places.push((ticket.clone(), index));
                    turn.asks.push(ask);
                    joined = true;
                    if !whole {
                        break;
                    }
                }
                ticket.start();
                if whole || turn.asks.len() >= SERIES || values >= VALUES {
                    // The next turn begins with those that had no part in this one.
                    self.jobs.rotate_left(1);
                    return Some(turn);
                }
            }
        }
        Some(turn)
    }

    /// Runs a turn and sends what came of it.
    fn take(&mut self, mut turn: Turn) {
        let shared = self.runner.shared;
        let forecasts = self.reserve(&mut turn).and_then(|_memory| {
            self.device.compute(|| self.model.forecast(&turn.asks, &turn.terms, &turn)).map_err(threads)?
        });
        shared.count(&self.runner.source.version, |counters| {
            counters.steps += 1;
            counters.step_rows += turn.asks.len() as u64;
        });
        let forecasts = match forecasts {
            Ok(forecasts) => forecasts,
            Err(ModelError::Cancelled) => return,
            Err(error) => {
                let fault = Fault::from(error);
                turn.places.iter().map(|_| Err(fault.clone().into())).collect()
            }
        };
        let mut results = turn.results.into_iter();
        for ((place, ask), forecast) in turn.places.iter().zip(&turn.asks).zip(forecasts) {
            self.answer(place, ask, forecast, results.next());
        }
    }

    /// Sends what came of one series to whoever asked for it.
    fn answer(
        &mut self,
        (ticket, index): &(Arc<Ticket>, u32),
        ask: &Ask,
        forecast: Result<Forecast>,
        result: Option<Reservation>,
    ) {
        let shared = self.runner.shared;
        let Some(job) = self.jobs.iter_mut().find(|job| job.ticket.id == ticket.id) else { return };
        let Work::Forecast(asked) = &mut job.work else { return };
        asked.steps_answered += 1 + ask.horizon as u64;
        let delivery = match (forecast, &asked.terms.wanted, result) {
            (Ok(Forecast::Quantiles(forecast)), Wanted::Quantiles(levels), _) => forecast
                .at(levels, self.model.between())
                .map(|forecast| Delivery::Reply(Reply::Quantiles { index: *index, forecast })),
            (Ok(Forecast::Paths(paths)), Wanted::Paths(_), Some(result)) => {
                Ok(Delivery::paths(*index, paths, result))
            }
            (Ok(_), ..) => Err(another_kind()),
            (Err(error), ..) => Err(error),
        };
        let delivery = match delivery {
            Ok(delivery) => {
                asked.rows += ask.horizon as u64;
                delivery
            }
            Err(error) => {
                shared.count(&ticket.version, |counters| counters.fail(error.to_string()));
                Delivery::Reply(Reply::Fault { index: *index, fault: error.into() })
            }
        };
        ticket.set_done(asked.steps_answered);
        job.deliver(delivery);
    }

    /// Memory for a turn and the paths that come of it, at the cost of models that nobody uses at the moment.
    fn reserve(&self, turn: &mut Turn) -> Result<Reservation> {
        let results: Vec<u64> = match &turn.terms.wanted {
            Wanted::Paths(drawing) => turn.asks.iter().map(|ask| drawing.bytes(ask)).collect(),
            Wanted::Quantiles(_) => Vec::new(),
        };
        let working = self.model.working_bytes(&turn.asks);
        let needed = results.iter().fold(working, |sum, bytes| sum.saturating_add(*bytes));
        let memory = &self.device.memory;
        loop {
            if let Some(mut reservation) = memory.reserve(needed) {
                probe("the forecast", needed)?;
                turn.results = results.into_iter().map(|bytes| reservation.split(bytes)).collect();
                return Ok(reservation);
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
}

/// What a request still waits for; `None` when it waits for nothing of this kind.
fn waiting(job: &mut Job) -> Option<&mut Asked> {
    match &mut job.work {
        Work::Forecast(asked) if !asked.waiting.is_empty() => Some(asked),
        _ => None,
    }
}

/// Whether series asked on these terms can run together. Each reads off its own levels afterwards.
fn alike(one: &Terms, other: &Terms) -> bool {
    let wanted = match (&one.wanted, &other.wanted) {
        (Wanted::Quantiles(_), Wanted::Quantiles(_)) => true,
        (one, other) => one == other,
    };
    wanted && (one.context, one.cross_learning) == (other.context, other.cross_learning)
}

/// A model gave paths for quantiles, or the other way round.
fn another_kind() -> ModelError {
    ModelError::InvalidParameter {
        name: "the answer",
        expected: "of the kind that was asked for".into(),
        got: "one of another kind".into(),
    }
}
