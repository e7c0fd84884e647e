//! One forecast of numbers from its arguments to quantiles, in portions that bound its memory.

mod model;
mod options;
mod prepare;

pub use model::{Door, SeriesModel};
pub use options::SeriesOptions;
pub use prepare::{Prepared, Variates};

use crate::calendar::{self, Calendar, Instant, Width};
use crate::error::{Error, Result};
use crate::forecast::{bounded, instant_text, no_rows, now, reach, tell_of_no_rows, without_key};
use crate::guc;
use crate::options::OnError;
use crate::relation::{
    Fault, Named, Reach, Relation, ValueColumns, ValueGroup, ValueLimits, ValueScan, Wanted, resolve_values,
};
use kronos_models::ask::Ask;
use kronos_models::baselines::Baseline;
use kronos_models::error::ModelError;
use kronos_models::series::{QuantileForecast, SeriesRequest};
use kronos_models::status::Status;
use pgrx::datum::TimestampWithTimeZone;
use prepare::{Rules, prepare};
use std::collections::HashSet;
use std::time::Instant as Clock;

/// Series forecast together at most, without cross-learning.
const PORTION_SERIES: usize = 256;

/// Values, read and forecast, that one portion may hold.
const PORTION_VALUES: usize = 4 << 20;

/// Rows kept beyond the context: rows that are not finished at `as_of`.
const SPARE: usize = 8;

/// The arguments of a forecast function, as SQL gives them.
pub struct Arguments<'a> {
    /// Rows to forecast.
    pub horizon: Option<i32>,
    /// Instant up to which to forecast, in place of `horizon`.
    pub until: Option<TimestampWithTimeZone>,
    /// Only what was known then.
    pub as_of: Option<TimestampWithTimeZone>,
    /// Which column is what; static ones come with the options.
    pub variates: Variates,
    /// Width of the interval.
    pub level: f64,
    /// Levels asked for beside it.
    pub levels: &'a [f64],
    /// The rarer knobs.
    pub options: SeriesOptions,
}

/// Where the rows come from.
pub struct Input<'a> {
    /// The relation.
    pub relation: &'a Relation,
    /// `series_col`.
    pub series_col: Option<&'a str>,
    /// `time_col`.
    pub time_col: Option<&'a str>,
    /// `only_series`.
    pub only_series: Option<&'a [String]>,
}

/// A checked call.
pub struct Call {
    options: SeriesOptions,
    variates: Variates,
    calendar: Calendar,
    as_of: Instant,
    reach: Reach,
    model: SeriesModel,
    /// Levels that every forecast is read at: lower, point, upper, then those asked for.
    levels: Vec<f64>,
    started: Clock,
}

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
    /// Starts of the rows forecast.
    pub future: Vec<Instant>,
    /// At the levels of the call: lower, point, upper, then those asked for.
    pub quantiles: QuantileForecast,
}

impl Call {
    /// Checks the arguments, cheapest first: nothing is read before they are known to be right.
    pub fn new(model: SeriesModel, arguments: Arguments<'_>) -> Result<Self> {
        let started = Clock::now();
        let reach = reach(arguments.horizon, arguments.until)?;
        let Arguments { mut variates, level, levels, options, .. } = arguments;
        if variates.targets.is_empty() {
            return Err(Error::NullArgument { name: "targets" });
        }
        variates.statics.clone_from(&options.statics);
        let mut seen = HashSet::new();
        if let Some(name) = variates.names().find(|name| !seen.insert(name.as_str())) {
            return Err(Error::InvalidArgument {
                name: "targets and covariates".into(),
                expected: "different columns".into(),
                got: format!("\"{name}\" twice"),
                hint: None,
            });
        }
        let mut all = vec![decimal((1.0 - level) / 2.0), options.point_level, decimal((1.0 + level) / 2.0)];
        all.extend(levels);
        model.check(&variates, &all, &options)?;
        let name = options.calendar.clone().unwrap_or_else(guc::default_calendar);
        Ok(Self {
            calendar: calendar::load(&name)?,
            as_of: arguments.as_of.map_or(i64::MAX, i64::from).min(now()),
            options,
            variates,
            reach,
            model,
            levels: all,
            started,
        })
    }

    /// `name@digest` of the model, or the name of a baseline.
    pub fn model_version(&self) -> &str {
        self.model.version()
    }

    /// The names of the targets.
    pub fn targets(&self) -> &[String] {
        &self.variates.targets
    }

