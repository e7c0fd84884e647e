//! The catalogue of models: which version a name means, and where its files lie.
//!
//! Reading goes through the view `kronos.models` as the caller, and never writes: it serves read-only transactions
//! and hot standbys. Writing is [`register`], [`set_alias`] and [`drop_model`], whose SQL functions run as the
//! extension's owner.

mod built_in;
pub mod family;
mod register;

pub use built_in::{CHRONOS_NANO, NBEATS_DAILY, register_built_in};
pub use register::{Registration, drop_model, register, set_alias};

use crate::engine::{FilePath, ModelFiles, ModelSource};
use crate::error::{Error, Result};
use crate::guc;
use crate::json::JsonB;
use crate::statement::{self, Sight};
use kronos_models::ModelError;
use kronos_models::kronos::KronosFiles;
use pgrx::Spi;
use pgrx::prelude::*;
use serde_json::{Map, Value};
use std::path::Path;

/// A registered model version.
#[derive(Debug, Clone)]
pub struct ModelEntry {
    /// `name@digest`.
    pub version: String,
    /// The name before the `@`.
    pub name: String,
    /// A name of [`family::FAMILIES`].
    pub family: String,
    /// Day after which the model has seen no data.
    pub train_cutoff: Option<Date>,
    /// Whether it came with the extension.
    pub built_in: bool,
    aliases: Vec<String>,
    settings: Value,
    files: Map<String, Value>,
}

/// Which columns a model of numbers takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// One, by itself.
    OneTarget,
    /// Several, each by itself.
    Targets,
    /// Several together, with covariates.
    Covariates,
}

impl ModelEntry {
    /// Longest context the model accepts, in bars.
    pub fn max_context(&self) -> Result<usize> {
        family::max_context(&self.settings).ok_or_else(|| self.damaged())
    }

    /// Softmax temperature of draws that a call does not choose.
    pub fn temperature(&self) -> Option<f64> {
        family::temperature(&self.settings)
    }

    /// What an engine needs to load the model.
    pub fn source(&self) -> Result<ModelSource> {
        let at = |path: &str| guc::model_path(Path::new(path));
        let setting = |key| self.settings.get(key).and_then(Value::as_str).ok_or_else(|| self.damaged());
        let checksums = self
            .files
            .iter()
            .map(|(path, sha256)| {
                Ok((FilePath(at(path)), sha256.as_str().ok_or_else(|| self.damaged())?.to_owned()))
            })
            .collect::<Result<_>>()?;
        let files = match self.family.as_str() {
            family::CHRONOS2 => ModelFiles::Chronos2 {
                model: FilePath(at(setting("model")?)),
                adapter: match self.settings.get("adapter") {
                    None | Some(Value::Null) => None,
                    Some(_) => Some(FilePath(at(setting("adapter")?))),
                },
            },
            family::CHRONOS_BOLT => ModelFiles::ChronosBolt(FilePath(at(setting("model")?))),
            family::NBEATS => ModelFiles::NBeats(FilePath(at(setting("model")?))),
            _ => ModelFiles::Kronos(KronosFiles {
                predictor: at(setting("predictor")?),
                tokenizer: at(setting("tokenizer")?),
                max_context: self.max_context()?,
            }),
        };
        Ok(ModelSource { version: self.version.clone(), files, checksums })
    }

    /// Longest history in rows and quantile levels of a model of numbers; `None` for a model of bars.
    pub fn quantile_model(&self) -> Result<Option<(usize, Vec<f64>)>> {
        if !matches!(self.family.as_str(), family::CHRONOS2 | family::CHRONOS_BOLT | family::NBEATS) {
            return Ok(None);
        }
        let levels = || -> Option<Vec<f64>> {
            self.settings.get("quantiles")?.as_array()?.iter().map(Value::as_f64).collect()
        };
        Ok(Some((self.max_context()?, levels().ok_or_else(|| self.damaged())?)))
    }

    /// Which columns it takes.
    pub fn takes(&self) -> Takes {
        match self.family.as_str() {
            family::CHRONOS2 => Takes::Covariates,
            family::NBEATS => Takes::Targets,
            _ => Takes::OneTarget,
        }
    }

