//! Vectorised kernels on plain slices: what stock candle is slow at on a CPU, with bits that depend on nothing else.
//!
//! Measured against the composed tensor operations in `benches/layers.rs`.
#![allow(unsafe_code)]

pub mod attention;
pub mod cache;
mod exp;
pub mod gemm;
pub mod gradient;
pub mod norm;
pub mod product;
pub mod rows;
pub(crate) mod simd;
pub mod threads;
