//! Gradients of the fused layers against finite differences and against candle's own composed operations.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Also in what the tests share, which clippy does not take for a test.

use candle_core::{D, Device, Result, Tensor, Var};
use kronos_models::layers::cpu::cache::HeadShape;
use kronos_models::layers::rope::Rope;
use kronos_models::random::Stream;
use kronos_training::layers::{Attention, Dropout, Sequences, cross_entropy, gate, linear, rms_norm};
use std::sync::Arc;

fn var(shape: &[usize], seed: u64) -> Var {
    let n: usize = shape.iter().product();
    let draw = |i: usize| (Stream::from_key(seed).uniform(i as u32, 0, 0) * 2.0 - 1.0) as f32;
    let tensor = Tensor::from_vec((0..n).map(draw).collect(), shape, &Device::Cpu).unwrap();
    Var::from_tensor(&tensor).unwrap()
}

/// A scalar that weighs every value of `y` differently.
fn pulled(y: &Tensor) -> Result<Tensor> {
    let n = y.elem_count();
    let weights: Vec<f32> = (0..n).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
    y.flatten_all()?.mul(&Tensor::from_vec(weights, n, y.device())?)?.sum_all()
}

/// Compares the gradient of `f` with central differences at some values of every variable.
fn check(name: &str, variables: &[&Var], f: impl Fn() -> Result<Tensor>) {
    let grads = f().unwrap().backward().unwrap();
    for (number, var) in variables.iter().enumerate() {
        let grad = grads.get(var).unwrap_or_else(|| panic!("{name}: no gradient for variable {number}"));
        let grad = grad.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let values = var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let at = |index: usize, delta: f32| -> f64 {
            let mut moved = values.clone();
            moved[index] += delta;
            var.set(&Tensor::from_vec(moved, var.shape(), &Device::Cpu).unwrap()).unwrap();
            f64::from(f().unwrap().to_scalar::<f32>().unwrap())
        };
        for index in (0..values.len()).step_by(values.len().div_ceil(13)) {
            // The error of a central difference is of order h²; of float32, of order 1e-7 / h.
            let h = 1e-2;
            let difference = (at(index, h) - at(index, -h)) / f64::from(2.0 * h);
            let got = f64::from(grad[index]);
            let bound = 2e-3 + 1e-2 * difference.abs();
            assert!(
                (got - difference).abs() < bound,
                "{name}, variable {number}[{index}]: {got} {difference}"
            );
        }
        var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap()).unwrap();
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    let (x, w, b) = (var(&[19, 24], 1), var(&[40, 24], 2), var(&[40], 3));
    check("linear", &[&x, &w, &b], || pulled(&linear(&x, &w, Some(&b))?));
    check("linear without bias", &[&x, &w], || pulled(&linear(&x, &w, None)?));
    let gain = var(&[24], 4);
    check("rms_norm", &[&x, &gain], || pulled(&rms_norm(&x, &gain, 1e-5)?));
    check("gate", &[&x], || pulled(&gate(&x)?));
    let targets: Vec<u32> = (0..19).map(|row| row * 7 % 24).collect();
    let weights: Vec<f32> = (0..19).map(|row| (row % 3) as f32).collect();
    check("cross_entropy", &[&x], || cross_entropy(&x, &targets, &weights)? * 10.0);
    for (causal, rotated, dropout) in [(true, true, 0.0), (false, false, 0.0), (true, true, 0.25)] {
        let rows = 19;
        let members = vec![(0..9).collect(), vec![12, 9, 11], vec![10], (13..19).collect()];
        let attention = Attention {
            shape: HeadShape { heads: 2, dim: 4 },
            scale: 0.9,
            causal,
            rotation: rotated.then(|| (Rope::new(4, 50.0).table(32), (0..rows as u32).collect())),
            sequences: Arc::new(Sequences::new(members, rows).unwrap()),
            dropout: Dropout::new(dropout, 3),
        };
        check("attention", &[&x], || pulled(&attention.forward(&x)?));
    }
}

/// The fused layers and the same formulas in candle's operations, values and gradients.
#[test]
fn fused_layers_agree_with_composed_operations() {
    let (x, w, b, gain) = (var(&[150, 48], 5), var(&[70, 48], 6), var(&[70], 7), var(&[48], 8));
    type Layer<'a> = Box<dyn Fn() -> Result<Tensor> + 'a>;
    let targets: Vec<u32> = (0..150).map(|row| row * 7 % 48).collect();
    let all_targets = Tensor::from_slice(&targets, (150, 1), &Device::Cpu).unwrap();
    let pairs: Vec<(&str, Layer, Layer)> = vec![
        ("linear", Box::new(|| linear(&x, &w, Some(&b))), Box::new(|| x.matmul(&w.t()?)?.broadcast_add(&b))),
        (
            "rms_norm",
            Box::new(|| rms_norm(&x, &gain, 1e-5)),
            Box::new(|| {
                let mean = (x.sqr()?.mean_keepdim(D::Minus1)? + 1e-5)?;
                x.broadcast_div(&mean.sqrt()?)?.broadcast_mul(&gain)
            }),
        ),
        ("gate", Box::new(|| gate(&x)), Box::new(|| x.narrow(1, 0, 24)?.silu()?.mul(&x.narrow(1, 24, 24)?))),
        (
            "cross_entropy",
            Box::new(|| cross_entropy(&x, &targets, &[1.0; 150])),
            Box::new(|| {
                candle_nn::ops::log_softmax(&x, D::Minus1)?.gather(&all_targets, 1)?.mean_all()?.neg()
            }),
        ),
    ];
    for (name, fused, composed) in pairs {
        let results = [fused, composed].map(|layer| {
            let y = layer().unwrap();
            let grads = pulled(&y).unwrap().backward().unwrap();
            let of = |var: &Var| grads.get(var).cloned();
            (y, [of(&x), of(&w), of(&b), of(&gain)])
        });
        let [(y, grads), (expected, expected_grads)] = results;
        let close = |a: &Tensor, b: &Tensor| {
            let worst = (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            let size = b.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(worst <= 2e-6 + 5e-6 * size, "{name}: {worst:e} of {size}");
        };
        close(&y, &expected);
        for (grad, expected) in grads.iter().zip(&expected_grads) {
            if let (Some(grad), Some(expected)) = (grad, expected) {
                close(grad, expected);
            }
        }
    }
}

#[test]
fn what_cannot_be_computed_is_refused() {
    let x = var(&[4, 6], 9);
    assert!(cross_entropy(&x, &[0, 1, 2], &[1.0; 3]).is_err());
    assert!(cross_entropy(&x, &[0, 1, 2, 6], &[1.0; 4]).is_err());
    assert!(cross_entropy(&x, &[0, 1, 2, 3], &[0.0; 4]).is_err());
}
