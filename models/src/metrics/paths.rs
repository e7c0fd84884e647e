//! The continuous ranked probability score of distributions that are known.

use statrs::distribution::{Continuous, ContinuousCDF, Normal};

/// The fair CRPS of sample paths: unbiased for the distribution they are drawn from, whatever their number.
///
/// mean |X − y| − Σᵢⱼ|Xᵢ − Xⱼ| / (2m(m − 1)); `None` with fewer than two paths. The sum over pairs is taken from the sorted
/// sample in O(m log m).
///
/// # Source
/// Ferro, "Fair scores for ensemble forecasts", Quarterly Journal of the Royal Meteorological Society 140 (2014).
pub fn crps_paths(actual: f64, paths: &[f64]) -> Option<f64> {
    let m = paths.len();
    if m < 2 {
        return None;
    }
    let mut sorted = paths.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = m as f64;
    let distance = sorted.iter().map(|path| (path - actual).abs()).sum::<f64>() / count;
    // Each ordered pair is counted once as the larger and once as the smaller of the two.
    let pairs: f64 =
        sorted.iter().enumerate().map(|(rank, path)| (2.0 * rank as f64 + 1.0 - count) * path).sum();
    Some(distance - pairs / (count * (count - 1.0)))
}

/// The CRPS of a normal distribution.
///
/// `None` for a standard deviation that is not positive.
pub fn crps_normal(actual: f64, mean: f64, sd: f64) -> Option<f64> {
    let normal = Normal::standard();
    let z = (actual - mean) / sd;
    let unit = z * (2.0 * normal.cdf(z) - 1.0) + 2.0 * normal.pdf(z) - std::f64::consts::PI.sqrt().recip();
    (sd > 0.0).then_some(sd * unit)
}

/// The CRPS of exp(N(`mu`, `sigma`²)).
///
/// `None` for a `sigma` that is not positive.
///
/// # Source
/// Baran and Lerch, "Log-normal distribution based ensemble model output statistics models for probabilistic wind-speed
/// forecasting", Quarterly Journal of the Royal Meteorological Society 141 (2015).
pub fn crps_lognormal(actual: f64, mu: f64, sigma: f64) -> Option<f64> {
    if sigma.is_nan() || sigma <= 0.0 {
        return None;
    }
    let normal = Normal::standard();
    // Below zero lies nothing: the distance to the outcome is added to the score at zero.
    let omega = if actual > 0.0 { (actual.ln() - mu) / sigma } else { f64::NEG_INFINITY };
    let phi = |z: f64| if z == f64::NEG_INFINITY { 0.0 } else { normal.cdf(z) };
    let spread = phi(omega - sigma) + normal.cdf(sigma / std::f64::consts::SQRT_2) - 1.0;
    Some(actual * (2.0 * phi(omega) - 1.0) - 2.0 * (mu + sigma * sigma / 2.0).exp() * spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_paths_by_hand() {
        // Distances 1, 1, 3; ordered pairs 2·(2 + 4 + 2) = 16, over 2·3·2.
        assert!((crps_paths(2.0, &[5.0, 1.0, 3.0]).unwrap() - (5.0 / 3.0 - 16.0 / 12.0)).abs() < 1e-15);
        assert_eq!(crps_paths(2.0, &[5.0]), None);
    }

    #[test]
    fn a_distribution_without_spread_has_no_score() {
        assert_eq!(crps_normal(1.0, 0.0, 0.0), None);
        assert_eq!(crps_lognormal(1.0, 0.0, 0.0), None);
        assert_eq!(crps_lognormal(1.0, 0.0, f64::NAN), None);
        assert!(crps_lognormal(0.0, 0.0, 1.0).unwrap() > 0.0);
    }
}
