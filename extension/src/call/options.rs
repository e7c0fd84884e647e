//! The options of a forecast: the same for every model.
//!
//! What a model has no use for changes nothing and is accepted, so that one call can be made of every model; what would change the
//! numbers and cannot be served is refused by [`Model::check`](super::Model::check).

use crate::calendar::Width;
use crate::error::{Error, Result};
use crate::json::JsonB;
use crate::options::{Given, OnError, invalid, on_error, temperature, width};
use kronos_models::bars::{CHANNEL_NAMES, Sampling};
use serde_json::Value;
use std::collections::BTreeMap;

/// Longest context that may be asked for, in rows; bounds what a scan keeps per series.
const LONGEST_CONTEXT: usize = 65_536;

/// Longest gap that may be carried forward, in rows.
const LONGEST_GAP: usize = 1000;

/// Longest season, in rows: a year of minutes.
const LONGEST_SEASON: usize = 527_040;

/// Variates that inform each other under cross-learning unless told otherwise; the reference's batch.
const CROSS_LEARNING: usize = 256;

/// Keys that every function has.
const EVERYWHERE: &[&str] = &[
    "bucket_width",
    "calendar",
    "context",
    "max_gap",
    "on_error",
    "point_level",
    "season",
    "slide",
    "temperature",
    "top_k",
    "top_p",
];

/// Keys that concern one moment, which the windows of a backtest choose by themselves.
const OF_A_MOMENT: &[&str] = &["cross_learning", "include_partial"];

/// Keys that name columns of a relation.
const OF_A_RELATION: &[&str] = &["columns", "known_at_col"];

/// Keys that name covariates among them.
const OF_COVARIATES: &[&str] = &["categorical", "static"];

/// Keys that some functions have as arguments.
const OF_DRAWS: &[&str] = &["samples", "seed"];

/// What to do about a row that had not ended at a past instant.
const PARTIAL_THEN: &str = "Name the column that says when a row was known with options => '{\"known_at_col\": \"...\"}', or make bars of the trades up to then.";

/// Which function reads the options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// One that forecasts columns of a relation.
    Columns,
    /// One that forecasts the bars of a relation, and has arguments for the draws.
    Bars,
    /// One that forecasts an array of bars.
    Array,
    /// A backtest.
    Backtest,
}

impl Reader {
    /// The keys it has, in their order.
    pub fn keys(self) -> Vec<&'static str> {
        let more: &[&[&str]] = match self {
            Self::Columns => &[OF_A_MOMENT, OF_A_RELATION, OF_COVARIATES, OF_DRAWS],
            Self::Bars => &[OF_A_MOMENT, OF_A_RELATION, OF_COVARIATES],
            Self::Array => &[OF_A_MOMENT],
            Self::Backtest => &[OF_A_RELATION, OF_DRAWS],
        };
        let mut keys: Vec<&str> = EVERYWHERE.iter().chain(more.iter().copied().flatten()).copied().collect();
        keys.sort_unstable();
        keys
    }
}

/// The options of one call; holds valid values only.
#[derive(Debug, Clone)]
pub struct Options {
    /// Rows of context; `None` for as many as the model reads, or as fit.
    pub context: Option<usize>,
    /// Width of a row; `None` to infer it.
    pub bucket_width: Option<Width>,
    /// Name of the calendar; `None` for `kronos.default_calendar`.
    pub calendar: Option<String>,
    /// Where the channels of a bar are, by their names; `None` for one that the relation does not have.
    pub columns: BTreeMap<String, Option<String>>,
    /// Column that says when a row could be known.
    pub known_at_col: Option<String>,
    /// Keeps the newest row though it has not ended.
    pub include_partial: bool,
    /// Missing rows that may be carried forward in one place, for a model that needs all of them.
    pub max_gap: usize,
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
    /// Sample paths, for a model that draws.
    pub samples: Option<i64>,
    /// Their seed.
    pub seed: Option<i64>,
    /// Lets the window slide past the model's, exactly and slowly.
    pub slide: bool,
    /// How tokens are drawn, for a model without a temperature of its own.
    sampling: Sampling,
    /// Whether the call chose the temperature.
    temperature_chosen: bool,
}

