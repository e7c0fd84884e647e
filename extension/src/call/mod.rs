//! One forecast call, from its arguments to the rows of its result: the same way for every model.
//!
//! Bars are six channels that are read together; a model of columns is given those that the caller names, and what informs them.
//! What else tells models apart is asked of their [capabilities](kronos_models::family::Capabilities), and of no name.

mod arguments;
mod emit;
mod model;
mod options;
mod portion;
mod prepare;
mod variates;

pub use arguments::{Reach, bounded, instant_text, level, now, positive, quantile_levels};
pub use emit::{Emitter, paths};
pub use model::{Function, Model};
pub use options::{Options, Reader};
pub use portion::{Forecast, Outcome, Portion, model_fault};
pub use prepare::{Fault, Prepared, SPACINGS, no_rows, without_key};
pub use variates::{CLOSE_CHANNEL, Variates};

use crate::calendar::{Calendars, Instant};
use crate::error::{Error, Result};
use crate::guc;
use crate::options::OnError;
use crate::relation::{Columns, History, Known, Relation, Rows, Scan, ScanLimits, View, Wanted, resolve};
use kronos_models::ask::{Drawing, Terms, Wanted as Form};
use kronos_models::bars::Sampling;
use kronos_models::baselines::Baseline;
use kronos_models::error::ModelError;
use kronos_models::series::{QuantileForecast, SeriesRequest};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::{Datum, Oid};
use std::collections::HashSet;
use std::time::Instant as Clock;

/// Rows kept beyond the context: rows that have not ended at `as_of`.
const SPARE: usize = 8;

/// The arguments of a forecast function, as SQL gives them.
pub struct Arguments<'a> {
    /// Rows to forecast.
    pub horizon: Option<i64>,
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
    /// Paths per series and the argument's name; NULL for the default.
    pub samples: (&'static str, Option<i64>),
    /// NULL for fresh randomness.
    pub seed: Option<i64>,
    /// The rarer knobs.
    pub options: Options,
}

/// Where the rows come from.
pub struct Input<'a> {
    /// The relation.
    pub relation: Relation,
    /// `series_col`.
    pub series_col: Option<&'a str>,
    /// `time_col`.
    pub time_col: Option<&'a str>,
    /// `only_series`.
    pub only_series: Option<Vec<String>>,
}

/// A checked call.
pub struct Call {
    model: Model,
    options: Options,
    variates: Variates,
    calendars: Calendars,
    as_of: Instant,
    reach: Reach,
    /// Width of the interval.
    level: f64,
    /// Levels that every forecast is read at: lower, point, upper, then those asked for.
    levels: Vec<f64>,
    sampling: Sampling,
    samples: usize,
    seed: i64,
    started: Clock,
}

impl Call {
    /// Checks the arguments, cheapest first: nothing is read before they are known to be right.
    ///
    /// # Errors
    /// 22004, 22023, 54000 for arguments out of their domain, 0A000 for what the model cannot do, 42704 for a calendar.
    pub fn new(model: Model, arguments: Arguments<'_>) -> Result<Self> {
        let started = Clock::now();
        let reach = Reach::of(arguments.horizon, arguments.until)?;
        let (name, samples) = arguments.samples;
        let samples = samples.map_or(Ok(guc::default_samples()), |samples| positive(name, samples))?;
        if model.draws() {
            bounded(name, samples, guc::max_samples(), "kronos.max_samples")?;
        }
        let Arguments { variates, level, options, .. } = arguments;
        let variates = Variates { statics: options.statics.clone(), ..variates };
        let mut levels =
            vec![decimal((1.0 - level) / 2.0), options.point_level, decimal((1.0 + level) / 2.0)];
        levels.extend(arguments.levels);
        let as_of = arguments.as_of.map_or(Instant::MAX, Instant::from).min(now());
        options.check_partial(as_of < now())?;
        model.check(&variates, &levels, &options)?;
        variates.check(&options.categorical)?;
        let call = Self {
            calendars: Calendars::new(options.calendar.as_deref())?,
            as_of,
            sampling: options.sampling(model.temperature())?,
            seed: arguments::seed(arguments.seed)?,
            model,
            options,
            variates,
            reach,
            level,
            levels,
            samples,
            started,
        };
        call.check_window()?;
        Ok(call)
    }

