//! Random numbers of one training step, and dropout made of them.

use super::error::{Result, invalid};
use candle_core::Tensor;
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

    /// Whether there is any.
    pub fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// A uniform number in [0, 1): the `draw`-th of item `index` for purpose `what`; 0.5 without noise.
    pub fn uniform(&self, what: u32, index: u32, draw: u32) -> f64 {
        self.0.map_or(0.5, |stream| stream.uniform(index, draw, what))
    }

    /// Sets a share `rate` of `x` to zero and scales the rest by 1 / (1 − rate).
    ///
    /// `place` must differ between the calls of one pass. The mask is drawn on the CPU whatever the device, so that a run
    /// does not depend on where it runs.
    ///
    /// # Errors
    /// `InvalidParameter` for a rate outside [0, 1).
    pub fn dropout(&self, x: &Tensor, rate: f64, place: u32) -> Result<Tensor> {
        if !(0.0..1.0).contains(&rate) {
            return Err(invalid("dropout", "at least 0 and below 1", rate));
        }
        let Some(stream) = self.0.filter(|_| rate > 0.0) else { return Ok(x.clone()) };
        // Kept when a word is at or above the rate's share of all words.
        let dropped = (rate * 4_294_967_296.0) as u32;
        let kept = (1.0 / (1.0 - rate)) as f32;
        let count = x.elem_count();
        let mut mask = Vec::with_capacity(count + 3);
        for block in 0..count.div_ceil(4) {
            let words = stream.words(block as u32, (block >> 32) as u32, place);
            mask.extend(words.map(|word| if word >= dropped { kept } else { 0.0 }));
        }
        mask.truncate(count);
        Ok(x.mul(&Tensor::from_vec(mask, x.shape(), x.device())?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn dropout_keeps_the_mean_and_repeats() {
        let x = Tensor::ones((200, 500), DType::F32, &Device::Cpu).unwrap();
        let drop = |noise: Noise, place| {
            noise.dropout(&x, 0.3, place).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let values = drop(Noise::new(1, 5), 0);
        let zeros = values.iter().filter(|&&value| value == 0.0).count() as f64 / 1e5;
        // Standard error of a share of 0.3 of 100,000 is 0.0015; four of them.
        assert!((zeros - 0.3).abs() < 0.006, "{zeros}");
        assert!(values.iter().all(|&value| value == 0.0 || (value - 1.0 / 0.7).abs() < 1e-6));
        assert_eq!(values, drop(Noise::new(1, 5), 0));
        for other in [drop(Noise::new(1, 6), 0), drop(Noise::new(2, 5), 0), drop(Noise::new(1, 5), 1)] {
            assert_ne!(values, other);
        }
        assert_eq!(drop(Noise::none(), 0), vec![1.0; 100_000]);
        assert!(Noise::none().dropout(&x, 1.0, 0).is_err());
    }
}
