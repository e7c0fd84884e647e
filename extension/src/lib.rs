//! The kronos extension: the only crate that knows PostgreSQL.
//!
//! Each file of [`api`] is one family of SQL functions and stays thin: convert, call, convert. The SQL objects
//! themselves are written by hand in `extension/sql`, where a person can review names, defaults, volatility and
//! privileges; `#[pg_extern(sql = false)]` only exports the symbols they refer to.

mod allocation;
mod api;
mod backtest;
mod calendar;
mod calibration;
mod call;
mod catalog;
mod chart;
mod diagnostics;
mod engine;
mod error;
mod evaluate;
mod guc;
mod json;
mod options;
mod query;
mod relation;
mod result_set;
mod service;
mod simulate;
mod statement;
mod training;

pgrx::pg_module_magic!();

/// Runs once in every process that loads the library; in the postmaster when it is preloaded.
///
/// It declares settings and, when preloaded, the supervisor of the service: a thread or a device opened in the postmaster
/// would be inherited by every backend.
#[allow(unsafe_code, non_snake_case)]
mod init {
    #[pgrx::pg_guard]
    pub extern "C-unwind" fn _PG_init() {
        crate::guc::register();
        if crate::guc::preloaded() && crate::guc::service() {
            crate::service::register(true);
        }
    }
}
