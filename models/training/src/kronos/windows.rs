//! From bars to what the networks are trained on, without a look ahead.

use kronos_models::bars::{Bar, CHANNELS, Stamp};
use kronos_models::kronos::normalise::Stats;

/// Consecutive bars of one series and the place where their future begins.
#[derive(Debug, Clone, PartialEq)]
pub struct BarWindow {
    /// Context and future, oldest first.
    pub bars: Vec<Bar>,
    /// A stamp per bar.
    pub stamps: Vec<Stamp>,
    /// Bars before the cut; statistics are taken of these only.
    pub context: usize,
}

/// The window by the mean and deviation of its context, clipped as at inference.
///
/// The reference's own fine-tuning on files takes the statistics of the whole window, so that the context tells what is
/// to come; here nothing after the cut can change a value before it.
pub fn normalise_window(window: &BarWindow) -> Vec<[f32; CHANNELS]> {
    Stats::of(&window.bars[..window.context]).normalise(&window.bars)
}
