//! How both layers serve a forecast, and what they learn when it matures.

use super::online::blend;
use super::past::Said;
use super::{Group, Interval, Layers, Merit, Method, Online, Score, Settings, Tail};

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

impl<'a> Groups<'a> {
    fn all(self) -> [Option<&'a Group>; 3] {
        [self.series, self.sector, self.global]
    }

    fn now(self) -> States<'a> {
        self.all().map(|group| group.map(State::Now))
    }

    /// What they said of forecasts made at `cutoff`; `None` where one of them has forgotten it.
    fn at(self, cutoff: i64) -> Option<States<'a>> {
        let mut states = self.now();
        for (state, group) in states.iter_mut().zip(self.all()) {
            if let Some(group) = group {
                *state = Some(State::at(group, cutoff)?);
            }
        }
        Some(states)
    }
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
    /// How much of the calibration is in it; all during burn-in, when nothing is.
    pub layers: Layers,
    /// Whether a tracker asked for more than the greatest radius.
    pub unbounded: bool,
}

/// What came of a forecast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// The value that came, in the units of calibration.
    pub actual: f64,
    /// Up to when the forecast knew anything, on any scale of time.
    pub cutoff: i64,
    /// When the outcome became known, on the same scale.
    pub known: i64,
}

/// A state of today or of an earlier time.
#[derive(Debug, Clone, Copy)]
enum State<'a> {
    Now(&'a Group),
    Then(&'a Said),
}

impl<'a> State<'a> {
    /// What a group said of forecasts made at `cutoff`; `None` where that is forgotten.
    fn at(group: &'a Group, cutoff: i64) -> Option<Self> {
        if group.past.newest() <= cutoff {
            return Some(Self::Now(group));
        }
        group.past.at(cutoff).map(Self::Then)
    }

    fn seen(self) -> u64 {
        match self {
            Self::Now(group) => group.seen,
            Self::Then(said) => said.seen,
        }
    }

    fn online(self) -> &'a Online {
        match self {
            Self::Now(group) => &group.online,
            Self::Then(said) => &said.online,
        }
    }

    fn spread(self) -> f64 {
        match self {
            Self::Now(group) => group.spread,
            Self::Then(said) => said.spread,
        }
    }

    fn layers(self) -> Layers {
        match self {
            Self::Now(group) => group.merit.layers(),
            Self::Then(said) => said.layers,
        }
    }

    fn asked(self, settings: &Settings, scorecast: f64) -> Option<[f64; 2]> {
        match self {
            Self::Now(group) => group.asked(settings, scorecast),
            Self::Then(said) => said.asked,
        }
    }
}

impl Group {
    /// What the trackers of the lower and the upper tail ask for, in the unit of their scores.
    fn asked(&self, settings: &Settings, scorecast: f64) -> Option<[f64; 2]> {
        let asked = |tail: &Tail| tail.radius(settings, scorecast);
        match self.tails.as_slice() {
            [] => None,
            [both] => Some([asked(both); 2]),
            [lower, .., upper] => Some([asked(lower), asked(upper)]),
        }
    }
}

/// States of the series, of its sector and of all series.
type States<'a> = [Option<State<'a>>; 3];

/// What may be served of a forecast beside itself.
struct Candidates {
    source: Source,
    layers: Layers,
    corrected: Corrected,
    /// With all layers, and whether a tracker asked for more than the greatest radius; `None` during burn-in.
    all: Option<(Interval, bool)>,
}

impl Candidates {
    fn served(&self, forecast: &Interval) -> Served {
        let &Self { source, layers, ref corrected, all } = self;
        let served = |interval, unbounded| Served { interval, source, layers, unbounded };
        match (all, layers) {
            (None, _) | (_, Layers::Model) => served(*forecast, false),
            (Some(_), Layers::First) => served(corrected.interval, false),
            (Some((interval, unbounded)), Layers::All) => served(interval, unbounded),
        }
    }
}

