//! The middle of a forecast: all that a ranking of series asks of a model.

use crate::error::Result;
use kronos_models::interrupt::Interrupt;
use kronos_models::series::SeriesRequest;
use std::path::Path;

/// A model as a list of series asks it: of one column at a time, for the middle of its forecast.
pub trait Medians {
    /// Rows of context.
    fn context(&self) -> usize;

    /// The longest forecast, in steps.
    fn horizon(&self) -> usize;

    /// The median of every step of each request.
    fn medians(&self, requests: &[SeriesRequest], interrupt: &dyn Interrupt) -> Result<Vec<Vec<f64>>>;
}

/// Opens the model in a directory.
pub type Open = fn(&Path) -> Result<Box<dyn Medians>>;
