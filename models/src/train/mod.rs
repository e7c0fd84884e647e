//! The training regime every model family shares: windows, splits, optimiser, schedules, checkpoints, scores.
//!
//! A family implements [`Trainable`] (named parameters, the loss of some windows, a validation loss) and gets the rest
//! from [`train`]. Everything random is a function of the seed and of the step (see [`Noise`] and [`Sampler`]), so the
//! whole state of a run is its weights, its moments, its schedule and one step number: a run that was killed and resumed
//! ends with the same bits as one that was not. There is no clock in here: whoever shows progress brings the time
//! ([`Progress`]).

pub mod artifact;
pub mod checkpoint;
pub mod error;
pub mod evaluate;
pub mod leakage;
pub mod loss;
pub mod noise;
pub mod ops;
pub mod optimiser;
pub mod panel;
pub mod progress;
pub mod run;
pub mod sampler;
pub mod schedule;
pub mod score;
pub mod split;
pub mod window;

pub use checkpoint::Checkpoints;
pub use error::{Result, TrainError};
pub use noise::Noise;
pub use optimiser::AdamWOptions;
pub use panel::{Panel, PanelSeries};
pub use progress::Progress;
pub use run::{Evaluation, Event, Options, Parameter, Report, Trainable, Validation, train};
pub use sampler::{Pick, Sampler, Source};
pub use schedule::Schedule;
pub use split::{Part, Split, SplitRule};
pub use window::{Window, Windows};
