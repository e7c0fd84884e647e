//! The layers of inference in candle's own operations, for GPUs.
//!
//! Weights, keys and values are kept in the [`Place`]'s precision, and so are the factors of every product; whatever is
//! summed over a whole row – the residual stream, norms, rotations, softmax – stays in float32. The operations run
//! wherever candle does, so that the arithmetic is tested on machines without a GPU. Unlike the kernels of
//! [`super::cpu`], cuBLAS may choose another algorithm for another number of rows: alone and in company a row is equal
//! within rounding, not bit for bit.

pub mod attention;
mod backend;
pub mod block;
mod pattern;

pub use pattern::Pattern;

use super::backend::Activation;
use super::linear::tensor;
use super::rope::Rope;
use crate::artifact::Tensors;
use crate::device::Precision;
use crate::error::Result;
use candle_core::{DType, Device, Tensor};

/// Where tensors are, and how precise.
#[derive(Debug, Clone)]
pub struct Place {
    device: Device,
    dtype: DType,
}

impl Place {
    /// A device and the precision of weights and factors on it.
    pub fn new(device: &Device, precision: Precision) -> Self {
        let dtype = match precision {
            Precision::F32 => DType::F32,
            Precision::Bf16 => DType::BF16,
        };
        Self { device: device.clone(), dtype }
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The same place in float32.
    pub fn exactly(&self) -> Self {
        Self { dtype: DType::F32, ..self.clone() }
    }

    /// Bytes of one value of a key or a weight.
    pub fn width(&self) -> usize {
        self.dtype.size_in_bytes()
    }

    /// A factor of products.
    fn factor(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.to_device(&self.device)?.to_dtype(self.dtype)?.contiguous()?)
    }

    /// A tensor that is added or looked up, in float32.
    pub fn exact(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.to_device(&self.device)?.to_dtype(DType::F32)?.contiguous()?)
    }

    /// A matrix of the given number of columns.
    pub fn matrix(&self, values: Vec<f32>, columns: usize) -> Result<Tensor> {
        let rows = values.len().checked_div(columns).unwrap_or(0);
        Ok(Tensor::from_vec(values, (rows, columns), &self.device)?)
    }

    /// Numbers of rows, for look-ups.
    pub fn rows(&self, rows: Vec<u32>) -> Result<Tensor> {
        let n = rows.len();
        Ok(Tensor::from_vec(rows, n, &self.device)?)
    }

    /// Cosines and sines of rotary positions, [rows, dim / 2] each.
    pub fn rotation(&self, rope: &Rope, positions: &[usize]) -> Result<Rotation> {
        let table = rope.table(positions.iter().max().map_or(0, |last| last + 1));
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for &position in positions {
            let angles = table.angles(position);
            cos.extend_from_slice(angles.0);
            sin.extend_from_slice(angles.1);
        }
        let half = cos.len().checked_div(positions.len()).unwrap_or(0);
        Ok(Rotation { cos: self.matrix(cos, half)?, sin: self.matrix(sin, half)? })
    }
}

/// Rotations of consecutive rows.
#[derive(Debug)]
pub struct Rotation {
    cos: Tensor,
    sin: Tensor,
}

impl Rotation {
    /// Rotates [heads, rows, dim].
    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        Ok(candle_nn::rotary_emb::rope(&x.unsqueeze(0)?, &self.cos, &self.sin)?.squeeze(0)?)
    }
}

/// The values of a tensor, fetched from where it is.
pub fn fetch(x: &Tensor) -> Result<Vec<f32>> {
    Ok(x.flatten_all()?.to_vec1()?)
}

/// y = x·Wᵀ + b.
#[derive(Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
    activation: Activation,
}

impl Linear {
    /// Places `weight` [out, in] and `bias` [out].
    pub fn new(place: &Place, weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        let bias = bias.map(|bias| place.exact(bias)).transpose()?;
        Ok(Self { weight: place.factor(weight)?, bias, activation: Activation::Identity })
    }

    /// The map stored as `{prefix}.weight` and, when present, `{prefix}.bias`.
    pub fn load(place: &Place, tensors: &Tensors, prefix: &str) -> Result<Self> {
        let weight = tensor(tensors, &format!("{prefix}.weight"))?;
        Self::new(place, weight, tensors.get(&format!("{prefix}.bias")))
    }

    /// One map that yields the outputs of the maps `prefixes` side by side; all have a bias, or none.
    pub fn stacked(place: &Place, tensors: &Tensors, prefixes: &[String]) -> Result<Self> {
        let weights: Vec<&Tensor> = prefixes
            .iter()
            .map(|prefix| tensor(tensors, &format!("{prefix}.weight")))
            .collect::<Result<_>>()?;
        let biases: Option<Vec<&Tensor>> =
            prefixes.iter().map(|prefix| tensors.get(&format!("{prefix}.bias"))).collect();
        let bias = biases.map(|biases| Tensor::cat(&biases, 0)).transpose()?;
        Self::new(place, &Tensor::cat(&weights, 0)?, bias.as_ref())
    }

    /// [rows, in] → [rows, out], float32 on both sides.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let product = x.to_dtype(self.weight.dtype())?.matmul(&self.weight.t()?)?.to_dtype(DType::F32)?;
        let y = match &self.bias {
            Some(bias) => product.broadcast_add(bias)?,
            None => product,
        };
        Ok(match self.activation {
            Activation::Identity => y,
            Activation::Rectified => y.relu()?,
        })
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        bytes(&self.weight) + self.bias.as_ref().map_or(0, bytes)
    }
}

/// y = x / sqrt(mean(x²) + eps) · weight over the last axis.
#[derive(Debug)]
pub struct RmsNorm {
    weight: Tensor,
    eps: f32,
}

impl RmsNorm {
    /// Places `weight` [width].
    pub fn new(place: &Place, weight: &Tensor, eps: f32) -> Result<Self> {
        Ok(Self { weight: place.exact(weight)?, eps })
    }

    /// Places the weight of that name.
    pub fn load(place: &Place, tensors: &Tensors, name: &str, eps: f32) -> Result<Self> {
        Self::new(place, tensor(tensors, name)?, eps)
    }

    /// Normalises each row.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(candle_nn::ops::rms_norm(x, &self.weight, self.eps)?)
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        bytes(&self.weight)
    }
}

/// Bytes a tensor takes.
pub fn bytes(x: &Tensor) -> usize {
    x.elem_count() * x.dtype().size_in_bytes()
}
