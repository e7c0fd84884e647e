//! What a chart shows, whatever it is drawn as.

/// Numbers beyond this have no place on an axis and are drawn as gaps.
const LARGEST: f64 = 1e300;

/// A lower and an upper bound.
pub type Bounds = (f64, f64);

/// Whether a number can be drawn.
pub fn drawable(value: f64) -> Option<f64> {
    (value.abs() <= LARGEST).then_some(value)
}

/// Where a bar opened and how far it went; its close is [`Slot::actual`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// First price.
    pub open: f64,
    /// Greatest price.
    pub high: f64,
    /// Least price.
    pub low: f64,
}

/// One bar's room on the time axis.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Slot {
    /// Start of the bar on the reader's wall clock, in microseconds since 2000-01-01 00:00.
    pub wall: i64,
    /// What happened: a close, or whatever else is drawn.
    pub actual: Option<f64>,
    /// The rest of the bar, for candlesticks.
    pub range: Option<Range>,
}

/// One step of a forecast.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Step {
    /// Place of its bar among [`Panel::slots`].
    pub slot: usize,
    /// The point forecast.
    pub point: Option<f64>,
    /// The model's own bounds, one entry per [`Forecast::bands`].
    pub bands: Vec<Option<Bounds>>,
    /// The calibrated interval.
    pub calibrated: Option<Bounds>,
}

/// What one model said at one time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Forecast {
    /// What it is called beside others.
    pub name: String,
    /// How many of the slots lie before its cutoff.
    pub known: usize,
    /// Its steps in the order of their slots.
    pub steps: Vec<Step>,
    /// Names of the bands, the widest first.
    pub bands: Vec<String>,
    /// Name of the calibrated interval, where there is one.
    pub calibrated: Option<String>,
}

/// One series with its forecasts, on axes of its own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Panel {
    /// Which series, where there are several panels.
    pub title: String,
    /// What the line of history is called.
    pub value: String,
    /// Bars in their order.
    pub slots: Vec<Slot>,
    /// How many of the slots lie before the newest cutoff.
    pub known: usize,
    /// What was said; drawn over each other.
    pub forecasts: Vec<Forecast>,
    /// Whether bars are drawn whole, where there is room.
    pub candles: bool,
}

/// All that a chart shows, whatever it is drawn as.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Picture {
    /// Headline.
    pub title: String,
    /// The line below it; empty for none.
    pub subtitle: String,
    /// The line below the chart; empty for none.
    pub note: String,
    /// Time zone of the wall clock.
    pub zone: String,
    /// The series.
    pub panels: Vec<Panel>,
}

