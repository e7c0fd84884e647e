//! Where models run: one request, one reply, both plain data.
//!
//! Callers know nothing of threads, processes or devices. Today every request is answered by [`local`], a helper
//! thread of the calling backend; whatever answers it tomorrow has to take a [`Request`] and give a [`Reply`], and can
//! do so at the other end of a socket, for neither holds a pointer, a lock or anything of PostgreSQL.

mod cache;
mod local;

use crate::error::{Error, Result};
use crate::guc;
use kronos_models::bars::{BarOptions, BarPaths, BarRequest};
use kronos_models::error::ModelError;
use kronos_models::kronos::KronosFiles;
use std::path::PathBuf;

/// A model as an engine finds it: the files of one registered version.
#[derive(Debug, Clone)]
pub struct ModelSource {
    /// `name@digest`, the key of every cache.
    pub version: String,
    /// Where the weights lie.
    pub files: KronosFiles,
    /// Files with their registered SHA-256 in hexadecimal, checked when the model is loaded.
    pub checksums: Vec<(PathBuf, String)>,
}

/// What the asking session allows, fixed when the request is made.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// CPU threads.
    pub threads: usize,
    /// Bytes that models and their working memory may take together.
    pub memory: u64,
}

impl Limits {
    /// The limits the settings of this session give.
    pub fn from_settings() -> Self {
        Self { threads: guc::threads(), memory: guc::max_cpu_memory() }
    }
}

/// What an engine can be asked.
#[derive(Debug)]
pub enum Request {
    /// Draw sample paths for each series.
    Bars {
        /// The model.
        model: ModelSource,
        /// One entry per series.
        series: Vec<BarRequest>,
        /// Shared by all of them.
        options: BarOptions,
    },
    /// Load a model ahead of its first use.
    Load(ModelSource),
    /// Give the memory of a model version back.
    Unload(String),
}

/// What an engine answers.
#[derive(Debug)]
pub enum Reply {
    /// Paths, or the reason there are none, in the order of the request's series.
    Bars(Vec<Result<BarPaths, ModelError>>),
    /// The model is loaded.
    Load,
    /// Whether the version had been loaded.
    Unload(bool),
}

/// Why an engine has no reply.
#[derive(Debug)]
pub enum Failure {
    /// The model or its files refused.
    Model(ModelError),
    /// The engine itself broke; it is replaced before the next request.
    Broken {
        /// What is known of the cause.
        reason: String,
    },
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        Self::Model(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Model(error) => Self::Model(error),
            Failure::Broken { reason } => Self::EngineFailed { reason },
        }
    }
}

/// Draws sample paths.
///
/// # Errors
/// What concerns the model; what concerns one series is in its own place of the result.
pub fn bars(
    model: &ModelSource,
    series: Vec<BarRequest>,
    options: BarOptions,
) -> Result<Vec<Result<BarPaths, ModelError>>> {
    let asked = series.len();
    match local::call(Request::Bars { model: model.clone(), series, options })? {
        Reply::Bars(paths) if paths.len() == asked => Ok(paths),
        _ => Err(mismatch()),
    }
}

/// Loads a model, unless it is loaded.
pub fn load(model: ModelSource) -> Result<()> {
    match local::call(Request::Load(model))? {
        Reply::Load => Ok(()),
        _ => Err(mismatch()),
    }
}

/// Gives the memory of a model version back; whether it had been loaded.
pub fn unload(version: &str) -> Result<bool> {
    match local::call(Request::Unload(version.to_owned()))? {
        Reply::Unload(was_loaded) => Ok(was_loaded),
        _ => Err(mismatch()),
    }
}

fn mismatch() -> Error {
    Error::Internal { what: "the engine gave a reply of another kind than asked for".into() }
}
