//! Forecasts as rows of a result, with what a calibration makes of them.

use super::Call;
use super::portion::{Forecast, Outcome};
use super::prepare::Fault;
use super::variates::{CLOSE, CLOSE_CHANNEL};
use crate::calibration::{Calibrated, Serving};
use crate::error::{Error, Result};
use crate::result_set::{ResultSet, RowValues};
use kronos_models::answer::Forecast as Answer;
use kronos_models::bars::{Bar, BarPaths};
use kronos_models::forecast::summarise;
use kronos_models::quantile::QuantileLevels;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

/// Columns of `kronos.bar_forecast`, in its order.
const BAR_COLUMNS: usize = 21;

/// Columns of `kronos.bar_path`, in its order.
const PATH_COLUMNS: usize = 12;

/// Columns of `kronos.forecast_point`, in its order.
const POINT_COLUMNS: usize = 16;

/// Writes what becomes of the series of a call.
pub struct Emitter<'a> {
    call: &'a Call,
    rows: ResultSet,
    serving: Option<Serving>,
    /// Levels of column `quantiles`.
    levels: QuantileLevels,
    /// The level of a point that is read from paths.
    middle: QuantileLevels,
    /// Series that have no rows of their own.
    left_out: Vec<Fault>,
}

/// One target of one step.
struct Point {
    value: f64,
    /// Lower and upper; none where there is a single path.
    interval: Option<(f64, f64)>,
    quantiles: Vec<f64>,
}

impl<'a> Emitter<'a> {
    /// A result that is empty yet.
    pub fn new(call: &'a Call, rows: ResultSet, serving: Option<Serving>) -> Result<Self> {
        let levels = QuantileLevels::new(call.levels[3..].to_vec())?;
        let middle = QuantileLevels::new(vec![call.options.point_level])?;
        Ok(Self { call, rows, serving, levels, middle, left_out: Vec::new() })
    }

    /// Rows of `kronos.bar_forecast`.
    ///
    /// # Errors
    /// What a calibration cannot be read for.
    pub fn bars(&mut self, outcome: Outcome) -> Result<()> {
        let (call, forecast) = match outcome {
            Outcome::Forecast(forecast) => (self.call, forecast),
            Outcome::Fault(fault) => return self.fault::<BAR_COLUMNS>(&fault, 1, 13),
        };
        let paths = &paths(&forecast)?;
        let states = match &mut self.serving {
            Some(serving) => Some(serving.states(forecast.key.as_deref(), forecast.future.len())?),
            None => None,
        };
        let steps = summarise(paths, forecast.last_close, call.level, &self.levels);
        for (step, (start, forecast_step)) in (1i32..).zip(forecast.future.iter().zip(steps)) {
            let mean = forecast_step.mean;
            let calibrated = match (&self.serving, &states, &forecast_step.spread) {
                (Some(serving), Some(states), Some(spread)) => {
                    serving.apply(states, step, [mean[CLOSE_CHANNEL], spread.lower, spread.upper])
                }
                _ => None,
            };
            self.rows.push(|row: &mut RowValues<BAR_COLUMNS>| {
                row.set(0, forecast.key.as_deref());
                row.set_instant(1, Some(*start));
                row.set(2, step);
                set_bar(row, 3, &calibrated.as_ref().map_or(mean, |calibrated| shifted(calibrated, &mean)));
                let moved = |value: f64| calibrated.map_or(value, |calibrated| calibrated.moved(value));
                if let Some(spread) = forecast_step.spread {
                    row.set(9, calibrated.map_or(spread.lower, |calibrated| calibrated.served[1]));
                    row.set(10, calibrated.map_or(spread.upper, |calibrated| calibrated.served[2]));
                    if !self.levels.is_empty() {
                        row.set(11, spread.quantiles.into_iter().map(moved).collect::<Vec<f64>>());
                    }
                    let up = calibrated.map(|_| prob_up(paths, forecast.last_close, step, moved));
                    row.set(12, up.unwrap_or(spread.prob_up));
                }
                row.set_instant(13, Some(forecast.cutoff));
                row.set(14, call.model_version());
                if let (Some(calibrated), Some(serving)) = (&calibrated, &self.serving) {
                    set_calibration(row, 15, calibrated, serving);
                }
            })?;
        }
        Ok(())
    }

