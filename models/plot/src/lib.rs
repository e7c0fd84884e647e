//! Charts of one series: what was, what is forecast, what came.
//!
//! The crate is pure and draws the same picture of the same numbers. Bars stand side by side with equal room
//! each, as on a trading screen, so closed hours take none; what is missing within a bar is a gap in its line. Prices
//! get round ticks, time gets the coarsest unit that still fills the axis.

#![deny(missing_docs)]

mod axis;
mod label;
mod picture;
mod svg;
mod text;

pub use axis::moment;
pub use picture::{Bounds, Picture, Slot, drawable};
pub use svg::svg;
pub use text::text;
