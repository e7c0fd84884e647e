//! From values to inputs and from outputs to quantiles, by nothing but the context.

use super::config::{Config, Input, ScalerConfig, Transform};
use crate::error::{ModelError, Result};
use statrs::distribution::{ContinuousCDF, Normal};

/// Scales contexts for a network and reads its outputs.
#[derive(Debug, Clone)]
pub struct Scaler {
    transform: Transform,
    floor: f64,
    context: usize,
    input: Input,
    head: Head,
}

/// A context as the network sees it, with what leads back.
#[derive(Debug, Clone, PartialEq)]
pub struct Scaled {
    /// Inputs, newest first.
    pub inputs: Vec<f32>,
    /// Last value, transformed.
    pub loc: f64,
    /// Root mean square of the changes, at least the floor.
    pub scale: f64,
}

/// What makes quantiles of a network's outputs.
///
/// The middle one is an output itself; each further one lies beyond its neighbour by a softplus, so that quantiles cannot
/// cross. The softplus is shifted so that an output of zero gives the gap of a standard normal distribution: a network that
/// says nothing says "a walk with the volatility of the context".
#[derive(Debug, Clone)]
pub struct Head {
    /// Position of the middle level.
    pub middle: usize,
    /// Shift of each level's output; 0 for the middle.
    pub shifts: Vec<f64>,
    /// Units of each step: h^growth.
    pub growth: Vec<f64>,
}

impl Head {
    /// The head of a configuration.
    pub fn new(config: &Config) -> Self {
        let (normal, middle) = (Normal::standard(), config.middle());
        let deviates: Vec<f64> =
            config.quantile_levels.iter().map(|&level| normal.inverse_cdf(level)).collect();
        let gap = |level: usize| match level.cmp(&middle) {
            std::cmp::Ordering::Less => deviates[level + 1] - deviates[level],
            std::cmp::Ordering::Equal => std::f64::consts::LN_2,
            std::cmp::Ordering::Greater => deviates[level] - deviates[level - 1],
        };
        // The inverse of the softplus ln(1 + e^x).
        let shifts = (0..deviates.len()).map(|level| gap(level).exp_m1().ln()).collect();
        let growth = (1..=config.horizon).map(|step| (step as f64).powf(config.growth)).collect();
        Self { middle, shifts, growth }
    }

    /// Quantiles of one step, in units of the scale, from its outputs.
    fn quantiles(&self, step: usize, outputs: &[f32]) -> Vec<f64> {
        let gap = |level: usize| softplus(f64::from(outputs[level]) + self.shifts[level]);
        let mut quantiles = vec![f64::from(outputs[self.middle]); outputs.len()];
        for level in (0..self.middle).rev() {
            quantiles[level] = quantiles[level + 1] - gap(level);
        }
        for level in self.middle + 1..outputs.len() {
            quantiles[level] = quantiles[level - 1] + gap(level);
        }
        quantiles.iter_mut().for_each(|quantile| *quantile *= self.growth[step]);
        quantiles
    }
}

fn softplus(x: f64) -> f64 {
    if x > 30.0 { x } else { x.exp().ln_1p() }
}

impl Scaler {
    /// The scaler of a configuration.
    pub fn new(config: &Config, scaler: &ScalerConfig) -> Self {
        Self {
            transform: scaler.transform,
            floor: scaler.floor,
            context: config.context_length,
            input: config.input,
            head: Head::new(config),
        }
    }

    /// The head.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Scales the newest values of a history that are there; a step over missing ones counts as one, as weekends do.
    ///
    /// # Errors
    /// [`ModelError::ContextTooShort`] when fewer values are there than the context has places,
    /// [`ModelError::InvalidParameter`] for a value that has no logarithm.
    pub fn scale(&self, history: &[f64]) -> Result<Scaled> {
        let present = || history.iter().rev().filter(|value| !value.is_nan());
        let mut values: Vec<f64> =
            present().take(self.context).map(|&value| self.transformed(value)).collect::<Result<_>>()?;
        if values.len() < self.context {
            return Err(ModelError::ContextTooShort { needed: self.context, got: values.len() });
        }
        values.reverse();
        let changes = || values.windows(2).map(|pair| pair[1] - pair[0]);
        let mean_square = changes().map(|change| change * change).sum::<f64>() / (values.len() - 1) as f64;
        let loc = values[values.len() - 1];
        let floor = match self.transform {
            Transform::Log => self.floor,
            Transform::None => (self.floor * loc.abs()).max(f64::MIN_POSITIVE),
        };
        let scale = mean_square.sqrt().max(floor);
        let inputs = match self.input {
            // A walk of n steps spreads as √n: divided by it, all inputs are of the order of one.
            Input::Level => {
                let unit = scale * (self.context as f64).sqrt();
                values.iter().rev().map(|value| ((value - loc) / unit) as f32).collect()
            }
            Input::Change => {
                let mut changes: Vec<f32> = changes().map(|change| (change / scale) as f32).collect();
                changes.reverse();
                changes
            }
        };
        Ok(Scaled { inputs, loc, scale })
    }

    /// A future value in the units of the network's quantiles of a step, before their growth is divided out.
    pub fn scaled_target(&self, scaled: &Scaled, value: f64) -> Result<f64> {
        Ok((self.transformed(value)? - scaled.loc) / scaled.scale)
    }

    /// Quantiles in the unit of the values: [level][step], from outputs [step][level].
    pub fn quantiles(&self, scaled: &Scaled, outputs: &[f32], steps: usize) -> Vec<Vec<f64>> {
        let levels = self.head.shifts.len();
        let mut values = vec![Vec::with_capacity(steps); levels];
        for (step, outputs) in outputs.chunks_exact(levels).take(steps).enumerate() {
            for (values, quantile) in values.iter_mut().zip(self.head.quantiles(step, outputs)) {
                let value = quantile * scaled.scale + scaled.loc;
                values.push(match self.transform {
                    Transform::Log => value.exp(),
                    Transform::None => value,
                });
            }
        }
        values
    }

    fn transformed(&self, value: f64) -> Result<f64> {
        match self.transform {
            Transform::None => Ok(value),
            Transform::Log if value > 0.0 => Ok(value.ln()),
            Transform::Log => Err(ModelError::InvalidParameter {
                name: "target",
                expected: "positive for a model of logarithms".into(),
                got: value.to_string(),
            }),
        }
    }
}
