//! `_kronos.setup_files()`: the set-up of people's tables, for `kronos.install()`.
#![allow(unsafe_code)] // #[pg_extern] expands to exported C functions

use kronos_sql::FILES;
use pgrx::prelude::*;

/// One row per file: name, text.
#[pg_extern(sql = false)]
fn setup_files() -> TableIterator<'static, (name!(file, &'static str), name!(script, &'static str))> {
    TableIterator::new(FILES.iter().map(|file| (file.name, file.script)))
}
