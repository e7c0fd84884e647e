//! The first layer: exponentially weighted bias, variance, coverage and scale of a model's errors.

use super::{Interval, Settings};
use serde::{Deserialize, Serialize};

/// What is known of the errors of one series, sector or of all series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Online {
    /// Mean error.
    pub bias: f64,
    /// Variance of errors; negative before the first, which brings the model's own as a start.
    pub variance: f64,
    /// Share of outcomes within the model's own interval.
    pub coverage: f64,
    /// Square of the factor that gives the band the errors' standard deviation.
    pub scale_squared: f64,
    /// Outcomes that the weights amount to.
    pub evidence: f64,
}

impl Online {
    /// Nothing known: no bias, the model's own band.
    pub fn new(settings: &Settings) -> Self {
        Self { bias: 0.0, variance: -1.0, coverage: settings.level, scale_squared: 1.0, evidence: 0.0 }
    }

    /// Learns one outcome of a forecast `step` steps ahead, one of `members` series that are followed together.
    ///
    /// Residuals of overlapping horizons repeat each other, and so does a cross-section: each counts for as much less.
    /// Coverage is counted whether or not the outcome is an outlier; everything else ignores outliers.
    pub fn update(&mut self, settings: &Settings, forecast: &Interval, actual: f64, step: u32, members: u64) {
        let (steps, members) = (f64::from(step.max(1)), members.max(1) as f64);
        let weight = settings.lambda / (steps * members);
        let inside = f64::from(u8::from(forecast.lower <= actual && actual <= forecast.upper));
        self.coverage += weight * (inside - self.coverage);
        let half = (forecast.upper - forecast.lower) / 2.0;
        let error = actual - forecast.point;
        if self.variance < 0.0 {
            self.variance = (half / settings.deviate()).powi(2);
        }
        let distance = (error - self.bias).abs();
        let outlier = distance > settings.outlier * self.variance.sqrt() && self.variance > 0.0;
        if !error.is_finite() || outlier || error.abs() > settings.max_move * steps.sqrt() {
            return;
        }
        if half > 0.0 {
            let ratio = distance / half * settings.deviate();
            self.scale_squared += weight * (ratio * ratio - self.scale_squared);
        }
        let before = self.bias;
        self.bias += weight * (error - self.bias);
        self.variance = (1.0 - weight) * self.variance + weight * (error - before) * (error - self.bias);
        self.evidence = (1.0 - weight) * self.evidence + 1.0 / steps;
    }
}

/// What the first layer says of a series: bias and scale, blended by evidence and not clamped.
pub(super) fn blend(
    settings: &Settings,
    series: Option<&Online>,
    sector: Option<&Online>,
    global: Option<&Online>,
) -> (f64, f64) {
    // Errors in the units of different targets have no mean in common.
    let shared = f64::from(u8::from(settings.unit == super::Unit::Log));
    let pooled = |online: &Online| (shared * online.bias, online.scale_squared.sqrt());
    let own = |online: &Online| (online.bias, online.scale_squared.sqrt());
    let mix = |weight: f64, (b, k): (f64, f64), (rest_b, rest_k): (f64, f64)| {
        (weight * b + (1.0 - weight) * rest_b, weight * k + (1.0 - weight) * rest_k)
    };
    let share = |online: &Online, prior: f64| {
        if online.evidence > 0.0 { online.evidence / (online.evidence + prior) } else { 0.0 }
    };
    let mut blended = global.map_or((0.0, 1.0), pooled);
    if let Some(sector) = sector {
        blended = mix(share(sector, settings.prior_sector), pooled(sector), blended);
    }
    if let Some(series) = series {
        blended = mix(share(series, settings.prior_series), own(series), blended);
    }
    blended
}

#[cfg(test)]
mod tests {
    use super::super::{Method, Unit};
    use super::*;

    fn settings() -> Settings {
        Settings::new(0.9, Method::Online, Unit::Log).unwrap()
    }

    const BAND: Interval = Interval { point: 0.0, lower: -0.016448536269514722, upper: 0.016448536269514722 };

    /// λ = 0.02: the model's band says a standard deviation of 0.01; one error of 0.02 by hand.
    #[test]
    fn one_outcome_by_hand() {
        let settings = settings();
        let mut online = Online::new(&settings);
        online.update(&settings, &BAND, 0.02, 1, 1);
        let close = |got: f64, expected: f64| assert!((got - expected).abs() < 1e-12, "{got} {expected}");
        close(online.bias, 0.0004);
        // 0.98 · 0.0001 + 0.02 · 0.02 · 0.0196
        close(online.variance, 0.000098 + 0.00000784);
        // Twice the band's standard deviation: 0.98 · 1 + 0.02 · 4.
        close(online.scale_squared, 1.06);
        close(online.coverage, 0.98 * 0.9);
        close(online.evidence, 1.0);
    }

