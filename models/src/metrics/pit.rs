//! The probability integral transform: outcomes by their place in the distribution forecast for them, uniform on [0, 1]
//! when the forecasts are calibrated.

use super::{Test, mean};
use statrs::distribution::{ChiSquared, ContinuousCDF};

/// The place of an outcome among sample paths, with ties and the gap it falls into broken at random.
///
/// `uniform` in [0, 1) is the randomness: exactly uniform results for outcomes drawn like the paths. `None` without paths.
///
/// # Source
/// Czado, Gneiting and Held, "Predictive model assessment for count data", Biometrics 65 (2009).
pub fn randomised_rank(actual: f64, paths: &[f64], uniform: f64) -> Option<f64> {
    let below = paths.iter().filter(|&&path| path < actual).count() as f64;
    let ties = paths.iter().filter(|&&path| path == actual).count() as f64;
    (!paths.is_empty()).then(|| (below + uniform * (ties + 1.0)) / (paths.len() as f64 + 1.0))
}

/// The test of Kolmogorov and Smirnov of uniformity on [0, 1], two-sided, with the asymptotic p-value.
///
/// `None` without values. Serial dependence (overlapping horizons) makes the p-value too small.
pub fn kolmogorov_smirnov(values: &[f64]) -> Option<Test> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len() as f64;
    let distance =
        |(rank, &value): (usize, &f64)| (value - rank as f64 / n).max((rank as f64 + 1.0) / n - value);
    let statistic = sorted.iter().enumerate().map(distance).fold(0.0, f64::max);
    (!sorted.is_empty()).then(|| Test { statistic, p_value: kolmogorov_tail(statistic * n.sqrt()) })
}

/// P(K > x) for Kolmogorov's distribution.
///
/// Two series, each fast where the other is slow.
fn kolmogorov_tail(x: f64) -> f64 {
    use std::f64::consts::PI;
    if x <= 0.0 {
        return 1.0;
    }
    if x < 1.0 {
        let term = |k: f64| (-(2.0 * k - 1.0).powi(2) * PI * PI / (8.0 * x * x)).exp();
        let cdf = (2.0 * PI).sqrt() / x * (1..=10u8).map(|k| term(f64::from(k))).sum::<f64>();
        return 1.0 - cdf;
    }
    let term = |k: u8| {
        let sign = if k % 2 == 1 { 1.0 } else { -1.0 };
        sign * (-2.0 * f64::from(k).powi(2) * x * x).exp()
    };
    2.0 * (1..=20).map(term).sum::<f64>()
}

/// The correlation of successive values, in the order given; forecasts that adapt too slowly leave it positive.
///
/// `None` with fewer than three values or without variance.
pub fn lag_one_autocorrelation(values: &[f64]) -> Option<f64> {
    let centre = mean(values)?;
    let variance: f64 = values.iter().map(|value| (value - centre).powi(2)).sum();
    let covariance: f64 = values.windows(2).map(|pair| (pair[0] - centre) * (pair[1] - centre)).sum();
    (values.len() > 2 && variance > 0.0).then(|| covariance / variance)
}

/// Pearson's test of counts in bins against the share each should have; for distributions known by few quantiles.
///
/// `None` with fewer than two bins, other numbers of shares, or no observation. The p-value has `bins − 1` degrees of
/// freedom.
pub fn chi_squared_bins(counts: &[u64], shares: &[f64]) -> Option<Test> {
    let n = counts.iter().sum::<u64>() as f64;
    if counts.len() < 2
        || counts.len() != shares.len()
        || n == 0.0
        || shares.iter().any(|share| *share <= 0.0)
    {
        return None;
    }
    let statistic = counts
        .iter()
        .zip(shares)
        .map(|(&count, share)| (count as f64 - n * share).powi(2) / (n * share))
        .sum::<f64>();
    let distribution = ChiSquared::new(counts.len() as f64 - 1.0).ok()?;
    Some(Test { statistic, p_value: distribution.sf(statistic) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_fill_the_gap_they_fall_into() {
        let paths = [1.0, 2.0, 2.0, 4.0];
        assert_eq!(randomised_rank(0.0, &paths, 0.5), Some(0.1));
        assert_eq!(randomised_rank(2.0, &paths, 0.0), Some(0.2));
        assert_eq!(randomised_rank(2.0, &paths, 0.5), Some(0.5));
        assert_eq!(randomised_rank(9.0, &paths, 0.5), Some(0.9));
        assert_eq!(randomised_rank(9.0, &[], 0.5), None);
    }

    /// Both series of Kolmogorov's distribution, at the point where they change over.
    #[test]
    fn the_two_series_meet() {
        assert!((kolmogorov_tail(1.0 - 1e-12) - kolmogorov_tail(1.0)).abs() < 1e-11);
        assert_eq!(kolmogorov_tail(0.0), 1.0);
        // The 5 % point, from any table.
        assert!((kolmogorov_tail(1.358_098_5) - 0.05).abs() < 1e-6);
    }

    #[test]
    fn nothing_to_test_is_no_test() {
        assert_eq!(kolmogorov_smirnov(&[]), None);
        assert_eq!(lag_one_autocorrelation(&[0.5, 0.5, 0.5]), None);
        assert_eq!(lag_one_autocorrelation(&[0.1, 0.5]), None);
        assert_eq!(chi_squared_bins(&[0, 0], &[0.5, 0.5]), None);
        assert_eq!(chi_squared_bins(&[1, 2], &[1.0]), None);
    }
}
