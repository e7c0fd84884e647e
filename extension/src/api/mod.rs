//! The SQL functions, one file per family.

mod forecast;
mod models;
mod ops;
mod simulate;