    /// Rows of `kronos.forecast_point`.
    ///
    /// # Errors
    /// As for [`Emitter::bars`].
    pub fn points(&mut self, outcome: Outcome) -> Result<()> {
        let (call, forecast) = match outcome {
            Outcome::Forecast(forecast) => (self.call, forecast),
            Outcome::Fault(fault) => return self.fault::<POINT_COLUMNS>(&fault, 2, 8),
        };
        let states = match &mut self.serving {
            Some(serving) => Some(serving.states(forecast.key.as_deref(), forecast.future.len())?),
            None => None,
        };
        for (target, points) in self.read(&forecast)? {
            let serving = self.serving.as_ref().filter(|serving| serving.is_for(target));
            for ((number, start), point) in (1i32..).zip(&forecast.future).zip(points) {
                let calibrated = match (serving, &states, point.interval) {
                    (Some(serving), Some(states), Some((lower, upper))) => {
                        serving.apply(states, number, [point.value, lower, upper])
                    }
                    _ => None,
                };
                self.rows.push(|row: &mut RowValues<POINT_COLUMNS>| {
                    row.set(0, forecast.key.as_deref());
                    row.set(1, target);
                    row.set_instant(2, Some(*start));
                    row.set(3, number);
                    row.set(4, calibrated.map_or(point.value, |calibrated| calibrated.served[0]));
                    if let Some((lower, upper)) = point.interval {
                        row.set(5, calibrated.map_or(lower, |calibrated| calibrated.served[1]));
                        row.set(6, calibrated.map_or(upper, |calibrated| calibrated.served[2]));
                    }
                    if !point.quantiles.is_empty() {
                        let moved = |value| calibrated.map_or(value, |calibrated| calibrated.moved(value));
                        row.set(7, point.quantiles.into_iter().map(moved).collect::<Vec<f64>>());
                    }
                    row.set_instant(8, Some(forecast.cutoff));
                    row.set(9, call.model_version());
                    if let (Some(calibrated), Some(serving)) = (&calibrated, serving) {
                        set_calibration(row, 10, calibrated, serving);
                    }
                })?;
            }
        }
        Ok(())
    }

    /// What a forecast says of each target, step by step: of bars, the close.
    fn read(&self, forecast: &Forecast) -> Result<Vec<(&'a str, Vec<Point>)>> {
        let quantiles = match &forecast.answer {
            Answer::Quantiles(quantiles) => quantiles,
            Answer::Paths(_) => return Ok(vec![(CLOSE, self.closes(forecast)?)]),
        };
        let target = |(target, levels): (&'a String, &Vec<Vec<f64>>)| {
            let [lower, point, upper, asked @ ..] = levels.as_slice() else {
                return Err(Error::Internal { what: "a forecast came without its interval".into() });
            };
            let at = |step: usize| Point {
                value: point[step],
                interval: Some((lower[step], upper[step])),
                quantiles: asked.iter().map(|values| values[step]).collect(),
            };
            Ok((target.as_str(), (0..forecast.future.len()).map(at).collect()))
        };
        self.call.variates.targets.iter().zip(&quantiles.values).map(target).collect()
    }

    fn closes(&self, forecast: &Forecast) -> Result<Vec<Point>> {
        let (paths, level) = (paths(forecast)?, self.call.level);
        let steps = summarise(&paths, forecast.last_close, level, &self.levels);
        let middles = summarise(&paths, forecast.last_close, level, &self.middle);
        let point = |(step, middle): (kronos_models::forecast::BarStep, kronos_models::forecast::BarStep)| {
            let middle = middle.spread.and_then(|spread| spread.quantiles.first().copied());
            Point {
                // With one path its close is all there is.
                value: middle.unwrap_or(step.mean[CLOSE_CHANNEL]),
                interval: step.spread.as_ref().map(|spread| (spread.lower, spread.upper)),
                quantiles: step.spread.map(|spread| spread.quantiles).unwrap_or_default(),
            }
        };
        Ok(steps.into_iter().zip(middles).map(point).collect())
    }

    /// Rows of `kronos.bar_path`.
    ///
    /// # Errors
    /// What the server raises.
    pub fn paths(&mut self, outcome: Outcome) -> Result<()> {
        let forecast = match outcome {
            Outcome::Forecast(forecast) => forecast,
            Outcome::Fault(fault) => {
                self.left_out.push(fault);
                return Ok(());
            }
        };
        let paths = paths(&forecast)?;
        for (number, path) in (1i32..).zip(paths.bars.chunks(paths.horizon)) {
            for (step, (start, bar)) in (1i32..).zip(forecast.future.iter().zip(path)) {
                self.rows.push(|row: &mut RowValues<PATH_COLUMNS>| {
                    row.set(0, forecast.key.as_deref());
                    row.set(1, number);
                    row.set_instant(2, Some(*start));
                    row.set(3, step);
                    set_bar(row, 4, bar);
                    row.set_instant(10, Some(forecast.cutoff));
                    row.set(11, self.call.model_version());
                })?;
            }
        }
        Ok(())
    }

