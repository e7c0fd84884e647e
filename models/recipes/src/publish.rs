//! From finished parts to an artifact in the project, and its place in the list of built-in models.

use crate::error::{Error, Result};
use crate::recipe::Recipe;
use kronos_training::artifact::{DataNote, Draft, Manifest, Version};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What becomes an artifact.
pub struct Artifact<'a> {
    pub recipe: &'a Recipe,
    /// File of the recipe.
    pub recipe_path: &'a Path,
    pub family: &'a str,
    /// Path of the weights that name the version.
    pub weights: &'a str,
    /// Folders of the finished parts below the work folder, with their folders in the artifact.
    pub parts: &'a [(&'a str, &'a str)],
    pub work: &'a Path,
    pub seed: i64,
    pub fingerprint: &'a str,
    /// Series and rows that were read.
    pub size: (usize, usize),
    pub metrics: Value,
    /// Options of `register_model()`.
    pub options: Value,
}

impl Artifact<'_> {
    /// Writes the directory below `out` and puts it into `manifest.json` there, in the place of an older version.
    pub fn publish(&self, out: &Path) -> Result<Version> {
        let Self { recipe, .. } = self;
        let read = |path: &Path| fs::read(path).map_err(|error| Error::file(path, error));
        let mut files = vec![("recipe.json".to_owned(), read(self.recipe_path)?)];
        let mut listed = BTreeMap::new();
        for (part, folder) in self.parts {
            for name in ["config.json", "model.safetensors"] {
                let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
                files.push((path, read(&self.work.join(part).join(name))?));
            }
        }
        let recipe_name = self.recipe_path.file_name().unwrap_or_default().to_string_lossy();
        let draft = Draft {
            manifest: Manifest {
                name: recipe.name.clone(),
                family: self.family.to_owned(),
                train_cutoff: Some(recipe.train_cutoff.clone()),
                licence: recipe.licence.clone(),
                data: DataNote {
                    source: recipe.data.clone(),
                    fingerprint: self.fingerprint.to_owned(),
                    series: self.size.0,
                    rows: self.size.1,
                },
                seed: self.seed,
                command: format!(
                    "kronos-recipe --recipe models/recipes/recipes/{recipe_name} --data ../shared/data --work <folder> train"
                ),
                files: BTreeMap::new(),
            },
            weights: self.weights.to_owned(),
            files,
            metrics: self.metrics.clone(),
        };
        let version = draft.write(out)?;
        let directory = format!("{}/{}", recipe.name, version.digest);
        let written: Manifest = serde_json::from_slice(&read(&version.directory.join("artifact.json"))?)
            .map_err(|error| Error::content(&version.directory, error))?;
        let read_by_models =
            |path: &str| path.ends_with("config.json") || path.ends_with("model.safetensors");
        listed.extend(written.files.into_iter().filter(|(path, _)| read_by_models(path)));
        let path = out.join("manifest.json");
        let mut models: Vec<Value> = match fs::read(&path) {
            Ok(bytes) => {
                let list: Value =
                    serde_json::from_slice(&bytes).map_err(|error| Error::content(&path, error))?;
                list["models"].as_array().cloned().unwrap_or_default()
            }
            Err(_) => Vec::new(),
        };
        models.retain(|model| model["name"] != json!(recipe.name));
        models.push(json!({
            "name": recipe.name,
            "family": self.family,
            "directory": directory,
            "train_cutoff": recipe.train_cutoff,
            "license": recipe.licence,
            "options": self.options,
            "files": listed,
        }));
        let text = serde_json::to_string_pretty(&json!({ "models": models }))
            .map_err(|error| Error::content(&path, error))?;
        // By renaming: whoever reads the list meanwhile sees the old one or the new one.
        let fresh = path.with_extension("new");
        fs::write(&fresh, text + "\n").map_err(|error| Error::file(&fresh, error))?;
        fs::rename(&fresh, &path).map_err(|error| Error::file(&path, error))?;
        Ok(version)
    }
}
