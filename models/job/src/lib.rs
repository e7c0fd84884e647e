//! What a training job says, and how large it may be.
//!
//! A crate of its own, below `kronos-train`, which runs jobs, and the extension, which queues them: what is refused is refused
//! by the same code in both, at once by the one that is asked, and again by the one that takes the memory. A row of the queue may
//! have come there by another door.
//!
//! Nothing here allocates by what a job says: every number is bounded before it is multiplied ([`limits`]).
#![deny(missing_docs)]

pub mod chronos2;
mod error;
pub mod kronos;
pub mod limits;
pub mod nbeats;
pub mod regime;
mod request;

pub use error::{JobError, Result};
pub use request::{OPTIONS, RankOptions, Request};

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use limits::{Counts, between};
use regime::{DAY, Options, SplitRule};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::PathBuf;

/// Families that can be trained.
pub const FAMILIES: [&str; 3] = ["kronos", "chronos2", "nbeats"];

/// A training job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Name of the model.
    pub name: String,
    /// A name of [`FAMILIES`].
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
    /// What the family asks for: architecture, windows.
    #[serde(default)]
    pub model: serde_json::Map<String, Value>,
    /// Licence of the weights.
    #[serde(default = "unknown")]
    pub licence: String,
    /// Where the data come from and under which licence, for people.
    #[serde(default)]
    pub data: String,
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

/// One source of series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceOptions {
    /// CSV, gzipped CSV or Parquet files; empty where the rows come from a relation.
    #[serde(default)]
    pub files: Vec<PathBuf>,
    /// Column that names the series; absent: each file is one series.
    #[serde(default)]
    pub series_col: Option<String>,
    /// Column of the time.
    pub time_col: String,
    /// Columns to learn from; the first is the target of a family that has one.
    pub targets: Vec<String>,
    /// Only these series.
    #[serde(default)]
    pub only_series: Option<Vec<String>>,
    /// Last day or instant of any row.
    #[serde(default)]
    pub until: Option<String>,
    /// Share of the windows drawn from this source, relative to the others.
    #[serde(default = "one")]
    pub weight: f64,
}

fn one() -> f64 {
    1.0
}

impl SourceOptions {
    /// The last instant of any row, in microseconds since 1970.
    ///
    /// # Errors
    /// [`JobError::Invalid`] for a text that is none.
    pub fn until(&self) -> Result<Option<i64>> {
        let read = |text: &String| {
            instant(text).ok_or_else(|| JobError::Invalid(format!("until: \"{text}\" is no date or time")))
        };
        self.until.as_ref().map(read).transpose()
    }
}

/// How each series is split; see [`SplitRule`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SplitOptions {
    /// Least share of a series' rows that is held out; absent: a fifth.
    pub holdout: Option<f64>,
    /// Least days held out; absent: 365 for rows a day or more apart, none for shorter ones.
    pub holdout_days: Option<u32>,
    /// Newest days of a source that are test rows; absent: the later half of each series' hold-out.
    pub test_days: Option<u32>,
    /// Rows left out between two parts; absent: the horizon.
    pub purge: Option<usize>,
}

impl SplitOptions {
    /// The rule for a panel whose rows are `width` microseconds apart and end at `last`.
    ///
    /// # Errors
    /// [`JobError::Invalid`] for a hold-out below a fifth, below a year of daily rows, or a purge below the horizon: scores on
    /// less would not be what the metrics say they are.
    pub fn rule(&self, width: i64, last: i64, horizon: usize) -> Result<SplitRule> {
        self.check()?;
        let least = if width >= DAY { SplitRule::daily(horizon) } else { SplitRule::intraday(horizon) };
        let span = |days: u32| i64::from(days) * DAY;
        let rule = SplitRule {
            holdout: self.holdout.unwrap_or(least.holdout),
            holdout_span: self.holdout_days.map(span).or(least.holdout_span),
            test_from: self.test_days.map(|days| last - span(days) + 1),
            purge: self.purge.unwrap_or(least.purge),
        };
        if rule.holdout < least.holdout || rule.holdout_span < least.holdout_span || rule.purge < horizon {
            let text = "split must hold out at least a fifth of the rows, 365 days of daily rows, and purge a horizon";
            return Err(JobError::Invalid(text.into()));
        }
        Ok(rule)
    }

