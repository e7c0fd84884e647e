//! What a chart shows, whatever it is drawn as.

/// Numbers beyond this have no place on an axis and are drawn as gaps.
const LARGEST: f64 = 1e300;

/// A lower and an upper bound.
pub type Bounds = (f64, f64);

/// Whether a number can be drawn.
pub fn drawable(value: f64) -> Option<f64> {
    (value.abs() <= LARGEST).then_some(value)
}

/// One bar's room on the time axis.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Slot {
    /// Start of the bar on the reader's wall clock, in microseconds since 2000-01-01 00:00.
    pub wall: i64,
    /// What happened.
    pub actual: Option<f64>,
    /// The point forecast.
    pub point: Option<f64>,
    /// The model's own bounds, one entry per [`Picture::bands`].
    pub bands: Vec<Option<Bounds>>,
    /// The calibrated interval.
    pub calibrated: Option<Bounds>,
}

/// All that a chart shows, whatever it is drawn as.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Picture {
    /// Headline.
    pub title: String,
    /// The line below it; empty for none.
    pub subtitle: String,
    /// What the line of history is called.
    pub value: String,
    /// Time zone of the wall clock.
    pub zone: String,
    /// Bars in their order.
    pub slots: Vec<Slot>,
    /// How many of the slots lie before the forecast's cutoff.
    pub known: usize,
    /// Names of the bands, the widest first.
    pub bands: Vec<String>,
    /// Name of the calibrated interval, where there is one.
    pub calibrated: Option<String>,
}

impl Picture {
    /// Every number that must fit on the price axis.
    pub(crate) fn values(&self) -> impl Iterator<Item = f64> + '_ {
        let both = |bounds: Option<Bounds>| bounds.map(|(lower, upper)| [lower, upper]).into_iter().flatten();
        self.slots.iter().flat_map(move |slot| {
            let lines = slot.actual.into_iter().chain(slot.point);
            lines.chain(slot.bands.iter().copied().flat_map(both)).chain(both(slot.calibrated))
        })
    }

    /// The slot and value that a forecast starts from: the last bar before the cutoff, unless it is a gap.
    pub(crate) fn origin(&self) -> Option<(usize, f64)> {
        let last = self.known.checked_sub(1)?;
        Some((last, self.slots.get(last)?.actual?))
    }

    /// A line of the forecast as runs without gaps, joined to what it starts from.
    pub(crate) fn ahead<T: Copy>(
        &self,
        of: impl Fn(&Slot) -> Option<T>,
        from: impl Fn(f64) -> T,
    ) -> Vec<Vec<(usize, T)>> {
        let (before, after) = self.slots.split_at(self.known.min(self.slots.len()));
        let origin = self.origin().filter(|_| after.first().is_some_and(|slot| of(slot).is_some()));
        let values = origin.map(|(slot, value)| (slot, Some(from(value)))).into_iter();
        runs(values.chain(after.iter().enumerate().map(|(i, slot)| (before.len() + i, of(slot)))))
    }

    /// What happened before the cutoff, as runs without gaps.
    pub(crate) fn history(&self) -> Vec<Vec<(usize, f64)>> {
        runs(self.slots.iter().take(self.known).enumerate().map(|(i, slot)| (i, slot.actual)))
    }

    /// What happened after the cutoff, as runs without gaps.
    pub(crate) fn outcomes(&self) -> Vec<Vec<(usize, f64)>> {
        runs(self.slots.iter().enumerate().skip(self.known).map(|(i, slot)| (i, slot.actual)))
    }

    pub(crate) fn has(&self, any: impl Fn(&Slot) -> bool) -> bool {
        self.slots.iter().any(any)
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

    fn slot(actual: Option<f64>, point: Option<f64>) -> Slot {
        Slot { actual, point, ..Slot::default() }
    }

    #[test]
    fn missing_values_cut_a_line() {
        let values = [Some(1), None, Some(3), Some(4), None].into_iter().enumerate();
        assert_eq!(runs(values), [vec![(0, 1)], vec![(2, 3), (3, 4)]]);
    }

    #[test]
    fn a_forecast_starts_from_the_last_bar_unless_that_is_a_gap() {
        let mut picture = Picture {
            slots: vec![
                slot(Some(1.0), None),
                slot(Some(2.0), None),
                slot(None, Some(3.0)),
                slot(None, Some(4.0)),
            ],
            known: 2,
            ..Picture::default()
        };
        assert_eq!(picture.ahead(|slot| slot.point, |value| value), [vec![(1, 2.0), (2, 3.0), (3, 4.0)]]);
        picture.slots[1].actual = None;
        assert_eq!(picture.ahead(|slot| slot.point, |value| value), [vec![(2, 3.0), (3, 4.0)]]);
        assert_eq!(picture.history(), [vec![(0, 1.0)]]);
        assert!(picture.outcomes().is_empty());
    }

    #[test]
    fn numbers_that_are_none_have_no_place() {
        assert_eq!([f64::NAN, f64::INFINITY, -1e301, -2.5].map(drawable), [None, None, None, Some(-2.5)]);
    }
}
