//! The files of a registered model that training goes on from.

use crate::error::{Error, Result};
use kronos_job::{Family, Part};
use kronos_models::artifact::verify;
use kronos_models::families::FAMILIES;
use kronos_models::family;
use postgres::Client;
use serde_json::{Map, Value};
use std::path::{Component, Path, PathBuf};

/// Begins the paths of models that came with the extension.
const SHARE: &str = "$share";

/// Where models are.
pub(super) struct Directories {
    /// `kronos.model_dir` of the server.
    pub(super) models: PathBuf,
    /// Where those are that came with the extension.
    pub(super) share: PathBuf,
}

impl Directories {
    /// As the server tells them; `models` in place of its own word where given.
    pub(super) fn of(client: &mut Client, models: Option<&Path>) -> Result<Self> {
        let row = client.query_one("select model_dir, share_dir from _kronos.model_directories()", &[])?;
        let told = |column: usize| PathBuf::from(row.get::<_, String>(column));
        Ok(Self { models: models.map_or_else(|| told(0), Path::to_path_buf), share: told(1) })
    }

    /// A path of the catalogue.
    ///
    /// # Errors
    /// [`Error::Train`] for one that leads anywhere else: `kronos.register_model()` takes no such path, and nobody is trusted twice.
    fn path(&self, relative: &str) -> Result<PathBuf> {
        let (directory, below) = match relative.strip_prefix(SHARE) {
            Some(rest) => (&self.share, rest.trim_start_matches('/')),
            None => (&self.models, relative),
        };
        match Path::new(below).components().all(|part| matches!(part, Component::Normal(_))) {
            true => Ok(directory.join(below)),
            false => {
                Err(Error::job(format!("from: \"{relative}\" is no path below the directory of models")))
            }
        }
    }
}

/// Directories of a registered model.
pub(super) struct Origin {
    /// Weights and configuration of what is trained.
    pub(super) model: PathBuf,
    /// Directories of its other parts, by the key of a job's `model` that says where they lie.
    pub(super) parts: Vec<(&'static str, PathBuf)>,
}

impl Origin {
    /// Finds a model by its version, alias or name, of a name the newest version, and checks its files.
    ///
    /// # Errors
    /// [`Error::Train`] when there is none or it is of another family, or of a path that leads out of the directories of
    /// models; of files that are not those registered.
    pub(super) fn of(
        client: &mut Client,
        model: &str,
        family: &Family,
        directories: &Directories,
    ) -> Result<Self> {
        let row = client.query_opt(
            "select family, uri, settings::text, files::text from kronos.models
             where version = $1 or $1 = any(aliases) or name = $1
             order by version = $1 desc, $1 = any(aliases) desc, registered_at desc limit 1",
            &[&model],
        )?;
        let Some(row) = row else {
            return Err(Error::job(format!("from: model \"{model}\" does not exist")));
        };
        let (found, uri): (String, String) = (row.get(0), row.get(1));
        if found != family.name {
            return Err(Error::job(format!(
                "from: model \"{model}\" is of family {found}, not {}",
                family.name
            )));
        }
        let settings: Value = serde_json::from_str(row.get(2)).unwrap_or_default();
        let path = |relative: &str| directories.path(relative);
        let files: Map<String, Value> = serde_json::from_str(row.get(3)).unwrap_or_default();
        for (file, digest) in &files {
            verify(&path(file)?, digest.as_str().unwrap_or_default())?;
        }
        let place = |key: &str| settings.get(key).and_then(Value::as_str);
        let main = family::find(FAMILIES, &found)?.facts().directories.first();
        let part = |part: &Part| Some(path(place(part.directory)?).map(|path| (part.option, path)));
        Ok(Self {
            model: path(main.and_then(|main| place(main)).unwrap_or(&uri))?,
            parts: family.parts.iter().filter_map(part).collect::<Result<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leads_out_of_the_directories_of_models() {
        let directories = Directories { models: "/models".into(), share: "/share/kronos".into() };
        let path = |relative: &str| directories.path(relative);
        assert_eq!(path("a/b").unwrap(), Path::new("/models/a/b"));
        assert_eq!(path("$share/a").unwrap(), Path::new("/share/kronos/a"));
        for outside in ["/etc/passwd", "../a", "a/../../b", "$share/../a", "$share//../a", "./../a"] {
            assert!(path(outside).is_err(), "{outside}");
        }
    }
}
