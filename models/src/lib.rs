//! Forecasting models for market data: arrays in, distributions out.
//!
//! This crate knows no Postgres, no network, no clock and no global random state. Everything a result depends on is
//! an argument, so that the same call gives the same numbers on another connection, in another batch, on another day.
#![deny(missing_docs)]

pub mod adapter;
pub mod answer;
pub mod artifact;
pub mod ask;
pub mod bars;
pub mod baselines;
pub mod calibration;
pub mod chronos2;
pub mod chronos_bolt;
pub mod device;
pub mod error;
pub mod families;
pub mod family;
pub mod forecast;
pub mod interrupt;
pub mod kronos;
pub mod layers;
pub mod metrics;
pub mod model;
pub mod nbeats;
pub mod quantile;
pub mod random;
pub mod series;
pub mod simulate;
pub mod status;

pub use error::{ModelError, Result};
