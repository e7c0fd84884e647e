//! The gated unit of SwiGLU.

use super::{fused, values, with_contiguous};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use kronos_models::layers::cpu::gradient;

/// silu(gate) ⊙ up for rows that hold the gates first and then the values.
///
/// # Shapes
/// `x`: [rows, 2 · width] → [rows, width].
pub fn gate(x: &Tensor) -> Result<Tensor> {
    if fused(x) {
        return x.contiguous()?.apply_op1(Gate);
    }
    let width = x.dim(1)? / 2;
    x.narrow(1, 0, width)?.silu()?.mul(&x.narrow(1, width, width)?)
}

struct Gate;

impl CustomOp1 for Gate {
    fn name(&self) -> &'static str {
        "gate"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, columns) = layout.shape().dims2()?;
        let y = gradient::gate(values(x, layout)?, columns / 2);
        Ok((CpuStorage::F32(y), (rows, columns / 2).into()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let width = x.dim(1)? / 2;
        let of_x =
            with_contiguous(grad, |grad| with_contiguous(x, |x| gradient::gate_gradient(x, width, grad)))??;
        Ok(Some(Tensor::from_vec(of_x, x.shape(), x.device())?))
    }
}
