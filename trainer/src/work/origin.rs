//! The files of a registered model that training goes on from.

use crate::error::{Error, Result};
use kronos_models::artifact::verify;
use postgres::Client;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Begins the paths of models that came with the extension.
const SHARE: &str = "$share";

/// Directories of a registered model.
pub(super) struct Origin {
    /// Weights and configuration, of a Kronos model its predictor.
    pub(super) model: PathBuf,
    /// The tokenizer of a Kronos model.
    pub(super) tokenizer: Option<PathBuf>,
}

impl Origin {
    /// Finds a model by its version, alias or name, of a name the newest version, and checks its files.
    ///
    /// # Errors
    /// [`Error::Job`] when there is none or it is of another family, of files that are not those
    /// registered, or when the server does not tell where the files of
    /// its installation are, which it tells superusers only.
    pub(super) fn of(client: &mut Client, model: &str, family: &str, directory: &Path) -> Result<Self> {
        let row = client.query_opt(
            "select family, uri, settings::text, files::text from kronos.models
             where version = $1 or $1 = any(aliases) or name = $1
             order by version = $1 desc, $1 = any(aliases) desc, registered_at desc limit 1",
            &[&model],
        )?;
        let Some(row) = row else {
            return Err(Error::Job(format!("from: model \"{model}\" does not exist")));
        };
        let (found, uri): (String, String) = (row.get(0), row.get(1));
        if found != family {
            return Err(Error::Job(format!("from: model \"{model}\" is of family {found}, not {family}")));
        }
        let settings: Value = serde_json::from_str(row.get(2)).unwrap_or_default();
        let mut path = |relative: &str| match relative.strip_prefix(SHARE) {
            Some(rest) => Ok(share(client)?.join(rest.trim_start_matches('/'))),
            None => Ok::<_, Error>(directory.join(relative)),
        };
        let files: Map<String, Value> = serde_json::from_str(row.get(3)).unwrap_or_default();
        for (file, digest) in &files {
            verify(&path(file)?, digest.as_str().unwrap_or_default())?;
        }
        let place = |key: &str| settings.get(key).and_then(Value::as_str);
        Ok(Self {
            model: path(place("predictor").unwrap_or(&uri))?,
            tokenizer: place("tokenizer").map(&mut path).transpose()?,
        })
    }
}

/// Where the models that came with the extension are.
fn share(client: &mut Client) -> Result<PathBuf> {
    let sql = "select setting from pg_config where name = 'SHAREDIR'";
    match client.query_opt(sql, &[]) {
        Ok(Some(row)) => Ok(PathBuf::from(row.get::<_, String>(0)).join("kronos")),
        _ => Err(Error::Job(
            "from: the server does not tell this role where the files of its installation are".into(),
        )),
    }
}
