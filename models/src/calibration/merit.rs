//! Whether the layers of a calibration earn their width: the running interval scores of the model's own interval, of the
//! first layer's and of both layers'.
//!
//! The interval score (Gneiting and Raftery, "Strictly proper scoring rules, prediction, and estimation", JASA 102 (2007),
//! § 6.2) is least in expectation for the right quantiles: an interval that is wider than it need be loses by its width, and one
//! that is too narrow by its misses. A layer that does not lower it has made the interval wider, or noisier, for nothing.

use super::{Interval, Method, Settings, Unit};
use crate::metrics::interval_score;
use serde::{Deserialize, Serialize};

/// Different times over which a score is remembered: a year of trading days.
const MEMORY: u32 = 250;

/// Different times, and outcomes, before the scores decide anything.
const TRIAL: (u32, f64) = (20, 200.0);

/// How much less another interval must score, relative to the one in force, to take its place.
const MARGIN: f64 = 0.005;

/// By how much an interval may cover less than the level to take the place of one with more layers, and to keep it.
const SHORTFALL: (f64, f64) = (0.0, 0.02);

/// How much of a calibration is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum Layers {
    /// Nothing: the forecast is the model's own.
    Model,
    /// The first layer.
    First,
    /// All that the method has.
    #[default]
    All,
}

impl Layers {
    /// From the fewest to the most.
    pub const ALL: [Self; 3] = [Self::Model, Self::First, Self::All];

    /// The name it is called by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::First => "first",
            Self::All => "all",
        }
    }
}

/// What decides how much is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// All layers, since there is too little to compare, or since nobody asks whether they pay.
    Trial,
    /// The least interval score, but for the margin.
    Score,
    /// What has fewer layers scores less, and covers too little.
    Coverage,
}

impl Reason {
    /// The name it is called by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trial => "trial",
            Self::Score => "score",
            Self::Coverage => "coverage",
        }
    }
}

/// Sums over outcomes, of each of the three intervals: its score, and how often it held the outcome.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Sums {
    outcomes: f64,
    scores: [f64; 3],
    inside: [f64; 3],
}

impl Sums {
    /// Adds sums, after these have been forgotten but for the share `kept`.
    fn add(&mut self, kept: f64, more: &Self) {
        let add = |sum: &mut f64, more: f64| *sum = kept * *sum + more;
        add(&mut self.outcomes, more.outcomes);
        for place in 0..3 {
            add(&mut self.scores[place], more.scores[place]);
            add(&mut self.inside[place], more.inside[place]);
        }
    }
}

/// How the three intervals have fared, and which is served.
///
/// A time counts by its outcomes, so that a day with one series is no match for one with a hundred. Outcomes of one time take
/// part in a decision from the next time on, since those of one day share its shocks and come in no order.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Merit {
    layers: Layers,
    times: u32,
    past: Sums,
    present: Sums,
}

impl Merit {
    /// How much is served.
    pub fn layers(&self) -> Layers {
        self.layers
    }

    /// Why.
    pub fn reason(&self, settings: &Settings) -> Reason {
        let less = |&layers: &Layers| layers < self.layers && self.scores_less(layers, self.layers);
        if !settings.earn || self.is_in_trial() {
            Reason::Trial
        } else if Layers::ALL.iter().any(less) {
            Reason::Coverage
        } else {
            Reason::Score
        }
    }

    /// The interval score with so many layers, relative to that of the model's own intervals; `None` before there is one.
    pub fn relative(&self, layers: Layers) -> Option<f64> {
        let own = self.past.scores[0];
        (own > 0.0).then(|| self.past.scores[layers as usize] / own)
    }

