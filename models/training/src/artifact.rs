//! Artifacts: what a finished run leaves behind, one directory per version, and pointers to the versions in use.
//!
//! ```text
//! <root>/<name>/<digest>/model.safetensors   weights (a family may have several files, also in folders)
//!                        config.json         architecture
//!                        scaler.json         how values are scaled
//!                        METRICS.json        scores, with naive baselines beside them
//!                        VERSION             format of the directory, name and digest
//!                        artifact.json       data fingerprint, train cutoff, licence, seed, command, SHA-256 of each file
//! <root>/<name>/latest                       digest of the version written last
//! <root>/<name>/promoted                     digest of the version that a person has chosen
//! ```
//!
//! A directory appears under its name complete or not at all, and never changes afterwards. A directory without VERSION is
//! one that another trainer published: it is read as it always was, only that nothing is known of its files.

use super::checkpoint::{failed, write_atomically};
use super::error::{Result, TrainError};
use super::panel::hexadecimal;
use kronos_job::JobError;
use kronos_models::artifact::{read_config, verify};
use kronos_models::error::ModelError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// The newest layout of the directory that this code knows.
pub const FORMAT: u32 = 1;

/// Digits of a digest that name a directory.
const DIGITS: usize = 12;

/// First word of `VERSION`.
const MARK: &str = "kronos-artifact";

/// What is known of an artifact beside its files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Name, without the digest.
    pub name: String,
    /// Family of models.
    pub family: String,
    /// Last day, as YYYY-MM-DD, of which the weights have seen data.
    pub train_cutoff: Option<String>,
    /// Licence of the weights.
    pub licence: String,
    /// Where the data come from: text for people, and the fingerprint of what was read.
    pub data: DataNote,
    /// Seed of the run.
    pub seed: i64,
    /// The command that repeats the run.
    pub command: String,
    /// Options of `register_model()` that the model is registered with.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, Value>,
    /// SHA-256 of every other file, by its path within the directory.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

/// What a model was trained on.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct DataNote {
    /// Where the data come from and under which licence.
    pub source: String,
    /// [`Panel::fingerprint`](super::Panel::fingerprint) of all rows read, hold-out included.
    pub fingerprint: String,
    /// Number of series.
    pub series: usize,
    /// Number of rows.
    pub rows: usize,
}

/// What is to become an artifact.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The manifest; the digests are filled in.
    pub manifest: Manifest,
    /// Path of the file whose SHA-256 names the version.
    pub weights: String,
    /// Files by their paths within the directory.
    pub files: Vec<(String, Vec<u8>)>,
    /// Scores.
    pub metrics: Value,
}

/// A written version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its directory.
    pub directory: PathBuf,
    /// Name of the directory: the first digits of the SHA-256 of the weights.
    pub digest: String,
    /// SHA-256 of the weights.
    pub sha256: String,
}

impl Draft {
    /// Writes the directory below `root`, then moves the pointer `latest`.
    ///
    /// # Errors
    /// [`TrainError::Write`]; `InvalidParameter` for a name or path that leads elsewhere.
    pub fn write(mut self, root: &Path) -> Result<Version> {
        check_name(&self.manifest.name)?;
        let find = |path: &str| self.files.iter().find(|(name, _)| name == path);
        let Some((_, weights)) = find(&self.weights) else {
            return Err(super::error::invalid("weights", "one of the files", &self.weights));
        };
        let sha256 = hexadecimal(&Sha256::digest(weights));
        let digest = sha256[..DIGITS].to_owned();
        self.files.push(("METRICS.json".into(), pretty(&self.metrics)?));
        self.files.push((
            "VERSION".into(),
            format!("{MARK} {FORMAT}\n{} {digest}\n", self.manifest.name).into_bytes(),
        ));
        for (path, bytes) in &self.files {
            inside(path)?;
            self.manifest.files.insert(path.clone(), hexadecimal(&Sha256::digest(bytes)));
        }
        self.files.push(("artifact.json".into(), pretty(&self.manifest)?));

        let home = root.join(&self.manifest.name);
        let (directory, partial) = (home.join(&digest), home.join(format!(".{digest}.partial")));
        // A directory left by a run that was killed while writing.
        match fs::remove_dir_all(&partial) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(&partial, error));
            }
            _ => {}
        }
        for (path, bytes) in &self.files {
            let path = partial.join(path);
            let folder = path.parent().unwrap_or(&partial);
            fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
            write_atomically(&path, bytes)?;
        }
        if directory.exists() {
            // The same weights again, from a run that was repeated: what was written first stays.
            fs::remove_dir_all(&partial).map_err(|error| failed(&partial, error))?;
        } else {
            fs::rename(&partial, &directory).map_err(|error| failed(&directory, error))?;
        }
        write_atomically(&home.join(LATEST), format!("{digest}\n").as_bytes())?;
        Ok(Version { directory, digest, sha256 })
    }
}

/// Pointer to the version written last.
pub const LATEST: &str = "latest";

/// Pointer to the version that a person has chosen.
pub const PROMOTED: &str = "promoted";

