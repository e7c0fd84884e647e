//! Where models run: one request, one answer, both plain data.
//!
//! With `kronos.service` on, requests go to the one engine of the server ([`crate::service`]); with it off, or where
//! there is no server but a single process, to an engine of the same kind inside the backend ([`local`]). Which one it
//! was cannot be told from the numbers.
#![allow(unsafe_code)] // one variable of the server

mod local;
pub mod wait;

use crate::error::{Error, Result};
use crate::guc;
use crate::service::client;
use kronos_engine::answer::Answer;
use kronos_engine::message::{Refusal, Request, Status};
use kronos_models::answer::Forecast;
use kronos_models::ask::{Ask, Terms};
use kronos_models::error::ModelError;
use pgrx::pg_sys;

pub use kronos_engine::message::{FilePath, ModelSource};

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Model(fault) => Self::Model(fault.into()),
            Refusal::QueueFull { limit } => Self::QueueFull { limit },
            Refusal::Broken { reason } => Self::EngineFailed { reason },
            Refusal::Protocol { reason } => Self::Internal { what: reason },
        }
    }
}

fn call(request: Request) -> Result<Answer> {
    if is_served() { client::call(&request) } else { local::call(request) }
}

/// Whether requests go to the engine that all sessions share.
pub fn is_served() -> bool {
    // SAFETY: a plain variable of the server, read on its only thread.
    guc::service() && unsafe { pg_sys::IsUnderPostmaster }
}

/// Forecasts series on the same terms.
///
/// # Errors
/// What concerns the model; what concerns one series is in its own place of the result.
pub fn forecasts(
    model: &ModelSource,
    series: Vec<Ask>,
    terms: Terms,
) -> Result<Vec<Result<Forecast, ModelError>>> {
    let asked = series.len();
    match call(Request::Forecast { model: model.clone(), series, terms })? {
        Answer::Series(series) if series.len() == asked => Ok(series),
        _ => Err(mismatch()),
    }
}

/// Loads a model, unless it is loaded.
pub fn load(model: ModelSource) -> Result<()> {
    match call(Request::Load(model))? {
        Answer::Loaded(_) => Ok(()),
        _ => Err(mismatch()),
    }
}

/// Gives the memory of a model version back; whether it had been loaded.
pub fn unload(version: &str) -> Result<bool> {
    match call(Request::Unload(version.to_owned()))? {
        Answer::Unloaded(was_loaded) => Ok(was_loaded),
        _ => Err(mismatch()),
    }
}

/// What the engine holds and does; `None` when no engine has been asked for anything yet.
pub fn status() -> Result<Option<Box<Status>>> {
    if is_served() && !client::is_expected() {
        return Ok(None);
    }
    match call(Request::Status)? {
        Answer::Status(status) => Ok(Some(status)),
        _ => Err(mismatch()),
    }
}

/// Begins all statistics anew.
pub fn reset_statistics() -> Result<()> {
    if is_served() && !client::is_expected() {
        return Ok(());
    }
    match call(Request::ResetStatistics)? {
        Answer::Acknowledged => Ok(()),
        _ => Err(mismatch()),
    }
}

fn mismatch() -> Error {
    Error::Internal { what: "the engine gave an answer of another kind than asked for".into() }
}
