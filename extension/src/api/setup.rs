//! `kronos.setup_files()`: the set-up of people's tables, for `kronos.install()`.
#![allow(unsafe_code)] // #[pg_extern] expands to exported C functions

use pgrx::prelude::*;

/// The files of `sql/` in the order of `sql/install.sql`, compiled in so that a server needs no checkout.
const FILES: &[(&str, &str)] = include!("../../../sql/files.rs");

/// One row per file: name, text.
#[pg_extern(sql = false)]
fn setup_files() -> TableIterator<'static, (name!(file, &'static str), name!(script, &'static str))> {
    TableIterator::new(FILES.iter().copied())
}
