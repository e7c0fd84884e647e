//! Quantile levels and sample quantiles.

use crate::error::{ModelError, Result};

/// Ascending levels, each strictly between 0 and 1; cannot hold anything else.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QuantileLevels(Vec<f64>);

impl QuantileLevels {
    /// Checks the levels; an empty list means that no quantile is asked for.
    ///
    /// # Errors
    /// [`ModelError::InvalidParameter`] when a level is outside (0, 1), not finite, or not above its predecessor.
    pub fn new(levels: Vec<f64>) -> Result<Self> {
        let reject = |expected: &str, got: f64| {
            Err(ModelError::InvalidParameter {
                name: "quantile_levels",
                expected: expected.into(),
                got: got.to_string(),
            })
        };
        for (index, &level) in levels.iter().enumerate() {
            if !(level > 0.0 && level < 1.0) {
                return reject("between 0 and 1", level);
            }
            if index > 0 && level <= levels[index - 1] {
                return reject("ascending without repetition", level);
            }
        }
        Ok(Self(levels))
    }

    /// The levels, ascending.
    pub fn as_slice(&self) -> &[f64] {
        &self.0
    }

    /// Whether no quantile is asked for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The sample quantile of ascending `sorted` at `level`, interpolated linearly between order statistics.
///
/// The position is `(n − 1) · level`, Hyndman and Fan's definition 7: the rule of PostgreSQL's `percentile_cont`,
/// so that quantiles in a forecast equal those a user computes from the paths in SQL. NaN for an empty sample.
///
/// # Source
/// Hyndman and Fan, "Sample quantiles in statistical packages", The American Statistician 50 (1996).
pub fn quantile(sorted: &[f64], level: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let position = last as f64 * level;
    let below = position.floor() as usize;
    let above = (position.ceil() as usize).min(last);
    let weight = position - below as f64;
    sorted[below] + (sorted[above] - sorted[below]) * weight
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `quantile(c(1, 2, 4, 8, 16), c(.1, .5, .95), type = 7)` of R, by hand: positions 0.4, 2, 3.8.
    #[test]
    fn interpolates_like_type_seven() {
        let sample = [1.0, 2.0, 4.0, 8.0, 16.0];
        for (level, expected) in [(0.1, 1.4), (0.5, 4.0), (0.95, 14.4), (0.0, 1.0), (1.0, 16.0)] {
            assert!((quantile(&sample, level) - expected).abs() < 1e-12, "{level}");
        }
        assert_eq!(quantile(&[3.0], 0.9), 3.0);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn levels_outside_or_unordered_are_refused() {
        for levels in [vec![0.0], vec![1.0], vec![90.0], vec![f64::NAN], vec![0.5, 0.5], vec![0.9, 0.1]] {
            assert!(QuantileLevels::new(levels.clone()).is_err(), "{levels:?}");
        }
        assert_eq!(QuantileLevels::new(vec![0.1, 0.9]).unwrap().as_slice(), &[0.1, 0.9]);
    }
}