    /// One row without numbers: step is NULL, the time is where the series is at fault.
    fn fault<const COLUMNS: usize>(&mut self, fault: &Fault, at: usize, cutoff: usize) -> Result<()> {
        self.rows.push(|row: &mut RowValues<COLUMNS>| {
            row.set(0, fault.key.as_deref());
            row.set_instant(at, fault.at);
            row.set_instant(cutoff, fault.cutoff);
            row.set(cutoff + 1, self.call.model_version());
            row.set(cutoff + 2, fault.status.word());
        })
    }

    /// Paths have no column for a status, so series without paths are named in one warning.
    pub fn warn(&self) {
        const NAMED: usize = 10;
        if self.left_out.is_empty() {
            return;
        }
        let name = |fault: &Fault| format!("\"{}\" ({})", fault.key.as_deref().unwrap_or(""), fault.status);
        let mut named: Vec<String> = self.left_out.iter().take(NAMED).map(name).collect();
        if self.left_out.len() > NAMED {
            named.push(format!("and {} more", self.left_out.len() - NAMED));
        }
        ereport!(
            PgLogLevel::WARNING,
            PgSqlErrorCode::ERRCODE_WARNING,
            format!("{} series have no paths", self.left_out.len()),
            format!("Series: {}.", named.join(", "))
        );
    }
}

impl Call {
    /// The calibration that is asked for, checked before anything is read.
    ///
    /// # Errors
    /// 42704 for a name that does not exist, 22023 where it is for something else.
    pub fn serving(
        &self,
        name: Option<&str>,
        as_of: Option<TimestampWithTimeZone>,
    ) -> Result<Option<Serving>> {
        let Some(name) = name else { return Ok(None) };
        let serving = Serving::open(name, self.level, as_of.map(i64::from), self.model_version())?;
        match self.model.is_of_bars() {
            true => serving.check_targets([CLOSE].into_iter())?,
            false => serving.check_targets(self.variates.targets.iter().map(String::as_str))?,
        }
        Ok(Some(serving))
    }

    /// Numbers that an answer has for each target and step.
    pub(super) fn values_per_step(&self) -> usize {
        if self.model.draws() { self.samples } else { self.levels.len() }
    }
}

/// The sample paths of a forecast of bars.
pub fn paths(forecast: &Forecast) -> Result<BarPaths> {
    let paths = match &forecast.answer {
        Answer::Paths(paths) => BarPaths::of(paths),
        Answer::Quantiles(_) => None,
    };
    paths.ok_or_else(|| Error::Internal { what: "a forecast of bars came without its paths".into() })
}

/// A mean bar whose close is the calibrated one: its prices move together, so that it stays coherent.
fn shifted(calibrated: &Calibrated, mean: &Bar) -> Bar {
    let [open, high, low, close, volume, amount] = *mean;
    let price = |price| calibrated.shifted(price);
    [price(open), price(high), price(low), price(close), volume, amount * calibrated.factor()]
}

/// Share of the paths that close above the last close once each is moved as its distribution is.
fn prob_up(paths: &BarPaths, last_close: f64, step: i32, moved: impl Fn(f64) -> f64) -> f64 {
    let step = usize::try_from(step - 1).unwrap_or(0);
    let close = |path| paths.bar(path, step)[CLOSE_CHANNEL];
    let above = (0..paths.samples()).filter(|&path| moved(close(path)) > last_close).count();
    above as f64 / paths.samples() as f64
}

/// The columns from `status` on: what the model itself said, and what changed it.
fn set_calibration<const COLUMNS: usize>(
    row: &mut RowValues<COLUMNS>,
    first: usize,
    calibrated: &Calibrated,
    serving: &Serving,
) {
    row.set(first, calibrated.status.map(kronos_models::status::Status::word));
    for (offset, value) in (first + 1..).zip(calibrated.raw) {
        row.set(offset, value);
    }
    row.set(first + 4, serving.name());
    row.set(first + 5, serving.version());
}

fn set_bar<const COLUMNS: usize>(row: &mut RowValues<COLUMNS>, first: usize, bar: &Bar) {
    for (offset, value) in bar.iter().enumerate() {
        row.set(first + offset, *value);
    }
}
