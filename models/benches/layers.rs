//! The CPU kernels against the same layers composed of candle's operations.
#![allow(clippy::unwrap_used)]

use candle_core::{D, Device, Tensor};
use candle_nn::ops::{rms_norm_slow, silu, softmax_last_dim};
use criterion::{Criterion, criterion_group, criterion_main};
use kronos_models::bars::Sampling;
use kronos_models::kronos::sampling::filter_probabilities;
use kronos_models::layers::cpu::attention::attend;
use kronos_models::layers::cpu::cache::{HeadShape, KvCache};
use kronos_models::layers::cpu::norm::{Norm, rms_norm};
use kronos_models::layers::linear::{GatedLinear, Linear};
use std::hint::black_box;

fn random(rows: usize, columns: usize) -> Tensor {
    Tensor::rand(-1f32, 1f32, (rows, columns), &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Products of decode (1, 8, 32 rows) and prefill (512 rows) at the width of base.
fn linear(criterion: &mut Criterion) {
    let (depth, columns) = (832, 2048);
    let weight = random(columns, depth);
    let (packed, transposed) = (Linear::new(&weight, None).unwrap(), weight.t().unwrap());
    let mut group = criterion.benchmark_group("linear 832 to 2048");
    for rows in [1, 8, 32, 512] {
        let x = random(rows, depth);
        group.bench_function(format!("{rows} rows, ours"), |b| {
            b.iter(|| packed.forward(black_box(&x)).unwrap())
        });
        group.bench_function(format!("{rows} rows, candle"), |b| {
            b.iter(|| black_box(&x).matmul(&transposed).unwrap())
        });
    }
    group.finish();
}

fn gated(criterion: &mut Criterion) {
    let (gate, up) = (random(2048, 832), random(2048, 832));
    let ours = GatedLinear::new(&gate, &up).unwrap();
    let (gate, up) = (gate.t().unwrap(), up.t().unwrap());
    let mut group = criterion.benchmark_group("gated linear 832 to 2048");
    for rows in [1, 512] {
        let x = random(rows, 832);
        group.bench_function(format!("{rows} rows, ours"), |b| {
            b.iter(|| ours.forward(black_box(&x)).unwrap())
        });
        group.bench_function(format!("{rows} rows, candle"), |b| {
            b.iter(|| {
                let x = black_box(&x);
                (silu(&x.matmul(&gate).unwrap()).unwrap() * x.matmul(&up).unwrap()).unwrap()
            });
        });
    }
    group.finish();
}

/// Causal attention of a prefill and the one query of a decode step, 8 heads of 64 over 512 positions.
fn attention(criterion: &mut Criterion) {
    const POSITIONS: usize = 512;
    let shape = HeadShape { heads: 8, dim: 64 };
    let width = shape.width();
    let [q, k, v] = [(); 3].map(|()| random(POSITIONS, width));
    let mut cache = KvCache::new(shape);
    for (key, value) in values(&k).chunks_exact(width).zip(values(&v).chunks_exact(width)) {
        cache.push(key, value);
    }
    let heads = |x: &Tensor, rows: usize| {
        x.reshape((rows, shape.heads, shape.dim)).unwrap().transpose(0, 1).unwrap().contiguous().unwrap()
    };
    let mask: Vec<f32> = (0..POSITIONS * POSITIONS)
        .map(|i| if i % POSITIONS > i / POSITIONS { f32::NEG_INFINITY } else { 0.0 })
        .collect();
    let mask = Tensor::from_vec(mask, (POSITIONS, POSITIONS), &Device::Cpu).unwrap();
    let (k, v) = (heads(&k, POSITIONS), heads(&v, POSITIONS));
    let composed = |q: &Tensor, rows: usize| {
        let scores = (heads(q, rows).matmul(&k.t().unwrap()).unwrap() * 0.125).unwrap();
        let visible = mask.narrow(0, POSITIONS - rows, rows).unwrap();
        let weights = softmax_last_dim(&scores.broadcast_add(&visible).unwrap()).unwrap();
        weights.matmul(&v).unwrap().transpose(0, 1).unwrap().contiguous().unwrap()
    };
    let mut group = criterion.benchmark_group("attention 8 x 64 over 512");
    for rows in [1, POSITIONS] {
        let q = q.narrow(0, POSITIONS - rows, rows).unwrap().contiguous().unwrap();
        let flat = values(&q);
        group.bench_function(format!("{rows} queries, ours"), |b| {
            b.iter(|| attend(black_box(&flat), &[&cache], &[rows], shape));
        });
        group.bench_function(format!("{rows} queries, candle"), |b| b.iter(|| composed(black_box(&q), rows)));
    }
    group.finish();
}

fn normalisation(criterion: &mut Criterion) {
    let (x, weight) = (random(512, 832), random(1, 832).get(0).unwrap());
    let (flat, gain) = (values(&x), values(&weight));
    let mut group = criterion.benchmark_group("rms norm 512 x 832");
    let norm = Norm { weight: &gain, eps: 1e-5 };
    group.bench_function("ours", |b| b.iter(|| rms_norm(black_box(&flat), norm)));
    group.bench_function("candle", |b| {
        b.iter(|| candle_nn::ops::rms_norm(black_box(&x), &weight, 1e-5).unwrap())
    });
    group.bench_function("candle, composed", |b| {
        b.iter(|| rms_norm_slow(black_box(&x), &weight, 1e-5).unwrap())
    });
    group.finish();
}

/// The softmax of sampling: 32 rows of 1,024 logits.
fn softmax(criterion: &mut Criterion) {
    let logits = random(32, 1024);
    let flat = values(&logits);
    let unfiltered = Sampling::new(1.0, 0, 1.0).unwrap();
    let mut group = criterion.benchmark_group("softmax 32 x 1024");
    group.bench_function("ours", |b| {
        b.iter(|| {
            let rows = black_box(&flat).chunks_exact(1024);
            rows.map(|row| filter_probabilities(row, &unfiltered)).collect::<Vec<_>>()
        });
    });
    group.bench_function("candle", |b| b.iter(|| softmax_last_dim(black_box(&logits)).unwrap()));
    group.bench_function("candle, composed", |b| {
        b.iter(|| candle_nn::ops::softmax(black_box(&logits), D::Minus1).unwrap());
    });
    group.finish();
}

criterion_group!(layers, linear, gated, attention, normalisation, softmax);
criterion_main!(layers);
