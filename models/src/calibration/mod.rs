//! Online calibration: intervals that cover what they say, learnt from forecasts that have matured.
//!
//! Two layers. The first ([`Online`]) follows bias, variance, coverage and scale of a model with exponential weights,
//! rejects outliers, and blends what a series, its sector and all series say; clamps keep it from overreaching, so it moves
//! the point and resizes the band by a little. The second ([`Tail`]) is conformal: it follows the quantile of a score so that
//! the long-run share of misses is what was asked for, whatever the model and the market do, and no outlier is kept from it.
//!
//! Neither layer is served for its own sake: [`Merit`] follows the interval scores of the model's own interval, of the first
//! layer's and of both, and what does not lower the score is left out.
//!
//! A state is a fold: [`Settings::learn`] takes one matured forecast at a time, and the state after a sequence depends on
//! nothing but the sequence; what comes from before its memory ([`Past`]) is not learnt, and
//! a forecast is judged by the interval that the state of its cutoff would have given it. [`Settings::serve`] says what a state makes of a new forecast. Nothing here reads a clock, and a
//! state comes back from its bytes bit for bit ([`Group::from_bytes`]).

mod group;
mod merit;
mod online;
mod past;
mod rule;
mod states;
mod tail;
mod window;

pub use group::{Group, Record};
pub use merit::{Layers, Merit, Reason};
pub use online::Online;
pub use past::Past;
pub use rule::{Served, Source};
pub use states::{Groups, Outcome};
pub use tail::Tail;
pub use window::{Extremes, Window};

use crate::error::{ModelError, Result};
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

/// Outcomes that the recent coverage is counted over.
pub const RECENT: u32 = 60;

/// How the second layer follows its quantile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Method {
    /// Conformal PID: quantile tracker and integrator on top of a scorecast.
    Pid,
    /// The quantile tracker alone.
    Quantile,
    /// Adaptive conformal inference: the level of a trailing quantile moves.
    Aci,
    /// Adaptive conformal inference by experts of several step sizes.
    Dtaci,
    /// The trailing quantile itself.
    Trailing,
    /// No second layer.
    Online,
}

impl Method {
    /// All of them, the default first.
    pub const ALL: [Self; 6] =
        [Self::Pid, Self::Quantile, Self::Aci, Self::Dtaci, Self::Trailing, Self::Online];

    /// The name it is called by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pid => "pid",
            Self::Quantile => "quantile",
            Self::Aci => "aci",
            Self::Dtaci => "dtaci",
            Self::Trailing => "trailing",
            Self::Online => "online",
        }
    }

    /// The method of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }
}

/// What the second layer measures of an outcome, per tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Score {
    /// Distance from the point in standard deviations that are followed with exponential weights.
    Scaled,
    /// Distance from the point in units of the forecast; the standard deviation is the scorecast.
    Residual,
    /// Distance beyond the end of the first layer's interval.
    Cqr,
}

impl Score {
    /// All of them, the default first.
    pub const ALL: [Self; 3] = [Self::Scaled, Self::Residual, Self::Cqr];

    /// The name it is called by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scaled => "scaled",
            Self::Residual => "residual",
            Self::Cqr => "cqr",
        }
    }

    /// The score of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|score| score.name() == name)
    }
}

/// A forecast of one number in the units that calibration works in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Point forecast.
    pub point: f64,
    /// Lower end.
    pub lower: f64,
    /// Upper end.
    pub upper: f64,
}

/// Whether errors of a target are ratios or differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    /// Logarithms, for prices: an error is a return.
    Log,
    /// The target's own unit.
    Linear,
}

impl Unit {
    /// Into the units of calibration. The logarithm of what is not positive is minus infinity.
    pub fn enter(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log if value > 0.0 => value.ln(),
            Self::Log => f64::NEG_INFINITY,
        }
    }

    /// Back into the units of the target.
    pub fn leave(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log => value.exp(),
        }
    }

    /// A forecast in the units of calibration; `None` for one that cannot be calibrated: no finite point, or no interval.
    ///
    /// Under [`Unit::Log`] a lower end that is not positive is put as far below the point as the upper end is above it.
    pub fn interval(self, point: f64, lower: f64, upper: f64) -> Option<Interval> {
        let (point, mut lower, upper) = (self.enter(point), self.enter(lower), self.enter(upper));
        if lower == f64::NEG_INFINITY {
            lower = point - (upper - point);
        }
        let finite = point.is_finite() && lower.is_finite() && upper.is_finite();
        (finite && lower <= upper).then_some(Interval { point, lower, upper })
    }
}