    /// Judges the model's own interval, the first layer's and both layers' by an outcome.
    ///
    /// Returns are compared as they are; of other units the series may have different ones, and each counts in its `deviation`.
    pub(super) fn judge(
        &mut self,
        settings: &Settings,
        intervals: &[Interval; 3],
        actual: f64,
        deviation: f64,
    ) {
        let unit = if settings.unit == Unit::Log { 1.0 } else { deviation };
        let mut told = Sums { outcomes: 1.0, ..Sums::default() };
        for (place, interval) in intervals.iter().enumerate() {
            let Interval { lower, upper, .. } = *interval;
            told.scores[place] = interval_score(actual, lower, upper, settings.level) / unit;
            told.inside[place] = f64::from(u8::from(lower <= actual && actual <= upper));
        }
        // A price of nothing is infinitely far from every interval, and says nothing of them.
        if told.scores.iter().all(|score| score.is_finite()) {
            self.present.add(1.0, &told);
        }
    }

    /// Takes up the outcomes of the time that has passed, and decides.
    pub(super) fn close(&mut self, settings: &Settings) {
        let present = std::mem::take(&mut self.present);
        if present.outcomes == 0.0 {
            return;
        }
        self.times = self.times.saturating_add(1);
        // Nothing is forgotten until the memory is full.
        let kept = if self.times <= MEMORY { 1.0 } else { 1.0 - 1.0 / f64::from(MEMORY) };
        self.past.add(kept, &present);
        if settings.earn && !self.is_in_trial() {
            self.decide(settings);
        }
    }

    fn is_in_trial(&self) -> bool {
        self.times < TRIAL.0 || self.past.outcomes < TRIAL.1
    }

    /// The layers in force stay unless others score less by the margin, or they have come to cover too little.
    fn decide(&mut self, settings: &Settings) {
        let top = if settings.method == Method::Online { Layers::First } else { Layers::All };
        let may_serve = |layers: Layers| layers >= top || self.covers(layers, settings.level);
        let score = |layers: &Layers| self.past.scores[*layers as usize];
        let candidates = Layers::ALL.into_iter().filter(|&layers| may_serve(layers));
        let Some(best) = candidates.min_by(|a, b| score(a).total_cmp(&score(b))) else { return };
        if self.scores_less(best, self.layers) || !may_serve(self.layers) {
            self.layers = best;
        }
    }

    fn scores_less(&self, layers: Layers, than: Layers) -> bool {
        self.past.scores[layers as usize] < (1.0 - MARGIN) * self.past.scores[than as usize]
    }

    fn covers(&self, layers: Layers, level: f64) -> bool {
        let allowed = if layers == self.layers { SHORTFALL.1 } else { SHORTFALL.0 };
        self.past.inside[layers as usize] >= (level - allowed) * self.past.outcomes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::new(0.9, Method::Pid, Unit::Log).unwrap()
    }

    fn half(width: f64) -> Interval {
        Interval { point: 0.0, lower: -width, upper: width }
    }

    /// Intervals of these half-widths, judged by ten outcomes at each of `times`: of each ten `missed` are 0.1 beyond the widest, the
    /// others in the middle.
    fn judge(merit: &mut Merit, settings: &Settings, widths: [f64; 3], times: usize, missed: usize) {
        let widest = widths.into_iter().fold(0.0, f64::max);
        for _ in 0..times {
            for outcome in 0..10 {
                let actual = if outcome < missed { widest + 0.1 } else { 0.0 };
                merit.judge(settings, &widths.map(half), actual, 1.0);
            }
            merit.close(settings);
        }
    }

    /// One of ten misses by 0.1, which costs 2 / 0.1 each: 2 w + 0.1 · 20 · (0.1 + widest − w).
    #[test]
    fn scores_are_means_of_interval_scores() {
        let mut merit = Merit::default();
        judge(&mut merit, &settings(), [1.0, 1.2, 1.1], 5, 1);
        let score = |width: f64| 2.0 * width + 2.0 * (0.1 + 1.2 - width);
        let close = |got: f64, expected: f64| assert!((got - expected).abs() < 1e-12, "{got} {expected}");
        close(merit.relative(Layers::First).unwrap(), score(1.2) / score(1.0));
        close(merit.past.scores[2], 50.0 * score(1.1));
        assert_eq!((merit.past.outcomes, merit.past.inside), (50.0, [45.0; 3]));
    }

