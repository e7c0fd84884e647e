//! What a model would have said at many past moments, beside what came and what simple models would have said.
//!
//! Each series is read once, in every version of its rows, and each window is answered from memory by the very functions
//! that answer `as_of`: a window cannot know more than such a call does, and its numbers are the same. Windows travel to
//! the model as series do, many to a request; nothing is written.

mod options;
mod point;
mod reader;
mod seen;

pub use point::Point;

use crate::calendar::Instant;
use crate::call::{
    Arguments as CallArguments, CLOSE_CHANNEL, Call, Fault, Forecast, Input, Model, Outcome, Variates,
    bounded, model_fault, now, paths, positive,
};
use crate::catalog;
use crate::error::{Error, Result};
use crate::guc;
use crate::json::JsonB;
use crate::relation::{Columns, Rows, Scan, ScanLimits};
use kronos_models::answer::Forecast as Answer;
use kronos_models::baselines::Baseline;
use kronos_models::metrics::seasonal_scale;
use kronos_models::random::Stream;
use kronos_models::series::{QuantileForecast, SeriesRequest};
use kronos_time::Windows;
use options::BacktestOptions;
use pgrx::datum::Date;
use point::{Drawn, Layout, Window, fill_outlook};
use reader::{Moment, Reader};
use seen::Seen;
use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

/// Windows sent to a model together at most.
const PORTION_WINDOWS: usize = 1024;

/// Rows kept beyond the contexts: rows that have not ended.
const SPARE: usize = 8;

/// The arguments of `kronos.backtest()`.
pub struct Arguments<'a> {
    /// A registered model or a baseline; NULL for the default model.
    pub model: Option<&'a str>,
    /// Rows scored per window.
    pub horizon: Option<i64>,
    /// Columns to forecast.
    pub variates: Variates,
    /// How many windows; NULL for as many as there are.
    pub num_windows: Option<i64>,
    /// Rows from one cutoff to the next; NULL for the horizon.
    pub window_step: Option<i64>,
    /// First cutoff.
    pub initial_cutoff: Option<Instant>,
    /// Rows left out between a cutoff and what is scored.
    pub embargo: i64,
    /// Models without weights that are asked as well.
    pub baselines: Vec<String>,
    /// Width of the interval.
    pub level: f64,
    /// Only what was known then.
    pub as_of: Option<Instant>,
    /// Option object.
    pub options: Option<JsonB>,
}

/// A checked call.
pub struct Backtest {
    /// Who is put to the test, and how its levels are laid out; none for a model without weights, the first of the baselines.
    subject: Option<(Box<Call>, Layout)>,
    version: Rc<str>,
    seen: Seen,
    /// Answers for the baselines.
    beside: Call,
    baselines: Vec<(Baseline, Rc<str>)>,
    targets: Vec<Rc<str>>,
    windows: Windows,
    options: BacktestOptions,
    level: f64,
    as_of: Instant,
}

/// What is said once about a whole backtest.
#[derive(Debug, Default)]
pub struct Summary {
    /// Windows the model was asked.
    pub windows: usize,
    /// Those of them whose scored rows begin before the model's training ended.
    pub contaminated: usize,
}

