//! `kronos.register_model()`, `set_alias()`, `drop_model()`, `load_model()`, `unload_model()`.
#![allow(unsafe_code)] // #[pg_extern] expands to exported C functions

use crate::catalog::{self, Registration};
use crate::engine;
use crate::error::Error;
use crate::json::JsonB;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

#[pg_extern(sql = false)]
fn register_model(
    name: Option<&str>,
    family: Option<&str>,
    uri: Option<&str>,
    sha256: Option<&str>,
    train_cutoff: Option<Date>,
    license: Option<&str>,
    options: Option<JsonB>,
) -> Result<String, ErrorReport> {
    Ok(catalog::register(Registration {
        name: required("name", name)?,
        family: family.map(str::to_owned),
        uri: required("uri", uri)?,
        sha256: sha256.map(str::to_owned),
        train_cutoff,
        license: license.map(str::to_owned),
        options,
    })?)
}

#[pg_extern(sql = false)]
fn set_alias(alias: Option<&str>, model_version: Option<&str>) -> Result<Option<String>, ErrorReport> {
    Ok(catalog::set_alias(&required("alias", alias)?, model_version)?)
}

#[pg_extern(sql = false)]
fn drop_model(model_version: Option<&str>, if_exists: Option<bool>) -> Result<(), ErrorReport> {
    Ok(catalog::drop_model(&required("model_version", model_version)?, if_exists.unwrap_or(false))?)
}

#[pg_extern(sql = false)]
fn register_built_in_models() -> Result<i32, ErrorReport> {
    Ok(catalog::register_built_in()?)
}

#[pg_extern(sql = false)]
fn load_model(model: Option<&str>, device: Option<&str>) -> Result<String, ErrorReport> {
    check_device(device)?;
    let entry = catalog::resolve(model)?;
    engine::load(entry.source()?).map_err(|error| entry.explain(error))?;
    Ok(entry.version)
}

#[pg_extern(sql = false)]
fn unload_model(model: Option<&str>, device: Option<&str>) -> Result<bool, ErrorReport> {
    check_device(device)?;
    Ok(engine::unload(&catalog::resolve(model)?.version)?)
}

fn required(name: &'static str, value: Option<&str>) -> Result<String, Error> {
    value.map(str::to_owned).ok_or(Error::NullArgument { name })
}

/// Inside a backend models run on the CPU, so that is the one device to name.
fn check_device(device: Option<&str>) -> Result<(), Error> {
    match device {
        None | Some("auto" | "cpu") => Ok(()),
        Some(other) => Err(Error::Unsupported {
            what: format!("device \"{other}\""),
            hint: "Models run on the CPU of the calling backend; use device => 'auto' or 'cpu'.".into(),
        }),
    }
}
