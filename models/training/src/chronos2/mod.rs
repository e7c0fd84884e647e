//! Chronos-2 as a network that can be trained, from scratch for small sizes or from a published checkpoint.
//!
//! Tokens are laid out as at inference, without padding, and the tensors are those of the files by their names, so what
//! is trained here is what [`kronos_models::chronos2::Chronos2::load`] reads.

mod examples;
mod network;
mod task;

pub use examples::{Example, example, horizon_of};
pub use kronos_job::chronos2::{Chronos2Training, ExampleRule};
pub use network::TrainableChronos2;
pub use task::{Chronos2Task, PanelSource, SourceScore};
