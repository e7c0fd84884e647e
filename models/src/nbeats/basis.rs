//! What the blocks of interpretable stacks are allowed to say: polynomials and Fourier series of time.
//!
//! # Source
//! Oreshkin, Carpov, Chapados and Bengio, "N-BEATS: Neural basis expansion analysis for interpretable time series
//! forecasting", ICLR 2020, § 3.3; the grids are those of neuralforecast, which the golden values come from: the backcast
//! runs from the newest value to the oldest, in units of the horizon for waves and of the context for powers.

use super::config::{Config, Kind, Stack, frequencies};
use std::f64::consts::TAU;

/// The two matrices of a basis: [functions][points].
#[derive(Debug, Clone, PartialEq)]
pub struct Basis {
    /// Of the backcast, newest input first.
    pub backcast: Vec<Vec<f64>>,
    /// Of the forecast.
    pub forecast: Vec<Vec<f64>>,
}

/// The basis of a stack; none of a generic one, whose numbers are the points themselves.
pub fn basis(config: &Config, stack: &Stack) -> Option<Basis> {
    let (inputs, horizon) = (config.inputs(), config.horizon);
    match stack.kind {
        Kind::Generic => None,
        Kind::Trend => {
            let powers = |points: usize| {
                let power = |exponent| {
                    (0..points).map(|point| (point as f64 / points as f64).powi(exponent)).collect()
                };
                (0..=stack.degree.unwrap_or(0) as i32).map(power).collect()
            };
            Some(Basis { backcast: powers(inputs), forecast: powers(horizon) })
        }
        Kind::Seasonality => {
            let frequencies = frequencies(stack.harmonics.unwrap_or(1), horizon);
            let waves = |points: usize, sign: f64| {
                let wave = |of: fn(f64) -> f64| {
                    let at = |frequency: f64| {
                        let phase = move |point| sign * TAU * frequency * point as f64 / horizon as f64;
                        (0..points).map(|point| of(phase(point))).collect::<Vec<f64>>()
                    };
                    frequencies.iter().map(|&frequency| at(frequency)).collect::<Vec<_>>()
                };
                [wave(f64::cos), wave(f64::sin)].concat()
            };
            Some(Basis { backcast: waves(inputs, -1.0), forecast: waves(horizon, 1.0) })
        }
    }
}