/// The first layer applied to a forecast.
struct Corrected {
    interval: Interval,
    /// Standard deviation by the model's own band, resized without clamp: comparable between series. 0 for a band without width.
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
        self.candidates(groups.now(), forecast).served(forecast)
    }

    /// What the intervals of all who are followed together have earned; the widest circle there is decides for its members.
    pub fn merit<'a>(&self, groups: Groups<'a>) -> Option<&'a Merit> {
        groups.global.or(groups.sector).or(groups.series).map(|group| &group.merit)
    }

    /// Everything that may be served.
    fn candidates(&self, states: States<'_>, forecast: &Interval) -> Candidates {
        let (source, state) = self.choose(states);
        let corrected = self.correct(states, forecast);
        let all = state.map(|state| {
            let (lower, upper, unbounded) = self.radii(state, source, &corrected);
            let point = corrected.interval.point;
            (Interval { point, lower: point - lower.max(0.0), upper: point + upper.max(0.0) }, unbounded)
        });
        let layers = states.into_iter().flatten().next_back().map_or(Layers::All, State::layers);
        Candidates { source, layers, corrected, all }
    }

    /// Learns a forecast that has matured; gives what the states of its cutoff would have served, `None` where they have
    /// forgotten that.
    ///
    /// What is learnt is the error of that interval, in the deviation of then: in today's, which has seen most of what happened
    /// meanwhile, the errors of forecasts that reach far would be too small.
    ///
    /// A sector and all series hold what every series brings them; `None` for those that are not kept. A group from before whose
    /// memory the outcome comes ([`Group::is_late`]) does not learn it.
    pub fn learn(
        &self,
        series: &mut Group,
        sector: Option<&mut Group>,
        global: Option<&mut Group>,
        step: u32,
        forecast: &Interval,
        outcome: Outcome,
    ) -> Option<Served> {
        let Outcome { actual, cutoff, known } = outcome;
        let groups = Groups { series: Some(series), sector: sector.as_deref(), global: global.as_deref() };
        let then = groups.at(cutoff);
        let states = then.unwrap_or_else(|| groups.now());
        let candidates = self.candidates(states, forecast);
        let served = then.map(|_| candidates.served(forecast));
        let corrected = candidates.corrected;
        let three =
            candidates.all.filter(|_| then.is_some()).map(|(all, _)| [*forecast, corrected.interval, all]);
        // Before its first outcome a series is as volatile as the model says.
        let prior = self.prior(forecast);
        let spreads = states.map(|state| state.filter(|state| state.seen() > 0).map_or(prior, State::spread));
        let outside = |interval: &Interval| actual < interval.lower || actual > interval.upper;
        let miss =
            served.filter(|served| served.source != Source::BurnIn).map(|served| outside(&served.interval));
        let shown = served.map_or(*forecast, |served| served.interval);
        let newcomer = series.seen == 0;
        let deviation = if newcomer { prior } else { series.spread }.sqrt();
        for (place, group) in [Some(&mut *series), sector, global].into_iter().enumerate() {
            let (Some(group), own) = (group, place == 0) else { continue };
            if newcomer {
                group.members += 1;
            }
            if group.is_late(known) {
                continue;
            }
            if group.past.is_new(known) {
                let said = self.said(group, own);
                group.past.note(known, self.memory(step), said, step);
                group.merit.close(self);
            }
            if own && newcomer {
                group.spread = prior;
            }
            if let Some(three) = &three {
                group.merit.judge(self, three, actual, deviation);
            }
            if let Some(measure) = self.measure(spreads[place], own, &corrected) {
                self.follow(group, &measure, &corrected.interval, actual);
            }
            if own {
                self.spread(group, actual - corrected.interval.point, step);
            }
            let members = group.members;
            group.online.update(self, forecast, actual, step, members);
            group.seen += 1;
            group.record.note(group.seen, outside(forecast), miss, shown.upper - shown.lower);
            group.record.unbounded = served.is_some_and(|served| served.unbounded);
        }
        served
    }

    /// What a group says of forecasts that are made now.
    fn said(&self, group: &Group, own: bool) -> Said {
        // Nothing that a tracker is asked with depends on the forecast.
        let none = Interval { point: 0.0, lower: 0.0, upper: 0.0 };
        let measure = self.measure(group.spread, own, &Corrected { interval: none, relative: 1.0 });
        Said {
            from: group.past.newest(),
            seen: group.seen,
            online: group.online.clone(),
            spread: group.spread,
            asked: measure.and_then(|measure| group.asked(self, measure.scorecast)),
            layers: group.merit.layers(),
        }
    }

    /// Whose trackers serve: the series' once it has a history, else the sector's, else those of all series.
    fn choose<'a>(&self, [series, sector, global]: States<'a>) -> (Source, Option<State<'a>>) {
        let ripe = |state: Option<State<'a>>, least: u64| state.filter(|state| state.seen() >= least);
        // Where nothing is pooled there is nobody to borrow from.
        let alone = global.is_none() && sector.is_none();
        let least = if alone { self.burn_in } else { self.min_history.max(self.burn_in) };
        let candidates = [
            (Source::Series, ripe(series, least.max(1))),
            (Source::Sector, ripe(sector, self.burn_in.max(1))),
            (Source::Global, ripe(global, self.burn_in.max(1))),
        ];
        let found = candidates.into_iter().find(|(_, state)| state.is_some());
        found.unwrap_or((Source::BurnIn, None))
    }

    fn correct(&self, states: States<'_>, forecast: &Interval) -> Corrected {
        let [series, sector, global] = states.map(|state| state.map(State::online));
        let (bias, scale) = blend(self, series, sector, global);
        let Interval { point, lower, upper } = *forecast;
        let half = (upper - lower) / 2.0;
        let relative = scale * half / self.deviate();
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
    fn radii(&self, state: State<'_>, source: Source, corrected: &Corrected) -> (f64, f64, bool) {
        let Interval { point, lower, upper } = corrected.interval;
        let measure = self.measure(state.spread(), source == Source::Series, corrected);
        let found = measure.and_then(|measure| Some((state.asked(self, measure.scorecast)?, measure)));
        let Some((asked, measure)) = found else {
            return ((lower - point).abs(), (upper - point).abs(), false);
        };
        let offset = |end: f64| if self.score == Score::Cqr { (end - point).abs() } else { 0.0 };
        let radius =
            |asked: f64, end: f64| offset(end) + asked.clamp(-measure.cap, measure.cap) * measure.unit;
        let unbounded = asked.iter().any(|&asked| asked > measure.cap);
        (radius(asked[0], lower), radius(asked[1], upper), unbounded)
    }

    /// The unit that scores are measured in by a state with such a variance, for a forecast; `None` while nothing says how large an
    /// error is: a series that was forecast without width and never missed, or such a forecast among those of others.
    fn measure(&self, spread: f64, own: bool, corrected: &Corrected) -> Option<Measure> {
        let deviation = if own { spread.sqrt() } else { corrected.relative };
        let deviate = if self.score == Score::Cqr { 0.0 } else { self.deviate() };
        (deviation > 0.0).then_some(match self.score {
            Score::Residual | Score::Cqr if own => {
                Measure { unit: 1.0, scorecast: deviate * deviation, cap: self.max_radius * deviation }
            }
            _ => Measure { unit: deviation, scorecast: deviate, cap: self.max_radius },
        })
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

#[cfg(test)]
mod tests {
    use super::super::{Extremes, Unit};
    use super::*;

    fn settings(method: Method) -> Settings {
        Settings::new(0.9, method, Unit::Log).unwrap()
    }

    /// A band whose standard deviation is 0.01 at a level of 90 %.
    const BAND: Interval = Interval { point: 0.0, lower: -0.016448536269514722, upper: 0.016448536269514722 };

    /// The first outcome of a time.
    fn outcome(actual: f64) -> Outcome {
        Outcome { actual, cutoff: i64::MAX, known: i64::MAX }
    }

    /// A group with `seen` outcomes, whose errors have a standard deviation of 0.01.
    fn group(settings: &Settings, seen: u64) -> Group {
        Group { seen, spread: 1e-4, ..settings.group() }
    }

    fn close(got: f64, expected: f64) {
        assert!((got - expected).abs() < 1e-12 * expected.abs().max(1.0), "{got} {expected}");
    }

    /// A burn-in of 50 outcomes, and 60 before a series stops borrowing.
    #[test]
    fn nobody_is_listened_to_before_a_burn_in_of_their_own() {
        let settings = settings(Method::Pid);
        let source = |series: Option<u64>, sector: Option<u64>, global: Option<u64>| {
            let [series, sector, global] =
                [series, sector, global].map(|seen| seen.map(|seen| group(&settings, seen)));
            let groups = Groups { series: series.as_ref(), sector: sector.as_ref(), global: global.as_ref() };
            settings.serve(groups, &BAND).source
        };
        assert_eq!([49, 50].map(|seen| source(None, Some(seen), Some(90))), [Source::Global, Source::Sector]);
        assert_eq!([49, 50].map(|seen| source(None, Some(0), Some(seen))), [Source::BurnIn, Source::Global]);
        assert_eq!([59, 60].map(|seen| source(Some(seen), None, Some(90))), [Source::Global, Source::Series]);
        // A series that has nobody to borrow from is used after the burn-in.
        assert_eq!([49, 50].map(|seen| source(Some(seen), None, None)), [Source::BurnIn, Source::Series]);
    }

    /// Both tails ask for 50 standard deviations where 10 are the most, and then for 2.
    #[test]
    fn no_end_is_farther_than_the_greatest_radius_whatever_is_scored() {
        for (score, offset, two) in
            [(Score::Scaled, 0.0, 2.0), (Score::Residual, 0.0, 0.02), (Score::Cqr, BAND.upper, 0.02)]
        {
            let settings = Settings { score, ..settings(Method::Quantile) };
            let served = |asked: f64| {
                let mut series = group(&settings, 100);
                // What a tracker adds to its scorecast, the distance that a normal distribution would have.
                let scorecast = match score {
                    Score::Scaled => settings.deviate(),
                    Score::Residual => settings.deviate() * 0.01,
                    Score::Cqr => 0.0,
                };
                let q = asked - scorecast;
                let tail = Tail::Tracker { q, excess: 0.0, seen: 100, extremes: Extremes::default() };
                series.tails = vec![tail; 2];
                settings.serve(Groups { series: Some(&series), ..Groups::default() }, &BAND)
            };
            let far = served(25.0 * two);
            close(far.interval.upper, offset + 0.1);
            close(far.interval.lower, -offset - 0.1);
            assert!(far.unbounded, "{score:?}");
            let near = served(two);
            close(near.interval.upper, offset + 0.02);
            close(near.interval.lower, -offset - 0.02);
            assert!(!near.unbounded, "{score:?}");
        }
    }

    /// Served is 2 standard deviations about a point that the first layer has moved by −0.002; the outcome is within them, and
    /// would not be about the model's own point.
    #[test]
    fn what_is_learnt_is_about_what_was_served() {
        let settings = settings(Method::Quantile);
        let mut series = group(&settings, 100);
        (series.online.evidence, series.online.bias) = (1e300, -0.002);
        let q = 2.0 - settings.deviate();
        let tail = Tail::Tracker { q, excess: 0.0, seen: 100, extremes: Extremes::default() };
        series.tails = vec![tail; 2];
        let served = settings.learn(&mut series, None, None, 1, &BAND, outcome(-0.021)).unwrap().interval;
        close(served.lower, -0.022);
        close(served.upper, 0.018);
        assert_eq!((series.record.judged, series.record.missed), (1, 0));
        for tail in &series.tails {
            // 5 % of a miss were due to each, and none came.
            let Tail::Tracker { excess, .. } = tail else { unreachable!("a tracker stays one") };
            close(*excess, -0.05);
        }
    }

    /// λ = 0.06 of a variance of 1e-4; beyond 10 standard deviations an error counts as 10.
    #[test]
    fn the_deviation_learns_from_outliers_and_from_none_more_than_from_the_greatest_radius() {
        let settings = settings(Method::Pid);
        let learnt = |seen: u64, actual: f64, step: u32| {
            let mut series = group(&settings, seen);
            settings.learn(&mut series, None, None, step, &BAND, outcome(actual));
            series.spread
        };
        close(learnt(1000, 0.03, 1), 1e-4 + 0.06 * (9e-4 - 1e-4));
        close(learnt(1000, -0.03, 3), 1e-4 + 0.02 * (9e-4 - 1e-4));
        for outlier in [0.1, 0.5, -1e300, f64::INFINITY] {
            close(learnt(1000, outlier, 1), 1e-4 + 0.06 * (1e-2 - 1e-4));
        }
        // The first outcome counts as much as the model's own band, whose variance is 1e-4 too.
        close(learnt(0, 0.02, 1), 1e-4 + 0.5 * (4e-4 - 1e-4));
    }

    #[test]
    fn a_sector_counts_each_series_once() {
        let settings = settings(Method::Pid);
        let [mut sector, mut global] = [settings.group(), settings.group()];
        let mut series = [settings.group(), settings.group(), settings.group()];
        for (of, times) in series.iter_mut().zip([3, 1, 2]) {
            for _ in 0..times {
                settings.learn(of, Some(&mut sector), Some(&mut global), 1, &BAND, outcome(0.01));
            }
        }
        assert_eq!((sector.members, global.members, sector.seen, global.seen), (3, 3, 6, 6));
        assert_eq!(series.map(|series| (series.members, series.seen)), [(1, 3), (1, 1), (1, 2)]);
        // λ = 0.02 over the series known by then: three times of the first, then one of two, then two of three.
        let kept = 0.98f64.powi(3) * 0.99 * (1.0 - 0.02 / 3.0f64).powi(2);
        close(sector.online.bias, 0.01 * (1.0 - kept));
    }

    /// A factor of 1.5 on a band that reaches three times as far up as down.
    #[test]
    fn a_resized_band_keeps_its_skew() {
        let settings = settings(Method::Online);
        let mut series = group(&settings, 100);
        // So much evidence that nothing is blended in.
        (series.online.evidence, series.online.bias) = (1e300, -0.001);
        series.online.scale_squared = 2.25;
        let skewed = Interval { point: 1.0, lower: 0.99, upper: 1.03 };
        let served = settings.serve(Groups { series: Some(&series), ..Groups::default() }, &skewed).interval;
        close(served.point, 0.999);
        close(served.lower, 0.999 - 0.015);
        close(served.upper, 0.999 + 0.045);
    }
}
