//! Model families: how each lays out its files, found in one table.

use crate::error::{Error, Result};
use crate::guc;
use crate::options::Given;
use kronos_models::artifact::read_config;
use kronos_models::{chronos_bolt, chronos2, nbeats};
use serde_json::{Value, json};
use std::path::{Component, Path, PathBuf};

/// What a model directory holds.
#[derive(Debug)]
pub struct Layout {
    /// What the family needs beside the files, recorded with the version.
    pub settings: Value,
    /// The weights whose SHA-256 names the model to people; relative to the model directory, as all paths here.
    pub weights: PathBuf,
    /// Every file that is read, with its digest when the caller gave one.
    pub files: Vec<(PathBuf, Option<String>)>,
}

/// One family of models.
pub struct Family {
    /// Name in SQL.
    pub name: &'static str,
    /// Whether a `config.json` describes a model of this family.
    recognises: fn(&Value) -> bool,
    /// Reads the layout of a model of this family.
    layout: fn(&Path, &Given) -> Result<Layout>,
}

/// Every family this library can load.
pub const FAMILIES: &[Family] = &[
    Family { name: "kronos", recognises: is_kronos, layout: kronos_layout },
    Family { name: CHRONOS2, recognises: is_chronos2, layout: chronos2_layout },
    Family { name: CHRONOS_BOLT, recognises: is_chronos_bolt, layout: chronos_bolt_layout },
    Family { name: NBEATS, recognises: is_nbeats, layout: nbeats_layout },
];

/// Quantiles of any columns, with covariates.
pub const CHRONOS2: &str = "chronos2";

/// Quantiles of one column.
pub const CHRONOS_BOLT: &str = "chronos_bolt";

/// Quantiles of columns, each by itself; trained by kronos-train.
pub const NBEATS: &str = nbeats::config::MODEL_TYPE;

/// Longest window a model can be registered with; far above any published one, it bounds what inference allocates.
const MAX_CONTEXT: usize = 65_536;

/// The settings' longest context in bars.
pub fn max_context(settings: &Value) -> Option<usize> {
    settings.get("max_context").and_then(Value::as_u64).and_then(|bars| usize::try_from(bars).ok())
}

/// Keys of the options of `kronos.register_model()`.
pub const OPTIONS: &[&str] = &["max_context", "tokenizer", "tokenizer_sha256", "adapter", "temperature"];

