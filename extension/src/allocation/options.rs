//! The argument `options` of the allocator.

use crate::error::{Error, Result};
use crate::json::JsonB;
use crate::options::Given;
use kronos_allocation::{Estimator, RelaxationPrices};
use serde_json::Value;

const KEYS: [&str; 14] = [
    "cash_reserve",
    "cvar_level",
    "equity",
    "estimator",
    "factors",
    "half_life",
    "horizon",
    "min_notional",
    "participation",
    "relaxation",
    "risk_dates",
    "short_margin",
    "shrinkage",
    "whole_share_shorts",
];

/// Share of a day's dollar volume that one rebalance may trade.
const PARTICIPATION: f64 = 0.02;
/// Initial margin of a short under Regulation T.
const SHORT_MARGIN: f64 = 0.5;
/// Dates after which an exponential weight has halved.
const HALF_LIFE: f64 = 60.0;
/// Share of the diagonal in the exponential estimate.
const SHRINKAGE: f64 = 0.1;
/// Newest dates of the history that are used.
const RISK_DATES: usize = 500;
/// Most dates that may be asked for; bounds the memory of a call together with `kronos.max_series_per_call`.
const MOST_RISK_DATES: usize = 5000;

/// The options of one call; holds valid values only.
pub struct AllocationOptions {
    pub estimator: Estimator,
    /// Dates of the history that make one horizon of the forecasts.
    pub horizon: f64,
    pub risk_dates: usize,
    pub cvar_level: Option<f64>,
    pub participation: f64,
    pub cash_reserve: Option<f64>,
    pub short_margin: f64,
    pub equity: Option<f64>,
    pub min_notional: Option<f64>,
    pub whole_share_shorts: bool,
    pub relaxation: RelaxationPrices,
}

impl AllocationOptions {
    /// Checks the options of one call; NULL means none.
    pub fn parse(options: Option<JsonB>) -> Result<Self> {
        let relaxation = match &options {
            Some(JsonB(Value::Object(map))) => map.get("relaxation").filter(|v| !v.is_null()).cloned(),
            _ => None,
        };
        let given = Given::options(options, &KEYS)?;
        let above_zero = |key| given.number(key, "a number above 0", |x| x > 0.0);
        let not_negative = |key| given.number(key, "a number of at least 0", |x| x >= 0.0);
        let fraction = |key| given.number(key, "a number above 0 and below 1", |x| x > 0.0 && x < 1.0);
        let half_life = above_zero("half_life")?;
        let shrinkage =
            given.number("shrinkage", "a number above 0 and at most 1", |x| x > 0.0 && x <= 1.0)?;
        let count = given.integer("factors", 1, 200)?;
        let estimator = match given.text("estimator")? {
            None | Some("ledoit_wolf") => Estimator::LedoitWolf,
            Some("exponential") => Estimator::Exponential {
                half_life: half_life.unwrap_or(HALF_LIFE),
                shrinkage: shrinkage.unwrap_or(SHRINKAGE),
            },
            Some("factors") => Estimator::Factors { count },
            Some(other) => {
                return Err(Error::InvalidArgument {
                    name: "option \"estimator\"".into(),
                    expected: "\"ledoit_wolf\", \"exponential\" or \"factors\"".into(),
                    got: format!("\"{other}\""),
                    hint: None,
                });
            }
        };
        // An option that the chosen estimator would ignore is a mistake, not a preference.
        let exponential = matches!(estimator, Estimator::Exponential { .. });
        let factors = matches!(estimator, Estimator::Factors { .. });
        for (key, set, read) in [
            ("half_life", half_life.is_some(), exponential),
            ("shrinkage", shrinkage.is_some(), exponential),
            ("factors", count.is_some(), factors),
        ] {
            if set && !read {
                let wanted = if key == "factors" { "factors" } else { "exponential" };
                return Err(Error::InvalidArgument {
                    name: format!("option \"{key}\""),
                    expected: format!("left out unless the option estimator is \"{wanted}\""),
                    got: "a value".into(),
                    hint: None,
                });
            }
        }
        Ok(Self {
            estimator,
            horizon: above_zero("horizon")?.unwrap_or(1.0),
            risk_dates: given.integer("risk_dates", 20, MOST_RISK_DATES)?.unwrap_or(RISK_DATES),
            cvar_level: fraction("cvar_level")?,
            participation: not_negative("participation")?.unwrap_or(PARTICIPATION),
            cash_reserve: given.number("cash_reserve", "a number", f64::is_finite)?,
            short_margin: not_negative("short_margin")?.unwrap_or(SHORT_MARGIN),
            equity: above_zero("equity")?,
            min_notional: not_negative("min_notional")?,
            whole_share_shorts: given.boolean("whole_share_shorts")?.unwrap_or(false),
            relaxation: relaxation.map_or_else(|| Ok(RelaxationPrices::default()), prices)?,
        })
    }
}

impl AllocationOptions {
    /// The horizon as a number of dates, as scenarios made of a history need it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a part of a date.
    pub fn whole_dates(&self) -> Result<usize> {
        if self.horizon.fract() != 0.0 || self.horizon > MOST_RISK_DATES as f64 {
            return Err(Error::InvalidArgument {
                name: "option \"horizon\"".into(),
                expected: format!("a whole number of dates up to {MOST_RISK_DATES} for method cvar"),
                got: self.horizon.to_string(),
                hint: None,
            });
        }
        Ok(self.horizon as usize)
    }
}

fn prices(value: Value) -> Result<RelaxationPrices> {
    let got = value.to_string();
    serde_json::from_value(value).map_err(|_| Error::InvalidArgument {
        name: "option \"relaxation\"".into(),
        expected: "an object of numbers with keys turnover, group, net, target_vol, cash, gross".into(),
        got,
        hint: None,
    })
}
