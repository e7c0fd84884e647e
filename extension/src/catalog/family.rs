//! What a registration says of a model, put to the families of the library; and where a model may lie.

use crate::error::{Error, Result};
use crate::guc;
use crate::options::{self, Given};
use kronos_models::families::FAMILIES;
use kronos_models::family::{self, Answers, Directory, Family, Misplaced, Settings};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// What a model directory holds.
#[derive(Debug)]
pub struct Layout {
    /// What the family needs beside the files, recorded with the version.
    pub settings: Settings,
    /// The weights whose SHA-256 names the model to people; relative to the model directory, as all paths here.
    pub weights: PathBuf,
    /// Every file that is read, with its digest when the caller gave one.
    pub files: Vec<(PathBuf, Option<String>)>,
}

/// Keys of the options of `kronos.register_model()`.
pub fn option_keys() -> Vec<&'static str> {
    let parts = FAMILIES.iter().flat_map(|family| family.facts().parts);
    let parts = parts.flat_map(|part| [Some(part.option), part.digest]).flatten();
    ["max_context"].into_iter().chain(parts).chain(["temperature", "trained_on"]).collect()
}

/// The family of that name.
///
/// # Errors
/// 42704 where there is none.
pub fn find(name: &str) -> Result<&'static dyn Family> {
    Ok(family::find(FAMILIES, name)?)
}

/// A digest as it is compared and stored: 64 lower-case hexadecimal digits.
pub fn digest(name: &str, text: &str) -> Result<String> {
    let text = text.trim().to_lowercase();
    if text.len() == 64 && text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Ok(text);
    }
    Err(Error::InvalidArgument {
        name: name.to_owned(),
        expected: "a SHA-256 of 64 hexadecimal digits".into(),
        got: format!("\"{text}\""),
        hint: Some("Pass NULL to pin the hash of the file that is there.".into()),
    })
}

/// Reads what is in a model directory, as the family given or the one its configuration shows.
pub fn layout(name: Option<&str>, uri: &Path, options: &Given) -> Result<(&'static dyn Family, Layout)> {
    let mut parts = BTreeMap::new();
    let family = match name {
        Some(name) => find(name)?,
        None => {
            let directory = Directory { path: uri, parts: &parts, locate: &guc::model_path };
            directory
                .recognise(FAMILIES)?
                .ok_or_else(|| invalid_uri(uri, "holds a model of no known family"))?
        }
    };
    for part in family.facts().parts {
        if let Some(other) = options.text(part.option)? {
            parts.insert(part.option, relative(other)?);
        }
    }
    let directory = Directory { path: uri, parts: &parts, locate: &guc::model_path };
    let described = family.describe(&directory).map_err(|misplaced| explained(uri, misplaced))?;

    let range = described.context;
    let max_context = options.integer("max_context", range.least, range.most)?.unwrap_or(range.own);
    let mut settings = described.settings;
    settings.insert("max_context".into(), max_context.into());
    for (name, directory) in described.directories {
        settings.insert(name.to_owned(), directory.to_string_lossy().into());
    }
    let capabilities = family.capabilities(&Settings::of(settings.clone().into()));
    let draws = capabilities.is_some_and(|able| able.answers == Answers::Paths);
    if draws && let Some(temperature) = options::temperature(options)? {
        settings.insert("temperature".into(), temperature.into());
    }
    let expected = |key: Option<&str>| -> Result<Option<String>> {
        let Some(key) = key else { return Ok(None) };
        options.text(key)?.map(|text| digest(&format!("option \"{key}\""), text)).transpose()
    };
    let files = described.files.into_iter().map(|(path, key)| Ok((path, expected(key)?)));
    let files = files.collect::<Result<_>>()?;
    Ok((family, Layout { settings: Settings::of(settings.into()), weights: described.weights, files }))
}

fn invalid_uri(uri: &Path, reason: &'static str) -> Error {
    Error::InvalidUri { uri: uri.display().to_string(), reason }
}

/// What a family says of a directory, as an error of the registration.
fn explained(uri: &Path, misplaced: Misplaced) -> Error {
    match misplaced {
        Misplaced::Model(error) => Error::Model(error),
        Misplaced::Directory(reason) => invalid_uri(uri, reason),
        Misplaced::Part { option, path, why, example } => Error::PartMissing { option, path, why, example },
    }
}

/// A model's directory relative to `kronos.model_dir`.
///
/// Whoever may register models is no operating system user: a path may not lead out of the directory that the
/// administrator of the server chose.
pub fn relative(uri: &str) -> Result<PathBuf> {
    let refuse = |reason| Err(Error::InvalidUri { uri: uri.to_owned(), reason });
    let path = uri.strip_prefix("file://").or_else(|| uri.strip_prefix("file:")).unwrap_or(uri);
    if path.contains("://") {
        return refuse("is not a directory of this server; only files are read");
    }
    if path.is_empty() || path.chars().any(char::is_control) {
        return refuse("is empty or has control characters");
    }
    if path.starts_with('$') {
        return refuse("begins with a \"$\", which is kept for models that come with the extension");
    }
    let base = guc::model_dir();
    let path = Path::new(path);
    let path = match path.strip_prefix(&base) {
        Ok(below) => below,
        Err(_) if path.is_absolute() => return refuse("is outside kronos.model_dir"),
        Err(_) => path,
    };
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => clean.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return refuse("is outside kronos.model_dir");
            }
        }
    }
    Ok(clean)
}
