//! What a family of models is.
//!
//! A family is a room: its configuration, the layout of its files, its encoding of an ask and its network lie in one folder,
//! and whoever forecasts (the engine, the extension) knows only what stands here. A new family is a folder and a row of
//! [`FAMILIES`](crate::families::FAMILIES). A name that is not in the table is an error, never another family.

use crate::artifact::read_config;
use crate::ask::{Terms, Wanted};
use crate::error::{ModelError, Result};
use crate::layers::accelerated::Place;
use crate::model::Model;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

/// A table of families.
pub type Families = &'static [&'static dyn Family];

/// One family of models.
pub trait Family: Debug + Sync {
    /// What is always so of its models.
    fn facts(&self) -> &'static Facts;

    /// Whether a `config.json` describes a model of this family.
    fn recognises(&self, config: &Value) -> bool;

    /// Reads what a directory holds.
    ///
    /// # Errors
    /// What [`read_config`] says, and what else is not as the family lays it out.
    fn describe(&self, directory: &Directory<'_>) -> Result<Description, Misplaced>;

    /// What a model with these settings can do; `None` where they are not those of the family.
    fn capabilities(&self, settings: &Settings) -> Option<Capabilities>;

    /// Reads a model, for the kernels of the CPU or for candle's operations at a place.
    ///
    /// # Errors
    /// What is wrong with the files; [`ModelError::OutOfMemory`] when the place has no room.
    fn load(&self, files: &Files, place: Option<&Place>) -> Result<Box<dyn Model>>;
}

/// What is always so of the models of a family.
#[derive(Debug)]
pub struct Facts {
    /// The name of the family in catalogues and messages.
    pub name: &'static str,
    /// What one of its models is called in a sentence, with an article.
    pub title: &'static str,
    /// The SQL function that forecasts with its models and those of its relatives.
    pub function: &'static str,
    /// The subdirectory that may hold `config.json` in place of the model's own directory.
    pub subdirectory: Option<&'static str>,
    /// The directories that a registered model consists of, as [`Files::directory`] names them.
    pub directories: &'static [&'static str],
    /// Directories that a registration may name beside the model's own.
    pub parts: &'static [Part],
}

/// The family of that name.
///
/// # Errors
/// [`ModelError::UnknownFamily`].
pub fn find(families: Families, name: &str) -> Result<&'static dyn Family> {
    families.iter().find(|family| family.facts().name == name).copied().ok_or_else(|| {
        ModelError::UnknownFamily {
            family: name.to_owned(),
            known: families.iter().map(|family| family.facts().name.to_owned()).collect(),
        }
    })
}

/// What a model can do.
#[derive(Debug, Clone, PartialEq)]
pub struct Capabilities {
    /// What it answers.
    pub answers: Answers,
    /// Which columns it takes.
    pub takes: Takes,
    /// Longest history it uses, in steps.
    pub max_context: usize,
    /// Whether there is a network of the family for GPUs; the others run on the CPU.
    pub runs_on_gpus: bool,
}

/// What a model answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Answers {
    /// Sample paths.
    Paths,
    /// Quantiles of the columns that it is given, at levels within these, which ascend.
    Quantiles(Vec<f64>),
}

/// Which columns a model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// These channels, all of them, and their wall clock.
    Channels(&'static [&'static str]),
    /// One, by itself.
    OneTarget,
    /// Several, each by itself.
    Targets,
    /// Several together, with covariates of every kind, and series that learn from each other.
    Covariates,
}

impl Capabilities {
    /// Those of a model whose settings say its context and its levels.
    pub fn of_quantiles(settings: &Settings, takes: Takes, runs_on_gpus: bool) -> Option<Self> {
        let (max_context, levels) = (settings.max_context()?, settings.levels()?);
        Some(Self { answers: Answers::Quantiles(levels), takes, max_context, runs_on_gpus })
    }

    /// Whether covariates inform its forecasts, and series each other.
    pub fn takes_covariates(&self) -> bool {
        self.takes == Takes::Covariates
    }

    /// Whether an answer of that form can be given.
    pub fn answer(&self, terms: &Terms) -> bool {
        let paths = self.answers == Answers::Paths;
        paths == matches!(terms.wanted, Wanted::Paths(_))
            && (terms.cross_learning.is_none() || self.takes_covariates())
    }
}

/// What a registered model is beside its files: keys and values that its family has written.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settings(Map<String, Value>);

impl Settings {
    /// The settings in an object; none in anything else.
    pub fn of(value: Value) -> Self {
        match value {
            Value::Object(map) => Self(map),
            _ => Self::default(),
        }
    }

    /// The settings that [`Settings::text`] gave; `None` for other text.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().map(Self)
    }

    /// The settings as they travel.
    pub fn text(&self) -> String {
        self.value().to_string()
    }

    /// The settings as they are stored.
    pub fn value(&self) -> Value {
        Value::Object(self.0.clone())
    }

    /// The value of a key; a null is none.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// Longest history the model uses, in steps.
    pub fn max_context(&self) -> Option<usize> {
        self.get("max_context")?.as_u64().and_then(|steps| usize::try_from(steps).ok())
    }

    /// Quantile levels, ascending.
    pub fn levels(&self) -> Option<Vec<f64>> {
        self.get("quantiles")?.as_array()?.iter().map(Value::as_f64).collect()
    }

    /// The temperature of draws that a call does not choose.
    pub fn temperature(&self) -> Option<f64> {
        self.get("temperature")?.as_f64()
    }
}