    /// Refuses a horizon that leaves no room for a context, and a context that would be cut in silence.
    fn check_window(&self) -> Result<()> {
        let (Reach::Rows(horizon), max_context) = (self.reach, self.model.max_context()) else {
            return Ok(());
        };
        let Some(window) = self.window(horizon) else {
            return Err(ModelError::HorizonTooLong { horizon, max_context }.into());
        };
        match self.options.context {
            Some(context) if context > window && self.model.draws() => Err(Error::InvalidArgument {
                name: "option \"context\"".into(),
                expected: format!("at most {window} with a horizon of {horizon}"),
                got: context.to_string(),
                hint: Some(format!(
                    "Context and horizon share a window of {max_context} bars; the option slide lifts that, slowly."
                )),
            }),
            _ => Ok(()),
        }
    }

    /// Rows of history that leave room for a horizon; `None` when too few remain.
    ///
    /// Steps that are drawn one by one share the window of the model with the history; a whole horizon at once does not.
    fn window(&self, horizon: usize) -> Option<usize> {
        let most = self.model.max_context();
        let context = self.options.context;
        if !self.model.draws() {
            return Some(context.map_or(most, |context| context.min(most)));
        }
        let room = if self.options.slide {
            context.unwrap_or(most)
        } else {
            let room = (most + 1).checked_sub(horizon)?;
            context.map_or(room, |context| context.min(room))
        };
        (room >= self.model.least_context() && horizon <= most).then_some(room)
    }

    /// Newest rows of a series that can matter: what the model reads, and what tells the width of a row.
    pub fn keep(&self) -> usize {
        let longest = match self.reach {
            Reach::Rows(horizon) => self.window(horizon),
            Reach::Until(_) => self.window(1),
        };
        longest.unwrap_or(self.model.max_context()).max(SPACINGS) + SPARE
    }

    /// On which terms the model is asked.
    fn terms(&self) -> Terms {
        let bounded = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let form = if self.model.draws() {
            Form::Paths(Drawing {
                samples: bounded(self.samples),
                temperature: self.sampling.temperature(),
                top_k: bounded(self.sampling.top_k()),
                top_p: self.sampling.top_p(),
                slide: self.options.slide,
            })
        } else {
            Form::Quantiles(self.levels.clone())
        };
        // The histories have been cut to what the call allows.
        Terms { context: usize::MAX, cross_learning: self.options.cross_learning, wanted: form }
    }

    /// `name@digest` of the model, or the name of a baseline.
    pub fn model_version(&self) -> &str {
        self.model.version()
    }

    /// What is asked.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The calendars of its series.
    pub fn calendars(&self) -> &Calendars {
        &self.calendars
    }

    /// How many of the columns, the first ones, decide whether a row belongs to the history; none where every row does.
    pub fn history_targets(&self) -> usize {
        if self.model.is_of_bars() { 0 } else { self.variates.targets.len() }
    }

