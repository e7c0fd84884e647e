//! The recipes describe the models that come with the extension: what each says is what the artifact keeps of how it was made.
#![allow(clippy::expect_used, clippy::unwrap_used)] // a test may stop where it is

use kronos_job::{Job, SourceOptions, SplitOptions, chronos2, kronos, nbeats};
use kronos_training::artifact;
use kronos_training::jobs::read;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The job of a recipe and the directory of the version in use.
fn recipe(name: &str) -> (Job, PathBuf) {
    let job = read(&models().join(format!("recipes/{name}.toml")), &[]).unwrap();
    job.check(u64::MAX).unwrap();
    let directory = artifact::pointed(&models().join("artifacts"), name, artifact::LATEST).unwrap().unwrap();
    (job, directory)
}

fn json_of(path: PathBuf) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// What a recipe says, against what the artifact keeps, which leaves out what has its default.
fn assert_same<T: DeserializeOwned + PartialEq + Debug>(ours: &T, recorded: &Value) {
    let recorded: T = serde_json::from_value(recorded.clone()).unwrap();
    assert_eq!(*ours, recorded);
}

/// Sources as `recipe.json` has them, in the form of the program that trained these versions.
fn assert_same_sources(sources: &[SourceOptions], recorded: &Value) {
    let recorded = recorded.as_array().unwrap();
    assert_eq!(sources.len(), recorded.len());
    for (ours, recorded) in sources.iter().zip(recorded) {
        let SplitOptions { holdout, holdout_days, test_days, test_from, purge } = ours.split.clone();
        // Days are held out by the rule for daily rows, as it was said of these.
        let days =
            recorded["bars"]["files"]["paths"][0].as_str().is_some_and(|path| path.starts_with("daily/"));
        assert_eq!(recorded["holdout_days"].as_u64(), days.then_some(365));
        assert_eq!((holdout_days, test_days, purge), (None, None, None));
        let bars = match &ours.simulated {
            Some(markets) => json!({"simulated": markets}),
            None => {
                let mut files =
                    json!({"paths": ours.files, "zone": ours.timezone.map_or("UTC", |zone| zone.name())});
                if !ours.except.is_empty() {
                    files["except"] = json!(ours.except);
                }
                json!({ "files": files })
            }
        };
        let mut said = json!({
            "name": ours.name, "weight": ours.weight, "validation": ours.scored_windows,
            "holdout": holdout.unwrap_or(0.2), "bars": bars,
        });
        if days {
            said["holdout_days"] = json!(365);
        }
        if let Some(from) = test_from {
            said["test_from"] = json!(from);
        }
        assert_eq!(said, *recorded);
        assert_eq!(ours.season.unwrap_or(5), if days { 5 } else { 6 });
    }
}

fn assert_same_words(job: &Job, recorded: &Value) {
    for (ours, key) in [(&job.name, "name"), (&job.licence, "licence"), (&job.data, "data")] {
        assert_eq!(recorded[key], **ours);
    }
    assert_eq!(recorded["train_cutoff"], **job.train_cutoff.as_ref().unwrap());
}

#[test]
fn the_recipe_of_kronos_nano_is_what_made_it() {
    let (job, directory) = recipe("kronos-nano");
    let recorded = json_of(directory.join("recipe.json"));
    assert_same_words(&job, &recorded);
    assert_same_sources(&job.sources, &recorded["sources"]);
    let options = kronos::Options::of(&job, job.sources[0].targets.len()).unwrap();
    let recorded = &recorded["model"]["kronos"];
    assert_same(&options.windows, &recorded["windows"]);
    assert_same(&options.tokenizer, &recorded["tokenizer"]);
    assert_same(&options.predictor, &recorded["predictor"]);
    assert_same(&options.condition, &recorded["condition"]);
    assert_same(&options.forecasts, &recorded["forecasts"]);
    assert_same(&options.channel_weights, &recorded["channel_weights"]);
    assert_same(options.tokenizer_train.as_ref().unwrap(), &recorded["tokenizer_options"]);
    assert_same(&job.train, &recorded["predictor_options"]);
    let part = |part: &str| json_of(directory.join(part).join("config.json"));
    assert_same(&options.tokenizer, &part("tokenizer"));
    assert_same(&options.predictor, &part("predictor"));
}

#[test]
fn the_recipe_of_chronos_nano_is_what_made_it() {
    let (job, directory) = recipe("chronos-nano");
    let recorded = json_of(directory.join("recipe.json"));
    assert_same_words(&job, &recorded);
    assert_same_sources(&job.sources, &recorded["sources"]);
    let options = chronos2::Options::of(&job, job.sources[0].targets.len()).unwrap();
    let recorded = &recorded["model"]["chronos2"];
    assert_same(&options.examples, &recorded["examples"]);
    assert_same(&options.network, &recorded["network"]);
    assert_same(&options.network, &json_of(directory.join("config.json")));
    assert_same(&job.train, &recorded["options"]);
    assert_eq!(recorded["scored"], options.scored);
}

/// Its artifact keeps no recipe: what it does keep is the architecture, the seed, the words, and when it was looked at.
#[test]
fn the_recipe_of_nbeats_daily_is_what_made_it() {
    let (job, directory) = recipe("nbeats-daily");
    let options = nbeats::Options::of(&job).unwrap();
    assert_same(&options.config(), &json_of(directory.join("config.json")));
    let manifest = artifact::open(&directory).unwrap().unwrap();
    assert_eq!(
        (&job.name, &job.licence, &job.data),
        (&manifest.name, &manifest.licence, &manifest.data.source)
    );
    assert_eq!(job.train.seed, manifest.seed);
    let metrics = json_of(directory.join("METRICS.json"));
    let steps: Vec<u64> =
        metrics["history"].as_array().unwrap().iter().map(|line| line["step"].as_u64().unwrap()).collect();
    let expected: Vec<u64> = (0..steps.len() as u64).map(|look| look * job.train.evaluate_every).collect();
    assert_eq!(steps, expected);
}