impl Options {
    /// Checks the options of one call; NULL means none.
    ///
    /// # Errors
    /// 22023 for an unknown key, a value of another type, or one out of range.
    pub fn parse(options: Option<JsonB>, reader: Reader) -> Result<Self> {
        Self::of(&Given::options(options, &reader.keys())?)
    }

    /// Refuses a row that had not ended where nothing says what was known of it then.
    ///
    /// # Errors
    /// 22023.
    pub fn check_partial(&self, of_the_past: bool) -> Result<()> {
        if !(self.include_partial && self.known_at_col.is_none() && of_the_past) {
            return Ok(());
        }
        Err(Error::InvalidArgument {
            name: "option \"include_partial\"".into(),
            expected: "false where as_of is in the past and nothing says when a row was known".into(),
            got: "true".into(),
            hint: Some(PARTIAL_THEN.into()),
        })
    }

    /// Reads them among others.
    ///
    /// # Errors
    /// 22023 for a value of another type, or one out of range.
    pub fn of(given: &Given) -> Result<Self> {
        let whole =
            |key, least| Ok::<_, Error>(given.integer(key, least, i64::MAX as usize)?.map(|n| n as i64));
        Ok(Self {
            context: given.integer("context", 1, LONGEST_CONTEXT)?,
            bucket_width: given.text("bucket_width")?.map(width).transpose()?,
            calendar: given.text("calendar")?.map(str::to_owned),
            columns: columns(given)?,
            known_at_col: given.text("known_at_col")?.map(str::to_owned),
            include_partial: given.boolean("include_partial")?.unwrap_or(false),
            max_gap: given.integer("max_gap", 0, LONGEST_GAP)?.unwrap_or(0),
            on_error: on_error(given)?,
            cross_learning: given.boolean("cross_learning")?.unwrap_or(false).then_some(CROSS_LEARNING),
            statics: given.names("static")?,
            categorical: given.names("categorical")?,
            season: given.integer("season", 1, LONGEST_SEASON)?,
            point_level: given
                .number("point_level", "a number between 0 and 1", |level| level > 0.0 && level < 1.0)?
                .unwrap_or(0.5),
            samples: whole("samples", 1)?,
            seed: whole("seed", 0)?,
            slide: given.boolean("slide")?.unwrap_or(false),
            sampling: sampling(given)?,
            temperature_chosen: given.has("temperature"),
        })
    }

    /// How tokens are drawn from a model whose own temperature is `temperature`.
    pub fn sampling(&self, temperature: Option<f64>) -> Result<Sampling> {
        match temperature.filter(|_| !self.temperature_chosen) {
            Some(own) => Ok(Sampling::new(own as f32, self.sampling.top_k(), self.sampling.top_p())?),
            None => Ok(self.sampling),
        }
    }

    /// Refuses a context shorter than a model can use.
    pub fn check_context(&self, least: usize) -> Result<()> {
        match self.context {
            Some(context) if context < least => Err(invalid(
                "option \"context\"",
                &format!("an integer from {least} to {LONGEST_CONTEXT}"),
                &Value::from(context),
            )),
            _ => Ok(()),
        }
    }
}

/// The three knobs of sampling; docs/adr/0003 has the reason for their defaults.
fn sampling(given: &Given) -> Result<Sampling> {
    let temperature = temperature(given)?.unwrap_or(1.0);
    let top_k = given.integer("top_k", 0, u32::MAX as usize)?;
    let top_p = given.number("top_p", "a number greater than 0 and at most 1", |p| p > 1e-9 && p <= 1.0)?;
    Ok(Sampling::new(temperature as f32, top_k.unwrap_or(0), top_p.unwrap_or(1.0) as f32)?)
}

fn columns(given: &Given) -> Result<BTreeMap<String, Option<String>>> {
    let Some(names) = given.object("columns", "column", &CHANNEL_NAMES, "{\"close\":\"px_last\"}")? else {
        return Ok(BTreeMap::new());
    };
    let mut columns = BTreeMap::new();
    for channel in CHANNEL_NAMES {
        match names.text(channel)? {
            Some(name) => _ = columns.insert(channel.to_owned(), Some(name.to_owned())),
            // Null has a meaning here, unlike in the options themselves: the relation has no such column.
            None if names.is_null(channel) && ["volume", "amount"].contains(&channel) => {
                columns.insert(channel.to_owned(), None);
            }
            None => {}
        }
    }
    Ok(columns)
}
