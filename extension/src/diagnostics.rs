//! The checks behind `kronos.diagnostics()`.
//!
//! Everybody may run them, so nothing here shows paths or names to a caller who could not see them otherwise, and
//! nothing fails: what cannot be looked at is reported as such.

use crate::catalog::{self, ModelEntry};
use crate::engine::{self, FilePath};
use crate::error::Result;
use crate::guc;
use crate::statement::{self, Sight};
use kronos_engine::message::Devices;
use kronos_models::artifact::sha256_file;
use kronos_models::device::OPENER;
use pgrx::Spi;
use std::io::ErrorKind::NotFound;
use std::path::Path;

/// One finding.
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// Whether it is as it should be; optional parts count as fine when absent.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Check {
    fn good(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, ok: true, detail: detail.into(), hint: None }
    }

    fn bad(name: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name, ok: false, detail: detail.into(), hint: Some(hint.into()) }
    }
}

/// Runs every check.
pub fn run() -> Result<Vec<Check>> {
    let mut checks = vec![version()?, preload()];
    if may_read_catalogue()? {
        let entries = catalog::entries(Sight::Query)?;
        checks.push(model_dir(&guc::model_dir(), &entries));
        checks.push(default_model(&entries));
        checks.push(weights(&entries));
    } else {
        checks.push(Check::bad(
            "access",
            "the current role may not read kronos.models",
            "Have the extension's owner run kronos.grant_access(role, 'use').",
        ));
    }
    checks.push(default_calendar()?);
    checks.push(device());
    checks.push(service());
    checks.push(scheduler()?);
    Ok(checks)
}

fn version() -> Result<Check> {
    let library = env!("CARGO_PKG_VERSION");
    let installed = statement::value::<String>(
        Sight::Query,
        "select e.extversion from pg_catalog.pg_extension e where e.extname operator(pg_catalog.=) 'kronos'",
        &[],
    )?
    .unwrap_or_default();
    Ok(if installed == library {
        Check::good("version", format!("library and SQL objects are version {library}"))
    } else {
        Check::bad(
            "version",
            format!("the library is version {library}, the SQL objects are version {installed}"),
            "Run ALTER EXTENSION kronos UPDATE, and restart the server after installing another library.",
        )
    })
}

fn preload() -> Check {
    Check::good(
        "preload",
        if guc::preloaded() {
            "the library came through shared_preload_libraries"
        } else {
            "kronos is not in shared_preload_libraries; each session loads it at its first call"
        },
    )
}

/// Whether the caller may see models; asked first, because an error would end all checks.
fn may_read_catalogue() -> Result<bool> {
    Ok(statement::value(
        Sight::Query,
        "select pg_catalog.has_table_privilege('kronos.models', 'SELECT')",
        &[],
    )?
    .unwrap_or(false))
}

/// A directory that nobody has made is missed by those models alone whose files are to be there.
fn model_dir(directory: &Path, entries: &[ModelEntry]) -> Check {
    match std::fs::read_dir(directory) {
        Err(error) if error.kind() == NotFound && entries.iter().all(|entry| entry.built_in) => Check::good(
            "model_dir",
            format!("\"{}\" does not exist, and no registered model needs it", directory.display()),
        ),
        Ok(_) => Check::good("model_dir", format!("\"{}\" is readable", directory.display())),
        Err(error) => Check::bad(
            "model_dir",
            format!("\"{}\" cannot be read: {error}", directory.display()),
            "Create the directory for the operating system user of the server, or set kronos.model_dir.",
        ),
    }
}

fn default_model(entries: &[ModelEntry]) -> Check {
    let name = guc::default_model();
    match catalog::resolve(None) {
        Ok(entry) => Check::good("default_model", format!("\"{name}\" is model \"{}\"", entry.version)),
        Err(_) if entries.is_empty() => Check::bad(
            "default_model",
            "no model is registered",
            "Register one with kronos.register_model() and point an alias to it with kronos.set_alias().",
        ),
        Err(_) => Check::bad(
            "default_model",
            format!("kronos.default_model is \"{name}\", which names no single model"),
            format!("Point it to a version: SELECT kronos.set_alias('{}', '{}').", name, entries[0].version),
        ),
    }
}

