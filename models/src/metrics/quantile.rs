//! Losses of quantiles.

/// Levels from which on [`crps_quantiles`] may be called a CRPS.
///
/// A mean over three levels is a weighted quantile loss: it says nothing of the distribution between them and must not be
/// compared with one over nine.
pub const CRPS_LEVELS: usize = 9;

/// The pinball loss of a quantile at `level`: what its expectation is least for is the quantile itself.
///
/// # Source
/// Koenker and Bassett, "Regression quantiles", Econometrica 46 (1978).
pub fn pinball(actual: f64, quantile: f64, level: f64) -> f64 {
    let error = actual - quantile;
    if error < 0.0 { error * (level - 1.0) } else { error * level }
}

/// The mean of [`pinball`] over levels; `None` without levels, or with another number of quantiles.
///
/// Twice its sum over forecasts, divided by the sum of |actual|, is the weighted quantile loss (WQL), which other libraries
/// also call scaled CRPS.
pub fn mean_pinball(actual: f64, quantiles: &[f64], levels: &[f64]) -> Option<f64> {
    if quantiles.len() != levels.len() || levels.is_empty() {
        return None;
    }
    let sum: f64 =
        quantiles.iter().zip(levels).map(|(&quantile, &level)| pinball(actual, quantile, level)).sum();
    Some(sum / levels.len() as f64)
}

/// The CRPS read off quantiles: twice the mean pinball loss, for CRPS = 2 ∫ pinball dlevel.
///
/// The better, the more and the more evenly spaced the levels are; `None` with fewer than [`CRPS_LEVELS`].
///
/// # Units
/// Those of `actual`.
pub fn crps_quantiles(actual: f64, quantiles: &[f64], levels: &[f64]) -> Option<f64> {
    if levels.len() < CRPS_LEVELS {
        None
    } else {
        mean_pinball(actual, quantiles, levels).map(|loss| 2.0 * loss)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_high_costs_what_the_level_leaves() {
        assert_eq!(
            (pinball(3.0, 1.0, 0.25), pinball(1.0, 3.0, 0.25), pinball(1.0, 1.0, 0.25)),
            (0.5, 1.5, 0.0)
        );
        assert_eq!(mean_pinball(3.0, &[1.0, 4.0], &[0.25, 0.75]), Some((0.5 + 0.25) / 2.0));
        assert_eq!(mean_pinball(3.0, &[1.0], &[0.25, 0.75]), None);
        assert_eq!(mean_pinball(3.0, &[], &[]), None);
    }

    /// The exact CRPS of a uniform distribution on [0, 1] at 0.5 is 1/12.
    #[test]
    fn many_even_levels_come_near_the_integral() {
        let levels: Vec<f64> = (0..1000).map(|place| (f64::from(place) + 0.5) / 1000.0).collect();
        let crps = crps_quantiles(0.5, &levels, &levels).unwrap();
        assert!((crps - 1.0 / 12.0).abs() < 1e-6, "{crps}");
        assert_eq!(crps_quantiles(0.5, &[0.1, 0.5, 0.9], &[0.1, 0.5, 0.9]), None);
    }
}
