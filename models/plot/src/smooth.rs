//! Bands without the noise of few sample paths.
//!
//! The quantiles of 32 paths jump from step to step by more than the model means. What is drawn is a local line: at each
//! step the least-squares line through the distances of the bound from the point forecast, over [`REACH`] steps to either
//! side with weights that fall to zero. It leaves straight bands as they are, at their ends too, which a moving average
//! would bend. The point forecast, calibrated intervals and outcomes are never touched.

use super::picture::{Bounds, Forecast};

/// Steps to either side that a step's bounds are fit to.
const REACH: usize = 4;

impl Forecast {
    /// The same forecast with smooth bands.
    #[must_use]
    pub fn smooth(mut self) -> Self {
        let mut outer: Vec<Option<Bounds>> = vec![None; self.steps.len()];
        for band in 0..self.bands.len() {
            // How far the band reaches below and above the point; of a step without one of them nothing is known.
            let reach: Vec<Option<Bounds>> = self
                .steps
                .iter()
                .map(|step| {
                    let (point, (lower, upper)) = (step.point?, step.bands.get(band).copied().flatten()?);
                    Some((point - lower, upper - point))
                })
                .collect();
            let below = lines(&reach.iter().map(|reach| reach.map(|(below, _)| below)).collect::<Vec<_>>());
            let above = lines(&reach.iter().map(|reach| reach.map(|(_, above)| above)).collect::<Vec<_>>());
            for (index, step) in self.steps.iter_mut().enumerate() {
                let (Some(point), Some(below), Some(above)) = (step.point, below[index], above[index]) else {
                    continue;
                };
                let mut bounds = (point - below, point + above);
                // Bands lie within each other, as the quantiles do.
                if let Some((lower, upper)) = outer[index] {
                    bounds = (bounds.0.max(lower), bounds.1.min(upper));
                }
                if bounds.0 <= bounds.1 {
                    step.bands[band] = Some(bounds);
                }
                outer[index] = step.bands[band];
            }
        }
        self
    }
}

/// The local line through each value, of those there are within reach and without a gap between.
fn lines(values: &[Option<f64>]) -> Vec<Option<f64>> {
    let fit = |at: usize| -> Option<f64> {
        let own = values[at]?;
        let before = values[..at].iter().rev().take(REACH).take_while(|value| value.is_some());
        let from = at - before.count();
        let (mut w, mut wx, mut wxx, mut wy, mut wxy) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (place, value) in values.iter().enumerate().take(at + REACH + 1).skip(from) {
            let Some(value) = value else { break };
            let x = place as f64 - at as f64;
            let weight = 1.0 - x.abs() / (REACH + 1) as f64;
            w += weight;
            wx += weight * x;
            wxx += weight * x * x;
            wy += weight * (value - own);
            wxy += weight * x * (value - own);
        }
        let spread = w * wxx - wx * wx;
        // The line's height here; a value by itself is its own line.
        Some(if spread > 0.0 { own + (wxx * wy - wx * wxy) / spread } else { own })
    };
    (0..values.len()).map(fit).collect()
}

#[cfg(test)]
mod tests {
    use super::super::picture::Step;
    use super::*;

    fn forecast(bounds: &[Bounds]) -> Forecast {
        let step = |(slot, &bounds): (usize, &Bounds)| Step {
            slot,
            point: Some(100.0),
            bands: vec![Some(bounds)],
            ..Step::default()
        };
        Forecast {
            steps: bounds.iter().enumerate().map(step).collect(),
            bands: vec!["90 %".into()],
            ..Forecast::default()
        }
    }

    fn uppers(forecast: &Forecast) -> Vec<f64> {
        forecast.steps.iter().map(|step| step.bands[0].unwrap().1).collect()
    }

    #[test]
    fn a_straight_band_stays_as_it_is() {
        let straight: Vec<Bounds> =
            (0..9).map(|i| (100.0 - f64::from(i), 101.0 + 2.0 * f64::from(i))).collect();
        let drawn = forecast(&straight).smooth();
        for (index, step) in drawn.steps.iter().enumerate() {
            let (lower, upper) = step.bands[0].unwrap();
            assert!((lower - straight[index].0).abs() < 1e-9 && (upper - straight[index].1).abs() < 1e-9);
        }
    }

    /// Weights 1, 2, 3, 4, 5, 4, 3, 2, 1 of 25: a spike of 25 in the middle leaves 5.
    #[test]
    fn a_spike_is_spread_over_its_neighbours() {
        let mut bounds = [(90.0, 100.0); 11];
        bounds[5].1 = 125.0;
        let drawn = uppers(&forecast(&bounds).smooth());
        for (found, expected) in drawn[4..=6].iter().zip([104.0, 105.0, 104.0]) {
            assert!((found - expected).abs() < 1e-9, "{drawn:?}");
        }
    }

    #[test]
    fn steps_beside_a_gap_and_steps_alone_have_their_own_bounds() {
        let mut gapped = forecast(&[(90.0, 110.0), (80.0, 120.0), (85.0, 140.0)]);
        gapped.steps[1].bands[0] = None;
        let drawn = gapped.clone().smooth();
        assert_eq!(drawn, gapped);
    }

    #[test]
    fn a_band_stays_within_the_wider_one() {
        let mut two = forecast(&[(90.0, 110.0), (90.0, 110.0), (90.0, 110.0), (90.0, 110.0)]);
        two.bands.push("50 %".into());
        for (step, upper) in two.steps.iter_mut().zip([110.0, 110.0, 101.0, 101.0]) {
            step.bands.push(Some((99.0, upper)));
        }
        for step in two.smooth().steps {
            assert!(step.bands[1].unwrap().1 <= step.bands[0].unwrap().1, "{step:?}");
        }
    }
}
