//! Series on their way through a model, in portions that bound the memory of a call with many of them.

use super::Call;
use super::prepare::{Fault, Prepared};
use crate::calendar::Instant;
use crate::error::{Error, Result};
use kronos_models::answer::Forecast as Answer;
use kronos_models::ask::Ask;
use kronos_models::error::ModelError;
use kronos_models::status::Status;

/// Series forecast together at most, without cross-learning.
const PORTION_SERIES: usize = 256;

/// Values, read and forecast, that one portion may hold.
const PORTION_VALUES: usize = 4 << 20;

/// What became of one series.
pub enum Outcome {
    /// A forecast.
    Forecast(Box<Forecast>),
    /// The reason there is none.
    Fault(Fault),
}

/// The forecast of one series.
pub struct Forecast {
    /// Key of the series.
    pub key: Option<String>,
    /// End of the last row used.
    pub cutoff: Instant,
    /// Close of the last bar used; of bars only.
    pub last_close: f64,
    /// Starts of the rows forecast.
    pub future: Vec<Instant>,
    /// What the model says.
    pub answer: Answer,
}

/// Series waiting to be forecast together, in the order they were read.
pub struct Portion<'a, E> {
    call: &'a Call,
    /// Series forecast together at most, without cross-learning.
    most: usize,
    emit: E,
    pending: Vec<Result<Prepared, Fault>>,
    /// Series of the whole call so far.
    count: usize,
    /// Series that a model can be asked.
    ready: usize,
    /// Their values and those of their forecasts.
    values: usize,
    /// Horizon and variates of the series that learn from each other and may be joined by the next.
    ensemble: Option<(usize, usize)>,
    notes: Notes,
}

impl<'a, E: FnMut(Outcome) -> Result<()>> Portion<'a, E> {
    /// As many series at a time as fit.
    pub fn new(call: &'a Call, emit: E) -> Self {
        Self::of(call, PORTION_SERIES, emit)
    }

    /// Up to `most` series at a time.
    pub fn of(call: &'a Call, most: usize, emit: E) -> Self {
        let (pending, notes) = (Vec::new(), Notes::default());
        Self { call, most, emit, pending, count: 0, ready: 0, values: 0, ensemble: None, notes }
    }

    /// Series of the whole call so far.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Adds a series, or the reason it is none; its outcome is emitted before those of later ones.
    ///
    /// # Errors
    /// What concerns the model and the call; what `emit` returns.
    pub fn add(&mut self, series: Result<Prepared, Fault>) -> Result<()> {
        self.count += 1;
        self.notes.take(&series);
        if let Ok(Prepared { ask, .. }) = &series {
            let variates = ask.variates();
            self.values += variates * (ask.context_len() + ask.horizon)
                + ask.targets.len() * ask.horizon * self.call.values_per_step()
                + ask.name_bytes() / size_of::<f64>();
            self.ready += 1;
            // Series of different horizons do not learn from each other.
            let before = self.ensemble.filter(|(horizon, _)| *horizon == ask.horizon);
            self.ensemble = Some((ask.horizon, before.map_or(0, |(_, before)| before) + variates));
        }
        self.pending.push(series);
        let full = match self.call.options.cross_learning {
            // Those that cannot be forecast take memory too.
            None => self.ready.max(self.pending.len() / 4) >= self.most || self.values >= PORTION_VALUES,
            // A portion must not decide who learns from whom: it ends where the model would begin anew.
            Some(limit) => self.ensemble.is_some_and(|(_, variates)| variates >= limit),
        };
        if full { self.flush() } else { Ok(()) }
    }

    /// Forecasts what is left.
    ///
    /// # Errors
    /// As for [`Portion::add`].
    pub fn finish(mut self) -> Result<()> {
        self.flush()?;
        self.notes.tell();
        self.call.calendars.tell(self.call.noun());
        self.call.log_duration(self.count);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let mut pending = std::mem::take(&mut self.pending);
        (self.ready, self.values, self.ensemble) = (0, 0, None);
        let asked = |prepared: &mut Prepared| (self.call.season(prepared), std::mem::take(&mut prepared.ask));
        let (seasons, asks): (Vec<usize>, Vec<Ask>) = pending.iter_mut().flatten().map(asked).unzip();
        let answers = match asks.is_empty() {
            true => Vec::new(),
            false => self.call.model.forecast(asks, &seasons, self.call)?,
        };
        let mut answers = answers.into_iter();
        for series in pending {
            let outcome = match series {
                Err(fault) => Err(fault),
                Ok(Prepared { key, cutoff, last_close, future, .. }) => match answers.next() {
                    Some(Ok(answer)) => Ok(Forecast { key, cutoff, last_close, future, answer }),
                    Some(Err(error)) => Err(model_fault(key, cutoff, error)?),
                    None => return Err(Error::Internal { what: "the engine left a series out".into() }),
                },
            };
            let outcome = match outcome {
                Ok(forecast) => Outcome::Forecast(Box::new(forecast)),
                Err(fault) => Outcome::Fault(self.call.report(fault)?),
            };
            (self.emit)(outcome)?;
        }
        Ok(())
    }
}

/// What a model says of one series, as its status; what it says of the call stays an error.
pub fn model_fault(key: Option<String>, cutoff: Instant, error: ModelError) -> Result<Fault> {
    let name = key.clone().unwrap_or_default();
    let (status, detail) = match error {
        ModelError::NonFinite { step } => {
            (Status::NonFinite, format!("The model produced a value that is not finite at step {step}."))
        }
        ModelError::ContextTooShort { needed, got } => {
            (Status::ShortHistory, format!("Series \"{name}\" has {got} values, the model needs {needed}."))
        }
        ModelError::MissingValue { .. } => {
            (Status::Nan, format!("Series \"{name}\" has a value that is infinite or too large."))
        }
        ModelError::InvalidParameter { name: "target", expected, got } => {
            (Status::Nan, format!("Values of series \"{name}\" must be {expected}, one is {got}."))
        }
        other => return Err(other.into()),
    };
    Ok(Fault { key, status, at: None, cutoff: Some(cutoff), detail })
}

/// What is said once per call, however many series it concerns.
#[derive(Default)]
struct Notes {
    /// Key of the series taken last: several windows of it count once.
    last: Option<Option<String>>,
    series: usize,
    without_volume: usize,
}

impl Notes {
    fn take(&mut self, series: &Result<Prepared, Fault>) {
        let key = match series {
            Ok(prepared) => &prepared.key,
            Err(fault) => &fault.key,
        };
        if self.last.as_ref() == Some(key) {
            return;
        }
        self.last = Some(key.clone());
        if let Ok(prepared) = series {
            self.series += 1;
            self.without_volume += usize::from(prepared.without_volume);
        }
    }

    fn tell(&self) {
        if self.without_volume > 0 {
            pgrx::notice!(
                "volume is missing in {} of {} series, the model reads it as zero",
                self.without_volume,
                self.series
            );
        }
    }
}
