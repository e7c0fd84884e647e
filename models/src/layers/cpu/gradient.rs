//! What training adds to the kernels of inference: gated units and softmax on rows, and the gradients of both and of the
//! norm.
//!
//! Sums over rows are formed per chunk of [`ROWS`] rows and then over chunks in their order, so the bits do not depend on
//! the number of threads.

use super::exp::{exp, sigmoid, silu};
use super::simd::{Isa, Lanes, WIDTH, dispatch};
use rayon::prelude::*;

/// Rows whose share of a sum over rows is formed by one thread.
const ROWS: usize = 128;

/// Sums over the rows of `x` [rows, width].
pub fn column_sums(x: &[f32], width: usize) -> Vec<f32> {
    let partial: Vec<Vec<f32>> = x
        .par_chunks(ROWS * width)
        .map(|rows| {
            let mut sum = vec![0.0; width];
            for row in rows.chunks_exact(width) {
                // SAFETY: the instruction set is available; both slices hold `width` values.
                unsafe { add_row(Isa::detect(), &mut sum, row) };
            }
            sum
        })
        .collect();
    total(partial, width)
}

fn total(partial: Vec<Vec<f32>>, width: usize) -> Vec<f32> {
    partial.into_iter().fold(vec![0.0; width], |mut sum, part| {
        sum.iter_mut().zip(part).for_each(|(sum, v)| *sum += v);
        sum
    })
}

dispatch! {
    /// Adds a row to a sum.
    fn add_row(sum: &mut [f32], row: &[f32]) = add_row_kernel
}

#[inline(always)]
unsafe fn add_row_kernel<L: Lanes>(sum: &mut [f32], row: &[f32]) {
    sum.iter_mut().zip(row).for_each(|(sum, v)| *sum += v);
}

/// Gradients of [`super::norm::rms_norm`] with respect to its input and its weight, for the gradient `grad` of its result.
pub fn rms_norm_gradient(x: &[f32], weight: &[f32], eps: f32, grad: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let width = weight.len();
    assert!(x.len() == grad.len() && x.len().is_multiple_of(width));
    let mut of_x = vec![0.0; x.len()];
    let isa = Isa::detect();
    let partial: Vec<Vec<f32>> = of_x
        .par_chunks_mut(ROWS * width)
        .zip(x.par_chunks(ROWS * width).zip(grad.par_chunks(ROWS * width)))
        .map(|(of_x, (x, grad))| {
            let mut of_weight = vec![0.0; width];
            for ((of_x, x), grad) in
                of_x.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(grad.chunks_exact(width))
            {
                // SAFETY: `isa` is available; every slice holds `width` values.
                unsafe { rms_norm_gradient_row(isa, x, weight, eps, grad, of_x, &mut of_weight) };
            }
            of_weight
        })
        .collect();
    (of_x, total(partial, width))
}

dispatch! {
    /// One row of [`rms_norm_gradient`]; adds to `of_weight`.
    fn rms_norm_gradient_row(
        x: &[f32], weight: &[f32], eps: f32, grad: &[f32], of_x: &mut [f32], of_weight: &mut [f32],
    ) = rms_norm_gradient_kernel
}

/// # Safety
/// All slices have the length of `x`.
#[inline(always)]
unsafe fn rms_norm_gradient_kernel<L: Lanes>(
    x: &[f32],
    weight: &[f32],
    eps: f32,
    grad: &[f32],
    of_x: &mut [f32],
    of_weight: &mut [f32],
) {
    // SAFETY: whole vectors stay below the common length; the rest is indexed.
    unsafe {
        let whole = x.len() - x.len() % WIDTH;
        let (mut squares, mut dots) = (L::splat(0.0), L::splat(0.0));
        for i in (0..whole).step_by(WIDTH) {
            let v = L::load(x.as_ptr().add(i));
            squares = v.fma(v, squares);
            let g = L::load(grad.as_ptr().add(i)).mul(L::load(weight.as_ptr().add(i)));
            dots = g.fma(v, dots);
        }
        let (mut square, mut dot) = (squares.sum(), dots.sum());
        for i in whole..x.len() {
            square += x[i] * x[i];
            dot += grad[i] * weight[i] * x[i];
        }
        let n = x.len() as f32;
        let inverse = 1.0 / (square / n + eps).sqrt();
        let pull = -dot * inverse * inverse * inverse / n;
        let (inverses, pulls) = (L::splat(inverse), L::splat(pull));
        for i in (0..whole).step_by(WIDTH) {
            let (v, g) = (L::load(x.as_ptr().add(i)), L::load(grad.as_ptr().add(i)));
            let scaled = g.mul(L::load(weight.as_ptr().add(i)));
            v.fma(pulls, scaled.mul(inverses)).store(of_x.as_mut_ptr().add(i));
            let sum = L::load(of_weight.as_ptr().add(i));
            g.mul(v).fma(inverses, sum).store(of_weight.as_mut_ptr().add(i));
        }
        for i in whole..x.len() {
            of_x[i] = grad[i] * weight[i] * inverse + x[i] * pull;
            of_weight[i] += grad[i] * x[i] * inverse;
        }
    }
}

