//! Windows: a context and the future after it, in one series of a panel.

use super::error::{Result, TrainError};
use super::panel::{Panel, PanelSeries};
use super::split::{Part, Split};

/// One window: the rows before `cut` are the context, those from `cut` on the future.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// Number of the series in the panel.
    pub series: u32,
    /// First row of the future.
    pub cut: u32,
}

impl Window {
    /// The newest `context` values of a column before the cut, oldest first; fewer where the series begins later.
    pub fn context<'p>(&self, panel: &'p Panel, column: usize, context: usize) -> &'p [f64] {
        let (values, cut) = (&self.of(panel).values[column], self.cut as usize);
        &values[cut.saturating_sub(context)..cut]
    }

    /// The `horizon` values of a column from the cut on.
    pub fn future<'p>(&self, panel: &'p Panel, column: usize, horizon: usize) -> &'p [f64] {
        let (values, cut) = (&self.of(panel).values[column], self.cut as usize);
        &values[cut..(cut + horizon).min(values.len())]
    }

    /// The series it lies in.
    pub fn of<'p>(&self, panel: &'p Panel) -> &'p PanelSeries {
        &panel.series[self.series as usize]
    }

    /// Start of the last row of the context.
    pub fn last_time(&self, panel: &Panel) -> Option<i64> {
        self.of(panel).times.get((self.cut as usize).checked_sub(1)?).copied()
    }
}

/// What windows must hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Windows {
    /// Rows of context; windows with fewer are left out.
    pub context: usize,
    /// Rows of future.
    pub horizon: usize,
    /// Rows from one cut to the next.
    pub stride: usize,
    /// Columns without a missing value in context and future.
    pub complete: Vec<usize>,
    /// Columns whose values must be above zero in context and future.
    pub positive: Vec<usize>,
}

impl Windows {
    /// All windows of a part, series by series, oldest first.
    ///
    /// # Errors
    /// [`TrainError::NoWindows`] when there is none.
    pub fn of(&self, panel: &Panel, split: &Split, part: Part) -> Result<Vec<Window>> {
        let mut windows = Vec::new();
        for (number, series) in panel.series.iter().enumerate() {
            let unusable = self.unusable(series);
            let cuts = split.cuts(number, series.rows(), part, self.horizon);
            for cut in (cuts.start.max(self.context)..cuts.end).step_by(self.stride.max(1)) {
                if unusable[cut + self.horizon] == unusable[cut - self.context] {
                    windows.push(Window { series: number as u32, cut: cut as u32 });
                }
            }
        }
        if windows.is_empty() {
            let (context, horizon, series) = (self.context, self.horizon, panel.series.len());
            return Err(TrainError::NoWindows { part: part.name(), context, horizon, series });
        }
        Ok(windows)
    }

    /// How many of the first n rows no window may hold, for every n.
    fn unusable(&self, series: &PanelSeries) -> Vec<u32> {
        let bad = |row: usize| {
            self.complete.iter().any(|&column| series.values[column][row].is_nan())
                || self
                    .positive
                    .iter()
                    .any(|&column| series.values[column][row].is_nan() || series.values[column][row] <= 0.0)
        };
        let mut count = 0;
        let counts = (0..series.rows()).map(|row| {
            count += u32::from(bad(row));
            count
        });
        std::iter::once(0).chain(counts).collect()
    }
}

/// Sampling weights that draw windows with an event in their future `weight` times as often as others.
///
/// `is_event(series, row)` tells of every row; only rows of the future count, since it is the reaction that is rare.
/// Weights decide what is drawn: no row is copied, and scores are never weighted.
pub fn oversample(
    windows: &[Window],
    horizon: usize,
    weight: f64,
    is_event: impl Fn(usize, usize) -> bool,
) -> Vec<f64> {
    let holds_event = |window: &Window| {
        let cut = window.cut as usize;
        (cut..cut + horizon).any(|row| is_event(window.series as usize, row))
    };
    windows.iter().map(|window| if holds_event(window) { weight } else { 1.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SplitRule, split::DAY};

    fn panel(missing: &[usize]) -> Panel {
        let mut values: Vec<f64> = (0..100).map(f64::from).collect();
        missing.iter().for_each(|&row| values[row] = f64::NAN);
        let series = PanelSeries {
            name: "a".into(),
            times: (0..100).map(|day| day * DAY).collect(),
            values: vec![values],
        };
        Panel { columns: vec!["close".into()], series: vec![series] }
    }

    fn windows(panel: &Panel, stride: usize) -> Vec<Window> {
        let split = Split::new(panel, &SplitRule::intraday(3)).unwrap();
        let rule = Windows { context: 10, horizon: 3, stride, complete: vec![0], positive: Vec::new() };
        rule.of(panel, &split, Part::Train).unwrap()
    }

    /// 80 rows less the purge of 3: cuts 10 to 74, the last future being rows 74 to 76.
    #[test]
    fn counts_by_hand() {
        assert_eq!(windows(&panel(&[]), 1).len(), 65);
        assert_eq!(windows(&panel(&[]), 10).len(), 7);
        // A missing row 40 is in the context of cuts 41..=50 and in the future of 38..=40.
        assert_eq!(windows(&panel(&[40]), 1).len(), 65 - 13);
        let window = windows(&panel(&[]), 1)[64];
        assert_eq!(window.context(&panel(&[]), 0, 10), (64..74).map(f64::from).collect::<Vec<_>>());
        assert_eq!(window.future(&panel(&[]), 0, 3), [74.0, 75.0, 76.0]);
    }

    #[test]
    fn values_without_logarithm_are_left_out_where_it_is_asked() {
        let panel = panel(&[]);
        let split = Split::new(&panel, &SplitRule::intraday(3)).unwrap();
        let rule = Windows { context: 10, horizon: 3, stride: 1, complete: vec![], positive: vec![0] };
        // Row 0 is zero, in the context of cut 10 only.
        assert_eq!(rule.of(&panel, &split, Part::Train).unwrap().len(), 64);
    }

    #[test]
    fn none_at_all_is_an_error_with_the_numbers() {
        let panel = panel(&[]);
        let split = Split::new(&panel, &SplitRule::daily(3)).unwrap();
        let rule = Windows { context: 10, horizon: 3, stride: 1, complete: vec![0], positive: Vec::new() };
        let error = rule.of(&panel, &split, Part::Train).unwrap_err().to_string();
        assert_eq!(error, "no training windows of 10 + 3 rows in 1 series");
    }

    #[test]
    fn events_in_the_future_weigh_more() {
        let windows = windows(&panel(&[]), 1);
        let weights = oversample(&windows, 3, 3.0, |_, row| row == 20);
        // Cuts 18, 19 and 20 have row 20 in their future; the rest have not.
        assert_eq!(weights.iter().filter(|&&weight| weight == 3.0).count(), 3);
        assert_eq!(weights[18 - 10], 3.0);
        assert_eq!(weights[21 - 10], 1.0);
    }
}
