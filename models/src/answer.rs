//! What a model answers: sample paths of named channels, or quantiles of them.

use crate::series::QuantileForecast;

/// The forecast of one [`Ask`](crate::ask::Ask).
#[derive(Debug, Clone, PartialEq)]
pub enum Forecast {
    /// Sample paths of all channels.
    Paths(Paths),
    /// Quantiles of every channel.
    Quantiles(QuantileForecast),
}

/// Sample paths in the units of the ask, its channels in their order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Paths {
    /// Channels of a step.
    pub channels: usize,
    /// Steps of a path.
    pub horizon: usize,
    /// `[path][step][channel]`
    pub values: Vec<f64>,
    /// Steps of the history that the model used.
    pub context_used: usize,
}

impl Paths {
    /// Number of paths.
    pub fn samples(&self) -> usize {
        self.values.len().checked_div(self.horizon * self.channels).unwrap_or(0)
    }
}
