//! Linear maps.

use super::{fused, values, with_contiguous};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use kronos_models::layers::cpu::gradient::column_sums;
use kronos_models::layers::cpu::product::{View, product};

/// x·Wᵀ + b.
///
/// # Shapes
/// `x`: [rows, in], `weight`: [out, in], `bias`: [out] → [rows, out].
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    match (fused(x), bias) {
        (true, Some(bias)) => x.contiguous()?.apply_op3(weight, bias, Linear),
        (true, None) => x.contiguous()?.apply_op2(weight, Linear),
        (false, Some(bias)) => x.matmul(&weight.t()?)?.broadcast_add(bias),
        (false, None) => x.matmul(&weight.t()?),
    }
}

struct Linear;

impl Linear {
    fn forward(
        (x, x_layout): (&CpuStorage, &Layout),
        (weight, weight_layout): (&CpuStorage, &Layout),
        bias: Option<&[f32]>,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, depth) = x_layout.shape().dims2()?;
        let (columns, _) = weight_layout.shape().dims2()?;
        let x = View::new(values(x, x_layout)?, rows, depth);
        let weight = View::new(values(weight, weight_layout)?, columns, depth);
        let y = product(x, weight.transposed(), bias);
        Ok((CpuStorage::F32(y), (rows, columns).into()))
    }

    /// Gradients with respect to `x`, where anything before it asks for one, and to `weight`.
    fn backward(x: &Tensor, weight: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Tensor)> {
        let (rows, depth) = x.dims2()?;
        let columns = weight.dim(0)?;
        with_contiguous(grad, |grad| {
            let grad = View::new(grad, rows, columns);
            let of_x = if x.track_op() {
                let values = with_contiguous(weight, |w| product(grad, View::new(w, columns, depth), None))?;
                Some(Tensor::from_vec(values, (rows, depth), x.device())?)
            } else {
                None
            };
            let of_weight =
                with_contiguous(x, |x| product(grad.transposed(), View::new(x, rows, depth), None))?;
            Ok((of_x, Tensor::from_vec(of_weight, (columns, depth), weight.device())?))
        })?
    }
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Self::forward((x, lx), (w, lw), None)
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (of_x, of_weight) = Self::backward(x, w, grad)?;
        Ok((of_x, Some(of_weight)))
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear with bias"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Self::forward((x, lx), (w, lw), Some(values(b, lb)?))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (of_x, of_weight) = Self::backward(x, w, grad)?;
        let width = b.dim(0)?;
        let of_bias = Tensor::from_vec(with_contiguous(grad, |g| column_sums(g, width))?, width, b.device())?;
        Ok((of_x, Some(of_weight), Some(of_bias)))
    }
}
