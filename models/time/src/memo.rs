//! What was worked out about the bars of a calendar, kept for the windows and series that ask again.
//!
//! A backtest lays the same rows on the same grid once per window, and the series of one market share their dates. Each
//! fact is a function of the grid and the start alone, so that remembering it changes no result.

use super::Instant;
use super::grid::Shape;
use chrono::NaiveDate;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// Starts remembered at most, after which all are forgotten: about 5 MB.
const LIMIT: usize = 1 << 16;

/// Facts about one start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts {
    /// The end of the bar.
    pub end: Option<Instant>,
    /// The start after it; `Some(None)` where the calendar stays closed.
    pub next: Option<Option<Instant>>,
    /// Whether the market is open during some of the bar.
    pub in_session: Option<bool>,
}

/// The sessions of a trading day.
pub type Day = Rc<[(Instant, Instant)]>;

/// The facts about one shape of grid at a time, and trading days.
#[derive(Debug, Clone, Default)]
pub struct Memo {
    starts: RefCell<(Option<Shape>, HashMap<Instant, Facts>)>,
    days: RefCell<HashMap<NaiveDate, Day>>,
}

impl Memo {
    /// The trading day of a date, worked out the first time it is asked for.
    pub fn day(&self, date: NaiveDate, work: impl FnOnce() -> Day) -> Day {
        let mut days = self.days.borrow_mut();
        if days.len() >= LIMIT {
            days.clear();
        }
        days.entry(date).or_insert_with(work).clone()
    }

    /// The fact in `field` about a start, worked out the first time it is asked for.
    pub fn fact<T: Copy>(
        &self,
        shape: Shape,
        start: Instant,
        field: impl Fn(&mut Facts) -> &mut Option<T>,
        work: impl FnOnce() -> T,
    ) -> T {
        {
            let (known, facts) = &mut *self.starts.borrow_mut();
            if *known != Some(shape) || facts.len() >= LIMIT {
                *known = Some(shape);
                facts.clear();
            }
            if let Some(found) = facts.get_mut(&start).and_then(|facts| *field(facts)) {
                return found;
            }
        }
        // Work may ask for other facts.
        let found = work();
        let (known, facts) = &mut *self.starts.borrow_mut();
        if *known == Some(shape) {
            *field(facts.entry(start).or_default()) = Some(found);
        }
        found
    }
}
