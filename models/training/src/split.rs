//! Chronological split of each series into training, validation and test rows.
//!
//! The hold-out of a series is its newest rows: at least a share of them and at least a span of time. What a model is
//! selected by (validation) and what it is reported on (test) are different rows of it. Between two parts lies a purge, so
//! that no row is in the future of a window of one part and of the next.

use super::error::{Result, invalid};
use super::panel::{Panel, PanelSeries};
pub use kronos_job::regime::DAY;
use kronos_job::regime::SplitRule;

/// A part of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// What the weights are fitted to.
    Train,
    /// What the weights are chosen by.
    Validation,
    /// What neither fits nor chooses.
    Test,
}

impl Part {
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "training",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// Where the parts of each series begin.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    purge: usize,
    /// Per series: first validation row, first test row.
    starts: Vec<(usize, usize)>,
}

impl Split {
    /// Splits every series of a panel.
    ///
    /// # Errors
    /// `InvalidParameter` for a share outside (0, 1) or a negative span.
    pub fn new(panel: &Panel, rule: &SplitRule) -> Result<Self> {
        if !(rule.holdout > 0.0 && rule.holdout < 1.0) {
            return Err(invalid("holdout", "between 0 and 1", rule.holdout));
        }
        if let Some(span) = rule.holdout_span.filter(|span| *span < 0) {
            return Err(invalid("holdout_span", "at least 0", span));
        }
        let starts = panel.series.iter().map(|series| starts(series, rule)).collect();
        Ok(Self { purge: rule.purge, starts })
    }

    /// The cuts of a series whose futures of `horizon` rows lie in `part`, as a range; a cut is the row after a context.
    ///
    /// Contexts may reach back into an earlier part: they are what is known at the cut. A future never leaves its part,
    /// and ends at least the purge before the next.
    pub fn cuts(&self, series: usize, rows: usize, part: Part, horizon: usize) -> std::ops::Range<usize> {
        let (validation, test) = self.starts[series];
        let (from, to) = match part {
            Part::Train => (0, validation.saturating_sub(self.purge)),
            // Without test rows the validation ends with the series.
            Part::Validation if test >= rows => (validation, rows),
            Part::Validation => (validation, test.saturating_sub(self.purge)),
            Part::Test => (test, rows),
        };
        from..(to + 1).saturating_sub(horizon).max(from)
    }

    /// First row of a series that no weight is fitted to.
    pub fn holdout_start(&self, series: usize) -> usize {
        self.starts[series].0
    }

    /// First test row of a series.
    pub fn test_start(&self, series: usize) -> usize {
        self.starts[series].1
    }

    /// Rows left out between two parts.
    pub fn purge(&self) -> usize {
        self.purge
    }

    /// The latest time of any row that a weight may be fitted to: the train cutoff of the model.
    pub fn train_cutoff(&self, panel: &Panel) -> Option<i64> {
        let last = |(series, (start, _)): (&PanelSeries, &(usize, usize))| {
            Some(series.times[start.saturating_sub(self.purge).checked_sub(1)?])
        };
        panel.series.iter().zip(&self.starts).filter_map(last).max()
    }
}

