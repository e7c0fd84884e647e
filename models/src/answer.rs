//! What a model answers: sample paths of named channels, or quantiles of them.

use crate::error::{ModelError, Result};
use crate::series::{QuantileForecast, SeriesRequest};

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

/// Forecasts the requests that could be made; the others keep their reasons.
pub(crate) fn of_each(
    requests: impl IntoIterator<Item = Result<SeriesRequest>>,
    forecast: impl FnOnce(&[SeriesRequest]) -> Result<Vec<Result<QuantileForecast>>>,
) -> Result<Vec<Result<Forecast>>> {
    let mut made = Vec::new();
    let places: Vec<Result<()>> =
        requests.into_iter().map(|request| request.map(|request| made.push(request))).collect();
    let mut forecasts = forecast(&made)?.into_iter();
    // One for each request that was made; its absence would be a defect and is reported as one.
    let mut next = || forecasts.next().unwrap_or(Err(ModelError::Cancelled)).map(Forecast::Quantiles);
    Ok(places.into_iter().map(|place| place.and_then(|()| next())).collect())
}
