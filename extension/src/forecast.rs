//! One forecast call from its arguments to sample paths, in portions that bound its memory.

use crate::calendar::{self, Calendar, Instant};
use crate::catalog::{self, ModelEntry};
use crate::engine::{self, ModelSource};
use crate::error::{Error, Result};
use crate::guc;
use crate::json::JsonB;
use crate::options::{OnError, Options, Source};
use crate::relation::{Fault, Group, Prepared, Reach, Relation, Rules, Scan, prepare};
use kronos_models::bars::{Bar, BarOptions, BarPaths, BarRequest, Sampling, Window};
use kronos_models::error::ModelError;
use kronos_models::quantile::QuantileLevels;
use kronos_models::status::Status;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;
use std::collections::HashSet;
use std::time::Instant as Clock;

/// Series forecast together at most.
const PORTION_SERIES: usize = 256;

/// Bytes of bars, read and drawn, that one portion may hold.
const PORTION_BYTES: usize = 32 << 20;

/// The arguments of a forecast function, as SQL gives them.
pub struct Arguments<'a> {
    /// Bars to forecast.
    pub horizon: Option<i32>,
    /// Instant up to which to forecast, in place of `horizon`.
    pub until: Option<TimestampWithTimeZone>,
    /// Only what was known then.
    pub as_of: Option<TimestampWithTimeZone>,
    /// Name of a model; NULL for the default.
    pub model: Option<&'a str>,
    /// Paths per series and the argument's name; NULL for the default.
    pub samples: (&'static str, Option<i32>),
    /// NULL for fresh randomness.
    pub seed: Option<i64>,
    /// Option object.
    pub options: Option<JsonB>,
    /// Which options there are.
    pub source: Source,
}

/// A checked call.
pub struct Call {
    /// The rarer knobs.
    pub options: Options,
    /// The market's hours.
    pub calendar: Calendar,
    /// Only bars that start before and end at or before it are used.
    pub as_of: Instant,
    entry: ModelEntry,
    model: ModelSource,
    max_context: usize,
    sampling: Sampling,
    reach: Reach,
    samples: usize,
    seed: i64,
    started: Clock,
}

/// What became of one series.
pub enum Outcome {
    /// Paths, with the series they belong to.
    Paths(Box<Forecast>),
    /// The reason there are none.
    Fault(Fault),
}

/// The paths of one series.
pub struct Forecast {
    /// Key of the series.
    pub key: Option<String>,
    /// End of the last bar used.
    pub cutoff: Instant,
    /// Its close.
    pub last_close: f64,
    /// Starts of the forecast bars.
    pub future: Vec<Instant>,
    /// One bar per path and step.
    pub paths: BarPaths,
}

impl Call {
    /// Checks the arguments, cheapest first: nothing is read before they are known to be right.
    pub fn new(arguments: Arguments<'_>) -> Result<Self> {
        let started = Clock::now();
        let reach = reach(arguments.horizon, arguments.until)?;
        let (name, samples) = arguments.samples;
        let samples = samples.map_or(Ok(guc::default_samples()), |samples| positive(name, samples))?;
        bounded(name, samples, guc::max_samples(), "kronos.max_samples")?;
        let options = Options::parse(arguments.options, arguments.source)?;
        let entry = catalog::resolve(arguments.model)?;
        let name = options.calendar.clone().unwrap_or_else(guc::default_calendar);
        let call = Self {
            calendar: calendar::load(&name)?,
            as_of: arguments.as_of.map_or(i64::MAX, i64::from).min(now()),
            model: entry.source()?,
            max_context: entry.max_context()?,
            sampling: options.sampling(entry.temperature())?,
            seed: arguments.seed.map_or_else(fresh_seed, Ok)?,
            options,
            entry,
            reach,
            samples,
            started,
        };
        call.check_window()?;
        Ok(call)
    }

    /// `name@digest` of the model.
    pub fn model_version(&self) -> &str {
        &self.entry.version
    }

    /// Newest rows of a series that can matter.
    pub fn keep(&self) -> usize {
        self.rules().keep()
    }

