//! The list of the models that come with the extension.

use crate::artifact::{self, Manifest};
use crate::checkpoint::write_atomically;
use crate::error::{Result, TrainError};
use kronos_job::JobError;
use kronos_models::ModelError;
use kronos_models::artifact::read_config;
use kronos_models::families::FAMILIES;
use kronos_models::family::{self, Description, Directory};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The list, in the folder of artifacts.
const LIST: &str = "manifest.json";

/// Puts the chosen version of a model into `manifest.json`, in the place of an older one, and gives its directory.
///
/// # Errors
/// [`TrainError::Job`] when there is no version that `kronos-train` wrote; what its files and the list are refused for.
pub fn publish(root: &Path, name: &str) -> Result<PathBuf> {
    let version = artifact::chosen(root, name)?;
    let Some(manifest) = artifact::open(&version)? else {
        let text = format!("\"{}\" is no artifact of this program", version.display());
        return Err(JobError::Invalid(text).into());
    };
    let path = root.join(LIST);
    let mut models = match read_config::<Value>(&path) {
        Ok(mut list) => list["models"].as_array_mut().map(std::mem::take).unwrap_or_default(),
        Err(ModelError::ArtifactMissing { .. }) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    models.retain(|model| model["name"] != json!(name));
    models.push(entry(&manifest, &version)?);
    write_atomically(&path, &artifact::pretty(&json!({ "models": models }))?)?;
    Ok(version)
}

/// What the list says of a version: of its files those that the family reads.
fn entry(manifest: &Manifest, version: &Path) -> Result<Value> {
    let described = described(&manifest.family, version, &BTreeMap::new())?;
    let digest = |(file, _): &(PathBuf, _)| {
        let file = file.to_string_lossy().into_owned();
        let digest = manifest.files.get(&file)?.clone();
        Some((file, Value::from(digest)))
    };
    let files: Map<String, Value> = described.files.iter().filter_map(digest).collect();
    let digest = version.file_name().unwrap_or_default().to_string_lossy();
    Ok(json!({
        "name": manifest.name,
        "family": manifest.family,
        "directory": format!("{}/{digest}", manifest.name),
        "train_cutoff": manifest.train_cutoff,
        "license": manifest.licence,
        "options": manifest.options,
        "files": files,
    }))
}

/// What a directory of a model holds, by paths within it.
pub(super) fn described(
    family: &str,
    directory: &Path,
    parts: &BTreeMap<&'static str, PathBuf>,
) -> Result<Description> {
    let locate = |path: &Path| directory.join(path);
    let within = Directory { path: Path::new(""), parts, locate: &locate };
    family::find(FAMILIES, family)?.describe(&within).map_err(|error| {
        let reason = error.to_string();
        TrainError::Model(ModelError::ArtifactCorrupt { path: directory.to_path_buf(), reason })
    })
}
