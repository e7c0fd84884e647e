//! What a bar model is asked and what it answers: plain data, no tensors, no Postgres.

use crate::error::{ModelError, Result};
use crate::random::Stream;
use chrono::{Datelike, NaiveDateTime, Timelike};

/// Open, high, low, close, volume, amount: the fixed channel order of Kronos.
pub const CHANNELS: usize = 6;

/// One bar in channel order: open, high, low, close, volume, amount.
pub type Bar = [f64; CHANNELS];

/// The calendar fields a bar model reads, in the local wall clock of the market.
///
/// # Units
/// minute 0–59, hour 0–23, weekday Monday = 0 … Sunday = 6, day 1–31, month 1–12.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// 0–59.
    pub minute: u8,
    /// 0–23.
    pub hour: u8,
    /// Monday = 0 … Sunday = 6.
    pub weekday: u8,
    /// 1–31.
    pub day: u8,
    /// 1–12.
    pub month: u8,
}

/// Reads the fields off a wall clock; seconds and the year are not among them.
impl From<NaiveDateTime> for Stamp {
    fn from(local: NaiveDateTime) -> Self {
        // Each field is below 60, so the narrowing cannot lose anything.
        Self {
            minute: local.minute() as u8,
            hour: local.hour() as u8,
            weekday: local.weekday().num_days_from_monday() as u8,
            day: local.day() as u8,
            month: local.month() as u8,
        }
    }
}

/// One series to forecast.
#[derive(Debug, Clone)]
pub struct BarRequest {
    /// The context, oldest first; every value finite (see [`complete`] for missing volume and amount).
    pub bars: Vec<Bar>,
    /// Stamps of the context bars followed by those of the `horizon` forecast bars: `bars.len() + horizon` of them.
    pub stamps: Vec<Stamp>,
    /// Bars to forecast.
    pub horizon: usize,
    /// The random stream of this series.
    pub stream: Stream,
}

/// How the next token is drawn; holds valid values only.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    temperature: f32,
    top_k: usize,
    top_p: f32,
}

impl Sampling {
    /// Checks and keeps the three knobs: `temperature` > 0; `top_k` 0 = off; `top_p` in (0, 1], 1 = off.
    ///
    /// With `top_k` > 0 the reference ignores `top_p`, and so do we.
    ///
    /// # Errors
    /// [`ModelError::InvalidParameter`] naming the knob.
    pub fn new(temperature: f32, top_k: usize, top_p: f32) -> Result<Self> {
        let reject = |name, expected: &str, got: f32| {
            Err(ModelError::InvalidParameter { name, expected: expected.into(), got: got.to_string() })
        };
        if !(temperature.is_finite() && temperature > 0.0) {
            return reject("temperature", "greater than 0", temperature);
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return reject("top_p", "greater than 0 and at most 1", top_p);
        }
        Ok(Self { temperature, top_k, top_p })
    }

    /// Always the most likely token.
    pub fn greedy() -> Self {
        Self { temperature: 1.0, top_k: 1, top_p: 1.0 }
    }

    /// Softmax temperature.
    pub fn temperature(&self) -> f32 {
        self.temperature
    }

    /// Number of logits kept, 0 = all.
    pub fn top_k(&self) -> usize {
        self.top_k
    }

    /// Probability mass kept, 1 = all.
    pub fn top_p(&self) -> f32 {
        self.top_p
    }
}

/// What happens when context and horizon together exceed the model's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Window {
    /// Use only the newest `max_context − horizon + 1` bars, so that the window never slides (default, fast, exact).
    #[default]
    Shorten,
    /// Use the whole context; once the window slides every step recomputes it, as the reference does (slow, exact).
    Slide,
}

/// Options shared by all series of a call.
#[derive(Debug, Clone, Copy)]
pub struct BarOptions {
    /// Sample paths per series, at least 1.
    pub samples: usize,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Behaviour past the model's window.
    pub window: Window,
    /// Working memory one batch may take; series are run in as many batches as that needs.
    pub memory_limit: u64,
}

/// Sample paths of one series, in the units of the input, each bar coherent (see [`cohere`]).
#[derive(Debug, Clone, PartialEq)]
pub struct BarPaths {
    /// Steps per path.
    pub horizon: usize,
    /// Path-major: path 0 step 0, path 0 step 1, …
    pub bars: Vec<Bar>,
    /// Context bars the model really used, after shortening.
    pub context_used: usize,
}

impl BarPaths {
    /// Number of paths.
    pub fn samples(&self) -> usize {
        self.bars.len().checked_div(self.horizon).unwrap_or(0)
    }

    /// The bar of one path at one zero-based step.
    pub fn bar(&self, path: usize, step: usize) -> &Bar {
        &self.bars[path * self.horizon + step]
    }
}

/// Applies the reference's rules for missing columns to one bar of prices.
///
/// Volume missing: volume and amount are 0, even if an amount is given. Amount missing: volume times the mean of the
/// four prices.
pub fn complete(prices: [f64; 4], volume: Option<f64>, amount: Option<f64>) -> Bar {
    let [open, high, low, close] = prices;
    let Some(volume) = volume else { return [open, high, low, close, 0.0, 0.0] };
    // Summed in this order because the reference does: the amount is normalised in float32 afterwards.
    let amount = amount.unwrap_or_else(|| volume * ((open + high + low + close) / 4.0));
    [open, high, low, close, volume, amount]
}

/// Makes a predicted bar coherent: low ≤ open, close ≤ high; volume and amount ≥ 0.
pub fn cohere(bar: &mut Bar) {
    let [open, high, low, close, volume, amount] = *bar;
    bar[1] = high.max(open).max(close).max(low);
    bar[2] = low.min(open).min(close).min(high);
    bar[4] = volume.max(0.0);
    bar[5] = amount.max(0.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_columns_follow_the_reference() {
        assert_eq!(complete([1.0, 2.0, 3.0, 4.0], None, Some(9.0)), [1.0, 2.0, 3.0, 4.0, 0.0, 0.0]);
        assert_eq!(complete([1.0, 2.0, 3.0, 4.0], Some(10.0), None)[5], 25.0);
        assert_eq!(complete([1.0, 2.0, 3.0, 4.0], Some(10.0), Some(7.0))[5], 7.0);
    }

    #[test]
    fn incoherent_bars_are_widened_not_moved() {
        let mut bar = [10.0, 9.0, 11.0, 12.0, -1.0, -2.0];
        cohere(&mut bar);
        assert_eq!(bar, [10.0, 12.0, 9.0, 12.0, 0.0, 0.0]);
    }

    #[test]
    fn a_stamp_is_what_the_wall_clock_shows() {
        let stamp = |text| Stamp::from(NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").unwrap());
        // A Thursday in July and a Friday in November; Monday is 0.
        assert_eq!(stamp("2024-07-04 09:30"), Stamp { minute: 30, hour: 9, weekday: 3, day: 4, month: 7 });
        assert_eq!(stamp("2024-11-29 00:00"), Stamp { minute: 0, hour: 0, weekday: 4, day: 29, month: 11 });
    }

    #[test]
    fn sampling_rejects_what_the_reference_crashes_on() {
        assert!(Sampling::new(0.0, 0, 0.9).is_err());
        assert!(Sampling::new(-1.0, 1, 0.9).is_err());
        assert!(Sampling::new(f32::NAN, 1, 0.9).is_err());
        assert!(Sampling::new(1.0, 0, 0.0).is_err());
        assert!(Sampling::new(1.0, 0, 1.0).is_ok());
    }
}
