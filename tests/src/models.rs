//! Fixture models that one test registers.

use crate::{Database, project_root};
use std::path::PathBuf;

/// Fixture models of the Chronos family, registered under their names; their files are removed at the end of the test.
pub struct FixtureModels(Vec<PathBuf>);

impl FixtureModels {
    /// Registers fixtures of `models/tests/fixtures/chronos2/models`.
    pub fn register(db: &Database, names: &[&str]) -> Self {
        let models: Vec<(&str, &str)> = names.iter().map(|name| (*name, *name)).collect();
        Self::register_as(db, &models, None)
    }

    /// Registers fixtures under other names, as if they had been trained on data up to a date.
    pub fn register_as(db: &Database, models: &[(&str, &str)], train_cutoff: Option<&str>) -> Self {
        let base = PathBuf::from(db.value("show kronos.model_dir"));
        let cutoff = train_cutoff.map_or("null".to_owned(), |date| format!("'{date}'"));
        let copy = |(fixture, name): &(&str, &str)| {
            // Tests of other processes share the directory.
            let directory = format!("{name}-{}", db.name());
            let path = base.join(&directory);
            std::fs::create_dir_all(&path).expect("the server's model directory is writable");
            for file in ["config.json", "model.safetensors"] {
                let from = Self::folder(fixture).join(file);
                std::fs::copy(from, path.join(file)).expect("the fixture can be copied");
            }
            db.run(&format!(
                "select kronos.register_model('{name}', null, '{directory}', train_cutoff => {cutoff})"
            ));
            path
        };
        Self(models.iter().map(copy).collect())
    }

    /// Where a fixture lies: random weights, patches of 8 rows, contexts of 96, 24 steps per pass.
    pub fn folder(name: &str) -> PathBuf {
        project_root().join("models/tests/fixtures/chronos2/models").join(name)
    }
}

impl Drop for FixtureModels {
    fn drop(&mut self) {
        for path in &self.0 {
            std::fs::remove_dir_all(path).expect("the copy can be removed");
        }
    }
}