/// The rules of a calibration; fields out of their domain are refused by [`Settings::validate`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Probability that the interval shall cover.
    pub level: f64,
    /// How the second layer works.
    pub method: Method,
    /// What it measures.
    pub score: Score,
    /// One tracker per tail, each for half of the misses, or one for both.
    pub asymmetric: bool,
    /// Step size: of the tracker as a share of the range of the last 100 scores, of ACI as a share of the misses.
    pub lr: f64,
    /// Gain of the integrator, as a share of the same range.
    pub ki: f64,
    /// Saturation of the integrator: larger is slower.
    pub csat: f64,
    /// Scores that ACI, DtACI and the trailing quantile remember.
    pub window: usize,
    /// Outcomes before a state is used at all.
    pub burn_in: u64,
    /// Outcomes of a series before it stops borrowing from its sector or from all series.
    pub min_history: u64,
    /// Greatest radius, in standard deviations.
    pub max_radius: f64,
    /// Weight of an outcome in the second layer's standard deviation.
    pub spread_lambda: f64,
    /// Whether the first layer moves the point and resizes the band; it is followed either way.
    pub online: bool,
    /// Weight of an outcome in the first layer.
    pub lambda: f64,
    /// Standard deviations beyond which the first layer ignores an outcome.
    pub outlier: f64,
    /// Error beyond which it does, per square root of steps; infinite for none.
    pub max_move: f64,
    /// Greatest move of the point; infinite for none.
    pub max_bias: f64,
    /// Least and greatest factor of the band.
    pub scale: (f64, f64),
    /// Evidence at which a series counts as much as what it is blended with.
    pub prior_series: f64,
    /// The same for a sector.
    pub prior_sector: f64,
    /// What errors of different series have in common decides whether they share a bias.
    pub unit: Unit,
    /// Whether a layer is served only where it lowers the interval score.
    pub earn: bool,
}

impl Settings {
    /// The defaults for a level, a method and a unit.
    ///
    /// # Errors
    /// [`ModelError::InvalidParameter`] for a level outside (0, 1).
    pub fn new(level: f64, method: Method, unit: Unit) -> Result<Self> {
        let relative = unit == Unit::Log;
        let settings = Self {
            level,
            method,
            score: Score::Scaled,
            asymmetric: true,
            lr: 0.0075,
            ki: 0.1,
            csat: 1.0,
            window: 500,
            burn_in: 50,
            min_history: 60,
            max_radius: 10.0,
            spread_lambda: 0.06,
            online: true,
            lambda: 0.02,
            outlier: 6.0,
            max_move: if relative { 0.10 } else { f64::INFINITY },
            max_bias: if relative { 0.0030 } else { f64::INFINITY },
            scale: (0.8, 1.8),
            prior_series: 40.0,
            prior_sector: 200.0,
            unit,
            earn: true,
        };
        settings.validate().map(|()| settings)
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`ModelError::InvalidParameter`] for the first that is out of its domain.
    pub fn validate(&self) -> Result<()> {
        let fraction = |value: f64| value > 0.0 && value < 1.0;
        let positive = |value: f64| value > 0.0;
        let checks = [
            ("level", fraction(self.level), "between 0 and 1", self.level),
            ("lr", positive(self.lr) && self.lr <= 1.0, "greater than 0 and at most 1", self.lr),
            ("ki", self.ki >= 0.0 && self.ki <= 100.0, "from 0 to 100", self.ki),
            ("csat", positive(self.csat) && self.csat.is_finite(), "greater than 0", self.csat),
            ("window", (20..=10_000).contains(&self.window), "from 20 to 10000", self.window as f64),
            (
                "max_radius",
                self.max_radius >= 1.0 && self.max_radius <= 1e6,
                "from 1 to 1e6",
                self.max_radius,
            ),
            ("spread_lambda", fraction(self.spread_lambda), "between 0 and 1", self.spread_lambda),
            ("lambda", fraction(self.lambda), "between 0 and 1", self.lambda),
            ("outlier", positive(self.outlier), "greater than 0", self.outlier),
            ("max_move", positive(self.max_move), "greater than 0", self.max_move),
            ("max_bias", self.max_bias >= 0.0, "at least 0", self.max_bias),
            (
                "min_scale",
                positive(self.scale.0) && self.scale.0 <= 1.0,
                "greater than 0 and at most 1",
                self.scale.0,
            ),
            ("max_scale", self.scale.1 >= 1.0 && self.scale.1.is_finite(), "at least 1", self.scale.1),
            ("prior_series", self.prior_series >= 0.0, "at least 0", self.prior_series),
            ("prior_sector", self.prior_sector >= 0.0, "at least 0", self.prior_sector),
        ];
        match checks.into_iter().find(|(_, right, _, _)| !right) {
            None => Ok(()),
            Some((name, _, expected, got)) => {
                Err(ModelError::InvalidParameter { name, expected: expected.into(), got: got.to_string() })
            }
        }
    }

    /// Probability that each tracker leaves outside.
    pub fn miss(&self) -> f64 {
        if self.asymmetric { (1.0 - self.level) / 2.0 } else { 1.0 - self.level }
    }

    /// Standard deviations from the centre to an end of a normal interval at the level.
    pub fn deviate(&self) -> f64 {
        Normal::standard().inverse_cdf((1.0 + self.level) / 2.0)
    }

    /// A state that has seen nothing.
    pub fn group(&self) -> Group {
        Group::new(self)
    }
}
