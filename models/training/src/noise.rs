//! Random numbers of one training step, and dropout made of them.

use super::layers::Dropout;
use kronos_models::random::Stream;

/// The random numbers of one forward pass: a function of seed and step, so that a resumed run draws the same.
#[derive(Debug, Clone, Copy)]
pub struct Noise(Option<Stream>);

impl Noise {
    /// The noise of pass `pass` (optimiser steps times passes per step) of a run.
    pub fn new(seed: i64, pass: u64) -> Self {
        Self(Some(Stream::new(seed, "noise", pass as i64, "")))
    }

    /// No noise: dropout does nothing. For validation and for gradients by finite differences.
    pub fn none() -> Self {
        Self(None)
    }

    /// A uniform number in [0, 1): the `draw`-th of item `index` for purpose `what`; 0.5 without noise.
    pub fn uniform(&self, what: u32, index: u32, draw: u32) -> f64 {
        self.0.map_or(0.5, |stream| stream.uniform(index, draw, what))
    }

    /// A key for dropout and draws.
    pub fn key(&self) -> Option<u64> {
        self.0.map(|stream| (stream.uniform(0, 0, 0) * (1u64 << 53) as f64) as u64)
    }

    /// Dropout of this pass.
    pub fn dropout(&self, probability: f32) -> Dropout {
        self.key().map_or(Dropout::none(), |key| Dropout::new(probability, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Tensor};

    #[test]
    fn dropout_belongs_to_the_pass() {
        let x = Tensor::ones(1000, DType::F32, &Device::Cpu).unwrap();
        let drop = |noise: Noise| noise.dropout(0.3).apply(&x).unwrap().to_vec1::<f32>().unwrap();
        let values = drop(Noise::new(1, 5));
        assert_eq!(values, drop(Noise::new(1, 5)));
        for other in [drop(Noise::new(1, 6)), drop(Noise::new(2, 5))] {
            assert_ne!(values, other);
        }
        assert_eq!(drop(Noise::none()), vec![1.0; 1000]);
    }
}
