//! How both layers serve a forecast, and what they learn when it matures.

use super::online::blend;
use super::{Group, Interval, Method, Score, Settings};

/// What is known of a series, of its sector and of all series; each may be missing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Groups<'a> {
    /// The series itself.
    pub series: Option<&'a Group>,
    /// Its sector.
    pub sector: Option<&'a Group>,
    /// All series.
    pub global: Option<&'a Group>,
}

/// Whose experience an interval rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The series' own.
    Series,
    /// Its sector's.
    Sector,
    /// That of all series.
    Global,
    /// Nobody's yet: the forecast is the model's own.
    BurnIn,
}

/// A forecast as calibration leaves it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Served {
    /// Point and ends; lower ≤ point ≤ upper.
    pub interval: Interval,
    /// Where the ends come from.
    pub source: Source,
    /// Whether a tracker asked for more than the greatest radius.
    pub unbounded: bool,
}

/// The first layer applied to a forecast.
struct Corrected {
    interval: Interval,
    /// Standard deviation by the model's own band, resized without clamp: comparable between series.
    relative: f64,
}

/// The unit of a tracker's scores and its scorecast.
struct Measure {
    unit: f64,
    scorecast: f64,
    /// Greatest radius, in units of the score.
    cap: f64,
}

impl Settings {
    /// What the states make of a forecast.
    pub fn serve(&self, groups: Groups<'_>, forecast: &Interval) -> Served {
        let (source, group) = self.choose(groups);
        let corrected = self.correct(groups, forecast);
        match group {
            None => Served { interval: *forecast, source, unbounded: false },
            Some(group) => {
                let (lower, upper, unbounded) = self.radii(group, source, &corrected);
                let point = corrected.interval.point;
                let interval =
                    Interval { point, lower: point - lower.max(0.0), upper: point + upper.max(0.0) };
                Served { interval, source, unbounded }
            }
        }
    }

    /// Learns a forecast that has matured; gives what was in force just before.
    ///
    /// A sector and all series hold what every series brings them; `None` for those that are not kept.
    pub fn learn(
        &self,
        series: &mut Group,
        sector: Option<&mut Group>,
        global: Option<&mut Group>,
        step: u32,
        forecast: &Interval,
        actual: f64,
    ) -> Served {
        let groups = Groups { series: Some(series), sector: sector.as_deref(), global: global.as_deref() };
        let served = self.serve(groups, forecast);
        let corrected = self.correct(groups, forecast);
        let outside = |interval: &Interval| actual < interval.lower || actual > interval.upper;
        let miss = (served.source != Source::BurnIn).then(|| outside(&served.interval));
        let newcomer = series.seen == 0;
        for (group, own) in [(Some(&mut *series), true), (sector, false), (global, false)] {
            let Some(group) = group else { continue };
            if newcomer {
                group.members += 1;
            }
            if own && newcomer {
                group.spread = self.prior(forecast);
            }
            let measure = self.measure(group, own, &corrected);
            self.follow(group, &measure, &corrected.interval, actual);
            if own {
                self.spread(group, actual - corrected.interval.point, step);
            }
            let members = group.members;
            group.online.update(self, forecast, actual, step, members);
            group.seen += 1;
            let width = served.interval.upper - served.interval.lower;
            group.record.note(group.seen, outside(forecast), miss, width);
            group.record.unbounded = served.unbounded;
        }
        served
    }

