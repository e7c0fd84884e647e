//! Training of models: the regime that every family shares (windows, splits, optimiser, schedules, checkpoints, scores), layers
//! with gradients, what each family learns from, and jobs from data to artifact.
//!
//! Apart from `kronos-models`, so that nothing that forecasts, least of all the library that PostgreSQL loads, holds any of it.
//!
//! A family implements [`Trainable`] (named parameters, the loss of some windows, a validation loss) and gets the rest
//! from [`train`]. Everything random is a function of the seed and of the step (see [`Noise`] and [`Sampler`]), so the
//! whole state of a run is its weights, its moments, its schedule and one step number: a run that was killed and resumed
//! ends with the same bits as one that was not. There is no clock in here: whoever shows progress brings the time
//! ([`Progress`]).
#![deny(missing_docs)]

pub mod adapter;
pub mod artifact;
pub mod checkpoint;
pub mod chronos2;
pub mod data;
pub mod error;
pub mod evaluate;
pub mod jobs;
pub mod kronos;
pub mod layers;
pub mod leakage;
pub mod loss;
pub mod medians;
pub mod nbeats;
pub mod noise;
pub mod optimiser;
pub mod panel;
pub mod progress;
pub mod rank;
pub mod run;
pub mod sampler;
pub mod schedule;
pub mod score;
pub mod split;
pub mod tasks;
pub mod trainable;
pub mod window;

pub use checkpoint::Checkpoints;
pub use error::{Result, TrainError};
pub use kronos_job::regime::{AdamWOptions, Options, Schedule, SplitRule};
pub use noise::Noise;
pub use panel::{Panel, PanelSeries};
pub use progress::Progress;
pub use run::{Evaluation, Event, Report, train};
pub use sampler::{Pick, Sampler, Source};
pub use split::{Part, Split};
pub use trainable::{Parameter, Trainable, Validation};
pub use window::{Window, Windows};
