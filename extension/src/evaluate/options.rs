//! The options of `kronos.evaluate()`.

use crate::calendar::Instant;
use crate::call::{level, quantile_levels};
use crate::error::{Error, Result};
use crate::json::JsonB;
use crate::options::{Given, timestamp};

const KEYS: &[&str] = &[
    "benchmark",
    "benchmark_window",
    "calendar",
    "contaminated",
    "cost_bps",
    "input",
    "known_at_col",
    "level",
    "quantile_levels",
    "series_col",
    "since",
    "target",
    "time_col",
    "unit",
    "until",
    "windows",
];

/// Longest window of the benchmark, in steps.
const LONGEST_WINDOW: usize = 10_000;

/// What errors are measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unit {
    /// The target itself.
    #[default]
    Value,
    /// The logarithm of its ratio to the last value before the cutoff, which series of any price share.
    Return,
}

/// Which rows of several models are scored side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Windows {
    /// Those of cells (series, target, cutoff and time) that all of them have.
    #[default]
    Common,
    /// All that each has.
    Own,
}

/// The options of one call.
#[derive(Debug, Default)]
pub struct EvaluateOptions {
    /// Rows forecast at or after this instant.
    pub since: Option<Instant>,
    /// Rows forecast before this instant.
    pub until: Option<Instant>,
    /// Only this target.
    pub target: Option<String>,
    /// Cost of trading one unit of weight, in basis points; adds the long/short return.
    pub cost_bps: Option<f64>,
    /// Whether rows that a model may have been trained on count.
    pub contaminated: bool,
    /// Level of the intervals of a relation that does not say.
    pub level: Option<f64>,
    /// Levels of the quantiles of a relation that does not say.
    pub quantile_levels: Vec<f64>,
    /// What errors are measured in.
    pub unit: Unit,
    /// Which rows of several models are scored.
    pub windows: Windows,
    /// What models are compared with; `None`: `hist_vol` where it is there or can be computed, else `naive`.
    pub benchmark: Option<String>,
    /// Returns that `hist_vol` takes its volatility from; `None`: as recorded, or the default.
    pub benchmark_window: Option<usize>,
    /// Input of the rows of a ledger; `None`: the relation of the actuals.
    pub input: Option<String>,
    /// Calendar whose zone local times of the actuals are in; `None` for `kronos.default_calendar`.
    pub calendar: Option<String>,
    /// Series column of the actuals.
    pub series_col: Option<String>,
    /// Time column of the actuals.
    pub time_col: Option<String>,
    /// Column of the actuals that says when a row could be known: the last version counts.
    pub known_at_col: Option<String>,
    /// Only these rows of a ledger.
    pub served: Option<Served>,
}

/// Rows of a ledger as they were served: live forecasts that were written by a moment.
#[derive(Debug, Default)]
pub struct Served {
    /// Rows from the cutoff.
    pub step: i64,
    /// Only intervals of this level.
    pub level: Option<f64>,
    /// Only these series.
    pub series: Option<Vec<String>>,
    /// The moment.
    pub by: Instant,
}

impl EvaluateOptions {
    /// Checks the options of one call; NULL means none.
    ///
    /// # Errors
    /// 22023 for an unknown key, a value of another type, or one out of range.
    pub fn parse(options: Option<JsonB>) -> Result<Self> {
        let given = Given::options(options, KEYS)?;
        let text = |key| Ok::<_, Error>(given.text(key)?.map(str::to_owned));
        let levels = given.numbers("quantile_levels")?.map(|levels| levels.into_iter().map(Some).collect());
        let unit = match given.text("unit")? {
            None | Some("value") => Unit::Value,
            Some("return") => Unit::Return,
            Some(other) => {
                return Err(Error::InvalidArgument {
                    name: "option \"unit\"".into(),
                    expected: "\"value\" or \"return\"".into(),
                    got: format!("\"{other}\""),
                    hint: None,
                });
            }
        };
        let windows = match given.text("windows")? {
            None | Some("common") => Windows::Common,
            Some("own") => Windows::Own,
            Some(other) => {
                return Err(Error::InvalidArgument {
                    name: "option \"windows\"".into(),
                    expected: "\"common\" or \"own\"".into(),
                    got: format!("\"{other}\""),
                    hint: None,
                });
            }
        };
        Ok(Self {
            windows,
            benchmark: text("benchmark")?,
            benchmark_window: given.integer("benchmark_window", 2, LONGEST_WINDOW)?,
            since: given.text("since")?.map(|text| timestamp("since", text)).transpose()?,
            until: given.text("until")?.map(|text| timestamp("until", text)).transpose()?,
            target: text("target")?,
            cost_bps: given.number("cost_bps", "a number of at least 0", |cost| cost >= 0.0)?,
            contaminated: given.boolean("contaminated")?.unwrap_or(true),
            level: given
                .number("level", "a number", |_| true)?
                .map(|value| level(Some(value)))
                .transpose()?,
            quantile_levels: quantile_levels(levels)?.as_slice().to_vec(),
            unit,
            input: text("input")?,
            calendar: text("calendar")?,
            series_col: text("series_col")?,
            time_col: text("time_col")?,
            known_at_col: text("known_at_col")?,
            served: None,
        })
    }
}
