//! The options of `kronos.chronos_predict()` and of `kronos.forecast()` for models of numbers.

use crate::calendar::Width;
use crate::error::Result;
use crate::json::JsonB;
use crate::options::{Given, OnError, on_error, width};

/// Longest context that may be asked for, in rows.
const LONGEST_CONTEXT: usize = 65_536;

/// Variates that inform each other under cross-learning unless told otherwise; the reference's batch.
const CROSS_LEARNING: usize = 256;

/// Longest season, in rows: a year of minutes.
const LONGEST_SEASON: usize = 527_040;

/// Every key.
const KEYS: &[&str] = &[
    "bucket_width",
    "calendar",
    "categorical",
    "context",
    "cross_learning",
    "include_partial",
    "known_at_col",
    "on_error",
    "point_level",
    "season",
    "static",
];

/// The options of one call; holds valid values only.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesOptions {
    /// Rows of context; `None` for as many as the model reads.
    pub context: Option<usize>,
    /// Width of a row; `None` to infer it.
    pub bucket_width: Option<Width>,
    /// Name of the calendar; `None` for `kronos.default_calendar`.
    pub calendar: Option<String>,
    /// Column that says when a row could be known.
    pub known_at_col: Option<String>,
    /// Keeps the newest row though it has not ended.
    pub include_partial: bool,
    /// What to do about a series that cannot be forecast.
    pub on_error: OnError,
    /// Variates that inform each other across series; `None`: every series by itself.
    pub cross_learning: Option<usize>,
    /// Covariates that do not change with time.
    pub statics: Vec<String>,
    /// Covariates whose numbers are names of categories.
    pub categorical: Vec<String>,
    /// Rows after which the pattern returns, for `seasonal_naive`; `None` to take it from the width.
    pub season: Option<usize>,
    /// Quantile level of the point forecast.
    pub point_level: f64,
}

impl SeriesOptions {
    /// Checks the options of one call; NULL means none.
    ///
    /// # Errors
    /// 22023 for an unknown key, a value of another type, or one out of range.
    pub fn parse(options: Option<JsonB>) -> Result<Self> {
        let given = Given::options(options, KEYS)?;
        Ok(Self {
            context: given.integer("context", 1, LONGEST_CONTEXT)?,
            bucket_width: given.text("bucket_width")?.map(width).transpose()?,
            calendar: given.text("calendar")?.map(str::to_owned),
            known_at_col: given.text("known_at_col")?.map(str::to_owned),
            include_partial: given.boolean("include_partial")?.unwrap_or(false),
            on_error: on_error(&given)?,
            cross_learning: given.boolean("cross_learning")?.unwrap_or(false).then_some(CROSS_LEARNING),
            statics: given.names("static")?,
            categorical: given.names("categorical")?,
            season: given.integer("season", 1, LONGEST_SEASON)?,
            point_level: given
                .number("point_level", "a number between 0 and 1", |level| level > 0.0 && level < 1.0)?
                .unwrap_or(0.5),
        })
    }
}
