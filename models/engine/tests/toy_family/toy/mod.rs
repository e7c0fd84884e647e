//! A family as small as one can be: paths that leave the last value along a line.

mod config;
mod network;

use config::Config;
use kronos_models::error::Result;
use kronos_models::family::{
    Answers, Capabilities, ContextRange, Description, Directory, Facts, Family, Files, Misplaced, Settings,
    Takes,
};
use kronos_models::layers::accelerated::Place;
use kronos_models::model::Model;
use network::Line;

/// The row of the table.
#[derive(Debug)]
pub struct Toy;

const FACTS: Facts = Facts {
    name: "toy",
    title: "a toy",
    function: "toy_predict",
    subdirectory: None,
    directories: &["model"],
    parts: &[],
};

impl Family for Toy {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn recognises(&self, config: &serde_json::Value) -> bool {
        config.get("model_type").is_some_and(|kind| kind == "toy")
    }

    fn describe(&self, directory: &Directory<'_>) -> Result<Description, Misplaced> {
        directory.config::<Config>(directory.path)?;
        let config = directory.path.join("config.json");
        Ok(Description {
            directories: vec![("model", directory.path.to_path_buf())],
            settings: serde_json::Map::new(),
            context: ContextRange { own: 100, least: 1, most: 100 },
            files: vec![(config.clone(), None)],
            weights: config,
        })
    }

    fn capabilities(&self, settings: &Settings) -> Option<Capabilities> {
        Some(Capabilities {
            answers: Answers::Paths,
            takes: Takes::Targets,
            max_context: settings.max_context()?,
            runs_on_gpus: false,
        })
    }

    fn load(&self, files: &Files, _: Option<&Place>) -> Result<Box<dyn Model>> {
        let config = Config::read(files.directory("model")?)?;
        Ok(Box::new(Line { slope: config.slope }))
    }
}
