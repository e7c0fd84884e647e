//! How both layers serve a forecast, and what they learn when it matures.

use super::online::blend;
use super::past::Said;
use super::states::{State, States};
use super::{Group, Groups, Interval, Layers, Merit, Method, Outcome, Score, Settings};

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
mod tests;