/// The temperature of draws that a call does not choose.
pub fn temperature(settings: &Value) -> Option<f64> {
    settings.get("temperature").and_then(Value::as_f64)
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
pub fn layout(family: Option<&str>, uri: &Path, options: &Given) -> Result<(&'static Family, Layout)> {
    let family = match family {
        Some(name) => FAMILIES
            .iter()
            .find(|family| family.name == name)
            .ok_or_else(|| Error::UndefinedFamily { family: name.to_owned(), known: names() })?,
        None => {
            let config = read_config::<Value>(&guc::model_path(&config_directory(uri)).join("config.json"))?;
            FAMILIES.iter().find(|family| (family.recognises)(&config)).ok_or_else(|| Error::InvalidUri {
                uri: uri.display().to_string(),
                reason: "holds a model of no known family",
            })?
        }
    };
    Ok((family, (family.layout)(uri, options)?))
}

fn names() -> Vec<String> {
    FAMILIES.iter().map(|family| family.name.to_owned()).collect()
}

/// Where the configuration lies: in the directory itself, or in its `predictor/`.
fn config_directory(uri: &Path) -> PathBuf {
    let below = uri.join("predictor");
    let in_itself = guc::model_path(uri).join("config.json").exists();
    if !in_itself && guc::model_path(&below).join("config.json").exists() { below } else { uri.to_path_buf() }
}

/// A predictor has bits for two tokens and layers of its own; a tokenizer has encoder and decoder layers instead.
fn is_kronos(config: &Value) -> bool {
    ["s1_bits", "s2_bits", "d_model", "n_layers"].iter().all(|key| config.get(key).is_some())
}

fn kronos_layout(uri: &Path, options: &Given) -> Result<Layout> {
    let predictor = config_directory(uri);
    let tokenizer = match options.text("tokenizer")? {
        Some(other) => relative(other)?,
        None => uri.join("tokenizer"),
    };
    let config: Value = read_config(&guc::model_path(&predictor).join("config.json"))?;
    if config.get("n_enc_layers").is_some() {
        return Err(Error::InvalidUri {
            uri: uri.display().to_string(),
            reason: "is a tokenizer, give the directory of the predictor",
        });
    }
    let tokenizer_path = guc::model_path(&tokenizer);
    if !tokenizer_path.join("config.json").exists() {
        return Err(Error::TokenizerMissing { path: tokenizer_path });
    }
    let number = |key| config.get(key).and_then(Value::as_u64);
    // The files do not say the window. Of the published models only Kronos-mini, the one of this shape, has 2048.
    let published = if (number("d_model"), number("n_layers")) == (Some(256), Some(4)) { 2048 } else { 512 };
    let max_context = options.integer("max_context", 2, MAX_CONTEXT)?.unwrap_or(published);
    let tokenizer_digest = options
        .text("tokenizer_sha256")?
        .map(|text| digest("option \"tokenizer_sha256\"", text))
        .transpose()?;
    let weights = predictor.join("model.safetensors");
    let mut settings = json!({
        "predictor": predictor.to_string_lossy(),
        "tokenizer": tokenizer.to_string_lossy(),
        "max_context": max_context,
    });
    if let Some(temperature) = crate::options::temperature(options)? {
        settings["temperature"] = json!(temperature);
    }
    Ok(Layout {
        settings,
        files: vec![
            (predictor.join("config.json"), None),
            (weights.clone(), None),
            (tokenizer.join("config.json"), None),
            (tokenizer.join("model.safetensors"), tokenizer_digest),
        ],
        weights,
    })
}

/// Whether the first class name of a configuration is `name`.
fn is_architecture(config: &Value, name: &str) -> bool {
    config.pointer("/architectures/0").and_then(Value::as_str) == Some(name)
}

fn is_chronos2(config: &Value) -> bool {
    is_architecture(config, "Chronos2Model")
        || config.get("model_type").and_then(Value::as_str) == Some(CHRONOS2)
}

fn is_chronos_bolt(config: &Value) -> bool {
    is_architecture(config, "ChronosBoltModelForForecasting")
}

fn is_nbeats(config: &Value) -> bool {
    config.get("model_type").and_then(Value::as_str) == Some(NBEATS)
}

/// A network's input has a fixed length, in values that are there: twice as many rows leave room for days without any.
fn nbeats_layout(uri: &Path, options: &Given) -> Result<Layout> {
    let config: nbeats::config::Config = read_config(&guc::model_path(uri).join("config.json"))?;
    let mut layout = quantile_layout(uri, options, 2 * config.context_length, &config.quantile_levels)?;
    layout.settings["max_horizon"] = json!(config.horizon);
    layout.files.push((uri.join("scaler.json"), None));
    Ok(layout)
}

fn chronos2_layout(uri: &Path, options: &Given) -> Result<Layout> {
    let config: chronos2::config::Config = read_config(&guc::model_path(uri).join("config.json"))?;
    let chronos = &config.chronos_config;
    let mut layout = quantile_layout(uri, options, chronos.context_length, &chronos.quantiles)?;
    if let Some(adapter) = options.text("adapter")? {
        let adapter = relative(adapter)?;
        layout.settings["adapter"] = json!(adapter.to_string_lossy());
        let files = ["adapter_config.json", "adapter_model.safetensors"];
        layout.files.extend(files.map(|file| (adapter.join(file), None)));
    }
    Ok(layout)
}

fn chronos_bolt_layout(uri: &Path, options: &Given) -> Result<Layout> {
    let config: chronos_bolt::config::Config = read_config(&guc::model_path(uri).join("config.json"))?;
    let chronos = &config.chronos_config;
    quantile_layout(uri, options, chronos.context_length, &chronos.quantiles)
}

/// A directory with `config.json` and `model.safetensors`; what a call must know of the model is kept in the catalogue.
fn quantile_layout(uri: &Path, options: &Given, context: usize, quantiles: &[f64]) -> Result<Layout> {
    let max_context = options.integer("max_context", 1, context)?.unwrap_or(context);
    let weights = uri.join("model.safetensors");
    Ok(Layout {
        settings: json!({
            "model": uri.to_string_lossy(),
            "max_context": max_context,
            "quantiles": quantiles,
        }),
        files: vec![(uri.join("config.json"), None), (weights.clone(), None)],
        weights,
    })
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
