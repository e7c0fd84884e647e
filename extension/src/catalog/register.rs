//! Writing the catalogue: registration, aliases, removal.

use super::family;
use super::{ModelEntry, choose, entries};
use crate::engine;
use crate::error::{Error, Result};
use crate::guc;
use crate::json::JsonB;
use crate::options::Given;
use crate::statement::{self, Sight};
use kronos_models::ModelError;
use kronos_models::artifact::sha256_file;
use kronos_models::family::Settings;
use pgrx::Spi;
use pgrx::prelude::*;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::path::Path;

/// What `kronos.register_model()` is given.
pub struct Registration {
    /// Name of the model, without a digest.
    pub name: String,
    /// Family; `None`: as the configuration shows.
    pub family: Option<String>,
    /// Directory under `kronos.model_dir`.
    pub uri: String,
    /// SHA-256 of the weights; `None`: as the file has.
    pub sha256: Option<String>,
    /// Day after which the model has seen no data.
    pub train_cutoff: Option<Date>,
    /// Licence of the weights.
    pub license: Option<String>,
    /// Options of the family.
    pub options: Option<JsonB>,
}

/// Hex digits of a version's digest: with 48 bits, two of a thousand versions collide with a chance of 2 in 10⁹.
const VERSION_DIGITS: usize = 12;

/// Checks and catalogues a model; returns its version.
///
/// The model is loaded once, so that a broken file is refused now and not by the first forecast.
pub fn register(mut registration: Registration) -> Result<String> {
    check_name("model name", &registration.name)?;
    let known = entries(Sight::Now)?;
    if let Some(owner) = known.iter().find(|entry| entry.aliases.contains(&registration.name)) {
        return Err(Error::NameTaken {
            kind: "model name",
            name: registration.name,
            by: format!("an alias of model \"{}\"", owner.version),
        });
    }
    let options = Given::options(registration.options.take(), &family::option_keys())?;
    let uri = family::relative(&registration.uri)?;
    let license = registration.license.clone();
    let described = describe(registration, &uri, &options, false)?;
    engine::load(described.entry.source()?)?;
    described.store(&uri, license)?;
    Ok(described.entry.version)
}

/// What is known of a model once its files have been read.
pub(super) struct Described {
    /// The entry to be.
    pub entry: ModelEntry,
    /// SHA-256 of the weights.
    weights: Option<String>,
    /// Keys of the series that the model has seen; `None`: nobody says.
    trained_on: Option<Vec<String>>,
}

/// Reads the layout of a model's directory and the digest of every file.
pub(super) fn describe(
    registration: Registration,
    uri: &Path,
    options: &Given,
    built_in: bool,
) -> Result<Described> {
    let weights_digest = registration.sha256.map(|text| family::digest("sha256", &text)).transpose()?;
    let (family, mut layout) = family::layout(registration.family.as_deref(), uri, options)?;
    for (path, expected) in &mut layout.files {
        if *path == layout.weights {
            expected.clone_from(&weights_digest);
        }
    }

    let mut files = Map::new();
    let mut identity = Sha256::new();
    for (path, expected) in &layout.files {
        let actual = checked_digest(&guc::model_path(path), expected.as_deref())?;
        identity.update(&actual);
        files.insert(path.to_string_lossy().into_owned(), Value::String(actual));
    }
    // The window changes the numbers as much as a weight does.
    identity.update(layout.settings.max_context().unwrap_or(0).to_string());
    if let Some(temperature) = layout.settings.temperature() {
        identity.update(format!("temperature {temperature}"));
    }
    let digest: String = identity.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let version = format!("{}@{}", registration.name, &digest[..VERSION_DIGITS]);

    let weights = files.get(layout.weights.to_string_lossy().as_ref()).and_then(Value::as_str);
    let weights = weights.map(str::to_owned);
    let entry = ModelEntry {
        version,
        name: registration.name,
        family: family.facts().name.to_owned(),
        train_cutoff: registration.train_cutoff,
        built_in,
        aliases: Vec::new(),
        settings: layout.settings,
        files,
    };
    let trained_on = given_series(options)?;
    Ok(Described { entry, weights, trained_on })
}

