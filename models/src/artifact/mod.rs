//! Reading model directories in the Hugging Face layout: `config.json` and `model.safetensors`, strictly and bounded.
//!
//! A database reads these files on behalf of whoever registered them, so every byte is suspect: nothing is allocated
//! before the file as a whole has been found consistent with itself and with what the model expects, and no memory
//! beyond the decoded tensors is used. The files are read, not mapped: a mapped file that is truncated or replaced
//! while a tensor is decoded raises SIGBUS, which ends the process instead of the query.

mod config;
mod digest;
mod header;
mod tensors;

pub use config::read_config;
pub use digest::{sha256_file, verify};
pub use tensors::read_tensors;

use crate::error::{ModelError, Result};
use candle_core::Tensor;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// What the model does with a tensor of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorRole {
    /// Must be there with the given shape.
    Required,
    /// Read when there; its shape is checked.
    Optional,
    /// A buffer the model recomputes; may be there, is not read.
    Ignored,
}

/// One tensor a model knows of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Key in the file, exactly as upstream writes it.
    pub name: String,
    /// Dimensions; empty for a buffer that is not read.
    pub shape: Vec<usize>,
    /// What is done with it.
    pub role: TensorRole,
}

impl TensorSpec {
    /// A tensor that must be there.
    pub fn required(name: impl Into<String>, shape: impl Into<Vec<usize>>) -> Self {
        Self { name: name.into(), shape: shape.into(), role: TensorRole::Required }
    }

    /// A tensor that is read when there.
    pub fn optional(name: impl Into<String>, shape: impl Into<Vec<usize>>) -> Self {
        Self { name: name.into(), shape: shape.into(), role: TensorRole::Optional }
    }

    /// A buffer that may be there in any shape and is not read.
    pub fn ignored(name: impl Into<String>) -> Self {
        Self { name: name.into(), shape: Vec::new(), role: TensorRole::Ignored }
    }
}

/// Tensors by key.
pub type Tensors = HashMap<String, Tensor>;

/// Opens a regular file for reading and tells its length in bytes.
fn open(path: &Path) -> Result<(File, u64)> {
    // Asked before opening because opening a named pipe waits for a writer, and no signal can end that wait here.
    let metadata = fs::metadata(path).map_err(|error| io_error(path, error))?;
    if metadata.is_dir() {
        return Err(corrupt(path, "it is a directory, a file was expected"));
    }
    if !metadata.is_file() {
        return Err(corrupt(path, "it is not a regular file"));
    }
    let file = File::open(path).map_err(|error| io_error(path, error))?;
    let length = file.metadata().map_err(|error| io_error(path, error))?.len();
    Ok((file, length))
}

/// Maps the system's reason to [`ModelError::ArtifactMissing`] or [`ModelError::ArtifactIo`].
fn io_error(path: &Path, source: io::Error) -> ModelError {
    let path = path.to_path_buf();
    match source.kind() {
        io::ErrorKind::NotFound => ModelError::ArtifactMissing { path },
        _ => ModelError::ArtifactIo { path, source },
    }
}

fn corrupt(path: &Path, reason: impl Into<String>) -> ModelError {
    ModelError::ArtifactCorrupt { path: path.to_path_buf(), reason: reason.into() }
}
