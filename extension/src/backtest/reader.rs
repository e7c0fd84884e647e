//! From the histories of a relation to the windows of a backtest.

use super::Backtest;
use super::point::{Window, finite};
use crate::calendar::{Grid, Instant, infer_width};
use crate::call::{Fault, Input, SPACINGS, check_count, no_rows, without_key};
use crate::error::Result;
use crate::relation::{History, Scan, View};
use kronos_models::status::Status;
use pgrx::check_for_interrupts;
use std::collections::HashSet;
use std::rc::Rc;

/// One moment of a series that a model is asked about.
pub struct Moment<'a> {
    /// The series in every version of its rows.
    pub history: &'a History,
    /// The series as it is known at last: what came.
    pub known: &'a View<'a>,
    /// Columns of the targets.
    pub targets: &'a [usize],
    /// The moment.
    pub as_of: Instant,
}

impl Moment<'_> {
    /// What came, by target and step; NaN where nothing did.
    pub fn actuals(&self, future: &[Instant]) -> Vec<Vec<f64>> {
        let value = |column, start| {
            let row = self.known.find(start);
            row.and_then(|row| finite(self.known.value(row, column))).unwrap_or(f64::NAN)
        };
        let steps = |&column: &usize| future.iter().map(|&start| value(column, start)).collect();
        self.targets.iter().map(steps).collect()
    }
}

/// Reads series and lays their windows out.
pub struct Reader<'a> {
    /// What is asked.
    pub backtest: &'a Backtest,
    /// Of which relation.
    pub input: &'a Input<'a>,
    /// Its histories.
    pub scan: Scan,
    /// Whether there is a series column.
    pub keyed: bool,
    /// Columns of the targets.
    pub targets: Vec<usize>,
}

/// Takes each window, or why there is none, with the key of its series.
trait Take: FnMut(Rc<str>, Window, Result<Moment<'_>, Fault>) -> Result<()> {}

impl<F: FnMut(Rc<str>, Window, Result<Moment<'_>, Fault>) -> Result<()>> Take for F {}

impl Reader<'_> {
    /// Hands over every window, or why there is none, with the key of its series.
    ///
    /// # Errors
    /// What `each` returns; what is wrong with the relation.
    pub fn run(
        &self,
        mut each: impl FnMut(Rc<str>, Window, Result<Moment<'_>, Fault>) -> Result<()>,
    ) -> Result<()> {
        let only_series = self.input.only_series.as_deref();
        check_count(only_series.map_or(0, <[String]>::len))?;
        let mut count = 0;
        let mut seen: HashSet<String> = HashSet::new();
        self.scan.run(|history| {
            count += 1;
            check_count(count)?;
            match &history.key {
                None if self.keyed => return self.refuse(without_key("row"), &mut each),
                Some(key) if only_series.is_some() => _ = seen.insert(key.clone()),
                _ => {}
            }
            self.series(&history, &mut each)
        })?;
        for name in only_series.unwrap_or_default() {
            if seen.insert(name.clone()) {
                self.refuse(no_rows(name, "row"), &mut each)?;
            }
        }
        Ok(())
    }

    fn series(&self, history: &History, each: &mut impl Take) -> Result<()> {
        let backtest = self.backtest;
        let known = history.known_at(backtest.as_of, usize::MAX, &self.targets);
        let (origins, missing) = backtest.windows.origins(&self.ends(&known)?);
        if missing > 0 {
            let name = history.key.as_deref().unwrap_or("");
            let (rows, reach) = (known.len(), backtest.windows.reach());
            let detail = format!(
                "Series \"{name}\" has {rows} rows, which leaves no room for {missing} of the windows of {reach} rows."
            );
            let (status, at, cutoff) = (Status::ShortHistory, None, None);
            self.refuse(Fault { key: history.key.clone(), status, at, cutoff, detail }, each)?;
        }
        let key: Rc<str> = history.key.as_deref().unwrap_or("").into();
        for origin in origins {
            check_for_interrupts!();
            let moment = Moment { history, known: &known, targets: &self.targets, as_of: origin.as_of };
            let mut window = Window { origin: Some(origin), ..Window::default() };
            backtest.beside(&moment, &mut window)?;
            each(key.clone(), window, Ok(moment))?;
        }
        Ok(())
    }

    /// The ends of the rows that have ended.
    fn ends(&self, known: &View<'_>) -> Result<Vec<Instant>> {
        let backtest = self.backtest;
        let starts: Vec<Instant> = (0..known.len()).map(|row| known.start(row)).collect();
        let width = backtest.options.of_model.bucket_width;
        let calendar = backtest.beside.calendars().of(known.key(), width, &starts)?;
        let newest = &starts[starts.len().saturating_sub(SPACINGS + 1)..];
        let Some(width) = width.or_else(|| infer_width(&calendar, newest)) else { return Ok(Vec::new()) };
        let grid = Grid::fit(&calendar, width, &newest[newest.len().saturating_sub(SPACINGS)..]);
        let mut ends: Vec<Instant> = starts.iter().map(|&start| grid.end(start)).collect();
        while ends.last().is_some_and(|&end| end > backtest.as_of) {
            ends.pop();
        }
        Ok(ends)
    }

    /// A series without windows.
    fn refuse(&self, fault: Fault, each: &mut impl Take) -> Result<()> {
        let fault = match self.backtest.subject {
            // What is wrong with a series is told when its turn comes.
            Some(_) => fault,
            None => self.backtest.beside.report(fault)?,
        };
        let key: Rc<str> = fault.key.as_deref().unwrap_or("").into();
        each(key, Window::default(), Err(fault))
    }
}