/// Makes a version the chosen one, after its files have been found intact.
///
/// # Errors
/// What [`open`] says of the directory; [`TrainError::Write`].
pub fn promote(root: &Path, name: &str, digest: &str) -> Result<PathBuf> {
    check_name(name)?;
    check_name(digest)?;
    let directory = root.join(name).join(digest);
    open(&directory)?;
    write_atomically(&root.join(name).join(PROMOTED), format!("{digest}\n").as_bytes())?;
    Ok(directory)
}

/// The directory that a pointer means; `None` when there is no such pointer.
///
/// # Errors
/// `ArtifactCorrupt` when the pointer holds anything but the name of a directory beside it.
pub fn pointed(root: &Path, name: &str, pointer: &str) -> Result<Option<PathBuf>> {
    check_name(name)?;
    let path = root.join(name).join(pointer);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|source| ModelError::ArtifactIo { path: path.clone(), source })?,
    };
    let digest = text.trim();
    check_name(digest).map_err(|error| corrupt(&path, error.to_string()))?;
    Ok(Some(root.join(name).join(digest)))
}

/// The directory of the promoted version of a model, of the latest where none is, its files found intact.
///
/// # Errors
/// [`JobError::Invalid`] when there is no version; what [`open`] says of the directory.
pub fn chosen(root: &Path, name: &str) -> Result<PathBuf> {
    let Some(directory) = pointed(root, name, PROMOTED)?.or(pointed(root, name, LATEST)?) else {
        let text = format!("there is no version of \"{name}\" in \"{}\"", root.display());
        return Err(JobError::Invalid(text).into());
    };
    open(&directory)?;
    Ok(directory)
}

/// Opens an artifact: reads its manifest and compares every file with its digest.
///
/// `None` for a directory without VERSION, which no trainer of ours wrote.
///
/// # Errors
/// `ArtifactCorrupt` for a directory of a newer format or a damaged manifest, `ChecksumMismatch` and `ArtifactMissing` for
/// its files.
pub fn open(directory: &Path) -> Result<Option<Manifest>> {
    let path = directory.join("VERSION");
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|source| ModelError::ArtifactIo { path: path.clone(), source })?,
    };
    let format = text.strip_prefix(MARK).and_then(|rest| rest.split_whitespace().next()?.parse::<u32>().ok());
    match format {
        Some(format) if (1..=FORMAT).contains(&format) => {}
        Some(format) => {
            let reason = format!("its format is {format}, this version reads formats up to {FORMAT}");
            return Err(corrupt(&path, reason).into());
        }
        None => return Err(corrupt(&path, format!("it does not begin with \"{MARK}\"")).into()),
    }
    let manifest: Manifest = read_config(&directory.join("artifact.json"))?;
    for (file, sha256) in &manifest.files {
        inside(file).map_err(|error| corrupt(&directory.join("artifact.json"), error.to_string()))?;
        verify(&directory.join(file), sha256)?;
    }
    Ok(Some(manifest))
}

/// JSON as people read it, for a file of an artifact.
pub fn pretty(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|error| super::error::invalid("metrics", "numbers that JSON can hold", error))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// One component of a path, of letters that need no quoting.
fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        return Err(super::error::invalid(
            "name",
            "letters, digits, '.', '_' and '-', not first a '.'",
            name,
        ));
    }
    Ok(())
}

/// A relative path that stays inside.
fn inside(path: &str) -> Result<()> {
    let plain = |component: Component<'_>| matches!(component, Component::Normal(_));
    if path.is_empty() || !Path::new(path).components().all(plain) {
        return Err(super::error::invalid("file of an artifact", "a path inside its directory", path));
    }
    Ok(())
}

fn corrupt(path: &Path, reason: String) -> ModelError {
    ModelError::ArtifactCorrupt { path: path.to_path_buf(), reason }
}

/// A tensor of f32 as it is written: name, shape, values in row-major order.
pub type NamedTensor = (String, Vec<usize>, Vec<f32>);

/// The bytes of a safetensors file of f32 tensors, in the order of the list.
///
/// # Errors
/// `Backend` when a tensor's values do not fill its shape.
pub fn safetensors(tensors: &[NamedTensor]) -> Result<Vec<u8>> {
    use safetensors::tensor::{Dtype, TensorView, serialize};
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, _, values)| values.iter().flat_map(|value| value.to_le_bytes()).collect())
        .collect();
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, shape, _), bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
    let bytes = views.and_then(|views| serialize(views, None));
    bytes.map_err(|error| TrainError::Model(ModelError::Backend(candle_core::Error::wrap(error))))
}

/// The tensors of a network's parameters, for [`safetensors`].
pub fn parameters(parameters: &[super::Parameter]) -> Result<Vec<NamedTensor>> {
    let values = super::trainable::weights(parameters)?;
    let named = parameters.iter().zip(values);
    Ok(named
        .map(|(parameter, values)| (parameter.name.clone(), parameter.var.dims().to_vec(), values))
        .collect())
}
