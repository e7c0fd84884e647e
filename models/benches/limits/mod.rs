//! How fast this machine multiplies matrices at most, measured beside what a model does.

use candle_core::{Device, Tensor};
use kronos_models::layers::linear::Linear;
use std::hint::black_box;
use std::time::Instant;

/// The best of a few timings, in seconds: other work on the machine only ever adds.
pub fn best(times: usize, mut work: impl FnMut()) -> f64 {
    let one = |_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    (0..times).map(one).fold(f64::INFINITY, f64::min)
}

/// Floating-point operations per second of large f32 matrix products: the better of candle's and our packed product.
pub fn gemm_rate() -> f64 {
    const SIDE: usize = 2048;
    let matrix = || Tensor::rand(-1f32, 1f32, (SIDE, SIDE), &Device::Cpu).unwrap();
    let (x, weight) = (matrix(), matrix());
    let packed = Linear::new(&weight, None).unwrap();
    let stock = best(5, || drop(black_box(x.matmul(&weight).unwrap())));
    let ours = best(5, || drop(black_box(packed.forward(&x).unwrap())));
    2.0 * (SIDE as f64).powi(3) / stock.min(ours)
}
