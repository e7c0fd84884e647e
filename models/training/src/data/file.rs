//! What is said of a file, whatever its form.

use crate::error::TrainError;
use std::path::{Path, PathBuf};

/// Name of the series of a file without a column for it.
pub(super) fn series(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split('.').next().unwrap_or_default().to_owned()
}

/// What is wrong at a place of it.
pub(super) fn error(path: &Path, place: String, reason: impl Into<String>) -> TrainError {
    TrainError::Data { path: PathBuf::from(path), place, reason: reason.into() }
}
