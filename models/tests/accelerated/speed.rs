//! Tokens per second on a GPU beside the limit that its memory sets.

use super::{Size, gpu, options, request};
use candle_core::{DType, Device, Tensor};
use kronos_models::bars::BarRequest;
use kronos_models::device::Precision;
use kronos_models::interrupt::NeverInterrupt;
use kronos_models::kronos::batch::Batch;
use kronos_models::layers::accelerated::Place;
use std::time::Instant;

const BASE: Size = Size { d_model: 832, n_heads: 16, ff_dim: 2048, n_layers: 12, max_context: 512 };

/// Bytes per second that a copy within the device's memory moves, reading and writing.
fn bandwidth(device: &Device) -> f64 {
    let bytes = 1usize << 30;
    let block = Tensor::zeros(bytes / 4, DType::F32, device).unwrap();
    let mut best = 0.0f64;
    for _ in 0..5 {
        device.synchronize().unwrap();
        let began = Instant::now();
        let copy = block.copy().unwrap();
        device.synchronize().unwrap();
        best = best.max(2.0 * bytes as f64 / began.elapsed().as_secs_f64());
        drop(copy);
    }
    best
}

#[test]
fn tokens_per_second_beside_the_limit_of_memory() {
    let Some(device) = gpu() else { return };
    if !kronos_skip::requested("KRONOS_BENCH", "speed is measured", "KRONOS_BENCH=1 on a machine with a GPU")
    {
        return;
    }
    let (context, horizon) = (400, 64);
    let bandwidth = bandwidth(&device);
    println!("memory moves {:.0} GB/s", bandwidth / 1e9);
    for precision in [Precision::F32, Precision::Bf16] {
        let model = BASE.model(Some(&Place::new(&device, precision)));
        for (series, paths) in [(1, 1), (1, 32), (8, 32), (64, 8)] {
            let requests: Vec<BarRequest> = (0..series).map(|s| request(s, context, horizon)).collect();
            let options = options(paths, 64 << 30);
            let mut batch = Batch::new(&model);
            for request in &requests {
                batch.admit(request, &options, &NeverInterrupt).unwrap();
            }
            // The first step has no new position; the second compiles what is new to the driver.
            (0..2).for_each(|_| batch.step(&NeverInterrupt).unwrap());
            let steps = horizon - 4;
            let began = Instant::now();
            (0..steps).for_each(|_| batch.step(&NeverInterrupt).unwrap());
            let seconds = began.elapsed().as_secs_f64() / steps as f64;
            // A step reads every weight once, the context of a series once, and what each path holds of its own.
            let plan = |request: &BarRequest| model.plan(request, &options).unwrap().bytes as f64;
            let caches: f64 = requests.iter().map(plan).sum();
            let limit = (model.memory_bytes() as f64 + caches) / bandwidth;
            let rows = (series as usize * paths) as f64;
            println!(
                "base {precision:?}, {series} series, {paths} paths: {:.0} bars/s, {:.2} ms a step, limit of memory {:.2} ms",
                rows / seconds,
                seconds * 1e3,
                limit * 1e3,
            );
        }
    }
}
