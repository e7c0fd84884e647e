//! The second layer: one tracker of the quantile that leaves a wanted share of outcomes outside.
//!
//! # Source
//! ACI: Gibbs and Candès, "Adaptive conformal inference under distribution shift", NeurIPS 2021 (arXiv 2106.00170).
//! DtACI: Gibbs and Candès, "Conformal inference for online prediction with arbitrary distribution shifts" (2208.08401).
//! PID: Angelopoulos, Candès and Tibshirani, "Conformal PID control for time series prediction", NeurIPS 2023
//! (2307.16895).

use super::{Extremes, Method, Settings, Window};
use serde::{Deserialize, Serialize};
use std::f64::consts::FRAC_PI_2;

/// Step sizes of the experts of DtACI.
const GAMMAS: [f64; 8] = [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128];

/// Outcomes within which DtACI shall be near the best expert.
const SPAN: f64 = 100.0;

/// How far the argument of the integrator's tangent stays from its poles.
const POLE: f64 = 1e-6;

/// The state of one tracker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Tail {
    /// Quantile tracker, with or without its integrator.
    Tracker {
        /// The tracked quantile, above the scorecast.
        q: f64,
        /// Sum of misses minus those that were due.
        excess: f64,
        /// Scores seen.
        seen: u64,
        /// Their recent range.
        extremes: Extremes,
    },
    /// Adaptive conformal inference.
    Aci {
        /// The level it plays; may leave [0, 1].
        miss: f64,
        /// Recent scores.
        window: Window,
    },
    /// Experts of several step sizes.
    Dtaci {
        /// What each plays.
        misses: [f64; GAMMAS.len()],
        /// Their weights.
        weights: [f64; GAMMAS.len()],
        /// Recent scores.
        window: Window,
    },
    /// Trailing quantile.
    Trailing {
        /// Recent scores.
        window: Window,
    },
}

impl Tail {
    /// A tracker that has seen nothing; `None` where the method has no second layer.
    pub fn new(settings: &Settings) -> Option<Self> {
        let (miss, window) = (settings.miss(), Window::default());
        Some(match settings.method {
            Method::Pid | Method::Quantile => {
                Self::Tracker { q: 0.0, excess: 0.0, seen: 0, extremes: Extremes::default() }
            }
            Method::Aci => Self::Aci { miss, window },
            Method::Dtaci => {
                Self::Dtaci { misses: [miss; GAMMAS.len()], weights: [1.0; GAMMAS.len()], window }
            }
            Method::Trailing => Self::Trailing { window },
            Method::Online => return None,
        })
    }

    /// The score up to which outcomes are covered, given a scorecast; may be infinite, or below the least score.
    pub fn radius(&self, settings: &Settings, scorecast: f64) -> f64 {
        match self {
            Self::Tracker { q, excess, seen, extremes } => {
                let gain = if settings.method == Method::Pid { settings.ki * extremes.range() } else { 0.0 };
                scorecast + q + integrator(gain, settings.csat, *excess, *seen)
            }
            Self::Aci { miss, window } => window.quantile(*miss),
            Self::Dtaci { misses, weights, window } => {
                let total: f64 = weights.iter().sum();
                window.quantile(weights.iter().zip(misses).map(|(w, miss)| w / total * miss).sum())
            }
            Self::Trailing { window } => window.quantile(settings.miss()),
        }
    }

    /// Learns the score of an outcome, under the scorecast that was made for it.
    pub fn update(&mut self, settings: &Settings, score: f64, scorecast: f64) {
        let target = settings.miss();
        let missed = f64::from(u8::from(score > self.radius(settings, scorecast)));
        match self {
            Self::Tracker { q, excess, seen, extremes } => {
                extremes.push(score);
                *q += settings.lr * extremes.range() * (missed - target);
                *excess += missed - target;
                *seen += 1;
            }
            Self::Aci { miss, window } => {
                *miss += settings.lr * (target - missed);
                window.push(score, settings.window);
            }
            Self::Dtaci { misses, weights, window } => {
                let covered_at = window.p_value(score);
                let eta = learning_rate(target);
                let mut total = 0.0;
                for ((miss, weight), gamma) in misses.iter_mut().zip(weights.iter_mut()).zip(GAMMAS) {
                    *weight *= (-eta * loss(target, covered_at, *miss)).exp();
                    total += *weight;
                    *miss += gamma * (target - f64::from(u8::from(*miss > covered_at)));
                }
                let share = 1.0 / (2.0 * SPAN);
                for weight in weights.iter_mut() {
                    // Their sum is kept at 1: only ratios count, and products of losses would reach zero.
                    *weight = (1.0 - share) * *weight / total + share / GAMMAS.len() as f64;
                }
                window.push(score, settings.window);
            }
            Self::Trailing { window } => window.push(score, settings.window),
        }
    }
}