impl Backtest {
    /// Checks the arguments, cheapest first: nothing is read before they are known to be right.
    pub fn new(arguments: Arguments<'_>) -> Result<Self> {
        let horizon = positive("horizon", arguments.horizon.ok_or(Error::NullArgument { name: "horizon" })?)?;
        let count = arguments.num_windows.map(|count| positive("num_windows", count)).transpose()?;
        let step = arguments.window_step.map_or(Ok(horizon), |step| positive("window_step", step))?;
        let embargo = usize::try_from(arguments.embargo).map_err(|_| Error::InvalidArgument {
            name: "embargo".into(),
            expected: "at least 0".into(),
            got: arguments.embargo.to_string(),
            hint: None,
        })?;
        let windows = Windows { horizon, embargo, step, count, initial: arguments.initial_cutoff };
        bounded("horizon with embargo", windows.reach(), guc::max_horizon(), "kronos.max_horizon")?;
        let variates = arguments.variates;
        let mut baselines: Vec<Baseline> =
            arguments.baselines.iter().map(|name| baseline(name)).collect::<Result<_>>()?;
        let model = match Model::any(arguments.model)? {
            Model::Baseline(baseline) => {
                baselines.insert(0, baseline);
                None
            }
            model => Some(model),
        };
        let mut seen = HashSet::new();
        baselines.retain(|baseline| seen.insert(*baseline));
        let options = BacktestOptions::parse(arguments.options)?;
        let call = |model: Model, variates, levels: &[f64]| {
            let asked = CallArguments {
                horizon: i64::try_from(windows.reach()).ok(),
                until: None,
                as_of: None,
                variates,
                level: arguments.level,
                levels,
                samples: ("option \"samples\"", options.of_model.samples),
                seed: Some(options.seed()),
                options: options.of_model.clone(),
            };
            Call::new(model, asked)
        };
        let asked = options.quantile_levels.as_slice();
        let beside = call(Model::Baseline(Baseline::Naive), variates.clone(), asked)?;
        let train_cutoff = model.as_ref().and_then(Model::train_cutoff);
        let targets = variates.targets.iter().map(|name| name.as_str().into()).collect();
        let subject = model.map(|model| {
            let layout = Layout { asked: asked.len(), own: model.levels().to_vec() };
            let variates = model.variates(variates)?;
            let call = call(model, variates, &[asked, &layout.own].concat())?;
            Ok::<_, Error>((Box::new(call), layout))
        });
        let subject = subject.transpose()?;
        let version = match &subject {
            Some((call, _)) => call.model_version(),
            None => baselines.first().map_or("", |baseline| baseline.name()),
        };
        let trained_on = if subject.is_some() { catalog::trained_on(version)? } else { None };
        let seen = Seen { until: train_cutoff, series: trained_on };
        Ok(Self {
            version: version.into(),
            subject,
            seen,
            beside,
            baselines: baselines.into_iter().map(|baseline| (baseline, baseline.name().into())).collect(),
            targets,
            windows,
            level: arguments.level,
            as_of: arguments.as_of.unwrap_or(Instant::MAX).min(now()),
            options,
        })
    }

    /// `name@digest` of the model, or the name of a baseline.
    pub fn model_version(&self) -> &str {
        &self.version
    }

    /// The last day whose data the model was trained on, where that is known.
    pub fn train_cutoff(&self) -> Option<Date> {
        self.seen.until
    }

    /// Whether the model has weights, so that it was trained at all.
    pub fn is_trained(&self) -> bool {
        self.subject.is_some()
    }

    /// Width of the interval.
    pub fn level(&self) -> f64 {
        self.level
    }

    /// Levels of the quantiles of every row.
    pub fn quantile_levels(&self) -> &[f64] {
        self.options.quantile_levels.as_slice()
    }

