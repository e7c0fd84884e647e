//! Linear maps with weights packed once.

use super::cpu::gemm::Packed;
use super::cpu::rows::Rows;
use super::norm::RmsNorm;
use super::tensor::{matrix, with_values};
use crate::artifact::{TensorSpec, Tensors};
use crate::error::{ModelError, Result};
use candle_core::Tensor;

/// y = x·Wᵀ + b.
#[derive(Debug, Clone)]
pub struct Linear {
    packed: Packed,
}

impl Linear {
    /// Packs `weight` [out, in] and `bias` [out].
    pub fn new(weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        Self::stacked(&[weight], &bias.into_iter().collect::<Vec<_>>())
    }

    /// Packs `weight` [out, in] and `bias` [out] of a map whose negative outputs become zero.
    pub fn rectified(weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        let (columns, depth) = weight.dims2()?;
        let bias = bias.map(Tensor::to_vec1::<f32>).transpose()?;
        Ok(Self { packed: with_values(weight, |w| Packed::rectified(w, bias.as_deref(), columns, depth))? })
    }

    /// One map that yields the outputs of several maps of the same input side by side; all have a bias, or none.
    pub fn stacked(weights: &[&Tensor], biases: &[&Tensor]) -> Result<Self> {
        let weight = Tensor::cat(weights, 0)?.contiguous()?;
        let (columns, depth) = weight.dims2()?;
        let bias = if biases.is_empty() { None } else { Some(Tensor::cat(biases, 0)?.to_vec1::<f32>()?) };
        let packed = with_values(&weight, |w| Packed::plain(w, bias.as_deref(), columns, depth))?;
        Ok(Self { packed })
    }

    /// Applies the map.
    ///
    /// # Shapes
    /// `x`: [rows, in] → [rows, out].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(matrix(self.values(None, x)?, self.packed.columns())?)
    }

    /// Applies the map to rows that go through `norm` first, if there is one, and returns plain values.
    ///
    /// The bits are those of normalising by itself; the normed rows are never written to memory.
    pub fn values(&self, norm: Option<&RmsNorm>, x: &Tensor) -> Result<Vec<f32>> {
        product(&self.packed, norm, x, None)
    }

    /// Applies the map and adds it to `residual` [rows, out]; the same bits as adding afterwards.
    pub fn forward_onto(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        Ok(matrix(product(&self.packed, None, x, Some(residual))?, self.packed.columns())?)
    }

    /// [`Linear::forward`] of rows that go through `norm` first.
    pub fn forward_normed(&self, norm: &RmsNorm, x: &Tensor) -> Result<Tensor> {
        Ok(matrix(self.values(Some(norm), x)?, self.packed.columns())?)
    }

    /// [`Linear::forward_onto`] of rows that go through `norm` first.
    pub fn forward_normed_onto(&self, norm: &RmsNorm, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        Ok(matrix(product(&self.packed, Some(norm), x, Some(residual))?, self.packed.columns())?)
    }

    /// Bytes of the packed weights.
    pub fn bytes(&self) -> usize {
        self.packed.bytes()
    }
}

/// The gated half of a SwiGLU unit: silu(x·Gᵀ) ⊙ (x·Uᵀ), in one pass over the input.
#[derive(Debug, Clone)]
pub struct GatedLinear {
    packed: Packed,
}

impl GatedLinear {
    /// Packs `gate` and `up`, both [out, in].
    pub fn new(gate: &Tensor, up: &Tensor) -> Result<Self> {
        let (columns, depth) = gate.dims2()?;
        if up.dims() != gate.dims() {
            return Err(ModelError::ShapeMismatch { what: "gate", got: up.dim(0)?, expected: columns });
        }
        let packed = with_values(gate, |g| with_values(up, |u| Packed::gated(g, u, columns, depth)))??;
        Ok(Self { packed })
    }

    /// Applies the unit.
    ///
    /// # Shapes
    /// `x`: [rows, in] → [rows, out].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(matrix(product(&self.packed, None, x, None)?, self.packed.columns())?)
    }

    /// [`GatedLinear::forward`] of rows that go through `norm` first.
    pub fn forward_normed(&self, norm: &RmsNorm, x: &Tensor) -> Result<Tensor> {
        Ok(matrix(product(&self.packed, Some(norm), x, None)?, self.packed.columns())?)
    }

    /// Bytes of the packed weights.
    pub fn bytes(&self) -> usize {
        self.packed.bytes()
    }
}

fn product(
    packed: &Packed,
    norm: Option<&RmsNorm>,
    x: &Tensor,
    residual: Option<&Tensor>,
) -> Result<Vec<f32>> {
    let rows = x.dim(0)?;
    let norm = norm.map(RmsNorm::kernel);
    let multiply = |residual: Option<&[f32]>| {
        with_values(x, |values| packed.multiply(Rows { values, norm }, rows, residual))
    };
    Ok(match residual {
        Some(residual) => with_values(residual, |residual| multiply(Some(residual)))??,
        None => multiply(None)?,
    })
}

/// The tensor of that name, which the loader has checked to be there.
pub fn tensor<'t>(tensors: &'t Tensors, name: &str) -> Result<&'t Tensor> {
    tensors
        .get(name)
        .ok_or_else(|| ModelError::Backend(candle_core::Error::CannotFindTensor { path: name.into() }.bt()))
}

/// The linear map stored as `{prefix}.weight` and, when present, `{prefix}.bias`.
pub fn linear(tensors: &Tensors, prefix: &str) -> Result<Linear> {
    Linear::new(tensor(tensors, &format!("{prefix}.weight"))?, tensors.get(&format!("{prefix}.bias")))
}

/// The tensors of a linear map with a bias.
pub fn linear_specs(prefix: &str, out: usize, input: usize) -> [TensorSpec; 2] {
    [
        TensorSpec::required(format!("{prefix}.weight"), [out, input]),
        TensorSpec::required(format!("{prefix}.bias"), [out]),
    ]
}
