//! Cross entropy.

use super::{fused, values, with_contiguous};
use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor};
use kronos_models::layers::cpu::gradient::softmax;
use rayon::prelude::*;

/// Weighted mean over rows of −ln softmax(logits)[target].
///
/// # Shapes
/// `logits`: [rows, classes]; one target below `classes` and one weight per row → a scalar.
/// # Errors
/// When targets, weights and rows differ in number, a target is no class, or no weight is positive.
pub fn cross_entropy(logits: &Tensor, targets: &[u32], weights: &[f32]) -> Result<Tensor> {
    let (rows, classes) = logits.dims2()?;
    let total = weights.iter().sum::<f32>();
    let one_each = rows == targets.len() && rows == weights.len() && total > 0.0;
    if !one_each || targets.iter().any(|&target| target as usize >= classes) {
        candle_core::bail!(
            "cross entropy of {rows} rows of {classes} classes with {} targets",
            targets.len()
        );
    }
    let weights: Vec<f32> = weights.iter().map(|weight| weight / total).collect();
    if fused(logits) {
        return logits.contiguous()?.apply_op1(CrossEntropy { targets: targets.to_vec(), weights });
    }
    let targets = Tensor::from_slice(targets, (rows, 1), logits.device())?;
    let weights = Tensor::from_vec(weights, (rows, 1), logits.device())?.to_dtype(logits.dtype())?;
    candle_nn::ops::log_softmax(logits, D::Minus1)?.gather(&targets, 1)?.mul(&weights)?.sum_all()?.neg()
}

struct CrossEntropy {
    targets: Vec<u32>,
    /// Add up to one.
    weights: Vec<f32>,
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross entropy"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, classes) = layout.shape().dims2()?;
        let losses: Vec<f64> = values(logits, layout)?
            .par_chunks_exact(classes)
            .zip(self.targets.par_iter().zip(&self.weights))
            .map_init(Vec::new, |row: &mut Vec<f32>, (logits, (&target, &weight))| {
                if weight == 0.0 {
                    return 0.0;
                }
                let (target, weight) = (target as usize, f64::from(weight));
                row.clear();
                row.extend_from_slice(logits);
                softmax(row);
                // A probability that underflows still has its logarithm: the distance to the largest logit.
                if row[target] > f32::MIN_POSITIVE {
                    return -f64::from(row[target]).ln() * weight;
                }
                let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                (f64::from(largest) - f64::from(logits[target])) * weight
            })
            .collect();
        Ok((CpuStorage::F32(vec![losses.iter().sum::<f64>() as f32]), ().into()))
    }

    fn bwd(&self, logits: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (rows, classes) = logits.dims2()?;
        let grad = grad.to_scalar::<f32>()?;
        let mut of_logits = with_contiguous(logits, <[f32]>::to_vec)?;
        let rows_of_logits = of_logits.par_chunks_exact_mut(classes);
        rows_of_logits.zip(self.targets.par_iter().zip(&self.weights)).for_each(
            |(row, (&target, &weight))| {
                if weight == 0.0 {
                    return row.fill(0.0);
                }
                softmax(row);
                row[target as usize] -= 1.0;
                row.iter_mut().for_each(|v| *v *= grad * weight);
            },
        );
        Ok(Some(Tensor::from_vec(of_logits, (rows, classes), logits.device())?))
    }
}
