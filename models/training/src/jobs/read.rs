//! What a job is: a document in TOML, or JSON in the database. What it may say is written in [`kronos_job`].

use crate::error::{Result, TrainError};
use kronos_job::{Job, JobError};
use std::path::Path;

/// Reads a job from a TOML file and sets some of its keys: `train.steps=100`.
///
/// # Errors
/// [`TrainError::File`]; [`TrainError::Job`] naming the key that is wrong.
pub fn read(path: &Path, sets: &[String]) -> Result<Job> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| TrainError::File { path: path.to_path_buf(), source })?;
    let mut table: toml::Table =
        text.parse().map_err(|error| JobError::Invalid(format!("\"{}\": {error}", path.display())))?;
    for set in sets {
        let Some((key, value)) = set.split_once('=') else {
            return Err(JobError::Invalid(format!("\"{set}\" is not key=value")).into());
        };
        // A value that is no TOML is a word, and so is a day: name=test needs no quotes.
        let value = format!("v = {value}")
            .parse::<toml::Table>()
            .ok()
            .and_then(|mut table| table.remove("v"))
            .filter(|value| !value.is_datetime())
            .unwrap_or_else(|| toml::Value::String(value.into()));
        put(&mut table, key.trim(), value)?;
    }
    let value = serde_json::to_value(table).map_err(|error| JobError::Invalid(error.to_string()))?;
    Ok(Job::from_json(value)?)
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
                _ => Err(JobError::Invalid(format!("key \"{first}\" is no table")).into()),
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
        super::read(&path, &sets.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn keys_are_read_and_set() {
        let sets =
            ["train.steps=7", "name=other", "model.width=16", "train.seed = -3", "train_cutoff=2022-02-28"];
        let job = read(TEXT, &sets).unwrap();
        assert_eq!((job.train.steps, job.name.as_str(), job.train.seed), (7, "other", -3));
        assert_eq!(job.model["width"], 16);
        assert_eq!((job.train.batch, job.train_cutoff.as_deref()), (64, Some("2022-02-28")));
    }

    #[test]
    fn misspelt_keys_are_named() {
        let message = |sets: &[&str]| read(TEXT, sets).unwrap_err().to_string();
        assert!(message(&["train.stepps=7"]).contains("stepps"));
        assert!(message(&["nonsense"]).contains("key=value"));
        assert!(message(&["name.x=1"]).contains("\"name\" is no table"));
    }
}
