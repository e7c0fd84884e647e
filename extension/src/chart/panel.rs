//! One series with what was said of it, read and put into the order of time.

use super::fan::Fan;
use super::source::{Said, Source};
use crate::calendar::Instant;
use crate::error::{Error, Result};
use crate::relation::{Columns, Newest, Relation};
use chrono_tz::Tz;
use kronos_plot::{self as plot, Range, Slot, drawable};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::{AnyArray, direct_function_call, pg_sys};
use std::collections::BTreeMap;

/// Rows of the relation read per step of the forecast, for relations finer than the forecast.
const OUTCOMES_PER_STEP: usize = 16;

/// Where the bars and forecasts of every series come from.
pub(super) struct Reader<'a> {
    pub relation: &'a Relation,
    pub columns: &'a Columns,
    pub zone: Tz,
    pub rows: Option<AnyArray>,
    pub target: &'a str,
    /// Bars before the cutoff.
    pub keep: usize,
    pub as_of: Option<TimestampWithTimeZone>,
    /// Which forecasts: one of any model, or one of each that is named.
    pub models: &'a [Option<&'a str>],
}

/// What a call says of its rows where they do not.
pub(super) struct Levels {
    pub level: Option<f64>,
    pub quantiles: Vec<f64>,
}

/// One series as it was read.
pub(super) struct Read<'a> {
    pub series: Option<&'a str>,
    /// One entry for each of the models asked for.
    pub said: Vec<Said>,
    /// The newest cutoff.
    pub cutoff: Option<TimestampWithTimeZone>,
    past: Vec<(Instant, Vec<f64>)>,
    came: Vec<(Instant, Vec<f64>)>,
}

impl Reader<'_> {
    /// Reads the forecasts of a series, the bars before the newest of them, and those after it.
    pub fn read<'a>(&self, series: Option<&'a str>) -> Result<Read<'a>> {
        let Self { relation, target, as_of, .. } = *self;
        let said = self
            .models
            .iter()
            .map(|&model| Source { relation, series, target, as_of, model }.read(self.rows));
        let said = said.collect::<Result<Vec<_>>>()?;
        let newest = |of: &dyn Fn(&Said) -> Option<TimestampWithTimeZone>| {
            said.iter().filter_map(of).max_by_key(|&at| i64::from(at))
        };
        let cutoff = newest(&Said::cutoff);
        let last = newest(&|said: &Said| said.steps.last().map(|step| step.ts));
        let steps = said.iter().map(|said| said.steps.len()).max().unwrap_or(0);
        let newest =
            Newest { series, from: None, before: cutoff.or(as_of), keep: self.keep, zone: self.zone };
        let past = newest.read(relation, self.columns)?;
        let came = match (cutoff, last) {
            (Some(cutoff), Some(last)) => {
                let keep = steps.saturating_mul(OUTCOMES_PER_STEP);
                let came = Newest { from: Some(cutoff), before: None, keep, ..newest }.through(last);
                came.read(relation, self.columns)?
            }
            _ => Vec::new(),
        };
        Ok(Read { series, said, cutoff, past, came })
    }
}

impl Read<'_> {
    /// Bars before the newest cutoff.
    pub fn history(&self) -> usize {
        self.past.len()
    }

    /// Steps of the longest forecast.
    pub fn steps(&self) -> usize {
        self.said.iter().map(|said| said.steps.len()).max().unwrap_or(0)
    }

    /// Why there is no forecast, where a model could make none.
    pub fn status(&self) -> Option<&str> {
        self.said.iter().find_map(|said| said.head.as_ref()?.status.as_deref())
    }

    /// The series as a picture takes it, with its bands smoothed where that is wished for; says whether any were.
    pub fn panel(&self, levels: &Levels, is_smooth: bool) -> Result<(plot::Panel, bool)> {
        let mut bars: BTreeMap<Instant, Slot> = BTreeMap::new();
        for (start, values) in self.past.iter().chain(&self.came) {
            bars.insert(*start, slot(values));
        }
        for step in self.said.iter().flat_map(|said| &said.steps) {
            bars.entry(step.ts.into()).or_default();
        }
        let starts: Vec<Instant> = bars.keys().copied().collect();
        let known = |cutoff: Option<TimestampWithTimeZone>| match cutoff {
            Some(cutoff) => starts.partition_point(|&start| start < i64::from(cutoff)),
            None => starts.len(),
        };
        let mut panel = plot::Panel { known: known(self.cutoff), ..plot::Panel::default() };
        for (start, slot) in bars {
            panel.slots.push(Slot { wall: wall(start)?, ..slot });
        }
        let mut was_smoothed = false;
        let drawn: Vec<&Said> = self.said.iter().filter(|said| !said.steps.is_empty()).collect();
        let names = names(&drawn);
        for (said, name) in drawn.iter().zip(names) {
            let mut fan = Fan::new(said.head.as_ref(), &said.steps, levels.level, levels.quantiles.clone())?;
            if drawn.len() > 1 {
                fan = fan.narrowed();
            }
            let may_be_smoothed = is_smooth && fan.may_be_smoothed();
            let place = |at: Instant| starts.binary_search(&at).ok();
            let forecast = fan.drawn(name, known(said.cutoff()), &said.steps, place);
            panel.forecasts.push(if may_be_smoothed { forecast.smooth() } else { forecast });
            was_smoothed |= may_be_smoothed;
        }
        Ok((panel, was_smoothed))
    }
}

/// A bar, or what there is of it; its close comes first.
fn slot(values: &[f64]) -> Slot {
    let value = |place: usize| values.get(place).copied().and_then(drawable);
    let range = || Some(Range { open: value(1)?, high: value(2)?, low: value(3)? });
    Slot { wall: 0, actual: value(0), range: range() }
}

/// What the forecasts are called beside each other: the model's name, with its version only where two have one name.
fn names(said: &[&Said]) -> Vec<String> {
    let version = |said: &Said| said.head.as_ref().map_or(String::new(), |head| head.model_version.clone());
    let versions: Vec<String> = said.iter().map(|said| version(said)).collect();
    let name = |version: &str| version.split('@').next().unwrap_or(version).to_owned();
    let is_only = |of: &String| versions.iter().filter(|&other| name(other) == name(of)).count() == 1;
    versions.iter().map(|of| if is_only(of) { name(of) } else { of.clone() }).collect()
}

/// An instant on the session's wall clock, in microseconds since 2000-01-01 00:00.
#[allow(unsafe_code)]
pub(super) fn wall(at: Instant) -> Result<i64> {
    // SAFETY: the function takes one timestamptz and gives a timestamp, both 64 bits by value.
    unsafe { direct_function_call::<i64>(pg_sys::timestamptz_timestamp, &[Some(pg_sys::Datum::from(at))]) }
        .ok_or_else(|| Error::Internal { what: "an instant has no local time".into() })
}
