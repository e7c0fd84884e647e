//! What a bar model is asked and what it answers: plain data, no tensors, no Postgres.

use crate::answer::Paths;
use crate::ask::{Ask, Channel, Drawing};
use crate::error::{ModelError, Result};
use crate::random::Stream;

pub use crate::ask::Stamp;

/// Open, high, low, close, volume, amount: the fixed channel order of Kronos.
pub const CHANNELS: usize = 6;

/// The first of them, which are prices and so in one unit.
pub const PRICES: usize = 4;

/// Their names, in that order.
pub const CHANNEL_NAMES: [&str; CHANNELS] = ["open", "high", "low", "close", "volume", "amount"];

/// One bar in channel order: open, high, low, close, volume, amount.
pub type Bar = [f64; CHANNELS];

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

/// The bars as channels of one series.
impl From<BarRequest> for Ask {
    fn from(request: BarRequest) -> Self {
        let BarRequest { bars, stamps, horizon, stream } = request;
        let channel = |(place, name): (usize, &str)| Channel {
            name: name.to_owned(),
            values: bars.iter().map(|bar| bar[place]).collect(),
        };
        let targets = CHANNEL_NAMES.into_iter().enumerate().map(channel).collect();
        Self { targets, stamps, horizon, stream, ..Self::default() }
    }
}

impl BarRequest {
    /// The newest `context` bars of a series whose channels are those of bars, in any order.
    ///
    /// # Errors
    /// [`ModelError::InvalidParameter`] naming a channel that is missing, or one too many; [`ModelError::ShapeMismatch`] for
    /// channels of different lengths.
    pub fn of(ask: &Ask, context: usize) -> Result<Self> {
        let place = |name: &str| CHANNEL_NAMES.iter().position(|own| *own == name);
        let mut columns = [None; CHANNELS];
        for target in &ask.targets {
            match place(&target.name) {
                Some(at) if columns[at].is_none() => columns[at] = Some(target.values.as_slice()),
                _ => return Err(wrong_channels(&target.name)),
            }
        }
        let length = ask.context_len();
        let skipped = length.saturating_sub(context);
        let mut bars = vec![[0.0; CHANNELS]; length - skipped];
        for (at, column) in columns.into_iter().enumerate() {
            let Some(column) = column else {
                return Err(wrong_channels(&format!("no {}", CHANNEL_NAMES[at])));
            };
            if column.len() != length {
                return Err(ModelError::ShapeMismatch {
                    what: CHANNEL_NAMES[at],
                    got: column.len(),
                    expected: length,
                });
            }
            bars.iter_mut().zip(&column[skipped..]).for_each(|(bar, value)| bar[at] = *value);
        }
        let stamps = ask.stamps.get(skipped..).unwrap_or_default().to_vec();
        Ok(Self { bars, stamps, horizon: ask.horizon, stream: ask.stream })
    }
}

fn wrong_channels(got: &str) -> ModelError {
    let expected = format!("the channels {}, each once", CHANNEL_NAMES.join(", "));
    ModelError::InvalidParameter { name: "targets", expected, got: got.to_owned() }
}

impl Drawing {
    /// The drawing of these options.
    pub fn of(options: &BarOptions) -> Self {
        let bounded = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            samples: bounded(options.samples),
            temperature: options.sampling.temperature(),
            top_k: bounded(options.sampling.top_k()),
            top_p: options.sampling.top_p(),
            slide: options.window == Window::Slide,
        }
    }

    /// These options with `memory_limit` bytes.
    ///
    /// # Errors
    /// [`ModelError::InvalidParameter`] for a knob outside its domain.
    pub fn options(&self, memory_limit: u64) -> Result<BarOptions> {
        Ok(BarOptions {
            samples: self.samples as usize,
            sampling: Sampling::new(self.temperature, self.top_k as usize, self.top_p)?,
            window: if self.slide { Window::Slide } else { Window::Shorten },
            memory_limit,
        })
    }
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

/// Without a copy of the numbers.
impl From<BarPaths> for Paths {
    fn from(paths: BarPaths) -> Self {
        let BarPaths { horizon, bars, context_used } = paths;
        Self { channels: CHANNELS, horizon, values: bars.into_flattened(), context_used }
    }
}

impl BarPaths {
    /// Paths whose channels are those of bars; `None` for a number of channels that bars do not have.
    pub fn of(paths: &Paths) -> Option<Self> {
        let (bars, rest) = paths.values.as_chunks::<CHANNELS>();
        (paths.channels == CHANNELS && rest.is_empty()).then(|| Self {
            horizon: paths.horizon,
            bars: bars.to_vec(),
            context_used: paths.context_used,
        })
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
    fn sampling_rejects_what_the_reference_crashes_on() {
        assert!(Sampling::new(0.0, 0, 0.9).is_err());
        assert!(Sampling::new(-1.0, 1, 0.9).is_err());
        assert!(Sampling::new(f32::NAN, 1, 0.9).is_err());
        assert!(Sampling::new(1.0, 0, 0.0).is_err());
        assert!(Sampling::new(1.0, 0, 1.0).is_ok());
    }
}
