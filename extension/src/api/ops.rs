//! `kronos.version()` and `kronos.diagnostics()`: what is installed and whether it can work.
#![allow(unsafe_code)] // #[pg_extern] expands to exported C functions

use pgrx::prelude::*;

/// The version of the loaded library, which differs from the catalogue's after an update without a restart.
#[pg_extern(sql = false)]
fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}
