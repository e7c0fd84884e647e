//! A job as `kronos.train_model()` is asked for it.

use crate::error::{JobError, Result};
use crate::limits::{self, between};
use crate::{Family, Job, family};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Keys of the argument `options`, in the order of the alphabet.
pub const OPTIONS: [&str; 14] = [
    "adapter",
    "data",
    "device",
    "from",
    "licence",
    "model",
    "only_series",
    "rank",
    "residuals",
    "series_col",
    "split",
    "time_col",
    "train",
    "until",
];

/// A job as it was asked for; nothing of it is trusted.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Name of the model.
    pub name: &'a str,
    /// Family of the model.
    pub family: &'a str,
    /// Columns to learn from.
    pub targets: &'a [String],
    /// Everything else.
    pub options: &'a Map<String, Value>,
}

/// Step that is judged and length of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RankOptions {
    /// Step of the forecast that is judged.
    pub step: usize,
    /// Length of the list.
    pub top: usize,
}

impl Default for RankOptions {
    fn default() -> Self {
        Self { step: 1, top: 100 }
    }
}

impl<'a> Request<'a> {
    /// The job, with one source without files.
    ///
    /// # Errors
    /// What is wrong first, as [`Job::check`] says too.
    pub fn job(&self, memory: u64) -> Result<Job> {
        if !is_name(self.name) {
            return Err(JobError::Invalid(format!(
                "name must be up to 63 letters, digits, \"_\", \".\" or \"-\", got \"{}\"",
                self.name.chars().take(80).collect::<String>()
            )));
        }
        let family = family(self.family)?;
        let unknown = self.options.keys().find(|key| !OPTIONS.contains(&key.as_str()));
        if let Some(name) = unknown {
            return Err(JobError::UnknownOption {
                name: name.clone(),
                valid: OPTIONS.map(Into::into).into(),
            });
        }
        between("number of targets", self.targets.len() as u64, limits::COLUMNS)?;
        if let Some(twice) =
            self.targets.iter().enumerate().find(|(n, name)| self.targets[..*n].contains(name))
        {
            return Err(JobError::Invalid(format!("targets name column \"{}\" twice", twice.1)));
        }
        self.for_the_family(family)?;
        let mut options = self.options.clone();
        options.retain(|key, value| !value.is_null() && !matches!(key.as_str(), "rank" | "from"));
        let (time_col, series_col) = (options.remove("time_col"), options.remove("series_col"));
        let source = json!({
            "time_col": time_col.unwrap_or("time".into()), "series_col": series_col, "targets": self.targets,
            "only_series": options.remove("only_series"), "until": options.remove("until"),
        });
        options.insert("name".into(), json!(self.name));
        options.insert("family".into(), json!(self.family));
        options.insert("sources".into(), json!([source]));
        let mut job = Job::from_json(Value::Object(options))?;
        // The directory is found by whoever runs it; that there is one changes what the model must say.
        job.from = self.from()?.map(Into::into);
        job.check(memory)?;
        job.from = None;
        Ok(job)
    }

    /// The registered model that training goes on from.
    ///
    /// # Errors
    /// [`JobError::Invalid`] for what is no text.
    pub fn from(&self) -> Result<Option<&'a str>> {
        match self.options.get("from") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(name)) => Ok(Some(name)),
            Some(other) => Err(JobError::Invalid(format!("from must name a registered model, got {other}"))),
        }
    }

    /// What is to be said of the series that are forecast best, where that is asked for.
    ///
    /// # Errors
    /// [`JobError::Invalid`] and [`JobError::OutOfBounds`] for what is no such wish.
    pub fn rank(&self) -> Result<Option<RankOptions>> {
        let Some(value) = self.options.get("rank").filter(|value| !value.is_null()) else { return Ok(None) };
        let options: RankOptions = serde_json::from_value(value.clone())
            .map_err(|error| JobError::Invalid(format!("rank: {error}")))?;
        between("rank.step", options.step as u64, limits::WINDOW)?;
        between("rank.top", options.top as u64, limits::TOP)?;
        Ok(Some(options))
    }

    /// Options that only some families have, and those that name files, which no request has.
    fn for_the_family(&self, family: &Family) -> Result<()> {
        if self.rank()?.is_some() && !family.ranks {
            return Err(JobError::NotForFamily { option: "rank", family: self.family.into() });
        }
        // A path is read with the rights of the worker, who may read what whoever asks may not.
        let model = self.options.get("model");
        let given =
            |option: &str| model.and_then(|model| model.get(option)).is_some_and(|value| !value.is_null());
        match family.parts.iter().find(|part| given(part.option)) {
            None => Ok(()),
            Some(part) => Err(JobError::Invalid(format!(
                "model.{} names a file, which train_model() does not take; from goes on from a registered model and its {}",
                part.option, part.directory,
            ))),
        }
    }
}