/// silu(gate) ⊙ up for rows of `x` that hold `width` gates and then `width` values.
pub fn gate(x: &[f32], width: usize) -> Vec<f32> {
    let mut out = vec![0.0; x.len() / 2];
    let isa = Isa::detect();
    out.par_chunks_mut(ROWS * width).zip(x.par_chunks(2 * ROWS * width)).for_each(|(out, x)| {
        for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(2 * width)) {
            let (gate, up) = x.split_at(width);
            // SAFETY: `isa` is available; the three slices have one length.
            unsafe { gate_row(isa, gate, up, out) };
        }
    });
    out
}

dispatch! {
    /// One row of [`gate`].
    fn gate_row(gate: &[f32], up: &[f32], out: &mut [f32]) = gate_kernel
}

#[inline(always)]
unsafe fn gate_kernel<L: Lanes>(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((gate, up), out) in gate.chunks(WIDTH).zip(up.chunks(WIDTH)).zip(out.chunks_mut(WIDTH)) {
        // SAFETY: `lanes` makes sixteen values of any chunk.
        unsafe {
            let y = silu(lanes::<L>(gate)).mul(lanes(up));
            unload(y, out);
        }
    }
}

/// Gradient of [`gate`] with respect to `x`, for the gradient `grad` of its result.
pub fn gate_gradient(x: &[f32], width: usize, grad: &[f32]) -> Vec<f32> {
    assert_eq!(x.len(), 2 * grad.len());
    let mut of_x = vec![0.0; x.len()];
    let isa = Isa::detect();
    let rows = of_x.par_chunks_mut(2 * ROWS * width).zip(x.par_chunks(2 * ROWS * width));
    rows.zip(grad.par_chunks(ROWS * width)).for_each(|((of_x, x), grad)| {
        let rows = of_x.chunks_exact_mut(2 * width).zip(x.chunks_exact(2 * width));
        for ((of_x, x), grad) in rows.zip(grad.chunks_exact(width)) {
            let (gate, up) = x.split_at(width);
            let (of_gate, of_up) = of_x.split_at_mut(width);
            // SAFETY: `isa` is available; the five slices have one length.
            unsafe { gate_gradient_row(isa, gate, up, grad, of_gate, of_up) };
        }
    });
    of_x
}

dispatch! {
    /// One row of [`gate_gradient`].
    fn gate_gradient_row(
        gate: &[f32], up: &[f32], grad: &[f32], of_gate: &mut [f32], of_up: &mut [f32],
    ) = gate_gradient_kernel
}

#[inline(always)]
unsafe fn gate_gradient_kernel<L: Lanes>(
    gate: &[f32],
    up: &[f32],
    grad: &[f32],
    of_gate: &mut [f32],
    of_up: &mut [f32],
) {
    for start in (0..gate.len()).step_by(WIDTH) {
        let part = start..(start + WIDTH).min(gate.len());
        // SAFETY: `lanes` makes sixteen values of any chunk.
        unsafe {
            let (a, g) = (lanes::<L>(&gate[part.clone()]), lanes::<L>(&grad[part.clone()]));
            let s = sigmoid(a);
            let rest = L::splat(1.0).sub(s);
            let slope = s.mul(a.fma(rest, L::splat(1.0)));
            unload(g.mul(lanes(&up[part.clone()])).mul(slope), &mut of_gate[part.clone()]);
            unload(g.mul(a).mul(s), &mut of_up[part]);
        }
    }
}