/// The saturated integrator K·tan(x·ln(t + 1) / (C·(t + 1))), its argument kept between the poles of the tangent.
fn integrator(gain: f64, csat: f64, excess: f64, seen: u64) -> f64 {
    if gain == 0.0 {
        return 0.0;
    }
    let next = seen as f64 + 1.0;
    let argument = excess * next.ln() / (csat * next);
    gain * argument.clamp(POLE - FRAC_PI_2, FRAC_PI_2 - POLE).tan()
}

/// The pinball loss of an expert's level against the level at which the outcome would just have been covered.
fn loss(target: f64, covered_at: f64, miss: f64) -> f64 {
    target * (covered_at - miss) - (covered_at - miss).min(0.0)
}

/// √(3/I)·√((ln(K·I) + 2) / (α²(1−α)³ + (1−α)²α³)), I = 100, K experts.
fn learning_rate(alpha: f64) -> f64 {
    let keep = 1.0 - alpha;
    let scale = alpha.powi(2) * keep.powi(3) + keep.powi(2) * alpha.powi(3);
    (3.0 / SPAN).sqrt() * (((GAMMAS.len() as f64 * SPAN).ln() + 2.0) / scale).sqrt()
}

#[cfg(test)]
mod tests {
    use super::super::Unit;
    use super::*;

    /// A tracker whose only score was 2, which is then its range.
    fn tracker(q: f64, excess: f64, seen: u64) -> Tail {
        let mut extremes = Extremes::default();
        extremes.push(2.0);
        Tail::Tracker { q, excess, seen, extremes }
    }

    /// K = 0.1 · 2 and t + 1 = 10, so that the argument is the excess times ln 10 / (C · 10).
    #[test]
    fn the_integrator_grows_with_the_excess_of_misses_and_never_turns_over_its_pole() {
        let settings = Settings::new(0.9, Method::Pid, Unit::Log).unwrap();
        let radius = |settings: &Settings, excess: f64| tracker(0.5, excess, 9).radius(settings, 1.0) - 1.5;
        let share = 10f64.ln() / 10.0;
        for excess in [1.0, -1.0, 5.0] {
            assert!((radius(&settings, excess) - 0.2 * (excess * share).tan()).abs() < 1e-12, "{excess}");
        }
        let slower = Settings { csat: 2.0, ..settings.clone() };
        assert!((radius(&slower, 1.0) - 0.2 * (share / 2.0).tan()).abs() < 1e-12);
        // 7 is just beyond π/2, where the tangent itself is far below zero: the most missed interval would be the narrowest.
        let greatest = 0.2 / POLE.tan();
        for (excess, expected) in [(7.0, greatest), (20.0, greatest), (-7.0, -greatest), (-20.0, -greatest)] {
            let got = radius(&settings, excess);
            assert!((got / expected - 1.0).abs() < 1e-6, "{excess}: {got} {expected}");
        }
        let plain = Settings { method: Method::Quantile, ..settings };
        assert_eq!(radius(&plain, 20.0), 0.0, "the tracker alone has no integrator");
    }

    /// η = 0.0075 of a range of 2, and each tail is due 5 % of the misses.
    #[test]
    fn a_miss_widens_by_what_nineteen_hits_narrow() {
        let settings = Settings::new(0.9, Method::Quantile, Unit::Log).unwrap();
        let moved = |score: f64| {
            let mut tail = tracker(1.0, 0.0, 1);
            tail.update(&settings, score, 0.0);
            let Tail::Tracker { q, excess, seen, .. } = tail else { unreachable!("a tracker stays one") };
            assert_eq!(seen, 2);
            (q - 1.0, excess)
        };
        let close = |(q, excess): (f64, f64), expected: (f64, f64)| {
            assert!((q - expected.0).abs() < 1e-12 && (excess - expected.1).abs() < 1e-12, "{q} {excess}");
        };
        // The range is that of the scores 2 and 1.5, 2 and 1: a score as large as the radius is covered.
        close(moved(1.5), (0.0075 * 0.5 * 0.95, 0.95));
        close(moved(1.0), (-0.0075 * 0.05, -0.05));
    }
}
