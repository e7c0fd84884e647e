//! What a model would have said at many past moments, beside what came and what simple models would have said.
//!
//! Each series is read once, in every version of its rows, and each window is answered from memory by the very functions
//! that answer `as_of`: a window cannot know more than such a call does, and its numbers are the same. Windows travel to
//! the model as series do, many to a request; nothing is written.

mod options;
mod point;
mod reader;

pub use point::Point;

use crate::calendar::{Instant, Width};
use crate::catalog::{self, ModelEntry};
use crate::error::{Error, Result};
use crate::forecast::{self, bounded, now, positive};
use crate::guc;
use crate::json::JsonB;
use crate::options::Source;
use crate::relation::{Fault, HistoryColumns, HistoryLimits, HistoryScan, Relation, Wanted, resolve};
use crate::series::{self, SeriesModel, Variates};
use kronos_models::baselines::Baseline;
use kronos_models::metrics::seasonal_scale;
use kronos_models::random::Stream;
use kronos_models::series::SeriesRequest;
use kronos_time::Windows;
use options::BacktestOptions;
use pgrx::datum::Date;
use point::{Drawn, Layout, Window, fill_outlook};
use reader::{Moment, Reader};
use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

/// Windows sent to a model together at most.
const PORTION_WINDOWS: usize = 1024;

/// Rows kept beyond the contexts: rows that have not ended.
const SPARE: usize = 8;

/// Column of the close among those of bars.
const CLOSE: usize = 3;

const DAY: Instant = 86_400_000_000;

/// The arguments of `kronos.backtest()`.
pub struct Arguments<'a> {
    /// A registered model or a baseline; NULL for the default model.
    pub model: Option<&'a str>,
    /// Rows scored per window.
    pub horizon: Option<i32>,
    /// Columns to forecast.
    pub targets: Vec<String>,
    /// How many windows; NULL for as many as there are.
    pub num_windows: Option<i32>,
    /// Rows from one cutoff to the next; NULL for the horizon.
    pub window_step: Option<i32>,
    /// First cutoff.
    pub initial_cutoff: Option<Instant>,
    /// Rows left out between a cutoff and what is scored.
    pub embargo: i32,
    /// Models without weights that are asked as well.
    pub baselines: Vec<String>,
    /// Width of the interval.
    pub level: f64,
    /// Only what was known then.
    pub as_of: Option<Instant>,
    /// Option object.
    pub options: Option<JsonB>,
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

/// What the name of the model means.
enum Chosen {
    Bars(ModelEntry),
    Numbers(SeriesModel, Option<Date>),
    /// The first of the baselines.
    Baseline,
}

/// Who is put to the test.
enum Subject {
    /// A model of bars.
    Bars(Box<forecast::Call>),
    /// A model of numbers, and how its levels are laid out.
    Numbers(Box<series::Call>, Layout),
    /// A model without weights, the first of the baselines.
    Baseline,
}

