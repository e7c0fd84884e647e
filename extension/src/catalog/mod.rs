//! The catalogue of models: which version a name means, and where its files lie.
//!
//! Reading goes through the view `kronos.models` as the caller, and never writes: it serves read-only transactions
//! and hot standbys. Writing is [`register`], [`set_alias`] and [`drop_model`], whose SQL functions run as the
//! extension's owner.

mod built_in;
pub mod family;
mod register;

pub use built_in::register_built_in;
pub use register::{Registration, drop_model, register, set_alias};

use crate::engine::{FilePath, ModelSource};
use crate::error::{Error, Result};
use crate::guc;
use crate::json::JsonB;
use crate::statement::{self, Sight};
use kronos_models::ModelError;
use kronos_models::family::{Capabilities, Settings};
use pgrx::Spi;
use pgrx::prelude::*;
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::path::Path;

/// A registered model version.
#[derive(Debug, Clone)]
pub struct ModelEntry {
    /// `name@digest`.
    pub version: String,
    /// The name before the `@`.
    pub name: String,
    /// The name of its family, which another library may know and this one not.
    pub family: String,
    /// Day after which the model has seen no data.
    pub train_cutoff: Option<Date>,
    /// Whether it came with the extension.
    pub built_in: bool,
    aliases: Vec<String>,
    settings: Settings,
    files: Map<String, Value>,
}

impl ModelEntry {
    /// Softmax temperature of draws that a call does not choose.
    pub fn temperature(&self) -> Option<f64> {
        self.settings.temperature()
    }

    /// What the model can do.
    ///
    /// # Errors
    /// 42704 for a family that this library does not know.
    pub fn capabilities(&self) -> Result<Capabilities> {
        family::find(&self.family)?.capabilities(&self.settings).ok_or_else(|| self.damaged())
    }

    /// What an engine needs to load the model.
    ///
    /// # Errors
    /// As for [`ModelEntry::capabilities`].
    pub fn source(&self) -> Result<ModelSource> {
        let at = |path: &str| FilePath(guc::model_path(Path::new(path)));
        let mut directories = Vec::new();
        for name in family::find(&self.family)?.facts().directories {
            match self.settings.get(name) {
                None => {}
                Some(Value::String(path)) => directories.push((name.to_string(), at(path))),
                Some(_) => return Err(self.damaged()),
            }
        }
        let checksum = |(path, sha256): (&String, &Value)| {
            Ok((at(path), sha256.as_str().ok_or_else(|| self.damaged())?.to_owned()))
        };
        Ok(ModelSource {
            version: self.version.clone(),
            family: self.family.clone(),
            directories,
            settings: self.settings.text(),
            checksums: self.files.iter().map(checksum).collect::<Result<_>>()?,
        })
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
    let newest = known.iter().rev();
    let built_in =
        newest.clone().find(|entry| entry.built_in && entry.name == built_in::KRONOS_NANO).cloned();
    match choose(&guc::default_model(), known, true) {
        Err(error @ Error::UndefinedModel { .. }) if guc::default_model_is_unconfigured() => {
            built_in.ok_or(error)
        }
        other => other,
    }
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
                settings: Settings::of(json(6)?),
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

/// Keys of the series that a version has seen in training; `None` where nobody has said.
pub fn trained_on(version: &str) -> Result<Option<HashSet<String>>> {
    let keys = statement::value::<Vec<String>>(
        Sight::Query,
        "select m.trained_on from kronos.models m where m.version operator(pg_catalog.=) $1",
        &[version.into()],
    )?;
    Ok(keys.map(|keys| keys.into_iter().collect()))
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