    /// All cover; the model's own is the narrowest by one per cent, then by a thousandth.
    #[test]
    fn a_layer_that_makes_an_interval_wider_for_nothing_is_left_out_after_a_trial() {
        let settings = settings();
        let fate = |settings: &Settings, wide: f64, times: usize| {
            let mut merit = Merit::default();
            judge(&mut merit, settings, [1.0, wide, wide * wide], times, 0);
            (merit.layers(), merit.reason(settings))
        };
        assert_eq!(fate(&settings, 1.01, 19), (Layers::All, Reason::Trial));
        assert_eq!(fate(&settings, 1.01, 20), (Layers::Model, Reason::Score));
        assert_eq!(fate(&settings, 1.001, 100), (Layers::All, Reason::Score), "less than the margin");
        assert_eq!(fate(&settings, 0.99, 100), (Layers::All, Reason::Score));
        let kept = Settings { earn: false, ..settings };
        assert_eq!(fate(&kept, 1.01, 100), (Layers::All, Reason::Trial), "nobody asked");
    }

    /// Two of ten lie beyond the model's own interval by so little that its score is the least.
    #[test]
    fn an_interval_that_covers_too_little_is_not_served_whatever_it_scores() {
        let settings = settings();
        let mut merit = Merit::default();
        for _ in 0..40 {
            for outcome in 0..10 {
                let actual = if outcome < 2 { 1.001 } else { 0.0 };
                merit.judge(&settings, &[1.0, 1.2, 1.3].map(half), actual, 1.0);
            }
            merit.close(&settings);
        }
        assert_eq!((merit.layers(), merit.reason(&settings)), (Layers::First, Reason::Coverage));
        assert!(merit.relative(Layers::First).unwrap() > 1.1);
    }

    /// Between the shortfall that lets an interval in and the one that puts it out nothing changes, and equal scores change nothing.
    #[test]
    fn what_is_served_does_not_flap() {
        let settings = settings();
        let mut merit = Merit::default();
        // Ten outcomes a time, of which `missed` lie a little beyond the model's own interval; the share that it holds in all.
        let mut after = |times: usize, missed: usize| {
            for _ in 0..times {
                for outcome in 0..10 {
                    let actual = if outcome < missed { 1.05 } else { 0.0 };
                    merit.judge(&settings, &[1.0, 1.1, 1.2].map(half), actual, 1.0);
                }
                merit.close(&settings);
            }
            (merit.past.inside[0] / merit.past.outcomes, merit.layers())
        };
        assert_eq!(after(30, 1), (270.0 / 300.0, Layers::Model));
        assert_eq!(after(2, 4), (282.0 / 320.0, Layers::Model), "88.1 % are enough to stay");
        assert_eq!(after(1, 4), (288.0 / 330.0, Layers::First), "87.3 % are not");
        assert_eq!(after(8, 0), (368.0 / 410.0, Layers::First), "89.8 % are not enough to come back");
        assert_eq!(after(2, 0), (388.0 / 430.0, Layers::Model), "90.2 % are");
    }

    #[test]
    fn a_series_counts_in_its_own_deviation_unless_all_are_returns() {
        let ratio = |unit: Unit| {
            let settings = Settings::new(0.9, Method::Pid, unit).unwrap();
            let mut merit = Merit::default();
            // Patients and euros: the layer halves the width of one series and doubles that of the other.
            for (deviation, factor) in [(1.0, 0.5), (1000.0, 2.0)] {
                let intervals = [half(deviation), half(factor * deviation), half(deviation)];
                merit.judge(&settings, &intervals, 0.0, deviation);
            }
            merit.judge(&settings, &[half(1.0); 3], f64::NEG_INFINITY, 1.0);
            merit.close(&settings);
            merit.relative(Layers::First).unwrap()
        };
        assert_eq!(ratio(Unit::Linear), (1.0 + 4.0) / (2.0 + 2.0));
        assert_eq!(ratio(Unit::Log), (1.0 + 4000.0) / (2.0 + 2000.0));
    }
}