/// A checked call.
pub struct Backtest {
    subject: Subject,
    version: Rc<str>,
    train_cutoff: Option<Date>,
    /// Answers for the baselines.
    beside: series::Call,
    baselines: Vec<(Baseline, Rc<str>)>,
    targets: Vec<Rc<str>>,
    windows: Windows,
    options: BacktestOptions,
    width: Option<Width>,
    known_at: Option<String>,
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
        if arguments.targets.is_empty() {
            return Err(Error::NullArgument { name: "targets" });
        }
        let mut baselines: Vec<Baseline> =
            arguments.baselines.iter().map(|name| baseline(name)).collect::<Result<_>>()?;
        let chosen = match arguments.model.and_then(Baseline::from_name) {
            Some(baseline) => {
                baselines.insert(0, baseline);
                Chosen::Baseline
            }
            None => {
                let entry = catalog::resolve(arguments.model)?;
                match SeriesModel::of(entry.clone())? {
                    Some(model) => Chosen::Numbers(model, entry.train_cutoff),
                    None => Chosen::Bars(entry),
                }
            }
        };
        let mut seen = HashSet::new();
        baselines.retain(|baseline| seen.insert(*baseline));
        let options = BacktestOptions::parse(arguments.options, matches!(chosen, Chosen::Bars(_)))?;
        let of_numbers = options.for_numbers()?;
        let reach = i32::try_from(windows.reach()).unwrap_or(i32::MAX);
        let numbers = |model, levels: &[f64]| {
            let variates = Variates { targets: arguments.targets.clone(), ..Variates::default() };
            let (horizon, until, as_of) = (Some(reach), None, None);
            let (level, options) = (arguments.level, of_numbers.clone());
            let asked = series::Arguments { horizon, until, as_of, variates, level, levels, options };
            series::Call::new(model, asked)
        };
        let asked = options.quantile_levels.as_slice();
        let beside = numbers(SeriesModel::Baseline(Baseline::Naive), asked)?;
        let (subject, train_cutoff) = match chosen {
            Chosen::Baseline => (Subject::Baseline, None),
            Chosen::Numbers(model, train_cutoff) => {
                let own = model.levels().to_vec();
                let call = numbers(model, &[asked, &own].concat())?;
                (Subject::Numbers(Box::new(call), Layout { asked: asked.len(), own }), train_cutoff)
            }
            Chosen::Bars(entry) => {
                let call = bars(&entry, &arguments.targets, reach, &options)?;
                (Subject::Bars(Box::new(call)), entry.train_cutoff)
            }
        };
        let version = match &subject {
            Subject::Bars(call) => call.model_version(),
            Subject::Numbers(call, _) => call.model_version(),
            Subject::Baseline => baselines.first().map_or("", |baseline| baseline.name()),
        };
        Ok(Self {
            version: version.into(),
            subject,
            train_cutoff,
            beside,
            baselines: baselines.into_iter().map(|baseline| (baseline, baseline.name().into())).collect(),
            targets: arguments.targets.iter().map(|name| name.as_str().into()).collect(),
            windows,
            width: of_numbers.bucket_width,
            known_at: of_numbers.known_at_col,
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
        self.train_cutoff
    }

    /// Whether the model has weights, so that it was trained at all.
    pub fn is_trained(&self) -> bool {
        !matches!(self.subject, Subject::Baseline)
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
        if input.only_series.is_some() && !columns.has_series() {
            return Err(Error::NoSeriesColumn { relation: input.relation.display() });
        }
        let context = match &self.subject {
            Subject::Bars(call) => call.keep(),
            Subject::Numbers(call, _) => call.keep(),
            Subject::Baseline => 0,
        };
        let limits = HistoryLimits {
            as_of: self.as_of,
            only_series: input.only_series,
            zone: self.beside.calendar().zone(),
            keep: self.windows.keep(context.max(self.beside.keep()) + SPARE),
        };
        let scan = HistoryScan::new(input.relation, &columns, limits)?;
        let reader = Reader { backtest: self, input, scan, keyed: columns.has_series(), targets };
        // Outcomes come in the order of the windows they belong to.
        let waiting: RefCell<VecDeque<(Rc<str>, Window)>> = RefCell::default();
        let next = || {
            let window = waiting.borrow_mut().pop_front();
            window.ok_or_else(|| Error::Internal { what: "an outcome belongs to no window".into() })
        };
        let mut summary = Summary::default();
        match &self.subject {
            Subject::Bars(call) => {
                let mut portion = call.portion(PORTION_WINDOWS, |outcome| {
                    let (key, window) = next()?;
                    match outcome {
                        forecast::Outcome::Paths(forecast) => {
                            self.emit_paths(&key, window, *forecast, &mut summary, &mut emit)
                        }
                        forecast::Outcome::Fault(fault) => self.emit_fault(window, fault, &mut emit),
                    }
                });
                reader.run(|key, mut window, moment| {
                    let prepared = moment.and_then(|moment| {
                        let known = moment.history.known_at(moment.as_of, call.keep(), &[]);
                        let prepared = call.prepare(known.bars(), moment.as_of)?;
                        window.actuals = moment.actuals(&prepared.future);
                        Ok(prepared)
                    });
                    waiting.borrow_mut().push_back((key, window));
                    portion.add(prepared)
                })?;
                portion.finish()?;
            }
            Subject::Numbers(call, layout) => {
                let mut portion = call.portion(PORTION_WINDOWS, |outcome| {
                    let (_, window) = next()?;
                    match outcome {
                        series::Outcome::Forecast(forecast) => {
                            self.emit_quantiles(window, *forecast, layout, &mut summary, &mut emit)
                        }
                        series::Outcome::Fault(fault) => self.emit_fault(window, fault, &mut emit),
                    }
                });
                reader.run(|key, mut window, moment| {
                    let prepared = match moment {
                        Err(fault) => Err(fault),
                        Ok(moment) => {
                            let known = moment.history.known_at(moment.as_of, call.keep(), moment.targets);
                            let prepared = call.prepare(known.values(moment.targets), moment.as_of)?;
                            if let Ok(prepared) = &prepared {
                                window.actuals = moment.actuals(&prepared.future);
                            }
                            prepared
                        }
                    };
                    waiting.borrow_mut().push_back((key, window));
                    portion.add(prepared)
                })?;
                portion.finish()?;
            }
            Subject::Baseline => reader.run(|_, window, moment| match moment {
                Ok(_) => window.beside.into_iter().try_for_each(&mut emit),
                Err(fault) => self.emit_fault(window, fault, &mut emit),
            })?,
        }
        Ok(summary)
    }

    /// The columns read, and which of them are the targets.
    fn columns(&self, input: &Input<'_>) -> Result<(HistoryColumns, Vec<usize>)> {
        let Subject::Bars(call) = &self.subject else {
            let columns = self.beside.columns(&series::Input {
                relation: input.relation,
                series_col: input.series_col,
                time_col: input.time_col,
                only_series: None,
            })?;
            return Ok((HistoryColumns::of_values(columns), (0..self.targets.len()).collect()));
        };
        let wanted = Wanted {
            series: input.series_col,
            time: input.time_col,
            names: &call.options.columns,
            known_at: self.known_at.as_deref(),
        };
        Ok((HistoryColumns::of_bars(resolve(input.relation, &wanted)?), vec![CLOSE]))
    }

    fn base(&self, series: Option<&str>, version: &Rc<str>, cutoff: Option<Instant>) -> Point {
        Point { series: series.map(Into::into), model_version: version.clone(), cutoff, ..Point::default() }
    }

    /// Whether the rows scored begin before the model's training ended.
    fn is_contaminated(&self, future: &[Instant]) -> Option<bool> {
        let trained_until = (Instant::from(self.train_cutoff?.to_pg_epoch_days()) + 1) * DAY;
        future.get(self.windows.embargo).map(|&first| first < trained_until)
    }

    fn emit_paths(
        &self,
        key: &str,
        window: Window,
        forecast: forecast::Forecast,
        summary: &mut Summary,
        emit: &mut impl FnMut(Point) -> Result<()>,
    ) -> Result<()> {
        let mut base = self.base(forecast.key.as_deref(), &self.version, Some(forecast.cutoff));
        base.contaminated = self.is_contaminated(&forecast.future);
        summary.count(base.contaminated);
        let embargo = self.windows.embargo;
        let mut points: Vec<Point> = forecast
            .future
            .iter()
            .enumerate()
            .skip(embargo)
            .map(|(step, &ts)| window.point(&base, 0, &self.targets[0], step, ts))
            .collect();
        let drawn = Drawn {
            paths: &forecast.paths,
            last_close: forecast.last_close,
            level: self.level,
            levels: &self.options.quantile_levels,
            stream: Stream::new(self.options.seed, key, forecast.cutoff, &self.version),
        };
        drawn.fill(&mut points, embargo);
        points.into_iter().chain(window.beside).try_for_each(emit)
    }

    fn emit_quantiles(
        &self,
        window: Window,
        forecast: series::Forecast,
        layout: &Layout,
        summary: &mut Summary,
        emit: &mut impl FnMut(Point) -> Result<()>,
    ) -> Result<()> {
        let mut base = self.base(forecast.key.as_deref(), &self.version, Some(forecast.cutoff));
        base.contaminated = self.is_contaminated(&forecast.future);
        summary.count(base.contaminated);
        for (target, (name, levels)) in self.targets.iter().zip(&forecast.quantiles.values).enumerate() {
            for (step, &ts) in forecast.future.iter().enumerate().skip(self.windows.embargo) {
                let mut point = window.point(&base, target, name, step, ts);
                let quantiles: Vec<f64> = levels.iter().map(|steps| steps[step]).collect();
                layout.fill(&mut point, &quantiles);
                emit(point)?;
            }
        }
        window.beside.into_iter().try_for_each(emit)
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
        let prepared = match self.beside.prepare(known.values(moment.targets), moment.as_of)? {
            Ok(prepared) => prepared,
            Err(fault) => {
                let faults = self.baselines.iter().map(|(_, name)| self.fault(&fault, name, window));
                window.beside = faults.collect();
                return Ok(());
            }
        };
        let request = &SeriesRequest::of_numbers(&prepared.ask);
        let season = self.beside.season(prepared.width);
        window.actuals = moment.actuals(&prepared.future);
        let last = |values: &Vec<f64>| values.iter().rev().copied().find(|value| !value.is_nan());
        window.last = request.targets.iter().map(last).collect();
        window.scale = request.targets.iter().map(|values| seasonal_scale(values, season)).collect();
        let layout = Layout { asked: self.options.quantile_levels.as_slice().len(), own: Vec::new() };
        let mut points = Vec::new();
        for (baseline, name) in &self.baselines {
            let told = self.beside.baseline(*baseline, request, prepared.width);
            let told = told.and_then(|told| Ok((told, baseline.outlooks(request, season)?)));
            let (quantiles, outlooks) = match told {
                Ok(told) => told,
                Err(error) => {
                    let fault = self.beside.model_fault(prepared.key.clone(), prepared.cutoff, error)?;
                    points.push(self.fault(&fault, name, window));
                    continue;
                }
            };
            let mut base = self.base(prepared.key.as_deref(), name, Some(prepared.cutoff));
            base.contaminated = Some(false);
            for (target, (target_name, levels)) in self.targets.iter().zip(&quantiles.values).enumerate() {
                for (step, &ts) in prepared.future.iter().enumerate().skip(self.windows.embargo) {
                    let mut point = window.point(&base, target, target_name, step, ts);
                    let quantiles: Vec<f64> = levels.iter().map(|steps| steps[step]).collect();
                    layout.fill(&mut point, &quantiles);
                    fill_outlook(&mut point, outlooks[target][step]);
                    points.push(point);
                }
            }
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

/// A call of a model of bars, whose target is the close.
fn bars(
    entry: &ModelEntry,
    targets: &[String],
    reach: i32,
    options: &BacktestOptions,
) -> Result<forecast::Call> {
    if targets != ["close"] {
        return Err(Error::Unsupported {
            what: format!("forecasting these columns with model \"{}\"", entry.version),
            hint: "It forecasts bars: pass targets => '{close}', and name the column of the close in the option columns."
                .into(),
        });
    }
    forecast::Call::new(forecast::Arguments {
        horizon: Some(reach),
        until: None,
        as_of: None,
        model: Some(&entry.version),
        samples: ("option \"samples\"", options.samples),
        seed: Some(options.seed),
        options: Some(options.for_bars()),
        source: Source::Relation,
    })
}