/// A directory that may be named beside the model's own.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// The option of a registration that names it.
    pub option: &'static str,
    /// The option that gives the digest of its weights.
    pub digest: Option<&'static str>,
}

/// Where a model is looked for. Every path is relative to the directories of models, as in a [`Description`].
pub struct Directory<'a> {
    /// The directory of the model.
    pub path: &'a Path,
    /// Further directories by the option that named them.
    pub parts: &'a BTreeMap<&'static str, PathBuf>,
    /// Where a relative path lies.
    pub locate: &'a dyn Fn(&Path) -> PathBuf,
}

impl Directory<'_> {
    /// Reads the `config.json` of a directory.
    ///
    /// # Errors
    /// As for [`read_config`].
    pub fn config<T: DeserializeOwned>(&self, directory: &Path) -> Result<T> {
        read_config(&(self.locate)(directory).join(CONFIG))
    }

    /// Whether a directory has a `config.json`.
    pub fn has_config(&self, directory: &Path) -> bool {
        (self.locate)(directory).join(CONFIG).exists()
    }

    /// Where the configuration lies: in the directory itself, or in a subdirectory of the family's.
    pub fn of_config(&self, subdirectories: impl IntoIterator<Item = &'static str>) -> PathBuf {
        let below = |name| Some(self.path.join(name)).filter(|below| self.has_config(below));
        let found = match self.has_config(self.path) {
            true => None,
            false => subdirectories.into_iter().find_map(below),
        };
        found.unwrap_or_else(|| self.path.to_path_buf())
    }

    /// The family whose configuration the directory holds, if any of these.
    ///
    /// # Errors
    /// As for [`read_config`].
    pub fn recognise(&self, families: Families) -> Result<Option<&'static dyn Family>> {
        let subdirectories = families.iter().filter_map(|family| family.facts().subdirectory);
        let config: Value = self.config(&self.of_config(subdirectories))?;
        Ok(families.iter().find(|family| family.recognises(&config)).copied())
    }
}

/// The file that describes a model in its directory.
pub(crate) const CONFIG: &str = "config.json";

/// The file of its weights.
pub(crate) const WEIGHTS: &str = "model.safetensors";

/// The name of the only directory of most models.
pub(crate) const MODEL: &str = "model";

/// What a directory holds.
#[derive(Debug)]
pub struct Description {
    /// The directories that a load reads, by their names.
    pub directories: Vec<(&'static str, PathBuf)>,
    /// What else the family wants to know of the model when it serves it.
    pub settings: Map<String, Value>,
    /// How long a history it may be registered for.
    pub context: ContextRange,
    /// The weights whose digest names the model to people.
    pub weights: PathBuf,
    /// Every file that a load reads, with the option that gives its digest.
    pub files: Vec<(PathBuf, Option<&'static str>)>,
}

/// The longest history of a model, in steps, and what a registration may choose in its place.
#[derive(Debug, Clone, Copy)]
pub struct ContextRange {
    /// What the files say or imply.
    pub own: usize,
    /// The least that may be chosen.
    pub least: usize,
    /// The most that may be chosen.
    pub most: usize,
}

impl Description {
    /// A directory with `config.json` and `model.safetensors`, whose configuration says the context and the levels.
    pub fn of_quantiles(directory: &Path, context: usize, levels: &[f64]) -> Self {
        let weights = directory.join(WEIGHTS);
        Self {
            directories: vec![(MODEL, directory.to_path_buf())],
            settings: Map::from_iter([("quantiles".to_owned(), Value::from(levels))]),
            context: ContextRange { own: context, least: 1, most: context },
            files: vec![(directory.join(CONFIG), None), (weights.clone(), None)],
            weights,
        }
    }
}

/// What is wrong with where a model lies.
#[derive(Debug, thiserror::Error)]
pub enum Misplaced {
    /// A file cannot be read.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The directory holds something else.
    #[error("the directory {0}")]
    Directory(&'static str),
    /// A part has no configuration where it is looked for.
    #[error("\"{}\" holds no {option}", path.display())]
    Part {
        /// The option that would name another directory.
        option: &'static str,
        /// The directory looked into.
        path: PathBuf,
        /// Why it is needed.
        why: &'static str,
        /// A directory that the option may name.
        example: &'static str,
    },
}

/// What a load is given.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// Directories by their names.
    pub directories: BTreeMap<String, PathBuf>,
    /// What the family has written down of the model.
    pub settings: Settings,
}

impl Files {
    /// The directory of a name.
    ///
    /// # Errors
    /// [`ModelError::InvalidParameter`] where it is missing.
    pub fn directory(&self, name: &'static str) -> Result<&Path> {
        self.directories.get(name).map(PathBuf::as_path).ok_or_else(|| missing(name))
    }
}

/// What is said of settings without a key.
pub(crate) fn missing(name: &'static str) -> ModelError {
    ModelError::InvalidParameter { name, expected: "in the settings of the model".into(), got: "none".into() }
}