    /// Whose trackers serve: the series' once it has a history, else the sector's, else those of all series.
    fn choose<'a>(&self, groups: Groups<'a>) -> (Source, Option<&'a Group>) {
        let ripe = |group: Option<&'a Group>, least: u64| group.filter(|group| group.seen >= least);
        // Where nothing is pooled there is nobody to borrow from.
        let alone = groups.global.is_none() && groups.sector.is_none();
        let least = if alone { self.burn_in } else { self.min_history.max(self.burn_in) };
        let candidates = [
            (Source::Series, ripe(groups.series, least.max(1))),
            (Source::Sector, ripe(groups.sector, self.burn_in.max(1))),
            (Source::Global, ripe(groups.global, self.burn_in.max(1))),
        ];
        let found = candidates.into_iter().find(|(_, group)| group.is_some());
        found.unwrap_or((Source::BurnIn, None))
    }

    fn correct(&self, groups: Groups<'_>, forecast: &Interval) -> Corrected {
        let [series, sector, global] =
            [groups.series, groups.sector, groups.global].map(|group| group.map(|group| &group.online));
        let (bias, scale) = blend(self, series, sector, global);
        let Interval { point, lower, upper } = *forecast;
        let half = (upper - lower) / 2.0;
        let relative = if half > 0.0 { scale * half / self.deviate() } else { 1.0 };
        if !self.online {
            return Corrected { interval: *forecast, relative };
        }
        let (least, most) = self.scale;
        let (moved, factor) = (point + bias.clamp(-self.max_bias, self.max_bias), scale.clamp(least, most));
        // A skewed band keeps its skew; for an even one this is its half-width about the point.
        let interval = Interval {
            point: moved,
            lower: moved - factor * (point - lower).max(0.0),
            upper: moved + factor * (upper - point).max(0.0),
        };
        Corrected { interval, relative }
    }

    /// Distances of the ends from the corrected point, and whether a tracker asked for more than it may have.
    fn radii(&self, group: &Group, source: Source, corrected: &Corrected) -> (f64, f64, bool) {
        let Interval { point, lower, upper } = corrected.interval;
        let own = source == Source::Series;
        let measure = self.measure(group, own, corrected);
        let offset = |end: f64| if self.score == Score::Cqr { (end - point).abs() } else { 0.0 };
        let mut unbounded = false;
        let mut radius = |tail: Option<&super::Tail>, end: f64| match tail {
            None => (end - point).abs(),
            Some(tail) => {
                let asked = tail.radius(self, measure.scorecast);
                unbounded |= asked > measure.cap;
                offset(end) + asked.clamp(-measure.cap, measure.cap) * measure.unit
            }
        };
        let last = group.tails.last();
        let (below, above) = (radius(group.tails.first(), lower), radius(last, upper));
        (below, above, unbounded)
    }

    /// The unit that a group's scores are measured in, for a forecast.
    fn measure(&self, group: &Group, own: bool, corrected: &Corrected) -> Measure {
        let deviation = group.spread.sqrt();
        let deviate = if self.score == Score::Cqr { 0.0 } else { self.deviate() };
        if !own {
            return Measure { unit: corrected.relative, scorecast: deviate, cap: self.max_radius };
        }
        if deviation.is_nan() || deviation <= 0.0 {
            return Measure { unit: 1.0, scorecast: 0.0, cap: self.max_radius };
        }
        match self.score {
            Score::Scaled => Measure { unit: deviation, scorecast: deviate, cap: self.max_radius },
            Score::Residual | Score::Cqr => {
                Measure { unit: 1.0, scorecast: deviate * deviation, cap: self.max_radius * deviation }
            }
        }
    }

    /// Lets the trackers of a group learn an outcome.
    fn follow(&self, group: &mut Group, measure: &Measure, corrected: &Interval, actual: f64) {
        if self.method == Method::Online {
            return;
        }
        let (from_lower, from_upper) = match self.score {
            Score::Cqr => (corrected.lower, corrected.upper),
            Score::Scaled | Score::Residual => (corrected.point, corrected.point),
        };
        let below = ((from_lower - actual) / measure.unit).clamp(-measure.cap, measure.cap);
        let above = ((actual - from_upper) / measure.unit).clamp(-measure.cap, measure.cap);
        match group.tails.as_mut_slice() {
            [lower, upper] => {
                lower.update(self, below, measure.scorecast);
                upper.update(self, above, measure.scorecast);
            }
            [both] => both.update(self, below.max(above), measure.scorecast),
            _ => {}
        }
    }

    /// Variance that the model's own band speaks of.
    fn prior(&self, forecast: &Interval) -> f64 {
        ((forecast.upper - forecast.lower) / 2.0 / self.deviate()).powi(2)
    }

    /// Lets the standard deviation learn an error. No outlier is left out, but none counts beyond the greatest radius.
    fn spread(&self, group: &mut Group, error: f64, step: u32) {
        let most = self.max_radius * group.spread.sqrt();
        let size = if group.spread > 0.0 { error.abs().min(most) } else { error.abs() };
        if !size.is_finite() {
            return;
        }
        // The model's own band counts as one outcome at first.
        let settled = self.spread_lambda / f64::from(step.max(1));
        let weight = settled.max(1.0 / (group.seen as f64 + 2.0));
        group.spread += weight * (size * size - group.spread);
    }
}