/// The option `trained_on`, each key once.
fn given_series(options: &Given) -> Result<Option<Vec<String>>> {
    let mut keys = options.names("trained_on")?;
    keys.sort();
    keys.dedup();
    Ok((!keys.is_empty()).then_some(keys))
}

/// The digest of a file, compared with the one expected.
fn checked_digest(path: &Path, expected: Option<&str>) -> Result<String> {
    let actual = match sha256_file(path) {
        Err(ModelError::ArtifactMissing { path }) => {
            return Err(Error::FileMissing { path, expected_sha256: expected.map(str::to_owned) });
        }
        other => other?,
    };
    pgrx::check_for_interrupts!();
    match expected {
        Some(expected) if expected != actual => {
            Err(Error::ChecksumMismatch { path: path.to_path_buf(), expected: expected.to_owned(), actual })
        }
        _ => Ok(actual),
    }
}

impl Described {
    /// Writes the entry. A version that is there already must be of the same content: all of the digests are compared, since
    /// those few digits of them that a version shows can be met on purpose. Then only where it lies is renewed, and what was
    /// not said of it yet is added.
    pub(super) fn store(&self, uri: &Path, license: Option<String>) -> Result<()> {
        let Self { entry, weights, trained_on } = self;
        Spi::connect_mut(|client| {
            let license = license.as_deref();
            let new = statement::write_returning(
                client,
                "insert into _kronos.model (version, name, family, uri, sha256, settings, files, train_cutoff, license, built_in,
                   trained_on)
                 values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) on conflict (version) do nothing returning true",
                &[
                    entry.version.as_str().into(),
                    entry.name.as_str().into(),
                    entry.family.as_str().into(),
                    uri.to_string_lossy().as_ref().into(),
                    weights.as_deref().into(),
                    JsonB(entry.settings.value()).into(),
                    JsonB(Value::Object(entry.files.clone())).into(),
                    entry.train_cutoff.into(),
                    license.into(),
                    entry.built_in.into(),
                    trained_on.clone().into(),
                ],
            )?;
            if !new.is_empty() {
                return Ok(());
            }
            let mut known = statement::write_returning(
                client,
                "select m.family, m.settings, m.files, m.built_in, m.train_cutoff operator(pg_catalog.<>) $2, m.license operator(pg_catalog.<>) $3,
                   m.trained_on operator(pg_catalog.<>) $4
                 from _kronos.model m where m.version operator(pg_catalog.=) $1 for update",
                &[
                    entry.version.as_str().into(),
                    entry.train_cutoff.into(),
                    license.into(),
                    trained_on.clone().into(),
                ],
            )?;
            let Some(row) = known.next() else {
                return Err(Error::Internal { what: "a version vanished while it was registered".into() });
            };
            let json = |column: usize| -> Result<Value> {
                Ok(row.get::<JsonB>(column)?.map_or(Value::Null, |JsonB(value)| value))
            };
            if row.get::<String>(1)?.as_deref() != Some(entry.family.as_str())
                || !same_content(
                    (&Settings::of(json(2)?), &json(3)?),
                    (&entry.settings, &Value::Object(entry.files.clone())),
                )
            {
                return Err(Error::VersionTaken { version: entry.version.clone(), by: "other files" });
            }
            // What a backtest calls contaminated, and who may use a model, does not change behind people's backs. Of its own
            // models the installation knows best.
            if row.get(5)? == Some(true) && !entry.built_in {
                return Err(Error::VersionTaken {
                    version: entry.version.clone(),
                    by: "another train_cutoff",
                });
            }
            if row.get(7)? == Some(true) && !entry.built_in {
                return Err(Error::VersionTaken { version: entry.version.clone(), by: "another trained_on" });
            }
            if row.get(6)? == Some(true) && !entry.built_in {
                return Err(Error::VersionTaken { version: entry.version.clone(), by: "another license" });
            }
            if row.get(4)? == Some(true) && !entry.built_in {
                return Ok(());
            }
            statement::write_returning(
                client,
                "update _kronos.model m set uri = $2, settings = $3, files = $4,
                   train_cutoff = case when $7 then coalesce($5, m.train_cutoff) else coalesce(m.train_cutoff, $5) end,
                   license = case when $7 then coalesce($6, m.license) else coalesce(m.license, $6) end,
                   trained_on = case when $7 then coalesce($8, m.trained_on) else coalesce(m.trained_on, $8) end
                 where m.version operator(pg_catalog.=) $1",
                &[
                    entry.version.as_str().into(),
                    uri.to_string_lossy().as_ref().into(),
                    JsonB(entry.settings.value()).into(),
                    JsonB(Value::Object(entry.files.clone())).into(),
                    entry.train_cutoff.into(),
                    license.into(),
                    entry.built_in.into(),
                    trained_on.clone().into(),
                ],
            )?;
            Ok(())
        })
    }
}