    /// Runs every window of every series of the input, in the order of series and time: the rows of the model, then those
    /// of each baseline.
    ///
    /// # Errors
    /// What is wrong with the relation; what is wrong with one window is its own row, unless the caller wants an error.
    pub fn run(&self, input: &Input<'_>, mut emit: impl FnMut(Point) -> Result<()>) -> Result<Summary> {
        let (columns, targets) = self.columns(input)?;
        let context = self.subject.as_ref().map_or(0, |(call, _)| call.keep());
        let limits = ScanLimits {
            as_of: self.as_of,
            only_series: input.only_series.as_deref(),
            zone: self.beside.calendars().zone(),
            rows: Rows::Versions(self.windows.keep(context.max(self.beside.keep()) + SPARE)),
        };
        let scan = Scan::of_relation(&input.relation, &columns, limits)?;
        let reader = Reader { backtest: self, input, scan, keyed: columns.series.is_some(), targets };
        let Some((call, layout)) = &self.subject else {
            reader.run(|_, window, moment| match moment {
                Ok(_) => window.beside.into_iter().try_for_each(&mut emit),
                Err(fault) => self.emit_fault(window, fault, &mut emit),
            })?;
            self.beside.calendars().tell(self.beside.noun());
            return Ok(Summary::default());
        };
        // Outcomes come in the order of the windows they belong to.
        let waiting: RefCell<VecDeque<(Rc<str>, Window)>> = RefCell::default();
        let mut summary = Summary::default();
        let mut portion = call.portion(PORTION_WINDOWS, |outcome| {
            let next = waiting.borrow_mut().pop_front();
            let nobody = || Error::Internal { what: "an outcome belongs to no window".into() };
            let (key, window) = next.ok_or_else(nobody)?;
            match outcome {
                Outcome::Forecast(forecast) => {
                    self.emit_forecast(&key, window, *forecast, layout, &mut summary, &mut emit)
                }
                Outcome::Fault(fault) => self.emit_fault(window, fault, &mut emit),
            }
        });
        reader.run(|key, mut window, moment| {
            let prepared = match moment {
                Err(fault) => Err(fault),
                Ok(moment) => {
                    let targets = if call.history_targets() == 0 { &[] } else { moment.targets };
                    call.prepare(moment.history.known_at(moment.as_of, call.keep(), targets), moment.as_of)?
                        .inspect(|prepared| window.actuals = moment.actuals(&prepared.future))
                }
            };
            waiting.borrow_mut().push_back((key, window));
            portion.add(prepared)
        })?;
        portion.finish()?;
        Ok(summary)
    }

    /// The columns read, and which of them are the targets.
    fn columns(&self, input: &Input<'_>) -> Result<(Columns, Vec<usize>)> {
        match &self.subject {
            Some((call, _)) if call.model().is_of_bars() => Ok((call.columns(input)?, vec![CLOSE_CHANNEL])),
            _ => Ok((self.beside.columns(input)?, (0..self.targets.len()).collect())),
        }
    }

    fn base(&self, series: Option<&str>, version: &Rc<str>, cutoff: Option<Instant>) -> Point {
        Point { series: series.map(Into::into), model_version: version.clone(), cutoff, ..Point::default() }
    }

    fn emit_forecast(
        &self,
        key: &str,
        window: Window,
        forecast: Forecast,
        layout: &Layout,
        summary: &mut Summary,
        emit: &mut impl FnMut(Point) -> Result<()>,
    ) -> Result<()> {
        let mut base = self.base(forecast.key.as_deref(), &self.version, Some(forecast.cutoff));
        base.contaminated =
            self.seen.contaminates(forecast.key.as_deref(), forecast.future.get(self.windows.embargo));
        summary.count(base.contaminated);
        match &forecast.answer {
            Answer::Paths(_) => {
                let mut points = self.points(&window, &base, 0, &forecast.future);
                let drawn = Drawn {
                    paths: &paths(&forecast)?,
                    last_close: forecast.last_close,
                    level: self.level,
                    levels: &self.options.quantile_levels,
                    stream: Stream::new(self.options.seed(), key, forecast.cutoff, &self.version),
                };
                drawn.fill(&mut points, self.windows.embargo);
                points.into_iter().try_for_each(&mut *emit)?;
            }
            Answer::Quantiles(quantiles) => {
                self.of_quantiles(&window, &base, quantiles, layout, &forecast.future)
                    .into_iter()
                    .try_for_each(&mut *emit)?;
            }
        }
        window.beside.into_iter().try_for_each(emit)
    }

    /// The rows of one target that are scored, without a forecast yet.
    fn points(&self, window: &Window, base: &Point, target: usize, future: &[Instant]) -> Vec<Point> {
        let steps = future.iter().enumerate().skip(self.windows.embargo);
        steps.map(|(step, &ts)| window.point(base, target, &self.targets[target], step, ts)).collect()
    }

