//! Objects of options: each key checked once, none ignored.

use crate::calendar::{self, Instant, Width};
use crate::error::{Error, Result};
use crate::json::JsonB;
use pgrx::datum::Interval;
use pgrx::{IntoDatum, direct_function_call, pg_sys};
use serde_json::{Map, Value};
use std::ffi::CString;

/// What to do about a series that cannot be forecast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// Say so in one row; go on with the others.
    #[default]
    Status,
    /// Raise an error.
    Error,
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

    /// Whether a key has a value.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Whether a key is there and null, where that has a meaning of its own.
    pub fn is_null(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(Value::is_null)
    }

    /// An object within this one, whose keys are called `kind`.
    pub fn object(
        &self,
        key: &str,
        kind: &'static str,
        valid: &[&str],
        example: &str,
    ) -> Result<Option<Self>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Self::new(map.clone(), kind, valid).map(Some),
            Some(other) => Err(self.reject(key, &format!("an object such as {example}"), other)),
        }
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

/// The refusal of a value.
pub fn invalid(name: &str, expected: &str, got: &Value) -> Error {
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