/// Whether two entries of one version are of the same files, wherever these lie, and of the same numbers beside them.
fn same_content(one: (&Settings, &Value), other: (&Settings, &Value)) -> bool {
    let digests = |files: &Value| {
        let mut digests: Vec<Option<String>> = files
            .as_object()
            .map(|files| files.values().map(|digest| digest.as_str().map(str::to_owned)).collect())
            .unwrap_or_default();
        digests.sort();
        digests
    };
    digests(one.1) == digests(other.1)
        && one.0.max_context() == other.0.max_context()
        && one.0.temperature() == other.0.temperature()
}

/// Points an alias to a version and returns it; `None` removes the alias.
pub fn set_alias(alias: &str, model_version: Option<&str>) -> Result<Option<String>> {
    check_name("alias", alias)?;
    let known = entries(Sight::Now)?;
    let Some(wanted) = model_version else {
        if !known.iter().any(|entry| entry.aliases.iter().any(|other| other == alias)) {
            return Err(Error::UndefinedAlias {
                name: alias.to_owned(),
                known: known.into_iter().flat_map(|entry| entry.aliases).collect(),
            });
        }
        statement::write("delete from _kronos.model_alias where alias = $1", &[alias.into()])?;
        return Ok(None);
    };
    if known.iter().any(|entry| entry.name == alias) {
        return Err(Error::NameTaken { kind: "alias", name: alias.to_owned(), by: "a model".into() });
    }
    let version = choose(wanted, known, true)?.version;
    statement::write(
        "insert into _kronos.model_alias (alias, version) values ($1, $2)
         on conflict (alias) do update set version = excluded.version, set_at = default, set_by = default",
        &[alias.into(), version.as_str().into()],
    )?;
    Ok(Some(version))
}

/// Removes a version from the catalogue.
pub fn drop_model(model_version: &str, if_exists: bool) -> Result<()> {
    // An alias does not count: dropping what an alias happens to mean today is never what was meant.
    let entry = match choose(model_version, entries(Sight::Now)?, false) {
        Err(Error::UndefinedModel { name, .. }) if if_exists => {
            pgrx::notice!("model \"{name}\" does not exist, skipping");
            return Ok(());
        }
        other => other?,
    };
    if entry.built_in {
        return Err(Error::ModelBuiltIn { version: entry.version });
    }
    if !entry.aliases.is_empty() {
        return Err(Error::ModelInUse { version: entry.version, aliases: entry.aliases });
    }
    statement::write("delete from _kronos.model where version = $1", &[entry.version.as_str().into()])?;
    engine::unload(&entry.version)?;
    Ok(())
}

/// Names that can be told from versions and typed without quoting trouble.
fn check_name(what: &str, name: &str) -> Result<()> {
    let usable = name.len() <= 63
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if usable {
        return Ok(());
    }
    Err(Error::InvalidArgument {
        name: what.to_owned(),
        expected: "up to 63 letters, digits, \"_\", \".\" or \"-\"".into(),
        got: format!("\"{name}\""),
        hint: Some("The digest of a version is added by kronos.register_model().".into()),
    })
}
