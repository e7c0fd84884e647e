//! The argument `options jsonb` of the forecast functions: each key checked once, none ignored.

use crate::calendar::{self, Instant, Width};
use crate::error::{Error, Result};
use crate::json::JsonB;
use crate::relation::MIN_CONTEXT;
use kronos_models::bars::Sampling;
use pgrx::datum::Interval;
use pgrx::{IntoDatum, direct_function_call, pg_sys};
use serde_json::{Map, Value};
use std::ffi::CString;

/// Longest context that may be asked for, in bars; bounds what a scan keeps per series.
const LONGEST_CONTEXT: usize = 65_536;

/// Longest gap that may be carried forward, in bars.
const LONGEST_GAP: usize = 1000;

/// Keys read for bars that come as an argument.
const BARS_KEYS: &[&str] = &[
    "bucket_width",
    "calendar",
    "context",
    "include_partial",
    "max_gap",
    "on_error",
    "slide",
    "temperature",
    "top_k",
    "top_p",
];

/// Keys read beside them for bars that come from a relation.
const RELATION_KEYS: &[&str] = &["columns", "known_at_col"];

/// Keys of the option `columns`.
const COLUMN_KEYS: &[&str] = &["open", "high", "low", "close", "volume", "amount"];

/// Where the bars of a call come from, which decides the options it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A relation.
    Relation,
    /// An array of `kronos.bar`.
    Array,
}

/// What to do about a series that cannot be forecast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// Say so in one row; go on with the others.
    #[default]
    Status,
    /// Raise an error.
    Error,
}

/// Names of the columns that hold a bar; `None` means the role's own name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ColumnNames {
    /// Open.
    pub open: Option<String>,
    /// High.
    pub high: Option<String>,
    /// Low.
    pub low: Option<String>,
    /// Close.
    pub close: Option<String>,
    /// Volume; `Some(None)` says that there is none.
    pub volume: Option<Option<String>>,
    /// Amount; `Some(None)` says that there is none.
    pub amount: Option<Option<String>>,
}

/// The options of one call; holds valid values only.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Bars of context; `None` for as many as fit.
    pub context: Option<usize>,
    /// Width of a bar; `None` to infer it.
    pub bucket_width: Option<Width>,
    /// Name of the calendar; `None` for `kronos.default_calendar`.
    pub calendar: Option<String>,
    /// Which column is what.
    pub columns: ColumnNames,
    /// Column that says when a row could be known.
    pub known_at_col: Option<String>,
    /// How tokens are drawn, for a model without a temperature of its own.
    sampling: Sampling,
    /// Whether the call chose the temperature.
    temperature_chosen: bool,
    /// Keeps the newest bar though it has not ended.
    pub include_partial: bool,
    /// Missing bars that may be carried forward in one place.
    pub max_gap: usize,
    /// What to do about a series that cannot be forecast.
    pub on_error: OnError,
    /// Lets the window slide past the model's, exactly and slowly.
    pub slide: bool,
}

impl Options {
    /// Checks the options of one call; NULL means none.
    ///
    /// # Errors
    /// 22023 for an unknown key, a value of another type, or one out of range.
    pub fn parse(options: Option<JsonB>, source: Source) -> Result<Self> {
        let mut valid = BARS_KEYS.to_vec();
        if source == Source::Relation {
            valid.extend(RELATION_KEYS);
        }
        let given = Given::options(options, &valid)?;
        Ok(Self {
            context: given.integer("context", MIN_CONTEXT, LONGEST_CONTEXT)?,
            bucket_width: given.text("bucket_width")?.map(width).transpose()?,
            calendar: given.text("calendar")?.map(str::to_owned),
            columns: columns(&given)?,
            known_at_col: given.text("known_at_col")?.map(str::to_owned),
            sampling: sampling(&given)?,
            temperature_chosen: given.get("temperature").is_some(),
            include_partial: given.boolean("include_partial")?.unwrap_or(false),
            max_gap: given.integer("max_gap", 0, LONGEST_GAP)?.unwrap_or(0),
            on_error: on_error(&given)?,
            slide: given.boolean("slide")?.unwrap_or(false),
        })
    }

    /// How tokens are drawn from a model whose own temperature is `temperature`.
    pub fn sampling(&self, temperature: Option<f64>) -> Result<Sampling> {
        match temperature.filter(|_| !self.temperature_chosen) {
            Some(own) => Ok(Sampling::new(own as f32, self.sampling.top_k(), self.sampling.top_p())?),
            None => Ok(self.sampling),
        }
    }
}

/// An object whose keys are known to be valid. A JSON null counts as absent.
pub struct Given {
    map: Map<String, Value>,
    kind: &'static str,
}

impl Given {
    /// The argument `options` of a SQL function; NULL means none.
    pub fn options(options: Option<JsonB>, valid: &[&str]) -> Result<Self> {
        match options.map(|JsonB(value)| value) {
            None => Self::new(Map::new(), "option", valid),
            Some(Value::Object(map)) => Self::new(map, "option", valid),
            Some(other) => Err(invalid("options", "a JSON object", &other)),
        }
    }

