//! `config.json`.

use super::{corrupt, io_error, open};
use crate::error::Result;
use serde::de::DeserializeOwned;
use std::io::Read;
use std::path::Path;

/// Far above any model's configuration (the published ones have 300 bytes), far below what would hurt.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Reads a JSON configuration; keys that `T` does not name are ignored, because upstream adds them freely.
///
/// # Errors
/// [`ModelError::ArtifactMissing`], [`ModelError::ArtifactIo`], and [`ModelError::ArtifactCorrupt`] naming the key
/// when the file is not JSON, a key is missing or of another type, or the file exceeds 1 MiB.
///
/// [`ModelError::ArtifactMissing`]: crate::ModelError::ArtifactMissing
/// [`ModelError::ArtifactIo`]: crate::ModelError::ArtifactIo
/// [`ModelError::ArtifactCorrupt`]: crate::ModelError::ArtifactCorrupt
pub fn read_config<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let (file, length) = open(path)?;
    if length > MAX_CONFIG_BYTES {
        let reason = format!("configuration has {length} bytes, at most {MAX_CONFIG_BYTES} are accepted");
        return Err(corrupt(path, reason));
    }
    let mut bytes = Vec::new();
    // The cap again: a file may grow between the question for its length and the reading.
    file.take(MAX_CONFIG_BYTES).read_to_end(&mut bytes).map_err(|error| io_error(path, error))?;

    let mut json = serde_json::Deserializer::from_slice(&bytes);
    let config = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let key = error.path().to_string();
        let cause = error.into_inner();
        // Outside any key (not an object, a missing key, bad syntax) the path is "." or "?" and says nothing.
        match key.as_str() {
            "." | "?" => corrupt(path, cause.to_string()),
            _ => corrupt(path, format!("key \"{key}\": {cause}")),
        }
    })?;
    json.end().map_err(|error| corrupt(path, error.to_string()))?;
    Ok(config)
}