fn starts(series: &PanelSeries, rule: &SplitRule) -> (usize, usize) {
    let rows = series.rows();
    let by_share = rows - ((rows as f64 * rule.holdout).ceil() as usize).min(rows);
    let by_span = match (rule.holdout_span, series.times.last()) {
        (Some(span), Some(last)) => series.times.partition_point(|&time| time <= last - span),
        _ => rows,
    };
    let mut validation = by_share.min(by_span);
    let test = match rule.test_from {
        Some(from) => series.times.partition_point(|&time| time < from),
        None => validation + (rows - validation).div_ceil(2),
    };
    validation = validation.min(test);
    (validation, test)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daily(rows: i64) -> Panel {
        let series = PanelSeries {
            name: "a".into(),
            times: (0..rows).map(|day| day * DAY).collect(),
            values: vec![vec![1.0; rows as usize]],
        };
        Panel { columns: vec!["close".into()], series: vec![series] }
    }

    /// 3650 days: a fifth is 730, more than a year; half of it is for the test.
    #[test]
    fn a_fifth_of_a_long_series_by_hand() {
        let panel = daily(3650);
        let split = Split::new(&panel, &SplitRule::daily(5)).unwrap();
        assert_eq!((split.holdout_start(0), split.test_start(0)), (2920, 3285));
        // The last training future is rows 2910..=2914, five rows of purge before 2920.
        assert_eq!(split.cuts(0, 3650, Part::Train, 5), 0..2911);
        assert_eq!(split.cuts(0, 3650, Part::Validation, 5), 2920..3276);
        assert_eq!(split.cuts(0, 3650, Part::Test, 5), 3285..3646);
        assert_eq!(split.train_cutoff(&panel), Some(2914 * DAY));
    }

    /// 1000 days: a fifth is 200, less than a year; a year before the last day is day 634, so rows from 635 on.
    #[test]
    fn a_year_of_a_short_series_by_hand() {
        let split = Split::new(&daily(1000), &SplitRule::daily(5)).unwrap();
        assert_eq!(split.holdout_start(0), 635);
        let intraday = Split::new(&daily(1000), &SplitRule::intraday(5)).unwrap();
        assert_eq!(intraday.holdout_start(0), 800);
        // Shorter than a year: nothing to train on.
        let none = Split::new(&daily(300), &SplitRule::daily(5)).unwrap();
        assert!(none.cuts(0, 300, Part::Train, 5).is_empty());
    }

    /// The model has seen the latest of what any series was trained on; a series too short to be trained on tells nothing.
    #[test]
    fn the_cutoff_is_that_of_the_series_that_was_trained_on_longest() {
        let of = |rows: i64, name: &str| PanelSeries { name: name.into(), ..daily(rows).series.remove(0) };
        let panel = Panel {
            columns: vec!["close".into()],
            series: vec![of(100, "a"), of(500, "b"), of(200, "c"), of(3, "d")],
        };
        let split = Split::new(&panel, &SplitRule::intraday(5)).unwrap();
        // Of 500 rows 400 are not held out, and the last five of those are purged.
        assert_eq!(split.train_cutoff(&panel), Some(394 * DAY));
        assert_eq!(Split::new(&daily(3), &SplitRule::intraday(5)).unwrap().train_cutoff(&daily(3)), None);
    }

    #[test]
    fn the_test_begins_on_a_day_of_the_callers_choice() {
        let rule = SplitRule { test_from: Some(900 * DAY), ..SplitRule::intraday(5) };
        let split = Split::new(&daily(1000), &rule).unwrap();
        assert_eq!((split.holdout_start(0), split.test_start(0)), (800, 900));
        // A test that begins before the hold-out moves the hold-out; one after the end leaves no test.
        let rule = SplitRule { test_from: Some(500 * DAY), ..rule };
        let early = Split::new(&daily(1000), &rule).unwrap();
        assert_eq!((early.holdout_start(0), early.test_start(0)), (500, 500));
        assert!(early.cuts(0, 1000, Part::Validation, 5).is_empty());
        let rule = SplitRule { test_from: Some(5000 * DAY), ..rule };
        let late = Split::new(&daily(1000), &rule).unwrap();
        assert_eq!(late.cuts(0, 1000, Part::Validation, 5), 800..996);
        assert!(late.cuts(0, 1000, Part::Test, 5).is_empty());
    }

    /// Whatever the lengths: no row of one part's futures is within the purge of another's.
    #[test]
    fn futures_of_two_parts_are_apart() {
        for rows in [1, 7, 30, 400, 2000] {
            let panel = daily(rows as i64);
            for rule in [SplitRule::daily(7), SplitRule::intraday(7)] {
                let split = Split::new(&panel, &rule).unwrap();
                let future = |part| {
                    let cuts = split.cuts(0, rows, part, 7);
                    (!cuts.is_empty()).then(|| (cuts.start, cuts.end - 1 + 7))
                };
                let parts: Vec<(usize, usize)> =
                    [Part::Train, Part::Validation, Part::Test].into_iter().filter_map(future).collect();
                for pair in parts.windows(2) {
                    assert!(pair[0].1 + 7 <= pair[1].0, "{rows}: {parts:?}");
                }
                assert!(parts.iter().all(|part| part.1 <= rows));
            }
        }
    }

    #[test]
    fn shares_out_of_range_are_refused() {
        for holdout in [0.0, 1.0, f64::NAN, -1.0] {
            let rule = SplitRule { holdout, ..SplitRule::daily(1) };
            assert!(Split::new(&daily(10), &rule).is_err(), "{holdout}");
        }
    }
}
