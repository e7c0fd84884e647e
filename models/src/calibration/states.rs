//! States of today and of earlier times, of a series, its sector and all series.

use super::past::Said;
use super::{Group, Layers, Online, Settings, Tail};

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

    pub(super) fn now(self) -> States<'a> {
        self.all().map(|group| group.map(State::Now))
    }

    /// What they said of forecasts made at `cutoff`; `None` where one of them has forgotten it.
    pub(super) fn at(self, cutoff: i64) -> Option<States<'a>> {
        let mut states = self.now();
        for (state, group) in states.iter_mut().zip(self.all()) {
            if let Some(group) = group {
                *state = Some(State::at(group, cutoff)?);
            }
        }
        Some(states)
    }
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
pub(super) enum State<'a> {
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

    pub(super) fn seen(self) -> u64 {
        match self {
            Self::Now(group) => group.seen,
            Self::Then(said) => said.seen,
        }
    }

    pub(super) fn online(self) -> &'a Online {
        match self {
            Self::Now(group) => &group.online,
            Self::Then(said) => &said.online,
        }
    }

    pub(super) fn spread(self) -> f64 {
        match self {
            Self::Now(group) => group.spread,
            Self::Then(said) => said.spread,
        }
    }

    pub(super) fn layers(self) -> Layers {
        match self {
            Self::Now(group) => group.merit.layers(),
            Self::Then(said) => said.layers,
        }
    }

    pub(super) fn asked(self, settings: &Settings, scorecast: f64) -> Option<[f64; 2]> {
        match self {
            Self::Now(group) => group.asked(settings, scorecast),
            Self::Then(said) => said.asked,
        }
    }
}

impl Group {
    /// What the trackers of the lower and the upper tail ask for, in the unit of their scores.
    pub(super) fn asked(&self, settings: &Settings, scorecast: f64) -> Option<[f64; 2]> {
        let asked = |tail: &Tail| tail.radius(settings, scorecast);
        match self.tails.as_slice() {
            [] => None,
            [both] => Some([asked(both); 2]),
            [lower, .., upper] => Some([asked(lower), asked(upper)]),
        }
    }
}

/// States of the series, of its sector and of all series.
pub(super) type States<'a> = [Option<State<'a>>; 3];
