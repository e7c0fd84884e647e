//! The models that come with the extension.
//!
//! They are files of the installation, in the server's share directory beside a list of them, and are registered by
//! CREATE EXTENSION. A dump leaves them out: the server that restores it brings its own.

use super::register::{Described, Registration, describe};
use crate::error::{Error, Result};
use crate::guc;
use crate::json::JsonB;
use crate::options::Given;
use pgrx::prelude::*;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The model of bars that answers where none is configured.
pub const KRONOS_NANO: &str = "kronos-nano";

/// The list, beside the models.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    models: Vec<BuiltIn>,
}

/// One model of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BuiltIn {
    name: String,
    family: String,
    /// Relative to the list.
    directory: String,
    train_cutoff: String,
    license: String,
    /// Options of `kronos.register_model()`.
    options: Value,
    /// SHA-256 of the files that the model is made of, relative to its directory.
    files: BTreeMap<String, String>,
}

/// Registers every model of the list; returns how many there are, 0 where none is installed.
pub fn register_built_in() -> Result<i32> {
    let path = guc::share_dir().join("manifest.json");
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            pgrx::notice!("no models are installed with the extension");
            return Ok(0);
        }
        text => text.map_err(|error| damaged(&path, &error))?,
    };
    let manifest: Manifest = serde_json::from_str(&text).map_err(|error| damaged(&path, &error))?;
    let count = manifest.models.len();
    for model in manifest.models {
        register(model, &path)?;
    }
    Ok(i32::try_from(count).unwrap_or(i32::MAX))
}

fn register(model: BuiltIn, manifest: &Path) -> Result<()> {
    let directory = Path::new(guc::SHARE).join(&model.directory);
    let cutoff = model.train_cutoff.parse::<Date>().map_err(|error| damaged(manifest, &error))?;
    let options = Given::options(Some(JsonB(model.options)), &super::family::option_keys())?;
    let registration = Registration {
        name: model.name,
        family: Some(model.family),
        uri: directory.to_string_lossy().into_owned(),
        sha256: None,
        train_cutoff: Some(cutoff),
        license: None,
        options: None,
    };
    // Not loaded here: every load compares the digests, and a restore should not wait for inference.
    let described: Described = describe(registration, &directory, &options, true)?;
    for (file, sha256) in described.entry.files() {
        let expected = Path::new(file).strip_prefix(&directory).ok().and_then(Path::to_str);
        if expected.and_then(|file| model.files.get(file)).map(String::as_str) != Some(sha256) {
            return Err(Error::ChecksumMismatch {
                path: guc::model_path(Path::new(file)),
                expected: expected.and_then(|file| model.files.get(file)).cloned().unwrap_or_default(),
                actual: sha256.to_owned(),
            });
        }
    }
    described.store(&directory, Some(model.license))
}

fn damaged(path: &Path, reason: &dyn std::fmt::Display) -> Error {
    Error::DamagedManifest { path: path.to_path_buf(), reason: reason.to_string() }
}