    fn new(map: Map<String, Value>, kind: &'static str, valid: &[&str]) -> Result<Self> {
        match map.keys().find(|key| !valid.contains(&key.as_str())) {
            Some(unknown) => Err(Error::UnknownOption {
                name: unknown.clone(),
                valid: valid.iter().map(ToString::to_string).collect(),
            }),
            None => Ok(Self { map, kind }),
        }
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    fn reject(&self, key: &str, expected: &str, got: &Value) -> Error {
        invalid(&format!("{} \"{key}\"", self.kind), expected, got)
    }

    /// A string.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.reject(key, "a string", other)),
        }
    }

    /// A list of strings; empty when absent.
    pub fn names(&self, key: &str) -> Result<Vec<String>> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let names = || -> Option<Vec<String>> {
            value.as_array()?.iter().map(|name| Some(name.as_str()?.to_owned())).collect()
        };
        names().ok_or_else(|| self.reject(key, "an array of strings", value))
    }

    /// A list of numbers.
    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let numbers = || -> Option<Vec<f64>> { value.as_array()?.iter().map(Value::as_f64).collect() };
        numbers().map(Some).ok_or_else(|| self.reject(key, "an array of numbers", value))
    }

    /// True or false.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => Err(self.reject(key, "true or false", other)),
        }
    }

    /// A whole number within bounds, both included.
    pub fn integer(&self, key: &str, least: usize, most: usize) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value
            .as_u64()
            .and_then(|number| usize::try_from(number).ok())
            .filter(|number| (least..=most).contains(number))
            .map(Some)
            .ok_or_else(|| self.reject(key, &format!("an integer from {least} to {most}"), value))
    }

    /// A number within a domain.
    pub fn number(&self, key: &str, expected: &str, within: impl Fn(f64) -> bool) -> Result<Option<f64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value
            .as_f64()
            .filter(|&number| within(number))
            .map(Some)
            .ok_or_else(|| self.reject(key, expected, value))
    }
}

fn invalid(name: &str, expected: &str, got: &Value) -> Error {
    Error::InvalidArgument {
        name: name.to_owned(),
        expected: expected.to_owned(),
        got: got.to_string(),
        hint: None,
    }
}

/// The softmax temperature, as a call or a registration gives it.
pub fn temperature(given: &Given) -> Result<Option<f64>> {
    given.number("temperature", "a number greater than 0 and at most 100", |t| (1e-3..=100.0).contains(&t))
}

/// The three knobs of sampling; docs/adr/0003 has the reason for their defaults.
fn sampling(given: &Given) -> Result<Sampling> {
    let temperature = temperature(given)?.unwrap_or(1.0);
    let top_k = given.integer("top_k", 0, u32::MAX as usize)?;
    let top_p = given.number("top_p", "a number greater than 0 and at most 1", |p| p > 1e-9 && p <= 1.0)?;
    Ok(Sampling::new(temperature as f32, top_k.unwrap_or(0), top_p.unwrap_or(1.0) as f32)?)
}

fn columns(given: &Given) -> Result<ColumnNames> {
    let map = match given.get("columns") {
        None => return Ok(ColumnNames::default()),
        Some(Value::Object(map)) => map.clone(),
        Some(other) => {
            return Err(given.reject("columns", "an object such as {\"close\":\"px_last\"}", other));
        }
    };
    // Null has a meaning here, unlike in the options themselves: the relation has no such column.
    let absent = |key: &str| map.get(key).is_some_and(Value::is_null);
    let (no_volume, no_amount) = (absent("volume"), absent("amount"));
    let names = Given::new(map, "column", COLUMN_KEYS)?;
    let name = |key| Ok::<_, Error>(names.text(key)?.map(str::to_owned));
    Ok(ColumnNames {
        open: name("open")?,
        high: name("high")?,
        low: name("low")?,
        close: name("close")?,
        volume: if no_volume { Some(None) } else { name("volume")?.map(Some) },
        amount: if no_amount { Some(None) } else { name("amount")?.map(Some) },
    })
}

/// The option `on_error`.
pub fn on_error(given: &Given) -> Result<OnError> {
    match given.text("on_error")? {
        None | Some("status") => Ok(OnError::Status),
        Some("error") => Ok(OnError::Error),
        Some(other) => Err(invalid("option \"on_error\"", "\"status\" or \"error\"", &Value::from(other))),
    }
}

/// An interval as the width of a bar: either months, or days, or a time.
pub fn width(text: &str) -> Result<Width> {
    let reject = |expected: &str| {
        Err(Error::InvalidArgument {
            name: "option \"bucket_width\"".into(),
            expected: expected.into(),
            got: format!("\"{text}\""),
            hint: None,
        })
    };
    let Ok(input) = CString::new(text) else { return reject("an interval") };
    match interval(&input) {
        None => reject("an interval"),
        Some(interval) => calendar::width(&interval).map_or_else(|| reject(Width::DOMAIN), Ok),
    }
}

/// An instant as SQL writes it, the value of an option.
///
/// # Errors
/// 22007 and 22008, raised by the server.
#[allow(unsafe_code)]
pub fn timestamp(name: &str, text: &str) -> Result<Instant> {
    let reject = || Error::InvalidArgument {
        name: format!("option \"{name}\""),
        expected: "a timestamp".into(),
        got: format!("\"{text}\""),
        hint: None,
    };
    let input = CString::new(text).map_err(|_| reject())?;
    // SAFETY: timestamptz_in takes a C string, an unused OID and a type modifier; it raises an error for other text.
    let datum = unsafe {
        pgrx::direct_function_call::<Instant>(
            pg_sys::timestamptz_in,
            &[
                Some(pg_sys::Datum::from(input.as_ptr())),
                pg_sys::InvalidOid.into_datum(),
                (-1i32).into_datum(),
            ],
        )
    };
    datum.ok_or_else(reject)
}

#[allow(unsafe_code)]
fn interval(input: &CString) -> Option<Interval> {
    // SAFETY: interval_in takes a C string, an unused OID and a type modifier; it raises 22007 for other text.
    unsafe {
        direct_function_call(
            pg_sys::interval_in,
            &[
                Some(pg_sys::Datum::from(input.as_ptr())),
                pg_sys::InvalidOid.into_datum(),
                (-1i32).into_datum(),
            ],
        )
    }
}