    /// Adds to a missing file what the catalogue knows of it: the digest that the right file has.
    pub fn explain(&self, error: Error) -> Error {
        let Error::Model(ModelError::ArtifactMissing { path }) = error else { return error };
        let mut files = self.files.iter();
        let expected_sha256 = files
            .find(|(file, _)| guc::model_path(Path::new(file)) == path)
            .and_then(|(_, sha256)| sha256.as_str())
            .map(str::to_owned);
        Error::FileMissing { path, expected_sha256 }
    }

    /// Every file and its SHA-256.
    fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|(path, sha256)| Some((path.as_str(), sha256.as_str()?)))
    }

    fn damaged(&self) -> Error {
        Error::Internal { what: format!("the catalogue entry of model \"{}\" is damaged", self.version) }
    }
}

/// Finds the version that a name means; `None` asks for `kronos.default_model`.
///
/// A name is a version, a version with its digest shortened, an alias, or the name of a model with one version.
///
/// # Errors
/// [`Error::UndefinedModel`], [`Error::AmbiguousModel`]; SQLSTATE 42501 for a caller without access.
pub fn resolve(model: Option<&str>) -> Result<ModelEntry> {
    let known = entries(Sight::Query)?;
    let Some(name) = model else { return default_model(known) };
    choose(name, known, true)
}

/// What `kronos.default_model` means: where nobody has set it nor made the alias that it names, the model of bars that comes
/// with the extension.
fn default_model(known: Vec<ModelEntry>) -> Result<ModelEntry> {
    let built_in = built_in(&known, built_in::KRONOS_NANO);
    match choose(&guc::default_model(), known, true) {
        Err(error @ Error::UndefinedModel { .. }) if guc::default_model_is_unconfigured() => {
            built_in.ok_or(error)
        }
        other => other,
    }
}

/// The newest built-in model of that name.
pub fn built_in(known: &[ModelEntry], name: &str) -> Option<ModelEntry> {
    known.iter().rev().find(|entry| entry.built_in && entry.name == name).cloned()
}

/// Every registered version.
pub fn entries(sight: Sight) -> Result<Vec<ModelEntry>> {
    Spi::connect(|client| {
        let rows = statement::select(
            client,
            sight,
            "select version, name, family, train_cutoff, aliases, settings, files, built_in
             from kronos.models order by registered_at",
            None,
            &[],
        )?;
        rows.map(|row| {
            let text = |column| -> Result<String> { Ok(row.get(column)?.unwrap_or_default()) };
            let json = |column| -> Result<Value> {
                Ok(row.get::<JsonB>(column)?.map_or(Value::Null, |JsonB(value)| value))
            };
            Ok(ModelEntry {
                version: text(1)?,
                name: text(2)?,
                family: text(3)?,
                train_cutoff: row.get(4)?,
                aliases: row.get(5)?.unwrap_or_default(),
                settings: json(6)?,
                files: match json(7)? {
                    Value::Object(files) => files,
                    _ => Map::new(),
                },
                built_in: row.get(8)?.unwrap_or(false),
            })
        })
        .collect()
    })
}

/// Picks the one entry a name means.
fn choose(name: &str, entries: Vec<ModelEntry>, aliases_count: bool) -> Result<ModelEntry> {
    let meant = |entry: &ModelEntry| {
        if name.contains('@') { entry.version.starts_with(name) } else { entry.name == name }
    };
    let exact = |entry: &ModelEntry| {
        entry.version == name || (aliases_count && entry.aliases.iter().any(|alias| alias == name))
    };
    if let Some(found) = entries.iter().find(|entry| exact(entry)) {
        return Ok(found.clone());
    }
    let mut found: Vec<&ModelEntry> = entries.iter().filter(|entry| meant(entry)).collect();
    match (found.pop(), found.as_slice()) {
        (Some(only), []) => Ok(only.clone()),
        (Some(newest), older) => Err(Error::AmbiguousModel {
            name: name.to_owned(),
            versions: older.iter().chain([&newest]).map(|entry| entry.version.clone()).collect(),
        }),
        (None, _) => Err(Error::UndefinedModel { name: name.to_owned(), known: known(name, &entries) }),
    }
}

/// What a misspelt name may have meant: whole versions when it looked like one, else names and aliases.
fn known(name: &str, entries: &[ModelEntry]) -> Vec<String> {
    let mut known: Vec<String> = if name.contains('@') {
        entries.iter().map(|entry| entry.version.clone()).collect()
    } else {
        entries.iter().flat_map(|entry| entry.aliases.iter().chain([&entry.name])).cloned().collect()
    };
    known.sort();
    known.dedup();
    known
}
