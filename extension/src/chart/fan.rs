//! The bands of a forecast: which there are, what they are called, and where they are.

use super::request::invalid;
use super::source::{Head, Step, bounds};
use crate::calendar::Instant;
use crate::call::quantile_levels as checked_levels;
use crate::error::Result;
use kronos_plot::{self as plot, Bounds, drawable};

/// The bands that all steps share, from the widest to the narrowest.
pub(super) struct Fan {
    bands: Vec<Band>,
    calibrated: Option<String>,
    /// Whether the bands are numbers that were given out as they are.
    is_exact: bool,
}

struct Band {
    name: String,
    /// Share of the distribution between the bounds.
    mass: f64,
    source: BandSource,
}

#[derive(Clone, Copy)]
enum BandSource {
    /// Places of two quantiles.
    Quantiles(usize, usize),
    /// The model's own interval.
    Interval,
}

impl Fan {
    pub fn new(head: Option<&Head>, steps: &[Step], level: Option<f64>, levels: Vec<f64>) -> Result<Self> {
        let calibration = head.map_or("", |head| head.calibration.as_str());
        let level = level.or_else(|| steps.iter().find_map(|step| step.level));
        let mut bands = quantile_bands(steps, levels)?;
        let own = |step: &Step| if calibration.is_empty() { step.interval } else { step.raw };
        if steps.iter().any(|step| own(step).is_some()) {
            // Rows that do not say their level may have it among their quantiles.
            let same = |band: &Band| match level {
                Some(level) => (band.mass - level).abs() < 1e-9,
                None => steps.iter().all(|step| own(step) == band.of(step, false)),
            };
            if !bands.iter().any(same) {
                let name = level.map_or_else(|| "interval".to_owned(), percent);
                bands.push(Band { name, mass: level.unwrap_or(1.0), source: BandSource::Interval });
            }
        }
        bands.sort_by(|a, b| b.mass.total_cmp(&a.mass));
        let calibrated = (!calibration.is_empty()).then(|| {
            let interval = level.map_or_else(|| "interval".to_owned(), percent);
            format!("{interval}, calibrated by {calibration}")
        });
        Ok(Self { bands, calibrated, is_exact: false })
    }

    /// One band for each forecast where several lie over each other: the interval that was given out, calibrated where
    /// there is a calibration, else the widest band.
    pub fn narrowed(mut self) -> Self {
        match self.calibrated.take() {
            Some(name) => {
                self.bands = vec![Band { name, mass: 1.0, source: BandSource::Interval }];
                self.is_exact = true;
            }
            None => self.bands.truncate(1),
        }
        self
    }

    /// Whether the bands are noisy estimates that a picture may smooth; what a calibration gave out is not.
    pub fn may_be_smoothed(&self) -> bool {
        !self.is_exact && !self.bands.is_empty()
    }

    /// The forecast as a picture takes it; `place` finds the slot of an instant.
    pub fn drawn(
        self,
        name: String,
        known: usize,
        steps: &[Step],
        place: impl Fn(Instant) -> Option<usize>,
    ) -> plot::Forecast {
        let steps = steps.iter().filter_map(|step| {
            let bands = self.bands.iter().map(|band| band.of(step, self.calibrated.is_some())).collect();
            let calibrated = self.calibrated.as_ref().and(step.interval);
            Some(plot::Step { slot: place(step.ts.into())?, point: step.point, bands, calibrated })
        });
        let steps = steps.collect();
        let bands = self.bands.into_iter().map(|band| band.name).collect();
        plot::Forecast { name, known, steps, bands, calibrated: self.calibrated }
    }
}

impl Band {
    fn of(&self, step: &Step, calibrated: bool) -> Option<Bounds> {
        match self.source {
            BandSource::Interval if calibrated => step.raw,
            BandSource::Interval => step.interval,
            BandSource::Quantiles(lower, upper) => {
                let quantiles = step.quantiles.as_ref()?;
                let at = |place: usize| quantiles.get(place).copied().flatten().and_then(drawable);
                bounds(at(lower), at(upper))
            }
        }
    }
}

/// Bands between the outermost quantiles, then those within them, and so on; the one in the middle bounds nothing.
fn quantile_bands(steps: &[Step], levels: Vec<f64>) -> Result<Vec<Band>> {
    let Some((step, quantiles)) = steps.iter().find_map(|step| Some((step, step.quantiles.as_ref()?))) else {
        return Ok(Vec::new());
    };
    let levels = match &step.levels {
        Some(own) if levels.is_empty() => checked_levels(Some(own.clone()))?.as_slice().to_vec(),
        _ => levels,
    };
    if levels.len() != quantiles.len() {
        return Err(invalid(
            "quantile_levels",
            format!("as many as the rows have quantiles, {}", quantiles.len()),
            levels.len().to_string(),
            Some("Pass the quantile_levels of the call that made the rows."),
        ));
    }
    let pair = |lower: usize| -> Band {
        let upper = levels.len() - 1 - lower;
        let (from, to) = (levels[lower], levels[upper]);
        let symmetric = (from + to - 1.0).abs() < 1e-9;
        let name =
            if symmetric { percent(to - from) } else { format!("{} to {}", percent(from), percent(to)) };
        Band { name, mass: to - from, source: BandSource::Quantiles(lower, upper) }
    };
    Ok((0..levels.len() / 2).map(pair).collect())
}

/// A fraction as a percentage of at most two decimals.
fn percent(fraction: f64) -> String {
    let text = format!("{:.2}", 100.0 * fraction);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}
