//! What a job is: a document in TOML or JSON.

use crate::error::{Error, Result};
use kronos_models::train::{Options, SplitRule, split::DAY};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A training job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Name of the model.
    pub name: String,
    /// A name of [`crate::families::FAMILIES`].
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
    /// [`Error::Job`] for a hold-out below a fifth, below a year of daily rows, or a purge below the horizon: scores on
    /// less would not be what the metrics say they are.
    pub fn rule(&self, width: i64, last: i64, horizon: usize) -> Result<SplitRule> {
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
            return Err(Error::Job(text.into()));
        }
        Ok(rule)
    }
}

impl Job {
    /// Reads a job from a TOML file and sets some of its keys: `train.steps=100`.
    ///
    /// Paths of data files are relative to the working directory.
    ///
    /// # Errors
    /// [`Error::File`]; [`Error::Job`] naming the key that is wrong.
    pub fn read(path: &Path, sets: &[String]) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::File { path: path.to_path_buf(), source })?;
        let mut table: toml::Table =
            text.parse().map_err(|error| Error::Job(format!("\"{}\": {error}", path.display())))?;
        for set in sets {
            let Some((key, value)) = set.split_once('=') else {
                return Err(Error::Job(format!("\"{set}\" is not key=value")));
            };
            // A value that is no TOML is a word: name=test needs no quotes.
            let value = format!("v = {value}")
                .parse::<toml::Table>()
                .ok()
                .and_then(|mut table| table.remove("v"))
                .unwrap_or_else(|| toml::Value::String(value.into()));
            put(&mut table, key.trim(), value)?;
        }
        let value = serde_json::to_value(table).map_err(|error| Error::Job(error.to_string()))?;
        Self::from_json(value)
    }

    /// A job from its JSON form.
    ///
    /// # Errors
    /// [`Error::Job`] naming the key that is wrong.
    pub fn from_json(value: Value) -> Result<Self> {
        serde_json::from_value(value).map_err(|error| Error::Job(error.to_string()))
    }
}

fn put(table: &mut toml::Table, key: &str, value: toml::Value) -> Result<()> {
    match key.split_once('.') {
        None => {
            table.insert(key.into(), value);
            Ok(())
        }
        Some((first, rest)) => {
            let inner = table.entry(first).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            match inner {
                toml::Value::Table(inner) => put(inner, rest, value),
                _ => Err(Error::Job(format!("key \"{first}\" is no table"))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        name = "m"
        family = "nbeats"
        [[sources]]
        files = ["a.csv"]
        time_col = "ds"
        targets = ["close"]
        [train]
        steps = 10
        [train.schedule]
        kind = "one_cycle"
        warmup = 0.3
        divisor = 25.0
        final_divisor = 1e4
    "#;

    fn read(text: &str, sets: &[&str]) -> Result<Job> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("job.toml");
        std::fs::write(&path, text).unwrap();
        Job::read(&path, &sets.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn keys_are_read_and_set() {
        let job = read(TEXT, &["train.steps=7", "name=other", "model.width=16", "train.seed = -3"]).unwrap();
        assert_eq!((job.train.steps, job.name.as_str(), job.train.seed), (7, "other", -3));
        assert_eq!(job.model["width"], 16);
        assert_eq!(job.train.batch, Options::default().batch);
    }

    #[test]
    fn misspelt_keys_are_named() {
        let message = |sets: &[&str]| read(TEXT, sets).unwrap_err().to_string();
        assert!(message(&["train.stepps=7"]).contains("stepps"));
        assert!(message(&["nonsense"]).contains("key=value"));
        assert!(message(&["name.x=1"]).contains("\"name\" is no table"));
    }

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
        ] {
            assert!(rule(split, DAY).is_err());
        }
    }
}