    /// Forecasts every series of the input, in its order.
    ///
    /// # Errors
    /// What is wrong with the arguments or the relation; what is wrong with one series is its own outcome, unless the
    /// caller wants an error.
    pub fn run(&self, input: &Input<'_>, emit: impl FnMut(Outcome) -> Result<()>) -> Result<()> {
        let columns = self.columns(input)?;
        if input.only_series.is_some() && columns.series.is_none() {
            return Err(Error::NoSeriesColumn { relation: input.relation.display() });
        }
        let limits = ValueLimits {
            as_of: self.as_of,
            only_series: input.only_series,
            keep: self.keep(),
            targets: self.variates.targets.len(),
            ahead: !self.variates.future.is_empty(),
            zone: self.calendar.zone(),
        };
        let scan = ValueScan::new(input.relation, &columns, limits)?;
        let limit = guc::max_series_per_call();
        let check = |series| bounded("number of series", series, limit, "kronos.max_series_per_call");
        check(input.only_series.map_or(0, <[String]>::len))?;
        let mut portion = Portion::new(self, emit);
        let mut seen: HashSet<String> = HashSet::new();
        scan.run(|group| {
            check(portion.count + 1)?;
            match &group.key {
                None if columns.series.is_some() => return portion.add(Err(without_key())),
                Some(key) if input.only_series.is_some() => _ = seen.insert(key.clone()),
                _ => {}
            }
            let series = prepare(group, &portion.rules)?;
            portion.add(series)
        })?;
        for name in input.only_series.unwrap_or_default() {
            if seen.insert(name.clone()) {
                portion.add(Err(no_rows(name)))?;
            }
        }
        if portion.count == 0 && input.only_series.is_none() {
            tell_of_no_rows(input.relation, self.as_of);
        }
        portion.finish()
    }

    /// The columns of the input that the call reads.
    ///
    /// # Errors
    /// As for [`resolve_values`].
    pub fn columns(&self, input: &Input<'_>) -> Result<ValueColumns> {
        let (bars, categorical) = (Default::default(), &self.options.categorical);
        let wanted = Wanted {
            series: input.series_col,
            time: input.time_col,
            names: &bars,
            known_at: self.options.known_at_col.as_deref(),
        };
        let covariates = [&self.variates.past, &self.variates.future, &self.variates.statics];
        if let Some(name) =
            categorical.iter().find(|name| !covariates.iter().any(|names| names.contains(name)))
        {
            return Err(Error::InvalidArgument {
                name: "option \"categorical\"".into(),
                expected: "names of covariates".into(),
                got: format!("\"{name}\""),
                hint: Some(
                    "Name it in past_covariates, future_covariates or the option static as well.".into(),
                ),
            });
        }
        let named: Vec<Named<'_>> = self
            .variates
            .names()
            .enumerate()
            .map(|(index, name)| {
                let target = index < self.variates.targets.len();
                let role = if target { "target" } else { "covariate" };
                Named { name, role, numeric: target, categorical: categorical.contains(name) }
            })
            .collect();
        resolve_values(input.relation, &wanted, &named)
    }

    /// Rows of history the model is given at most.
    fn context(&self) -> usize {
        let most = self.model.max_context();
        self.options.context.map_or(most, |context| context.min(most))
    }

    /// One series as the model is asked of it, from what was known at an instant.
    ///
    /// # Errors
    /// As for [`prepare`].
    pub fn prepare(&self, group: ValueGroup, as_of: Instant) -> Result<Result<Prepared, Fault>> {
        prepare(group, &Rules { as_of, ..self.rules() })
    }

    /// Series that will be forecast as they are added, up to `most` at a time.
    pub fn portion<E: FnMut(Outcome) -> Result<()>>(&self, most: usize, emit: E) -> Portion<'_, E> {
        Portion { most, ..Portion::new(self, emit) }
    }

    /// The calendar of its series.
    pub fn calendar(&self) -> &Calendar {
        &self.calendar
    }

    /// What a baseline says at the levels of the call.
    ///
    /// # Errors
    /// As for [`Baseline::forecast`].
    pub fn baseline(
        &self,
        baseline: Baseline,
        request: &SeriesRequest,
        width: Width,
    ) -> Result<QuantileForecast, ModelError> {
        model::of_baseline(baseline, request, width, self)
    }

    /// Steps after which the pattern of rows of a width returns.
    pub fn season(&self, width: Width) -> usize {
        self.options.season.unwrap_or_else(|| model::season(width))
    }

    /// Newest rows of a series that can matter.
    pub fn keep(&self) -> usize {
        let horizon = match self.reach {
            Reach::Bars(horizon) => horizon,
            Reach::Until(_) => guc::max_horizon(),
        };
        self.context().max(horizon) + SPARE
    }

    fn rules(&self) -> Rules<'_> {
        Rules {
            variates: &self.variates,
            options: &self.options,
            calendar: &self.calendar,
            as_of: self.as_of,
            reach: self.reach,
            max_horizon: guc::max_horizon(),
            context: self.context(),
        }
    }

    fn log_duration(&self, series: usize) {
        let elapsed = self.started.elapsed();
        if guc::log_min_duration().is_some_and(|least| elapsed >= least) {
            pgrx::log!(
                "kronos: {series} series with model \"{}\" took {:.3} ms",
                self.model_version(),
                elapsed.as_secs_f64() * 1000.0
            );
        }
    }
}

