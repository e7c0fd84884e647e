//! The layers all models share, one of each.
//!
//! They take and return candle tensors of shape [rows, width]: rows of several sequences lie one after the other without
//! padding. A network is written over a [`backend`]: on the CPU the arithmetic runs in the kernels of [`cpu`], whose results
//! for a row never depend on the other rows ([`packed`]), on a GPU in candle's operations ([`accelerated`]). Kronos, whose
//! sequences bring caches that several paths share, has its layers apart: [`block`] and [`accelerated::block`].

pub mod accelerated;
pub mod backend;
pub mod block;
pub mod cpu;
pub mod linear;
pub mod norm;
pub mod packed;
pub mod rope;
pub mod t5;
pub mod tensor;
