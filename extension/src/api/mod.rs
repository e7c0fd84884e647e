//! The SQL functions, one file per family.
#![allow(clippy::result_large_err)] // pgrx gives an error its own SQLSTATE only as an ErrorReport, by value

mod allocation;
mod anomalies;
mod backtest;
mod calendars;
mod calibration;
mod chart;
mod forecast;
mod models;
mod ops;
mod policies;
mod scores;
mod service;
mod setup;
mod simulate;
mod training;
