//! The quantile loss.

use super::error::Result;
use candle_core::{D, Tensor};

/// The mean over everything of ρ_τ(y − q) = max(τ·(y − q), (τ − 1)·(y − q)), the pinball loss.
///
/// Twice its mean over many levels is the continuous ranked probability score.
///
/// # Shapes
/// `quantiles`: [..., levels]; `actual`: the same without the last dimension → scalar.
/// # Source
/// Koenker and Bassett, "Regression quantiles", Econometrica 46 (1978).
pub fn pinball(quantiles: &Tensor, actual: &Tensor, levels: &[f64]) -> Result<Tensor> {
    let levels: Vec<f32> = levels.iter().map(|&level| level as f32).collect();
    let levels = Tensor::new(levels, quantiles.device())?.to_dtype(quantiles.dtype())?;
    let error = actual.unsqueeze(D::Minus1)?.broadcast_sub(quantiles)?;
    // max(τu, (τ − 1)u) = τu + max(−u, 0), which needs one pass less.
    Ok((error.broadcast_mul(&levels)? + error.neg()?.relu()?)?.mean_all()?)
}

/// ρ_τ(y − q) of one number.
pub fn pinball_of(quantile: f64, actual: f64, level: f64) -> f64 {
    let error = actual - quantile;
    if error >= 0.0 { level * error } else { (level - 1.0) * error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    /// y = 2 against quantiles 1 and 4 at 0.1 and 0.9: 0.1·1 and 0.1·2, mean 0.15.
    #[test]
    fn by_hand_with_its_gradient() {
        let quantiles = Var::new(&[[[1f32, 4.0]]], &Device::Cpu).unwrap();
        let actual = Tensor::new(&[[2f32]], &Device::Cpu).unwrap();
        let loss = pinball(&quantiles, &actual, &[0.1, 0.9]).unwrap();
        assert!((loss.to_scalar::<f32>().unwrap() - 0.15).abs() < 1e-7);
        let gradient = loss.backward().unwrap().get(&quantiles).unwrap().flatten_all().unwrap();
        // Raising the low one helps by τ, raising the high one hurts by 1 − τ; halved by the mean.
        let gradient = gradient.to_vec1::<f32>().unwrap();
        assert!((gradient[0] + 0.05).abs() < 1e-7 && (gradient[1] - 0.05).abs() < 1e-7, "{gradient:?}");
        assert!((pinball_of(1.0, 2.0, 0.1) + pinball_of(4.0, 2.0, 0.9) - 0.3).abs() < 1e-12);
    }
}