    /// One of four series that are followed together, three steps ahead: λ = 0.02 / 12.
    #[test]
    fn an_outcome_counts_for_less_the_more_series_and_steps_share_it() {
        let settings = settings();
        let mut online = Online::new(&settings);
        online.update(&settings, &BAND, 0.012, 3, 4);
        let (weight, error): (f64, f64) = (0.02 / 12.0, 0.012);
        let close = |got: f64, expected: f64| assert!((got - expected).abs() < 1e-15, "{got} {expected}");
        close(online.bias, weight * error);
        close(online.variance, (1.0 - weight) * 1e-4 + weight * error * (error - weight * error));
        close(online.scale_squared, 1.0 + weight * (1.44 - 1.0));
        close(online.coverage, 0.9 + weight * 0.1);
        close(online.evidence, 1.0 / 3.0);
    }

    #[test]
    fn half_of_the_weight_is_gone_after_thirty_five_outcomes() {
        let settings = settings();
        let mut online = Online::new(&settings);
        let flat = Interval { point: 0.0, lower: -0.05, upper: 0.05 };
        for _ in 0..35 {
            online.update(&settings, &flat, 0.001, 1, 1);
        }
        assert!((online.bias / 0.001 - 0.5).abs() < 0.01, "{}", online.bias);
        // Five steps ahead each outcome counts a fifth, as evidence too.
        let mut overlapping = Online::new(&settings);
        for _ in 0..175 {
            overlapping.update(&settings, &flat, 0.001, 5, 1);
        }
        assert!((overlapping.bias / 0.001 - 0.5).abs() < 0.01, "{}", overlapping.bias);
        assert!((overlapping.evidence / online.evidence - 1.0).abs() < 0.02);
    }

    #[test]
    fn outliers_move_nothing_but_coverage() {
        let settings = settings();
        for actual in [0.0601, -0.15, f64::NEG_INFINITY] {
            let mut online = Online::new(&settings);
            online.update(&settings, &BAND, actual, 1, 1);
            assert_eq!((online.bias, online.scale_squared, online.evidence), (0.0, 1.0, 0.0), "{actual}");
            assert!((online.coverage - 0.98 * 0.9).abs() < 1e-12);
        }
    }

    /// Ten per cent a step, which a walk of four steps doubles; the band is so wide that no outcome is an outlier of it.
    #[test]
    fn moves_beyond_the_limit_are_ignored_and_the_limit_grows_with_the_root_of_the_steps() {
        let settings = settings();
        let wide = Interval { point: 0.0, lower: -1.0, upper: 1.0 };
        for (actual, step, learnt) in
            [(0.099, 1, true), (0.101, 1, false), (-0.199, 4, true), (-0.201, 4, false)]
        {
            let mut online = Online::new(&settings);
            online.update(&settings, &wide, actual, step, 1);
            let expected = if learnt { 0.02 / f64::from(step) * actual } else { 0.0 };
            assert!((online.bias - expected).abs() < 1e-15, "{actual} {step}: {}", online.bias);
        }
    }

    /// An error of a share is an error of every share; one of a number of patients is none of euros.
    #[test]
    fn a_bias_is_shared_between_returns_and_not_between_other_units() {
        let bias = |unit| {
            let settings = Settings::new(0.9, Method::Online, unit).unwrap();
            let with = |bias, scale_squared| Online { bias, scale_squared, ..Online::new(&settings) };
            blend(&settings, None, None, Some(&with(0.004, 4.0)))
        };
        assert_eq!(bias(Unit::Log), (0.004, 2.0));
        assert_eq!(bias(Unit::Linear), (0.0, 2.0));
    }

    #[test]
    fn evidence_decides_whom_a_series_is_taken_for() {
        let settings = settings();
        let with = |bias: f64, evidence: f64| Online { bias, evidence, ..Online::new(&settings) };
        let (series, sector, global) = (with(0.001, 40.0), with(0.002, 200.0), with(0.004, 50.0));
        let bias = |series, sector, global| blend(&settings, series, sector, global).0;
        let close = |got: f64, expected: f64| assert!((got - expected).abs() < 1e-15, "{got} {expected}");
        close(bias(Some(&series), Some(&sector), Some(&global)), 0.002);
        close(bias(None, Some(&sector), Some(&global)), 0.003);
        close(bias(None, None, Some(&global)), 0.004);
        close(bias(Some(&series), None, None), 0.0005);
        close(bias(None, None, None), 0.0);
    }
}
