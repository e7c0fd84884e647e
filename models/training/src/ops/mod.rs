//! Fused tensor operations with gradients, where the composed ones cost too many passes over memory.

mod rectified;

pub use rectified::{add_bias, rectify};
