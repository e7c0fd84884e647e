//! What a training job says, and how large it may be.
//!
//! A crate of its own, below `kronos-train`, which runs jobs, and the extension, which queues them: what is refused is refused
//! by the same code in both, at once by the one that is asked, and again by the one that takes the memory. A row of the queue may
//! have come there by another door.
//!
//! Nothing here allocates by what a job says: every number is bounded before it is multiplied ([`limits`]).
#![deny(missing_docs)]

mod adapter;
pub mod chronos2;
mod error;
mod families;
mod family;
pub mod kronos;
pub mod limits;
pub mod nbeats;
pub mod regime;
mod request;
mod source;

pub use adapter::AdapterOptions;
pub use error::{JobError, Result};
pub use families::{FAMILIES, family, names};
pub use family::{Family, Part};
pub use request::{OPTIONS, RankOptions, Request};
pub use source::{Simulated, SourceOptions, SplitOptions, instant};

use chrono::{NaiveDate, NaiveTime};
use limits::between;
use regime::{DAY, Options};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::PathBuf;

/// A training job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Name of the model.
    pub name: String,
    /// The name of one of [`FAMILIES`].
    pub family: String,
    /// Where the data come from; several sources are mixed.
    #[serde(default)]
    pub sources: Vec<SourceOptions>,
    /// How each series is split.
    #[serde(default)]
    pub split: SplitOptions,
    /// The loop.
    #[serde(default)]
    pub train: Options,
    /// Directory of a model whose weights training goes on from.
    #[serde(default)]
    pub from: Option<PathBuf>,
    /// What is trained in place of the weights of that model.
    #[serde(default)]
    pub adapter: Option<AdapterOptions>,
    /// What the family asks for: architecture, windows.
    #[serde(default)]
    pub model: serde_json::Map<String, Value>,
    /// Licence of the weights.
    #[serde(default = "unknown")]
    pub licence: String,
    /// Where the data come from and under which licence, for people.
    #[serde(default)]
    pub data: String,
    /// Last day of which the weights, or the choice of them, may have seen anything: a job that would is refused. Absent: whatever
    /// day that is.
    #[serde(default)]
    pub train_cutoff: Option<String>,
    /// Steps from one checkpoint to the next.
    #[serde(default = "checkpoint_every")]
    pub checkpoint_every: u64,
    /// Whether the residuals of the test windows are kept beside the model.
    #[serde(default)]
    pub residuals: bool,
    /// `cpu`, or `cuda:0` in a build with CUDA.
    #[serde(default = "cpu")]
    pub device: String,
}

fn unknown() -> String {
    "unknown".into()
}

fn cpu() -> String {
    "cpu".into()
}

fn checkpoint_every() -> u64 {
    200
}

impl Job {
    /// A job from its JSON form.
    ///
    /// # Errors
    /// [`JobError::Invalid`] naming the key that is wrong.
    pub fn from_json(value: Value) -> Result<Self> {
        serde_json::from_value(value).map_err(|error| JobError::Invalid(error.to_string()))
    }

    /// Checks all that can be told without rows and without the files of another model, the memory at the least needed
    /// on a machine with `memory` bytes included.
    ///
    /// # Errors
    /// What is wrong first.
    pub fn check(&self, memory: u64) -> Result<()> {
        self.split.check()?;
        self.device_number()?;
        between("checkpoint_every", self.checkpoint_every, (0, limits::STEPS.1))?;
        limits::text("licence", &self.licence)?;
        limits::text("data", &self.data)?;
        limits::training("train", &self.train)?;
        self.train_cutoff()?;
        for source in &self.sources {
            source.check()?;
        }
        let family = family(&self.family)?;
        if self.from.is_some() && !family.goes_on {
            return Err(JobError::NotForFamily { option: "from", family: self.family.clone() });
        }
        if let Some(adapter) = &self.adapter {
            adapter.check()?;
            if self.from.is_none() {
                return Err(JobError::Invalid("adapter is trained on a model, which from must name".into()));
            }
        }
        let columns = self.sources.first().map_or(1, |source| source.targets.len());
        (family.counts)(self, columns)?.check(memory)
    }

    /// The end of the last day of which anything may have been seen, in microseconds since 1970.
    ///
    /// # Errors
    /// [`JobError::Invalid`] for a text that is no day.
    pub fn train_cutoff(&self) -> Result<Option<i64>> {
        let end = |day: &String| match day.parse::<NaiveDate>() {
            Ok(day) => Ok(day.and_time(NaiveTime::MIN).and_utc().timestamp_micros() + DAY),
            Err(_) => Err(JobError::Invalid(format!("train_cutoff: \"{day}\" is no day"))),
        };
        self.train_cutoff.as_ref().map(end).transpose()
    }

    /// The number of the GPU of `cuda:0`; `None` for `cpu`.
    ///
    /// # Errors
    /// [`JobError::Invalid`] for a name that is neither.
    pub fn device_number(&self) -> Result<Option<usize>> {
        match self.device.split_once(':') {
            None if self.device == "cpu" => return Ok(None),
            Some(("cuda", number)) => {
                if let Ok(number) = number.parse() {
                    return Ok(Some(number));
                }
            }
            _ => {}
        }
        Err(JobError::Invalid(format!("\"{}\" is no device; there are cpu and cuda:0", self.device)))
    }

    /// The job's `model` over the defaults of its family; what a key of a table says replaces the default of that key.
    fn merged<T: serde::de::DeserializeOwned>(&self, mut defaults: Value) -> Result<T> {
        for (key, value) in &self.model {
            match (defaults.get_mut(key), value) {
                (Some(Value::Object(table)), Value::Object(given)) => table.extend(given.clone()),
                _ => defaults[key] = value.clone(),
            }
        }
        serde_json::from_value(defaults).map_err(|error| JobError::Invalid(format!("model: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_key_of_the_job_replaces_the_default_of_that_key_only() {
        let mut job = Job::from_json(json!({"name": "m", "family": "nbeats"})).unwrap();
        job.model = json!({"season": 7, "network": {"width": 9}}).as_object().unwrap().clone();
        let defaults = json!({"season": 5, "scored": 3, "network": {"width": 1, "layers": 2}});
        let merged: Value = job.merged(defaults).unwrap();
        assert_eq!(merged, json!({"season": 7, "scored": 3, "network": {"width": 9, "layers": 2}}));
    }
}