/// Hashes every file of every model: slow for large models, and the only way to know.
fn weights(entries: &[ModelEntry]) -> Check {
    let mut wrong = Vec::new();
    let mut files = 0;
    for entry in entries {
        let checksums = match entry.source() {
            Ok(source) => source.checksums,
            Err(_) => {
                wrong.push(format!("model \"{}\" has a damaged catalogue entry", entry.version));
                continue;
            }
        };
        for (FilePath(path), expected) in checksums {
            files += 1;
            match sha256_file(&path) {
                Ok(actual) if actual == expected => {}
                Ok(actual) => {
                    wrong.push(format!("\"{}\" has sha256 {actual}, expected {expected}", path.display()))
                }
                Err(error) => wrong.push(format!("{error} (model \"{}\")", entry.version)),
            }
            pgrx::check_for_interrupts!();
        }
    }
    if wrong.is_empty() {
        return Check::good(
            "weights",
            format!("{files} files of {} models have their registered sha256", entries.len()),
        );
    }
    Check::bad(
        "weights",
        wrong.join("; "),
        "Fetch these files again, register what is there as a new version, or drop the model.",
    )
}

fn default_calendar() -> Result<Check> {
    let name = guc::default_calendar();
    let visible = statement::value(
        Sight::Query,
        "select pg_catalog.has_table_privilege('kronos.calendars', 'SELECT')",
        &[],
    )?
    .unwrap_or(false);
    if !visible {
        return Ok(Check::good("calendar", format!("kronos.default_calendar is \"{name}\"")));
    }
    let known = statement::value::<bool>(
        Sight::Query,
        "select true from kronos.calendars c where c.name operator(pg_catalog.=) $1",
        &[name.as_str().into()],
    )?;
    Ok(if known == Some(true) {
        Check::good("calendar", format!("kronos.default_calendar is \"{name}\""))
    } else {
        Check::bad(
            "calendar",
            format!("kronos.default_calendar is \"{name}\", which does not exist"),
            "Set it to one of kronos.calendars.",
        )
    })
}

fn device() -> Check {
    let memory = guc::max_cpu_memory() >> 20;
    let found = format!("cpu with {} threads and up to {memory} MB", guc::threads());
    match guc::devices() {
        Devices::Gpus(_) if OPENER.is_none() => Check::bad(
            "device",
            format!("{found}; kronos.devices asks for a GPU, which this build does not support"),
            "Set kronos.devices to auto or cpu, or build with the feature cuda.",
        ),
        Devices::Auto | Devices::Cpu | Devices::Gpus(_) => Check::good("device", found),
    }
}

fn service() -> Check {
    if !engine::is_served() {
        return Check::good("service", "kronos.service is off; models run inside the calling session");
    }
    match engine::status() {
        Ok(None) => Check::good("service", "not started yet; the first forecast starts it"),
        Ok(Some(status)) => Check::good(
            "service",
            format!(
                "engine process {} holds {} models for {} sessions, restarted {} times",
                status.engine.pid,
                status.devices.iter().map(|device| device.models).sum::<u64>(),
                status.engine.connections,
                status.engine.restarts
            ),
        ),
        Err(_) => Check::bad(
            "service",
            "the engine does not answer",
            "Check the server log; max_worker_processes must leave room for the supervisor of kronos.",
        ),
    }
}

fn scheduler() -> Result<Check> {
    let found = Spi::connect(|client| {
        let rows = statement::select(
            client,
            Sight::Query,
            "select extname::text || ' ' || extversion from pg_catalog.pg_extension
             where extname in ('timescaledb', 'pg_cron') order by 1",
            None,
            &[],
        )?;
        rows.map(|row| row.get::<String>(1)).collect::<Result<Vec<_>, _>>()
    })?;
    let found: Vec<String> = found.into_iter().flatten().collect();
    Ok(Check::good(
        "scheduler",
        if found.is_empty() {
            "neither timescaledb nor pg_cron is installed".to_owned()
        } else {
            found.join(", ")
        },
    ))
}
