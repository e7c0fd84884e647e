//! Root-mean-square normalisation.

use super::{fused, values, with_contiguous};
use candle_core::{CpuStorage, CustomOp2, D, Layout, Result, Shape, Tensor};
use kronos_models::layers::cpu::gradient::rms_norm_gradient;
use kronos_models::layers::cpu::norm::Norm;

/// x / sqrt(mean(x²) + eps) · weight over the last axis.
///
/// # Shapes
/// `x`: [rows, width], `weight`: [width] → as `x`.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    if fused(x) {
        return x.contiguous()?.apply_op2(weight, RmsNorm { eps });
    }
    let mean = (x.sqr()?.mean_keepdim(D::Minus1)? + f64::from(eps))?;
    x.broadcast_div(&mean.sqrt()?)?.broadcast_mul(weight)
}

struct RmsNorm {
    eps: f32,
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let norm = Norm { weight: values(w, lw)?, eps: self.eps };
        let y = kronos_models::layers::cpu::norm::rms_norm(values(x, lx)?, norm);
        Ok((CpuStorage::F32(y), lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (of_x, of_weight) = with_contiguous(grad, |grad| {
            with_contiguous(x, |x| with_contiguous(w, |w| rms_norm_gradient(x, w, self.eps, grad)))
        })???;
        let of_x = Tensor::from_vec(of_x, x.shape(), x.device())?;
        Ok((Some(of_x), Some(Tensor::from_vec(of_weight, w.shape(), w.device())?)))
    }
}
