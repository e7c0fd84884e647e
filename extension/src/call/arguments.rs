//! Arguments that several functions have, checked.

use crate::calendar::{Grid, Instant};
use crate::error::{Error, Result};
use crate::guc;
use kronos_models::quantile::QuantileLevels;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;

/// How far a forecast reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// A number of rows.
    Rows(usize),
    /// Every row that starts up to and including this instant.
    Until(Instant),
}

impl Reach {
    /// `horizon` or `until`, exactly one of them.
    pub fn of(horizon: Option<i64>, until: Option<TimestampWithTimeZone>) -> Result<Self> {
        match (horizon, until) {
            (Some(horizon), None) => {
                let horizon = positive("horizon", horizon)?;
                bounded("horizon", horizon, guc::max_horizon(), "kronos.max_horizon")?;
                Ok(Self::Rows(horizon))
            }
            (None, Some(until)) => Ok(Self::Until(until.into())),
            (given, _) => Err(Error::HorizonOrUntil { both: given.is_some() }),
        }
    }

    /// Rows at most.
    pub fn most(self) -> usize {
        match self {
            Self::Rows(horizon) => horizon,
            Self::Until(_) => guc::max_horizon(),
        }
    }

    /// The starts after the one that is last, one more than `max_horizon` at most, and how many were asked for.
    pub fn starts(self, grid: &Grid<'_>, last: Instant, max_horizon: usize) -> (Vec<Instant>, usize) {
        match self {
            Self::Rows(horizon) => (grid.after(last).take(horizon).collect(), horizon),
            Self::Until(until) => {
                let starts = grid.after(last).take_while(|&start| start <= until).take(max_horizon + 1);
                let starts: Vec<Instant> = starts.collect();
                let asked = starts.len();
                (starts, asked)
            }
        }
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

/// A count of at least one.
///
/// # Errors
/// 22023.
pub fn positive(name: &str, value: i64) -> Result<usize> {
    usize::try_from(value).ok().filter(|&value| value > 0).ok_or_else(|| Error::InvalidArgument {
        name: name.to_owned(),
        expected: "at least 1".into(),
        got: value.to_string(),
        hint: None,
    })
}

/// Nothing, for a count within the limit that a setting gives.
///
/// # Errors
/// 54000.
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

/// The seed of a call: as given, or one that nobody can repeat for NULL.
#[allow(unsafe_code)]
pub fn seed(given: Option<i64>) -> Result<i64> {
    if let Some(seed) = given {
        return Ok(seed);
    }
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
