//! [`ModelError`] as it travels.
//!
//! It mirrors the error variant by variant, without a catch-all, so that the caller in another process gets the very
//! error it would have had in its own.

use crate::path;
use kronos_models::error::ModelError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// A [`ModelError`] in plain data; the fields are those of its variants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // each variant is the one of ModelError by the same name
pub enum Fault {
    InvalidParameter {
        name: String,
        expected: String,
        got: String,
    },
    ShapeMismatch {
        what: String,
        got: usize,
        expected: usize,
    },
    ContextTooShort {
        needed: usize,
        got: usize,
    },
    HorizonTooLong {
        horizon: usize,
        max_context: usize,
    },
    MissingValue {
        what: String,
        index: usize,
    },
    ArtifactMissing {
        #[serde(with = "path")]
        path: PathBuf,
    },
    ArtifactIo {
        #[serde(with = "path")]
        path: PathBuf,
        code: Option<i32>,
        reason: String,
    },
    ArtifactCorrupt {
        #[serde(with = "path")]
        path: PathBuf,
        reason: String,
    },
    ChecksumMismatch {
        #[serde(with = "path")]
        path: PathBuf,
        expected: String,
        actual: String,
    },
    UnknownFamily {
        family: String,
        known: Vec<String>,
    },
    Unsupported {
        family: String,
        capability: String,
    },
    MemoryLimit {
        what: String,
        needed: u64,
        limit: u64,
    },
    OutOfMemory {
        what: String,
        needed: u64,
    },
    NonFinite {
        step: usize,
    },
    Cancelled,
    Backend {
        reason: String,
    },
}

impl From<ModelError> for Fault {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::InvalidParameter { name, expected, got } => {
                Self::InvalidParameter { name: name.into(), expected, got }
            }
            ModelError::ShapeMismatch { what, got, expected } => {
                Self::ShapeMismatch { what: what.into(), got, expected }
            }
            ModelError::ContextTooShort { needed, got } => Self::ContextTooShort { needed, got },
            ModelError::HorizonTooLong { horizon, max_context } => {
                Self::HorizonTooLong { horizon, max_context }
            }
            ModelError::MissingValue { what, index } => Self::MissingValue { what: what.into(), index },
            ModelError::ArtifactMissing { path } => Self::ArtifactMissing { path },
            ModelError::ArtifactIo { path, source } => {
                Self::ArtifactIo { path, code: source.raw_os_error(), reason: source.to_string() }
            }
            ModelError::ArtifactCorrupt { path, reason } => Self::ArtifactCorrupt { path, reason },
            ModelError::ChecksumMismatch { path, expected, actual } => {
                Self::ChecksumMismatch { path, expected, actual }
            }
            ModelError::UnknownFamily { family, known } => Self::UnknownFamily { family, known },
            ModelError::Unsupported { family, capability } => {
                Self::Unsupported { family: family.into(), capability }
            }
            ModelError::MemoryLimit { what, needed, limit } => {
                Self::MemoryLimit { what: what.into(), needed, limit }
            }
            ModelError::OutOfMemory { what, needed } => Self::OutOfMemory { what: what.into(), needed },
            ModelError::NonFinite { step } => Self::NonFinite { step },
            ModelError::Cancelled => Self::Cancelled,
            ModelError::Backend(source) => Self::Backend { reason: source.to_string() },
        }
    }
}

impl From<Fault> for ModelError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::InvalidParameter { name, expected, got } => {
                Self::InvalidParameter { name: lasting(name), expected, got }
            }
            Fault::ShapeMismatch { what, got, expected } => {
                Self::ShapeMismatch { what: lasting(what), got, expected }
            }
            Fault::ContextTooShort { needed, got } => Self::ContextTooShort { needed, got },
            Fault::HorizonTooLong { horizon, max_context } => Self::HorizonTooLong { horizon, max_context },
            Fault::MissingValue { what, index } => Self::MissingValue { what: lasting(what), index },
            Fault::ArtifactMissing { path } => Self::ArtifactMissing { path },
            Fault::ArtifactIo { path, code, reason } => {
                let source = code.map_or_else(|| io::Error::other(reason), io::Error::from_raw_os_error);
                Self::ArtifactIo { path, source }
            }
            Fault::ArtifactCorrupt { path, reason } => Self::ArtifactCorrupt { path, reason },
            Fault::ChecksumMismatch { path, expected, actual } => {
                Self::ChecksumMismatch { path, expected, actual }
            }
            Fault::UnknownFamily { family, known } => Self::UnknownFamily { family, known },
            Fault::Unsupported { family, capability } => {
                Self::Unsupported { family: lasting(family), capability }
            }
            Fault::MemoryLimit { what, needed, limit } => {
                Self::MemoryLimit { what: lasting(what), needed, limit }
            }
            Fault::OutOfMemory { what, needed } => Self::OutOfMemory { what: lasting(what), needed },
            Fault::NonFinite { step } => Self::NonFinite { step },
            Fault::Cancelled => Self::Cancelled,
            Fault::Backend { reason } => Self::Backend(candle_core::Error::Msg(reason)),
        }
    }
}

/// Names of parameters that may be kept for the life of the process.
const NAMES: usize = 64;

/// The text as [`ModelError`] wants its names: for the life of the process.
///
/// There is a handful of them, fixed in the code of the models; each is kept once, and past [`NAMES`] none is.
fn lasting(text: String) -> &'static str {
    static KEPT: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = kept.get(text.as_str()) {
        return known;
    }
    if kept.len() == NAMES {
        return "a parameter";
    }
    let text: &'static str = Box::leak(text.into_boxed_str());
    kept.insert(text);
    text
}
