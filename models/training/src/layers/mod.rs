//! Layers that training can differentiate, on any device.
//!
//! Each function takes and returns candle tensors of shape [rows, width] and is part of candle's automatic
//! differentiation. On the CPU it is one operation with kernels of [`kronos_models::layers::cpu`] in both directions, because composed
//! tensor operations write every intermediate to memory and their softmax and silu are scalar; elsewhere it is composed of
//! candle's own operations. Both ways give the same numbers to rounding. [`Traced`] makes a backend of them, over which the
//! networks of `kronos-models` are trained; Kronos has its networks in [`crate::kronos`].

mod attention;
mod block;
mod dropout;
mod entropy;
mod gate;
mod linear;
mod norm;
mod parameters;
mod rectified;
mod traced;

pub use attention::{Attention, Sequences};
pub use block::{Block, BlockDropout};
pub use dropout::Dropout;
pub use entropy::cross_entropy;
pub use gate::gate;
pub use linear::linear;
pub use norm::rms_norm;
pub use parameters::{Initial, Parameters};
pub use rectified::rectify;
pub use traced::Traced;

use candle_core::{CpuStorage, DType, Layout, Tensor};
use kronos_models::layers::tensor::with_values;

/// Whether the fused kernels can take this tensor.
fn fused(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// The values of a contiguous operand.
fn values<'s>(storage: &'s CpuStorage, layout: &Layout) -> candle_core::Result<&'s [f32]> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&storage.as_slice::<f32>()?[from..to]),
        None => candle_core::bail!("expected a contiguous tensor"),
    }
}

/// Calls `f` with the values of a tensor of any strides.
fn with_contiguous<R>(x: &Tensor, f: impl FnOnce(&[f32]) -> R) -> candle_core::Result<R> {
    with_values(&x.contiguous()?, f)
}