    /// One series as the model is asked of it, from what was known at an instant.
    ///
    /// # Errors
    /// Why it cannot be forecast.
    pub fn prepare(&self, group: Group, as_of: Instant) -> Result<Prepared, Fault> {
        prepare(group, &Rules { as_of, ..self.rules() })
    }

    /// Series that will be forecast as they are added, up to `most` at a time.
    pub fn portion<E: FnMut(Outcome) -> Result<()>>(&self, most: usize, emit: E) -> Portion<'_, E> {
        Portion { most, ..Portion::new(self, emit) }
    }

    fn rules(&self) -> Rules<'_> {
        Rules {
            calendar: &self.calendar,
            width: self.options.bucket_width,
            as_of: self.as_of,
            include_partial: self.options.include_partial,
            reach: self.reach,
            max_horizon: guc::max_horizon(),
            max_context: self.max_context,
            context: self.options.context,
            slide: self.options.slide,
            max_gap: self.options.max_gap,
            seed: self.seed,
            model_version: &self.entry.version,
        }
    }

    /// Refuses a horizon that leaves no room for a context, and a context that would be cut in silence.
    fn check_window(&self) -> Result<()> {
        let Reach::Bars(horizon) = self.reach else { return Ok(()) };
        let max_context = self.max_context;
        let Some(window) = self.rules().window(horizon) else {
            return Err(ModelError::HorizonTooLong { horizon, max_context }.into());
        };
        match self.options.context {
            Some(context) if context > window => Err(Error::InvalidArgument {
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

    /// Forecasts every series of a scan, in its order, then reports the names of `only_series` that have no rows.
    pub fn run(
        &self,
        relation: &Relation,
        scan: &Scan,
        only_series: Option<&[String]>,
        emit: impl FnMut(Outcome) -> Result<()>,
    ) -> Result<()> {
        let limit = guc::max_series_per_call();
        let check = |series| bounded("number of series", series, limit, "kronos.max_series_per_call");
        check(only_series.map_or(0, <[String]>::len))?;
        let mut portion = Portion::new(self, emit);
        let mut seen: HashSet<String> = HashSet::new();
        scan.run(|group| {
            check(portion.count + 1)?;
            match &group.key {
                None => return portion.add(Err(without_key())),
                Some(key) if only_series.is_some() => seen.insert(key.clone()),
                Some(_) => true,
            };
            portion.add(prepare(group, &portion.rules))
        })?;
        for name in only_series.unwrap_or_default() {
            if seen.insert(name.clone()) {
                portion.add(Err(no_rows(name)))?;
            }
        }
        if portion.count == 0 && only_series.is_none() {
            tell_of_no_rows(relation, self.as_of);
        }
        portion.finish()
    }

    /// Forecasts the one series of a scan, whether it has rows or not.
    pub fn run_single(&self, scan: &Scan, emit: impl FnMut(Outcome) -> Result<()>) -> Result<()> {
        let mut portion = Portion::new(self, emit);
        scan.run(|group| portion.add(prepare(group, &portion.rules)))?;
        if portion.count == 0 {
            let nothing = Group { key: None, rows: Vec::new() };
            portion.add(prepare(nothing, &portion.rules))?;
        }
        portion.finish()
    }

    /// A fault as a row or, where the caller wants it so, as an error.
    fn report(&self, fault: Fault, emit: &mut impl FnMut(Outcome) -> Result<()>) -> Result<()> {
        match self.options.on_error {
            OnError::Status => emit(Outcome::Fault(fault)),
            OnError::Error => Err(Error::Series {
                series: fault.key.clone().unwrap_or_default(),
                status: fault.status,
                detail: fault.detail(instant_text),
            }),
        }
    }

    fn log_duration(&self, series: usize) {
        let elapsed = self.started.elapsed();
        if guc::log_min_duration().is_some_and(|least| elapsed >= least) {
            pgrx::log!(
                "kronos: {series} series with model \"{}\" took {:.3} ms",
                self.entry.version,
                elapsed.as_secs_f64() * 1000.0
            );
        }
    }
}

/// Series waiting to be forecast together, in the order they were read.
pub struct Portion<'a, E> {
    call: &'a Call,
    /// Series forecast together at most.
    most: usize,
    rules: Rules<'a>,
    emit: E,
    pending: Vec<Result<Prepared, Fault>>,
    /// Series of the whole call so far.
    count: usize,
    ready: usize,
    bytes: usize,
    notes: Notes,
}

impl<'a, E: FnMut(Outcome) -> Result<()>> Portion<'a, E> {
    fn new(call: &'a Call, emit: E) -> Self {
        let (pending, notes) = (Vec::new(), Notes::default());
        let most = PORTION_SERIES;
        Self { call, most, rules: call.rules(), emit, pending, count: 0, ready: 0, bytes: 0, notes }
    }

    /// Adds a series, or the reason it is none; its outcome is emitted before those of later ones.
    pub fn add(&mut self, series: Result<Prepared, Fault>) -> Result<()> {
        self.count += 1;
        if let Ok(prepared) = &series {
            self.notes.take(prepared);
            let drawn = prepared.request.horizon * self.call.samples;
            self.bytes += (drawn + prepared.request.stamps.len()) * size_of::<Bar>();
            self.ready += 1;
        }
        self.pending.push(series);
        // Those that cannot be forecast take memory too.
        let full = self.ready.max(self.pending.len() / 4) >= self.most || self.bytes >= PORTION_BYTES;
        if full { self.flush() } else { Ok(()) }
    }

    /// Forecasts what is left.
    pub fn finish(mut self) -> Result<()> {
        self.flush()?;
        self.notes.tell(&self.call.calendar);
        self.call.log_duration(self.count);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let mut pending = std::mem::take(&mut self.pending);
        (self.ready, self.bytes) = (0, 0);
        let requests: Vec<BarRequest> = pending.iter_mut().flatten().map(Prepared::take_request).collect();
        let mut drawn = if requests.is_empty() { Vec::new() } else { self.draw(requests)? }.into_iter();
        for series in pending {
            let prepared = match series {
                Ok(prepared) => prepared,
                Err(fault) => {
                    self.call.report(fault, &mut self.emit)?;
                    continue;
                }
            };
            let paths = drawn
                .next()
                .ok_or_else(|| Error::Internal { what: "the engine left a series out".into() })?;
            match paths {
                Ok(paths) => (self.emit)(Outcome::Paths(Box::new(Forecast {
                    key: prepared.key,
                    cutoff: prepared.cutoff,
                    last_close: prepared.last_close,
                    future: prepared.future,
                    paths,
                })))?,
                Err(ModelError::NonFinite { step }) => {
                    self.call.report(non_finite(prepared, step), &mut self.emit)?
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn draw(&self, requests: Vec<BarRequest>) -> Result<Vec<Result<BarPaths, ModelError>>> {
        let call = self.call;
        let options = BarOptions {
            samples: call.samples,
            sampling: call.sampling,
            window: if call.options.slide { Window::Slide } else { Window::Shorten },
            memory_limit: guc::max_cpu_memory(),
        };
        engine::bars(&call.model, requests, options).map_err(|error| call.entry.explain(error))
    }
}

/// What is said once per call, however many series it concerns.
#[derive(Default)]
struct Notes {
    /// Key of the series taken last: several windows of it count once.
    last: Option<Option<String>>,
    series: usize,
    without_volume: usize,
    off_session: usize,
}

impl Notes {
    fn take(&mut self, prepared: &Prepared) {
        if self.last.as_ref() == Some(&prepared.key) {
            return;
        }
        self.last = Some(prepared.key.clone());
        self.series += 1;
        self.without_volume += usize::from(prepared.without_volume);
        self.off_session += usize::from(prepared.off_session);
    }

    fn tell(&self, calendar: &Calendar) {
        if self.without_volume > 0 {
            pgrx::notice!(
                "volume is missing in {} of {} series, the model reads it as zero",
                self.without_volume,
                self.series
            );
        }
        if self.off_session > 0 {
            pgrx::notice!(
                "most bars of {} of {} series lie outside the sessions of calendar \"{}\"",
                self.off_session,
                self.series,
                calendar.name()
            );
        }
    }
}

pub fn without_key() -> Fault {
    Fault {
        key: None,
        status: Status::NullSeries,
        at: None,
        cutoff: None,
        detail: "Bars whose series column is NULL belong to no series.".into(),
    }
}

/// Says why a call has no answer: nothing of the relation was known yet.
pub fn tell_of_no_rows(relation: &Relation, as_of: Instant) {
    pgrx::notice!("relation \"{}\" has no rows known at {}", relation.display(), instant_text(as_of));
}

pub fn no_rows(name: &str) -> Fault {
    Fault {
        key: Some(name.to_owned()),
        status: Status::NoRows,
        at: None,
        cutoff: None,
        detail: format!("Series \"{name}\" has no bars before as_of."),
    }
}

fn non_finite(prepared: Prepared, step: usize) -> Fault {
    Fault {
        key: prepared.key,
        status: Status::NonFinite,
        at: None,
        cutoff: Some(prepared.cutoff),
        detail: format!("The model produced a value that is not finite at step {step}."),
    }
}

/// `horizon` or `until`, exactly one of them.
pub fn reach(horizon: Option<i32>, until: Option<TimestampWithTimeZone>) -> Result<Reach> {
    match (horizon, until) {
        (Some(horizon), None) => {
            let horizon = positive("horizon", horizon)?;
            bounded("horizon", horizon, guc::max_horizon(), "kronos.max_horizon")?;
            Ok(Reach::Bars(horizon))
        }
        (None, Some(until)) => Ok(Reach::Until(until.into())),
        (given, _) => Err(Error::HorizonOrUntil { both: given.is_some() }),
    }
}

/// The interval's level.
///
/// # Errors
/// 22004 for NULL, 22023 outside (0, 1).
pub fn level(level: Option<f64>) -> Result<f64> {
    let level = level.ok_or(Error::NullArgument { name: "level" })?;
    if level > 0.0 && level < 1.0 { Ok(level) } else { Err(Error::LevelOutOfRange { level }) }
}

/// The quantile levels asked for; NULL asks for none.
///
/// # Errors
/// 22004 for a NULL among them, 22023 for one out of range or out of order.
pub fn quantile_levels(levels: Option<Vec<Option<f64>>>) -> Result<QuantileLevels> {
    let levels: Vec<f64> = levels
        .unwrap_or_default()
        .into_iter()
        .collect::<Option<_>>()
        .ok_or(Error::NullArgument { name: "a quantile level" })?;
    if let Some(percent) = levels.iter().find(|level| (1.0..100.0).contains(*level)) {
        return Err(Error::InvalidArgument {
            name: "quantile_levels".into(),
            expected: "between 0 and 1".into(),
            got: percent.to_string(),
            hint: Some(format!("Quantile levels are fractions; did you mean {}?", percent / 100.0)),
        });
    }
    Ok(QuantileLevels::new(levels)?)
}

pub fn positive(name: &str, value: i32) -> Result<usize> {
    usize::try_from(value).ok().filter(|&value| value > 0).ok_or_else(|| Error::InvalidArgument {
        name: name.to_owned(),
        expected: "at least 1".into(),
        got: value.to_string(),
        hint: None,
    })
}

pub fn bounded(what: &'static str, got: usize, limit: usize, guc: &'static str) -> Result<()> {
    if got > limit {
        Err(Error::LimitExceeded { what, got: got as u64, limit: limit as u64, guc })
    } else {
        Ok(())
    }
}

/// `now()`: the start of the transaction.
#[allow(unsafe_code)]
pub fn now() -> Instant {
    // SAFETY: reads a variable of the current transaction.
    unsafe { pg_sys::GetCurrentTransactionStartTimestamp() }
}

/// A seed nobody can repeat.
#[allow(unsafe_code)]
fn fresh_seed() -> Result<i64> {
    let mut bytes = [0u8; 8];
    // SAFETY: writes as many bytes as the buffer has.
    if unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), bytes.len()) } {
        Ok(i64::from_ne_bytes(bytes))
    } else {
        Err(Error::Internal { what: "could not generate a random seed".into() })
    }
}

/// An instant as the session writes it.
#[allow(unsafe_code)]
pub fn instant_text(at: Instant) -> String {
    // SAFETY: timestamptz_out takes a timestamptz by value and returns a C string in the current context.
    let text =
        unsafe { pgrx::direct_function_call::<&std::ffi::CStr>(pg_sys::timestamptz_out, &[Some(at.into())]) };
    text.map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}