/// Names that are the same in a path, in a version and in SQL.
fn is_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: u64 = 1 << 30;

    fn asked(family: &str, columns: usize, options: Value) -> Result<Job> {
        let targets: Vec<String> = (0..columns).map(|column| format!("c{column}")).collect();
        let Value::Object(options) = options else { return Err(JobError::Invalid("no object".into())) };
        Request { name: "m", family, targets: &targets, options: &options }.job(MEMORY)
    }

    #[test]
    fn defaults_fit_into_a_small_machine() {
        for (family, columns) in
            [("nbeats", 1), ("chronos2", 1), ("chronos2", 5), ("kronos", 4), ("kronos", 6)]
        {
            asked(family, columns, json!({})).unwrap();
        }
        for (family, columns) in [("chronos2", 1), ("kronos", 5)] {
            let job =
                asked(family, columns, json!({"from": "some model", "rank": null, "until": "2024-01-01"}))
                    .unwrap();
            assert_eq!(job.from, None, "its directory is found by whoever runs it");
            assert!(job.sources[0].until().unwrap().is_some());
        }
    }

    #[test]
    fn no_option_names_a_file() {
        for model in ["/etc", "../x", "models/x"] {
            let refused = asked("kronos", 4, json!({"model": {"tokenizer_from": model}})).unwrap_err();
            assert!(refused.to_string().contains("tokenizer_from names a file"), "{refused}");
        }
        for key in ["sources", "files", "name", "checkpoint_every", "tokenizer_from"] {
            let refused = asked("nbeats", 1, json!({key: 1})).unwrap_err();
            assert!(matches!(&refused, JobError::UnknownOption { name, .. } if name == key), "{refused}");
        }
    }

    #[test]
    fn an_adapter_is_asked_for_on_a_model() {
        let on = |adapter: Value| asked("chronos2", 1, json!({"from": "m", "adapter": adapter}));
        let adapter = json!({"rank": 8, "alpha": 16.0, "targets": ["self_attention.q"]});
        assert_eq!(on(adapter.clone()).unwrap().adapter.unwrap().rank, 8);
        let refused = asked("chronos2", 1, json!({"adapter": adapter})).unwrap_err().to_string();
        assert_eq!(refused, "adapter is trained on a model, which from must name");
        for (key, value) in [
            ("rank", json!(0)),
            ("rank", json!(u64::MAX)),
            ("alpha", json!(-1)),
            ("targets", json!([])),
            ("dora", json!(1)),
        ] {
            let mut wrong = adapter.clone();
            wrong[key] = value;
            assert!(on(wrong).is_err(), "{key}");
        }
    }

    #[test]
    fn names_and_columns_are_checked() {
        let options = Map::new();
        let column = ["c".to_owned()];
        let named =
            |name| Request { name, family: "nbeats", targets: &column, options: &options }.job(MEMORY);
        named("a.b-c_9").unwrap();
        for name in ["", ".", "..", "../a", "a/b", "a b", "a\0b", "é", &"a".repeat(64)] {
            assert!(named(name).is_err(), "{name:?}");
        }
        let twice = ["c".to_owned(), "c".to_owned()];
        assert!(
            Request { name: "m", family: "nbeats", targets: &twice, options: &options }.job(MEMORY).is_err()
        );
        for (family, columns) in
            [("nbeats", 0), ("kronos", 3), ("kronos", 7), ("chronos2", 1601), ("oracle", 1)]
        {
            assert!(asked(family, columns, json!({})).is_err(), "{family} {columns}");
        }
    }

    /// Whatever number a job holds, however large, is refused and not computed with.
    #[test]
    fn the_largest_number_in_any_place_is_refused() {
        let places = [
            ("nbeats", "/train/batch"),
            ("nbeats", "/train/accumulate"),
            ("nbeats", "/train/steps"),
            ("nbeats", "/model/context_length"),
            ("nbeats", "/model/horizon"),
            ("nbeats", "/model/stride"),
            ("nbeats", "/model/holdout_stride"),
            ("nbeats", "/model/season"),
            ("nbeats", "/split/purge"),
            ("nbeats", "/split/holdout_days"),
            ("nbeats", "/split/test_days"),
            ("nbeats", "/rank/step"),
            ("nbeats", "/rank/top"),
            ("chronos2", "/model/examples/context"),
            ("chronos2", "/model/examples/least_context"),
            ("chronos2", "/model/examples/horizon"),
            ("chronos2", "/model/scored"),
            ("chronos2", "/model/scored_windows"),
            ("chronos2", "/model/season"),
            ("chronos2", "/model/network/d_model"),
            ("chronos2", "/model/network/d_kv"),
            ("chronos2", "/model/network/d_ff"),
            ("chronos2", "/model/network/num_layers"),
            ("chronos2", "/model/network/num_heads"),
            ("kronos", "/model/windows/bars"),
            ("kronos", "/model/windows/most_context"),
            ("kronos", "/model/forecasts/horizon"),
            ("kronos", "/model/forecasts/paths"),
            ("kronos", "/model/scored_windows"),
            ("kronos", "/model/season"),
            ("kronos", "/model/tokenizer/d_model"),
            ("kronos", "/model/tokenizer/n_heads"),
            ("kronos", "/model/tokenizer/ff_dim"),
            ("kronos", "/model/tokenizer/n_enc_layers"),
            ("kronos", "/model/tokenizer/n_dec_layers"),
            ("kronos", "/model/predictor/s1_bits"),
            ("kronos", "/model/predictor/n_layers"),
            ("kronos", "/model/tokenizer_train/batch"),
        ];
        for (family, place) in places {
            let mut value = json!(u64::MAX);
            for key in place.rsplit('/').filter(|key| !key.is_empty()) {
                value = json!({key: value});
            }
            // What a table of the loop does not say has its default; the tables of forecasts and loops are replaced as they are.
            assert!(
                asked(family, if family == "kronos" { 4 } else { 1 }, value).is_err(),
                "{family} {place}"
            );
        }
    }

    #[test]
    fn what_the_machine_cannot_hold_is_refused() {
        let network =
            json!({"d_model": 8192, "d_kv": 64, "num_heads": 128, "d_ff": 32768, "num_layers": 100});
        for (family, columns, options) in [
            ("chronos2", 1, json!({"model": {"network": network}})),
            ("chronos2", 1, json!({"train": {"batch": 65536}})),
            (
                "nbeats",
                1,
                json!({"train": {"batch": 65536}, "model": {"stacks": [
                {"kind": "generic", "blocks": 16, "layers": 4, "width": 2048}]}}),
            ),
            ("kronos", 4, json!({"train": {"batch": 65536}})),
            ("kronos", 4, json!({"model": {"tokenizer_train": {"batch": 65536}}})),
        ] {
            let refused = asked(family, columns, options.clone()).unwrap_err();
            assert!(matches!(refused, JobError::TooLarge { .. }), "{family} {options}: {refused}");
        }
    }
}
