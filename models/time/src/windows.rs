//! Where the windows of a backtest lie in a series.

use super::Instant;

/// The geometry of a backtest: a row of origins, each with the bars that are forecast from it.
///
/// ```text
///  context …… cutoff | embargo bars, not scored | horizon bars, scored |
///             └──── step bars ────┴ next cutoff …
/// ```
///
/// A context ends where the forecast begins, so nothing has to be purged from it; the embargo leaves room for what of the
/// scored bars could be guessed from the last bars of the context, or be known to a model that was trained up to them.
#[derive(Debug, Clone, Copy)]
pub struct Windows {
    /// Bars scored per window.
    pub horizon: usize,
    /// Bars forecast but not scored before them.
    pub embargo: usize,
    /// Bars from one cutoff to the next.
    pub step: usize,
    /// How many; `None` for as many as there are.
    pub count: Option<usize>,
    /// The first cutoff is the last one up to this instant; `None`: the last window ends with the series.
    pub initial: Option<Instant>,
}

/// One origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Number of the window, from 1 in the order of time.
    pub id: i32,
    /// What is known then is known to the window.
    pub as_of: Instant,
}

/// Rows of a series that can matter, counted by their starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// All of them.
    All,
    /// The newest.
    Newest(usize),
    /// Those around an instant.
    Around {
        /// The instant.
        at: Instant,
        /// Rows that start before it, the newest of them.
        before: usize,
        /// Rows that start at or after it, the oldest of them.
        after: usize,
    },
}

impl Windows {
    /// Bars forecast per window.
    pub fn reach(&self) -> usize {
        self.embargo + self.horizon
    }

    /// Bars that windows need beyond the context of the first; `None` where their number is not given.
    pub fn span(&self) -> Option<usize> {
        let steps = self.count?.saturating_sub(1).saturating_mul(self.step);
        Some(steps.saturating_add(self.reach()))
    }

    /// What of a series has to be kept when a context takes `context` rows.
    pub fn keep(&self, context: usize) -> Keep {
        match (self.span(), self.initial) {
            (None, _) => Keep::All,
            (Some(span), None) => Keep::Newest(context.saturating_add(span)),
            (Some(span), Some(at)) => Keep::Around { at, before: context, after: span.saturating_add(1) },
        }
    }

    /// The origins in a series whose bars end at `ends`, ascending, and how many of those asked for it is too short for.
    pub fn origins(&self, ends: &[Instant]) -> (Vec<Origin>, usize) {
        // The last bar that leaves room for a whole window after it.
        let Some(newest) = ends.len().checked_sub(self.reach() + 1) else {
            return (Vec::new(), self.count.unwrap_or(1));
        };
        let first = match self.initial {
            Some(initial) => match ends.partition_point(|&end| end <= initial).checked_sub(1) {
                Some(first) if first <= newest => first,
                _ => return (Vec::new(), self.count.unwrap_or(1)),
            },
            None => {
                let room = newest / self.step;
                newest - self.count.map_or(room, |count| (count - 1).min(room)) * self.step
            }
        };
        let room = (newest - first) / self.step + 1;
        let found = self.count.map_or(room, |count| count.min(room));
        let missing = self.count.map_or(0, |count| count - found);
        // Without a first cutoff the windows are counted back from the end, and the missing ones are the oldest.
        let before = if self.initial.is_some() { 0 } else { missing };
        let origin = |place: usize| Origin {
            id: i32::try_from(before + place + 1).unwrap_or(i32::MAX),
            as_of: ends[first + place * self.step],
        };
        ((0..found).map(origin).collect(), missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: [Instant; 10] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

    fn windows(count: Option<usize>, step: usize, embargo: usize, initial: Option<Instant>) -> Windows {
        Windows { horizon: 2, embargo, step, count, initial }
    }

    fn found(windows: Windows) -> (Vec<(i32, Instant)>, usize) {
        let (origins, missing) = windows.origins(&TEN);
        (origins.into_iter().map(|origin| (origin.id, origin.as_of)).collect(), missing)
    }

    #[test]
    fn the_last_window_ends_with_the_series() {
        assert_eq!(found(windows(Some(3), 2, 0, None)), (vec![(1, 4), (2, 6), (3, 8)], 0));
        assert_eq!(found(windows(Some(2), 3, 1, None)), (vec![(1, 4), (2, 7)], 0));
        assert_eq!(found(windows(None, 3, 0, None)), (vec![(1, 2), (2, 5), (3, 8)], 0));
        // Five are asked for, four have a bar before them.
        assert_eq!(found(windows(Some(5), 2, 0, None)), (vec![(2, 2), (3, 4), (4, 6), (5, 8)], 1));
    }

    #[test]
    fn a_first_cutoff_is_the_last_bar_that_has_ended_by_then() {
        assert_eq!(found(windows(Some(2), 2, 0, Some(5))), (vec![(1, 5), (2, 7)], 0));
        assert_eq!(found(windows(None, 1, 1, Some(5))), (vec![(1, 5), (2, 6), (3, 7)], 0));
        assert_eq!(found(windows(Some(9), 2, 0, Some(5))), (vec![(1, 5), (2, 7)], 7));
        assert_eq!(found(windows(Some(2), 2, 0, Some(0))), (vec![], 2));
        assert_eq!(found(windows(Some(2), 2, 0, Some(9))), (vec![], 2));
    }

    #[test]
    fn what_is_kept_suffices_for_the_windows() {
        assert_eq!(windows(Some(3), 4, 1, None).keep(32), Keep::Newest(32 + 8 + 3));
        assert_eq!(windows(Some(1), 4, 0, Some(7)).keep(32), Keep::Around { at: 7, before: 32, after: 3 });
        assert_eq!(windows(None, 4, 0, None).keep(32), Keep::All);
        assert_eq!(windows(Some(2), 2, 0, None).origins(&[1, 2]), (vec![], 2));
    }
}
