//! Root-mean-square normalisation.

use super::cpu::norm::{Norm, rms_norm};
use super::tensor::{matrix, with_values};
use crate::error::Result;
use candle_core::Tensor;

/// y = x / sqrt(mean(x²) + eps) · weight over the last axis: no mean subtraction, no bias.
#[derive(Debug, Clone)]
pub struct RmsNorm {
    weight: Vec<f32>,
    eps: f32,
}

impl RmsNorm {
    /// Takes `weight` [width].
    pub fn new(weight: &Tensor, eps: f32) -> Result<Self> {
        Ok(Self { weight: weight.to_vec1()?, eps })
    }

    /// Normalises each row.
    ///
    /// # Shapes
    /// `x`: [rows, width] → the same.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(matrix(with_values(x, |x| rms_norm(x, self.kernel()))?, self.weight.len())?)
    }

    /// The norm as the kernels take it.
    pub(super) fn kernel(&self) -> Norm<'_> {
        Norm { weight: &self.weight, eps: self.eps }
    }

    /// Bytes of the weight.
    pub fn bytes(&self) -> usize {
        size_of_val(self.weight.as_slice())
    }
}
