//! From sample paths to a forecast: mean bar, interval, quantiles and the chance of a rise, step by step.

use crate::bars::{Bar, BarPaths, CHANNELS};
use crate::quantile::{QuantileLevels, quantile};

/// The forecast of one step, all of it taken from the same sample paths.
#[derive(Debug, Clone, PartialEq)]
pub struct BarStep {
    /// Mean over the paths, channel by channel; coherent because every path is.
    pub mean: Bar,
    /// What a distribution needs more than one path for.
    pub spread: Option<CloseSpread>,
}

/// The distribution of the close at one step.
#[derive(Debug, Clone, PartialEq)]
pub struct CloseSpread {
    /// Quantile at (1 − level) / 2.
    pub lower: f64,
    /// Quantile at (1 + level) / 2.
    pub upper: f64,
    /// Quantiles in the order of the levels asked for.
    pub quantiles: Vec<f64>,
    /// Share of the paths whose close is above the last close of the context.
    pub prob_up: f64,
}

/// Condenses sample paths to one [`BarStep`] per step.
///
/// A single path has no spread: an interval of one draw would look like certainty.
///
/// # Units
/// `last_close` in the units of the paths; `level` in (0, 1).
pub fn summarise(paths: &BarPaths, last_close: f64, level: f64, levels: &QuantileLevels) -> Vec<BarStep> {
    let samples = paths.samples();
    let mut closes = Vec::with_capacity(samples);
    (0..paths.horizon)
        .map(|step| {
            let mut sum = [0.0; CHANNELS];
            closes.clear();
            for path in 0..samples {
                let bar = paths.bar(path, step);
                for (total, value) in sum.iter_mut().zip(bar) {
                    *total += value;
                }
                closes.push(bar[3]);
            }
            // Rounding of sums and quotients is monotone, so means of coherent bars stay coherent.
            let mean = sum.map(|total| total / samples as f64);
            closes.sort_by(f64::total_cmp);
            let spread = (samples > 1).then(|| CloseSpread {
                lower: quantile(&closes, (1.0 - level) / 2.0),
                upper: quantile(&closes, (1.0 + level) / 2.0),
                quantiles: levels.as_slice().iter().map(|&level| quantile(&closes, level)).collect(),
                prob_up: closes.iter().filter(|&&close| close > last_close).count() as f64 / samples as f64,
            });
            BarStep { mean, spread }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(close: f64) -> Bar {
        [close - 1.0, close + 2.0, close - 2.0, close, 10.0 * close, close]
    }

    #[test]
    fn five_paths_by_hand() {
        let paths =
            BarPaths { horizon: 1, bars: [16.0, 1.0, 4.0, 2.0, 8.0].map(path).to_vec(), context_used: 32 };
        let levels = QuantileLevels::new(vec![0.1, 0.5]).unwrap();
        let steps = summarise(&paths, 4.0, 0.8, &levels);
        assert_eq!(steps.len(), 1);
        assert!((steps[0].mean[3] - 6.2).abs() < 1e-12);
        assert!((steps[0].mean[4] - 62.0).abs() < 1e-12);
        let spread = steps[0].spread.as_ref().unwrap();
        assert!((spread.lower - 1.4).abs() < 1e-12);
        assert!((spread.upper - 12.8).abs() < 1e-12);
        assert!((spread.quantiles[0] - 1.4).abs() < 1e-12);
        assert_eq!(spread.quantiles[1], 4.0);
        // 16 and 8 are above the last close; 4 is not.
        assert!((spread.prob_up - 0.4).abs() < 1e-12);
    }

    #[test]
    fn one_path_has_no_spread() {
        let paths = BarPaths { horizon: 2, bars: vec![path(5.0), path(6.0)], context_used: 32 };
        let steps = summarise(&paths, 4.0, 0.9, &QuantileLevels::default());
        assert_eq!(steps[1], BarStep { mean: path(6.0), spread: None });
    }
}