    /// Checks what can be told without the rows.
    fn check(&self) -> Result<()> {
        if let Some(holdout) = self.holdout.filter(|holdout| !(*holdout > 0.0 && *holdout < 1.0)) {
            return Err(JobError::Invalid(format!("split.holdout must be between 0 and 1, got {holdout}")));
        }
        let days = |what, days: Option<u32>| days.map(|days| between(what, u64::from(days), limits::DAYS));
        days("split.holdout_days", self.holdout_days).transpose()?;
        days("split.test_days", self.test_days).transpose()?;
        self.purge.map(|rows| between("split.purge", rows as u64, limits::ROWS)).transpose()?;
        Ok(())
    }
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
        for source in &self.sources {
            source.until()?;
            if !(source.weight.is_finite() && source.weight >= 0.0) {
                return Err(JobError::Invalid(format!("weight must be at least 0, got {}", source.weight)));
            }
        }
        let columns = self.sources.first().map_or(1, |source| source.targets.len());
        self.counts(columns)?.check(memory)
    }

    /// What a step of the job holds in memory, at the least, by the architecture that the job itself asks for.
    fn counts(&self, columns: usize) -> Result<Counts> {
        match self.family.as_str() {
            "kronos" => kronos::Options::of(self, columns)?.counts(&self.train),
            "chronos2" => chronos2::Options::of(self, columns)?.counts(&self.train),
            "nbeats" => nbeats::Options::of(self)?.counts(&self.train),
            other => Err(JobError::UnknownFamily { family: other.into() }),
        }
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

/// An instant in microseconds since 1970: a date, or a date and a time with or without an offset (UTC then).
pub fn instant(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Some(date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros());
    }
    let with_offset = DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z"))
        .map(|time| time.timestamp_micros());
    let without = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"].iter().find_map(|format| {
        NaiveDateTime::parse_from_str(text, format).ok().map(|time| time.and_utc().timestamp_micros())
    });
    with_offset.ok().or(without)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_hold_out_below_the_rule_is_refused() {
        let rule = |split: SplitOptions, width| split.rule(width, 1000 * DAY, 5);
        let daily = rule(SplitOptions::default(), DAY).unwrap();
        assert_eq!((daily.holdout, daily.holdout_span, daily.purge), (0.2, Some(365 * DAY), 5));
        let hourly = rule(SplitOptions { test_days: Some(10), ..SplitOptions::default() }, DAY / 24).unwrap();
        assert_eq!((hourly.holdout_span, hourly.test_from), (None, Some(990 * DAY + 1)));
        for split in [
            SplitOptions { holdout: Some(0.1), ..SplitOptions::default() },
            SplitOptions { holdout_days: Some(30), ..SplitOptions::default() },
            SplitOptions { purge: Some(4), ..SplitOptions::default() },
            // So many days that microseconds of them would wrap around.
            SplitOptions { holdout_days: Some(u32::MAX), ..SplitOptions::default() },
            SplitOptions { test_days: Some(u32::MAX), ..SplitOptions::default() },
        ] {
            assert!(rule(split, DAY).is_err());
        }
    }

    #[test]
    fn a_key_of_the_job_replaces_the_default_of_that_key_only() {
        let mut job = Job::from_json(json!({"name": "m", "family": "nbeats"})).unwrap();
        job.model = json!({"season": 7, "network": {"width": 9}}).as_object().unwrap().clone();
        let defaults = json!({"season": 5, "scored": 3, "network": {"width": 1, "layers": 2}});
        let merged: Value = job.merged(defaults).unwrap();
        assert_eq!(merged, json!({"season": 7, "scored": 3, "network": {"width": 9, "layers": 2}}));
    }

    #[test]
    fn instants_of_every_spelling() {
        let expected = Some(1_583_020_800_000_000);
        for text in ["2020-03-01", "2020-03-01T00:00:00Z", "2020-03-01 00:00:00", "2020-03-01 02:00:00+02"] {
            assert_eq!(instant(text), expected, "{text}");
        }
        assert_eq!(instant("2020-03-01 00:00:00.5+00:00"), Some(1_583_020_800_500_000));
        assert_eq!(instant("yesterday"), None);
    }
}
