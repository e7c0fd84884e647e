//! Training jobs: data in, artifact out.
//!
//! A [`Job`](job::Job) says what to train on what; it is the same from a TOML file and from `train_model()` in the database.
//! [`run::run`] reads the data, hands them to the [`Family`](families::Family), and writes the artifact. Interrupted, it
//! leaves a checkpoint from which the same job goes on.
#![deny(missing_docs)]

pub mod data;
pub mod error;
pub mod families;
pub mod job;
pub mod progress;
pub mod rank;
pub mod run;
pub mod work;

pub use error::{Error, Result};