/// A level as people write it: (1 − 0.9) / 2 is 0.05, which a model has, and not the number one bit below it.
fn decimal(level: f64) -> f64 {
    (level * 1e12).round() / 1e12
}

/// Series waiting to be forecast together, in the order they were read.
pub struct Portion<'a, E> {
    call: &'a Call,
    /// Series forecast together at most, without cross-learning.
    most: usize,
    rules: Rules<'a>,
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
}

impl<'a, E: FnMut(Outcome) -> Result<()>> Portion<'a, E> {
    fn new(call: &'a Call, emit: E) -> Self {
        let (rules, pending, most) = (call.rules(), Vec::new(), PORTION_SERIES);
        Self { call, most, rules, emit, pending, count: 0, ready: 0, values: 0, ensemble: None }
    }

    /// Adds a series, or the reason it is none; its outcome is emitted before those of later ones.
    pub fn add(&mut self, series: Result<Prepared, Fault>) -> Result<()> {
        self.count += 1;
        if let Ok(Prepared { ask, .. }) = &series {
            let variates = ask.variates();
            self.values += variates * (ask.context_len() + ask.horizon)
                + ask.targets.len() * ask.horizon * self.call.levels.len()
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
    pub fn finish(mut self) -> Result<()> {
        self.flush()?;
        self.call.log_duration(self.count);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let mut pending = std::mem::take(&mut self.pending);
        (self.ready, self.values, self.ensemble) = (0, 0, None);
        let (widths, asks): (Vec<Width>, Vec<Ask>) = pending
            .iter_mut()
            .flatten()
            .map(|prepared| (prepared.width, std::mem::take(&mut prepared.ask)))
            .unzip();
        let forecasts = match asks.is_empty() {
            true => Vec::new(),
            false => self.call.model.forecast(asks, &widths, self.call)?,
        };
        let mut forecasts = forecasts.into_iter();
        for series in pending {
            let prepared = match series {
                Ok(prepared) => prepared,
                Err(fault) => {
                    self.report(fault)?;
                    continue;
                }
            };
            let Prepared { key, cutoff, future, .. } = prepared;
            match forecasts.next() {
                Some(Ok(quantiles)) => {
                    (self.emit)(Outcome::Forecast(Box::new(Forecast { key, cutoff, future, quantiles })))?;
                }
                Some(Err(error)) => self.report(self.call.model_fault(key, cutoff, error)?)?,
                None => return Err(Error::Internal { what: "the engine left a series out".into() }),
            }
        }
        Ok(())
    }

    /// A fault as a row or, where the caller wants it so, as an error.
    fn report(&mut self, fault: Fault) -> Result<()> {
        match self.call.options.on_error {
            OnError::Status => (self.emit)(Outcome::Fault(fault)),
            OnError::Error => Err(Error::Series {
                series: fault.key.clone().unwrap_or_default(),
                status: fault.status,
                detail: fault.detail(instant_text),
            }),
        }
    }
}

impl Call {
    /// What a model says of one series, as its status; what it says of the call stays an error.
    pub fn model_fault(&self, key: Option<String>, cutoff: Instant, error: ModelError) -> Result<Fault> {
        let name = key.clone().unwrap_or_default();
        let (status, detail) = match error {
            ModelError::NonFinite { step } => {
                (Status::NonFinite, format!("The model produced a value that is not finite at step {step}."))
            }
            ModelError::ContextTooShort { needed, got } => (
                Status::ShortHistory,
                format!("Series \"{name}\" has {got} values, the model needs {needed}."),
            ),
            ModelError::MissingValue { .. } => {
                (Status::Nan, format!("Series \"{name}\" has an infinite value."))
            }
            ModelError::InvalidParameter { name: "target", expected, got } => {
                (Status::Nan, format!("Values of series \"{name}\" must be {expected}, one is {got}."))
            }
            other => return Err(other.into()),
        };
        Ok(Fault { key, status, at: None, cutoff: Some(cutoff), detail })
    }
}