    /// The rows of all targets that are scored, with what quantiles say of them.
    fn of_quantiles(
        &self,
        window: &Window,
        base: &Point,
        quantiles: &QuantileForecast,
        layout: &Layout,
        future: &[Instant],
    ) -> Vec<Point> {
        let mut told = Vec::new();
        for (target, levels) in quantiles.values.iter().enumerate() {
            let mut points = self.points(window, base, target, future);
            for (step, point) in (self.windows.embargo..).zip(&mut points) {
                let quantiles: Vec<f64> = levels.iter().map(|steps| steps[step]).collect();
                layout.fill(point, &quantiles);
            }
            told.append(&mut points);
        }
        told
    }

    /// One row without numbers, then the rows of the baselines, which may have known better.
    fn emit_fault(
        &self,
        window: Window,
        fault: Fault,
        emit: &mut impl FnMut(Point) -> Result<()>,
    ) -> Result<()> {
        emit(self.fault(&fault, &self.version, &window))?;
        window.beside.into_iter().try_for_each(emit)
    }

    fn fault(&self, fault: &Fault, version: &Rc<str>, window: &Window) -> Point {
        Point {
            origin: window.origin,
            ts: fault.at,
            status: Some(fault.status),
            ..self.base(fault.key.as_deref(), version, fault.cutoff)
        }
    }

    /// What the baselines say at one moment, and by what the errors of all models are measured.
    fn beside(&self, moment: &Moment<'_>, window: &mut Window) -> Result<()> {
        let known = moment.history.known_at(moment.as_of, self.beside.keep(), moment.targets);
        let prepared = match self.beside.prepare(known.of(moment.targets), moment.as_of)? {
            Ok(prepared) => prepared,
            Err(fault) => {
                let faults = self.baselines.iter().map(|(_, name)| self.fault(&fault, name, window));
                window.beside = faults.collect();
                return Ok(());
            }
        };
        let request = &SeriesRequest::of_numbers(&prepared.ask);
        let season = self.beside.season(&prepared);
        window.actuals = moment.actuals(&prepared.future);
        let last = |values: &Vec<f64>| values.iter().rev().copied().find(|value| !value.is_nan());
        window.last = request.targets.iter().map(last).collect();
        window.scale = request.targets.iter().map(|values| seasonal_scale(values, season)).collect();
        let layout = Layout { asked: self.options.quantile_levels.as_slice().len(), own: Vec::new() };
        let mut points = Vec::new();
        for (baseline, name) in &self.baselines {
            let told = self.beside.baseline(*baseline, request, season);
            let told = told.and_then(|told| Ok((told, baseline.outlooks(request, season)?)));
            let (quantiles, outlooks) = match told {
                Ok(told) => told,
                Err(error) => {
                    let fault = model_fault(prepared.key.clone(), prepared.cutoff, error)?;
                    points.push(self.fault(&fault, name, window));
                    continue;
                }
            };
            let mut base = self.base(prepared.key.as_deref(), name, Some(prepared.cutoff));
            base.contaminated = Some(false);
            let mut told = self.of_quantiles(window, &base, &quantiles, &layout, &prepared.future);
            let outlooks = outlooks.iter().flat_map(|steps| steps.iter().skip(self.windows.embargo));
            told.iter_mut().zip(outlooks).for_each(|(point, &outlook)| fill_outlook(point, outlook));
            points.append(&mut told);
        }
        window.beside = points;
        Ok(())
    }
}

impl Summary {
    fn count(&mut self, contaminated: Option<bool>) {
        self.windows += 1;
        self.contaminated += usize::from(contaminated == Some(true));
    }
}

/// The baseline of a name.
fn baseline(name: &str) -> Result<Baseline> {
    Baseline::from_name(name).ok_or_else(|| Error::InvalidArgument {
        name: "baselines".into(),
        expected: format!("among {}", Baseline::ALL.map(Baseline::name).join(", ")),
        got: format!("\"{name}\""),
        hint: None,
    })
}
