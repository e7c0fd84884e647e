//! The layers all models share, one of each.
//!
//! They take and return candle tensors of shape [rows, width]: rows of several sequences lie one after the other without
//! padding, and each sequence brings its own caches. On the CPU the arithmetic runs in the kernels of [`cpu`], whose
//! results for a row never depend on the other rows. For GPUs there are the same layers in candle's operations, in
//! [`accelerated`].

pub mod accelerated;
pub mod block;
pub mod cpu;
pub mod linear;
pub mod norm;
pub mod rope;
pub mod t5;
pub mod tensor;
