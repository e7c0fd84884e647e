//! Charts of series: what was, what is forecast, what came.
//!
//! The crate is pure and draws the same picture of the same numbers. Bars stand side by side with equal room
//! each, as on a trading screen, so closed hours take none; what is missing within a bar is a gap in its line. Prices
//! get round ticks, time gets the coarsest unit that still fills the axis. Forecasts of one series lie over each other,
//! series stand beside each other with a scale each: prices of different names have no axis in common.

#![deny(missing_docs)]

mod axis;
mod label;
mod picture;
mod smooth;
mod svg;
mod text;

pub use axis::moment;
pub use picture::{Bounds, Forecast, Panel, Picture, Range, Slot, Step, drawable};
pub use svg::{MOST_FORECASTS, Theme, svg, usual_height};
pub use text::text;
