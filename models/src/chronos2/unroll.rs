//! Horizons beyond one pass: several paths, one per quantile level, each continued by what was forecast at its level.

use crate::series::interpolate;

/// Share of the probability that each of ascending `levels` stands for: half the distance between its neighbours, with
/// 0 and 1 as the outermost, normalised to sum 1.
pub fn masses(levels: &[f64]) -> Vec<f64> {
    let at = |index: usize| match index {
        0 => 0.0,
        index => levels.get(index - 1).copied().unwrap_or(1.0),
    };
    let raw: Vec<f64> = (0..levels.len()).map(|index| (at(index + 2) - at(index)) / 2.0).collect();
    let total: f64 = raw.iter().sum();
    raw.into_iter().map(|mass| mass / total).collect()
}

/// Reads `levels` off the weighted samples: the piecewise linear curve through (cumulative weight, sample), with the
/// smallest sample at 0.
///
/// `samples` are (value, weight) in any order; the weights sum to 1. They are left sorted.
pub fn weighted_quantiles(samples: &mut [(f64, f64)], levels: &[f64]) -> Vec<f64> {
    samples.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let mut knots = Vec::with_capacity(samples.len() + 1);
    let mut values = Vec::with_capacity(samples.len() + 1);
    knots.push(0.0);
    values.extend(samples.first().map(|&(value, _)| value));
    let mut total = 0.0f64;
    for &(value, weight) in samples.iter() {
        total += weight;
        knots.push(total.min(1.0));
        values.push(value);
    }
    levels.iter().map(|&level| interpolate(&knots, &values, level)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masses_by_hand() {
        // Neighbours (0, .5), (.1, .9), (.5, 1): .25, .4, .25 of .9.
        let expected = [0.25 / 0.9, 0.4 / 0.9, 0.25 / 0.9];
        for (got, expected) in masses(&[0.1, 0.5, 0.9]).into_iter().zip(expected) {
            assert!((got - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn quantiles_of_three_samples_by_hand() {
        // Knots: 0 → 1, 0.5 → 1, 0.75 → 2, 1 → 6.
        let mut samples = [(6.0, 0.25), (1.0, 0.5), (2.0, 0.25)];
        let read = weighted_quantiles(&mut samples, &[0.2, 0.5, 0.6, 0.875, 1.0]);
        for (got, expected) in read.into_iter().zip([1.0, 1.0, 1.4, 4.0, 6.0]) {
            assert!((got - expected).abs() < 1e-12, "{got} {expected}");
        }
    }
}
