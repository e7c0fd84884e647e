//! `kronos.version()` and `kronos.diagnostics()`: what is installed and whether it can work.
#![allow(unsafe_code)] // #[pg_extern] expands to exported C functions

use crate::diagnostics;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

/// The version of the loaded library, which differs from the catalogue's after an update without a restart.
#[pg_extern(sql = false)]
fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// One row per check: name, result, what was found, what to do.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // the row type is what TableIterator wants spelt out
fn diagnostics() -> Result<
    TableIterator<
        'static,
        (name!(check, String), name!(ok, bool), name!(detail, String), name!(hint, Option<String>)),
    >,
    ErrorReport,
> {
    let rows = diagnostics::run()?.into_iter();
    Ok(TableIterator::new(rows.map(|check| (check.name.to_owned(), check.ok, check.detail, check.hint))))
}