/// Replaces a row of scores by its softmax; −∞ gets exactly nothing. An empty row stays empty.
pub fn softmax(row: &mut [f32]) {
    // SAFETY: the instruction set is available.
    unsafe { softmax_row(Isa::detect(), row) };
}

dispatch! {
    /// [`softmax`] on one instruction set.
    fn softmax_row(row: &mut [f32]) = softmax_kernel
}

#[inline(always)]
unsafe fn softmax_kernel<L: Lanes>(row: &mut [f32]) {
    // SAFETY: `lanes` makes sixteen values of any chunk.
    unsafe {
        let mut largest = L::splat(f32::NEG_INFINITY);
        for chunk in row.chunks(WIDTH) {
            largest = largest.max(lanes_or(chunk, f32::NEG_INFINITY));
        }
        let shift = L::splat(largest.largest());
        let mut sum = L::splat(0.0);
        for chunk in row.chunks_mut(WIDTH) {
            let e = exp(lanes_or::<L>(chunk, f32::NEG_INFINITY).sub(shift));
            sum = sum.add(e);
            unload(e, chunk);
        }
        let scale = L::splat(1.0 / sum.sum());
        for chunk in row.chunks_mut(WIDTH) {
            unload(lanes::<L>(chunk).mul(scale), chunk);
        }
    }
}

/// Turns the gradient of a softmax's result, in `grad`, into that of its scores, scaled by `scale`.
pub fn softmax_gradient(probabilities: &[f32], grad: &mut [f32], scale: f32) {
    assert_eq!(probabilities.len(), grad.len());
    // SAFETY: the instruction set is available; both slices have one length.
    unsafe { softmax_gradient_row(Isa::detect(), probabilities, grad, scale) };
}

dispatch! {
    /// [`softmax_gradient`] on one instruction set.
    fn softmax_gradient_row(probabilities: &[f32], grad: &mut [f32], scale: f32) = softmax_gradient_kernel
}

#[inline(always)]
unsafe fn softmax_gradient_kernel<L: Lanes>(probabilities: &[f32], grad: &mut [f32], scale: f32) {
    // SAFETY: `lanes` makes sixteen values of any chunk.
    unsafe {
        let mut dots = L::splat(0.0);
        for (p, g) in probabilities.chunks(WIDTH).zip(grad.chunks(WIDTH)) {
            dots = lanes::<L>(p).fma(lanes(g), dots);
        }
        let (dot, scale) = (L::splat(dots.sum()), L::splat(scale));
        for (p, g) in probabilities.chunks(WIDTH).zip(grad.chunks_mut(WIDTH)) {
            unload(lanes::<L>(g).sub(dot).mul(lanes(p)).mul(scale), g);
        }
    }
}

/// Up to sixteen values, filled up with zeros.
#[inline(always)]
unsafe fn lanes<L: Lanes>(chunk: &[f32]) -> L {
    // SAFETY: passed on to the caller.
    unsafe { lanes_or(chunk, 0.0) }
}

/// # Safety
/// See [`Lanes`].
#[inline(always)]
unsafe fn lanes_or<L: Lanes>(chunk: &[f32], filler: f32) -> L {
    // SAFETY: a chunk of sixteen, or a buffer of sixteen, is read.
    unsafe {
        if chunk.len() >= WIDTH {
            return L::load(chunk.as_ptr());
        }
        let mut buffer = [filler; WIDTH];
        buffer[..chunk.len()].copy_from_slice(chunk);
        L::load(buffer.as_ptr())
    }
}

/// # Safety
/// See [`Lanes`].
#[inline(always)]
unsafe fn unload<L: Lanes>(values: L, chunk: &mut [f32]) {
    // SAFETY: sixteen values are written to a chunk or a buffer of sixteen.
    unsafe {
        if chunk.len() >= WIDTH {
            values.store(chunk.as_mut_ptr());
            return;
        }
        let mut buffer = [0f32; WIDTH];
        values.store(buffer.as_mut_ptr());
        chunk.copy_from_slice(&buffer[..chunk.len()]);
    }
}