impl Panel {
    /// Every number that must fit on the price axis.
    pub(crate) fn values(&self) -> impl Iterator<Item = f64> + '_ {
        let both = |bounds: Option<Bounds>| bounds.map(|(lower, upper)| [lower, upper]).into_iter().flatten();
        let happened = self.slots.iter().flat_map(|slot| {
            let range = slot.range.filter(|_| self.candles);
            slot.actual.into_iter().chain(range.into_iter().flat_map(|bar| [bar.open, bar.high, bar.low]))
        });
        let steps = self.forecasts.iter().flat_map(|forecast| &forecast.steps);
        happened.chain(steps.flat_map(move |step| {
            let bands = step.bands.iter().copied().flat_map(both);
            step.point.into_iter().chain(bands).chain(both(step.calibrated))
        }))
    }

    /// What happened before the newest cutoff, as runs without gaps.
    pub(crate) fn history(&self) -> Vec<Vec<(usize, f64)>> {
        runs(self.slots.iter().take(self.known).enumerate().map(|(i, slot)| (i, slot.actual)))
    }

    /// What happened after the newest cutoff, as runs without gaps.
    pub(crate) fn outcomes(&self) -> Vec<Vec<(usize, f64)>> {
        runs(self.slots.iter().enumerate().skip(self.known).map(|(i, slot)| (i, slot.actual)))
    }

    /// A line of a forecast as runs without gaps, joined to the last bar before its cutoff unless that is a gap.
    ///
    /// Bars between two steps, of a relation that is finer than the forecast, are no gap.
    pub(crate) fn ahead<T: Copy>(
        &self,
        forecast: &Forecast,
        of: impl Fn(&Step) -> Option<T>,
        from: impl Fn(f64) -> T,
    ) -> Vec<Vec<(usize, T)>> {
        let last = forecast.known.checked_sub(1);
        let origin = last.and_then(|last| Some((last, self.slots.get(last)?.actual?)));
        let joined = forecast.steps.first().is_some_and(|step| of(step).is_some());
        let origin = origin.filter(|_| joined).map(|(slot, value)| (slot, Some(from(value))));
        runs(origin.into_iter().chain(forecast.steps.iter().map(|step| (step.slot, of(step)))))
    }

    /// The line of what came, joined to the last bar that was known.
    pub(crate) fn came(&self) -> Vec<Vec<(usize, f64)>> {
        let from = self.known.saturating_sub(1);
        let mut joined = runs(self.slots.iter().enumerate().skip(from).map(|(i, slot)| (i, slot.actual)));
        joined.retain(|run| run.last().is_some_and(|&(slot, _)| slot >= self.known));
        joined
    }

    pub(crate) fn has(&self, any: impl Fn(&Step) -> bool) -> bool {
        self.forecasts.iter().flat_map(|forecast| &forecast.steps).any(any)
    }
}

/// Values with their slots, cut where one is missing.
fn runs<T>(values: impl Iterator<Item = (usize, Option<T>)>) -> Vec<Vec<(usize, T)>> {
    let mut runs: Vec<Vec<(usize, T)>> = Vec::new();
    let mut open = false;
    for (slot, value) in values {
        match (value, runs.last_mut()) {
            (Some(value), Some(run)) if open => run.push((slot, value)),
            (Some(value), _) => runs.push(vec![(slot, value)]),
            (None, _) => {
                open = false;
                continue;
            }
        }
        open = true;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_values_cut_a_line() {
        let values = [Some(1), None, Some(3), Some(4), None].into_iter().enumerate();
        assert_eq!(runs(values), [vec![(0, 1)], vec![(2, 3), (3, 4)]]);
    }

    #[test]
    fn a_forecast_starts_from_the_last_bar_unless_that_is_a_gap() {
        let slot = |actual| Slot { actual, ..Slot::default() };
        let step = |slot, point| Step { slot, point: Some(point), ..Step::default() };
        let mut panel = Panel {
            slots: vec![slot(Some(1.0)), slot(Some(2.0)), slot(None), slot(None), slot(Some(5.0))],
            known: 2,
            forecasts: vec![Forecast {
                known: 2,
                steps: vec![step(2, 3.0), step(4, 4.0)],
                ..Forecast::default()
            }],
            ..Panel::default()
        };
        let line = |panel: &Panel| panel.ahead(&panel.forecasts[0], |step| step.point, |value| value);
        // The bar between the two steps is no gap of the forecast.
        assert_eq!(line(&panel), [vec![(1, 2.0), (2, 3.0), (4, 4.0)]]);
        assert_eq!(panel.came(), [vec![(4, 5.0)]]);
        panel.slots[1].actual = None;
        assert_eq!(line(&panel), [vec![(2, 3.0), (4, 4.0)]]);
        assert_eq!(panel.history(), [vec![(0, 1.0)]]);
        panel.slots[2].actual = Some(2.5);
        panel.slots[1].actual = Some(2.0);
        assert_eq!(panel.came(), [vec![(1, 2.0), (2, 2.5)], vec![(4, 5.0)]]);
    }

    #[test]
    fn numbers_that_are_none_have_no_place() {
        assert_eq!([f64::NAN, f64::INFINITY, -1e301, -2.5].map(drawable), [None, None, None, Some(-2.5)]);
    }
}