    /// What a row is called.
    pub fn noun(&self) -> &'static str {
        if self.model.is_of_bars() { "bar" } else { "row" }
    }

    /// Rows after which the pattern of a series returns.
    pub fn season(&self, prepared: &Prepared) -> usize {
        self.options.season.unwrap_or(prepared.season)
    }

    /// What a baseline says at the levels of the call.
    ///
    /// # Errors
    /// As for [`Baseline::forecast`].
    pub fn baseline(
        &self,
        baseline: Baseline,
        request: &SeriesRequest,
        season: usize,
    ) -> Result<QuantileForecast, ModelError> {
        model::of_baseline(baseline, request, season, &self.levels)
    }

    /// The columns of the input that the call reads.
    ///
    /// # Errors
    /// As for [`resolve`].
    pub fn columns(&self, input: &Input<'_>) -> Result<Columns> {
        let wanted = Wanted {
            series: input.series_col,
            time: input.time_col,
            known_at: self.options.known_at_col.as_deref(),
        };
        let columns =
            resolve(&input.relation, &wanted, &self.variates.named(&self.options, self.model.is_of_bars()))?;
        if input.only_series.is_some() && columns.series.is_none() {
            return Err(Error::NoSeriesColumn { relation: input.relation.display() });
        }
        Ok(columns)
    }

    fn known(&self) -> Known {
        let ahead =
            if self.variates.future.is_empty() { 0 } else { self.keep().max(self.reach.most() + SPARE) };
        Known { keep: self.keep(), targets: self.history_targets(), ahead }
    }

    /// Forecasts every series of the input, in its order, then reports the names of `only_series` that have no rows.
    ///
    /// # Errors
    /// What is wrong with the arguments or the relation; what is wrong with one series is its own outcome, unless the
    /// caller wants an error.
    pub fn run(&self, input: &Input<'_>, emit: impl FnMut(Outcome) -> Result<()>) -> Result<()> {
        let columns = self.columns(input)?;
        let only_series = input.only_series.as_deref();
        let limits = ScanLimits {
            as_of: self.as_of,
            only_series,
            zone: self.calendars.zone(),
            rows: Rows::Known(self.known()),
        };
        check_count(only_series.map_or(0, <[String]>::len))?;
        let scan = Scan::of_relation(&input.relation, &columns, limits)?;
        let mut portion = Portion::new(self, emit);
        let mut seen: HashSet<String> = HashSet::new();
        scan.run(|history| {
            check_count(portion.count() + 1)?;
            match &history.key {
                None if columns.series.is_some() => return portion.add(Err(without_key(self.noun()))),
                Some(key) if only_series.is_some() => _ = seen.insert(key.clone()),
                _ => {}
            }
            portion.add(self.prepare(self.view(&history), self.as_of)?)
        })?;
        for name in only_series.unwrap_or_default() {
            if seen.insert(name.clone()) {
                portion.add(Err(no_rows(name, self.noun())))?;
            }
        }
        if portion.count() == 0 {
            // A single series of bars is there, whether it has rows or not.
            if columns.series.is_none() && self.model.is_of_bars() {
                portion.add(self.nothing()?)?;
            } else if only_series.is_none() {
                tell_of_no_rows(&input.relation, self.as_of);
            }
        }
        portion.finish()
    }

    /// Forecasts the one series of an array of `kronos.bar`, whose type is `array_type`.
    ///
    /// # Safety
    /// `bars` is a datum of that type, or `None` for NULL.
    ///
    /// # Errors
    /// As for [`Call::run`].
    #[allow(unsafe_code)]
    pub unsafe fn run_array(
        &self,
        bars: Option<Datum>,
        array_type: Oid,
        emit: impl FnMut(Outcome) -> Result<()>,
    ) -> Result<()> {
        // SAFETY: promised by the caller.
        let scan = unsafe { Scan::of_array(bars, array_type, self.as_of, self.known())? };
        let mut portion = Portion::new(self, emit);
        scan.run(|history| portion.add(self.prepare(self.view(&history), self.as_of)?))?;
        if portion.count() == 0 {
            portion.add(self.nothing()?)?;
        }
        portion.finish()
    }

    /// A series without rows.
    fn nothing(&self) -> Result<Result<Prepared, Fault>> {
        let history = History::default();
        self.prepare(self.view(&history), self.as_of)
    }

    fn view<'h>(&self, history: &'h History) -> View<'h> {
        let targets: Vec<usize> = (0..self.history_targets()).collect();
        history.known_at(self.as_of, self.keep(), &targets)
    }

    /// One series as the model is asked of it, from what was known at an instant.
    ///
    /// # Errors
    /// 22004 where a covariate's future has a gap; what else is wrong with a series is its [`Fault`].
    pub fn prepare(&self, rows: View<'_>, as_of: Instant) -> Result<Result<Prepared, Fault>> {
        prepare::prepare(self, rows, as_of)
    }

    /// Series that will be forecast as they are added, up to `most` at a time.
    pub fn portion<E: FnMut(Outcome) -> Result<()>>(&self, most: usize, emit: E) -> Portion<'_, E> {
        Portion::of(self, most, emit)
    }

    /// A fault as it is told: as an outcome or, where the caller wants it so, as an error.
    ///
    /// # Errors
    /// 22023 in place of the fault.
    pub fn report(&self, fault: Fault) -> Result<Fault> {
        match self.options.on_error {
            OnError::Status => Ok(fault),
            OnError::Error => Err(fault.into()),
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

/// Nothing, for as many series as a call may have.
///
/// # Errors
/// 54000.
pub fn check_count(series: usize) -> Result<()> {
    bounded("number of series", series, guc::max_series_per_call(), "kronos.max_series_per_call")
}

/// Says why a call has no answer: nothing of the relation was known yet.
fn tell_of_no_rows(relation: &Relation, as_of: Instant) {
    pgrx::notice!("relation \"{}\" has no rows known at {}", relation.display(), instant_text(as_of));
}
