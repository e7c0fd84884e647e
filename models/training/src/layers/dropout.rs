//! Dropout whose masks are a pure function of a key.

use candle_core::{Result, Tensor};

/// Zeroes values with a probability and scales the others up, so that the mean stays.
///
/// What is dropped depends on the key and on the place of a value only: the same step of a training that is resumed drops
/// the same values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    probability: f32,
    key: u64,
}

impl Dropout {
    /// Drops with `probability` in [0, 1).
    pub fn new(probability: f32, key: u64) -> Self {
        Self { probability, key }
    }

    /// Drops nothing.
    pub fn none() -> Self {
        Self::new(0.0, 0)
    }

    /// The same probability for another place of the network.
    pub fn at(self, place: u64) -> Self {
        Self { key: mix(self.key ^ mix(place)), ..self }
    }

    /// Whether nothing is dropped.
    pub fn is_none(self) -> bool {
        self.probability <= 0.0
    }

    /// What a value at this index is multiplied with.
    pub fn factor(self, index: u64) -> f32 {
        let uniform = (mix(self.key ^ index) >> 40) as f32 / (1u64 << 24) as f32;
        if uniform < self.probability { 0.0 } else { 1.0 / (1.0 - self.probability) }
    }

    /// Applies the mask to a tensor of any shape.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        if self.is_none() {
            return Ok(x.clone());
        }
        let mask: Vec<f32> = (0..x.elem_count() as u64).map(|index| self.factor(index)).collect();
        x.mul(&Tensor::from_vec(mask, x.shape(), x.device())?)
    }
}

/// Finaliser of splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn masks_keep_the_mean_and_belong_to_their_key_and_place() {
        let ones = Tensor::ones((100, 1000), candle_core::DType::F32, &Device::Cpu).unwrap();
        let dropped =
            |dropout: Dropout| dropout.apply(&ones).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let a = dropped(Dropout::new(0.2, 1));
        let mean = a.iter().sum::<f32>() / a.len() as f32;
        // Standard error of the mean: sqrt(0.2 / 0.8 / 1e5) = 0.0016; four of them.
        assert!((mean - 1.0).abs() < 0.0064, "{mean}");
        assert_eq!(a, dropped(Dropout::new(0.2, 1)));
        assert_ne!(a, dropped(Dropout::new(0.2, 2)));
        assert_ne!(a, dropped(Dropout::new(0.2, 1).at(1)));
        assert_eq!(dropped(Dropout::none()), vec![1.0; 100_000]);
    }
}
