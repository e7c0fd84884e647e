//! How far an outcome lies from what was forecast.

use statrs::distribution::{ContinuousCDF, Normal};

/// An outcome measured by the interval that was forecast for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Surprise {
    /// Whether it lies outside of the interval.
    pub outside: bool,
    /// Its distance from the forecast in standard deviations, negative below it; `None` where the interval has no width on
    /// that side.
    pub score: Option<f64>,
    /// Probability of an outcome nearer to the forecast.
    pub probability: f64,
}

/// Measures `actual` by a normal distribution on each side of `forecast` whose interval at `level` ends at `lower` and
/// `upper`: with both sides alike a normal distribution, otherwise a split one. The probability exceeds `level` exactly where
/// the outcome lies outside.
///
/// `None` where the interval does not hold the forecast, or a number is not finite.
pub fn surprise(actual: f64, forecast: f64, lower: f64, upper: f64, level: f64) -> Option<Surprise> {
    let finite = [actual, forecast, lower, upper].iter().all(|value| value.is_finite());
    if !(finite && lower <= forecast && forecast <= upper && level > 0.0 && level < 1.0) {
        return None;
    }
    let outside = actual < lower || actual > upper;
    // Halves, so that no difference of finite numbers overflows.
    let distance = 0.5 * actual - 0.5 * forecast;
    let width = if distance < 0.0 { 0.5 * forecast - 0.5 * lower } else { 0.5 * upper - 0.5 * forecast };
    if width == 0.0 {
        let probability = if distance == 0.0 { 0.0 } else { 1.0 };
        return Some(Surprise { outside, score: (distance == 0.0).then_some(0.0), probability });
    }
    let normal = Normal::standard();
    let score = distance / width * normal.inverse_cdf(0.5 + 0.5 * level);
    // An outcome on the edge of the interval is as likely as its level, whatever the rounding of the two functions.
    let probability = 1.0 - 2.0 * normal.cdf(-score.abs());
    let probability = if outside { probability.max(level) } else { probability.min(level) };
    Some(Surprise { outside, score: Some(score), probability })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_measured_in_standard_deviations_of_its_side() {
        // Upper end one unit above, lower end two units below, at the level of ±1.959963984540054 standard deviations.
        let z = 1.959_963_984_540_054;
        let of = |actual| surprise(actual, 10.0, 8.0, 11.0, 0.95).unwrap();
        assert!((of(11.0).score.unwrap() - z).abs() < 1e-12);
        assert!((of(12.0).score.unwrap() - 2.0 * z).abs() < 1e-12);
        assert!((of(9.0).score.unwrap() + 0.5 * z).abs() < 1e-12);
        // P(|Z| < 3.919927969) = 0.9999114, P(|Z| < 0.979981992) = 0.6729050 (the error function).
        assert!((of(12.0).probability - 0.999_911_4).abs() < 1e-7, "{:?}", of(12.0));
        assert!((of(9.0).probability - 0.672_905_0).abs() < 1e-7, "{:?}", of(9.0));
        assert_eq!(of(10.0), Surprise { outside: false, score: Some(0.0), probability: 0.0 });
    }

    #[test]
    fn outside_is_more_probable_than_the_level_and_inside_less() {
        for level in [0.5, 0.8, 0.9, 0.95, 0.99] {
            for actual in [7.0, 7.9999, 8.0, 8.0001, 10.0, 10.9999, 11.0, 11.0001, 20.0] {
                let surprise = surprise(actual, 10.0, 8.0, 11.0, level).unwrap();
                assert_eq!(surprise.outside, !(8.0..=11.0).contains(&actual));
                match surprise.outside {
                    true => assert!(surprise.probability >= level, "{actual} {surprise:?}"),
                    false => assert!(surprise.probability <= level, "{actual} {surprise:?}"),
                }
            }
        }
    }

    #[test]
    fn without_width_any_other_outcome_is_certain_to_be_one() {
        let beside = surprise(5.1, 5.0, 5.0, 5.0, 0.9).unwrap();
        assert_eq!(beside, Surprise { outside: true, score: None, probability: 1.0 });
        assert_eq!(surprise(5.0, 5.0, 5.0, 5.0, 0.9).unwrap().probability, 0.0);
        // Numbers near the largest do not overflow.
        assert!(!surprise(1.7e308, -1.7e308, -1.7e308, 1.7e308, 0.9).unwrap().outside);
    }

    #[test]
    fn what_no_interval_measures_has_no_surprise() {
        assert_eq!(surprise(f64::NAN, 1.0, 0.0, 2.0, 0.9), None);
        assert_eq!(surprise(1.0, 3.0, 0.0, 2.0, 0.9), None);
        assert_eq!(surprise(1.0, 1.0, 0.0, f64::INFINITY, 0.9), None);
    }
}
