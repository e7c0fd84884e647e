//! Losses of intervals.

/// The interval score (Winkler): the width, plus 2/α per unit by which the outcome lies outside, α = 1 − `level`.
///
/// Its expectation is least for the quantiles at α/2 and 1 − α/2. NaN for a `level` outside (0, 1), or bounds that cross.
///
/// # Units
/// Those of `actual`.
pub fn interval_score(actual: f64, lower: f64, upper: f64, level: f64) -> f64 {
    let alpha = 1.0 - level;
    if !(alpha > 0.0 && alpha < 1.0 && lower <= upper) {
        return f64::NAN;
    }
    let outside = (lower - actual).max(0.0) + (actual - upper).max(0.0);
    (upper - lower) + 2.0 / alpha * outside
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_costs_by_level_and_inside_only_the_width() {
        for (actual, expected) in [(2.0, 4.0), (1.0, 4.0), (0.5, 6.0), (6.0, 8.0)] {
            assert!((interval_score(actual, 1.0, 5.0, 0.5) - expected).abs() < 1e-12, "{actual}");
        }
        assert!(interval_score(0.0, 1.0, 0.0, 0.9).is_nan());
        assert!(interval_score(0.0, 0.0, 1.0, 90.0).is_nan());
    }
}
