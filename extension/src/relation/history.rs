//! The rows of one series in memory, and how they were known at an instant.
//!
//! The forecast functions look at one moment, a backtest at many: one scan answers all of them.

use super::rows::{Known, Rows};
use crate::calendar::Instant;
use kronos_time::Keep;
use std::collections::HashMap;
use std::ops::Range;

/// SQL NULL among the values: a NaN whose bits no computation makes.
const NULL: u64 = 0x7ff8_6b72_6f6e_6f73;

/// The rows of one series, oldest first; each in every version, for a reader that looks at many moments.
#[derive(Debug, Default)]
pub struct History {
    /// Its key; `None` for a single series, or for rows whose key is NULL.
    pub key: Option<String>,
    starts: Vec<Instant>,
    /// Empty without a column that says so, or where one version is kept.
    known: Vec<Instant>,
    /// Row by row; a category is its place among the names.
    cells: Vec<f64>,
    categorical: Vec<bool>,
    names: Vec<String>,
    places: HashMap<String, usize>,
    restated: bool,
    /// Different starts so far, and those of them at or after the instant of [`Keep::Around`].
    distinct: usize,
    after: usize,
    /// Rows up to the last with a target, where one moment is looked at.
    last_target: usize,
}

impl History {
    /// A series without rows, whose values are categories where `categorical` says so.
    pub fn new(key: Option<String>, categorical: &[bool], restated: bool) -> Self {
        Self { key, categorical: categorical.to_vec(), restated, ..Self::default() }
    }

    fn width(&self) -> usize {
        self.categorical.len()
    }

    /// Begins a row, the newest or another version of it, whose values are pushed next; false where it is not kept.
    pub fn opens(&mut self, start: Instant, known_at: Instant, rows: Rows, as_of: Instant) -> bool {
        let new = self.starts.last() != Some(&start);
        match rows {
            Rows::Known(known) => {
                if !new && self.restated {
                    self.truncate(self.starts.len() - 1);
                }
                if start >= as_of && self.starts.len() - self.last_target >= known.ahead {
                    return false;
                }
            }
            Rows::Versions(keep) => {
                if let Keep::Around { at, after, .. } = keep
                    && start >= at
                {
                    self.after += usize::from(new);
                    if self.after > after {
                        return false;
                    }
                }
                self.distinct += usize::from(new);
                if self.restated {
                    self.known.push(known_at);
                }
            }
        }
        self.starts.push(start);
        true
    }

    /// A number of the row that is open.
    pub fn push_number(&mut self, number: f64) {
        self.cells.push(number);
    }

    /// SQL NULL in the row that is open.
    pub fn push_null(&mut self) {
        self.cells.push(f64::from_bits(NULL));
    }

    /// A category of the row that is open.
    pub fn push_category(&mut self, name: &str) {
        let place = match self.places.get(name) {
            Some(&place) => place,
            None => {
                self.names.push(name.to_owned());
                self.places.insert(name.to_owned(), self.names.len() - 1);
                self.names.len() - 1
            }
        };
        self.cells.push(place as f64);
    }

    /// Ends the row that is open and drops older ones that no longer matter: rarely and in bulk, so that each row is moved once on
    /// average.
    pub fn close(&mut self, rows: Rows, as_of: Instant) {
        let newest = self.starts.len() - 1;
        match rows {
            Rows::Known(Known { keep, targets, ahead }) => {
                let has_target =
                    targets == 0 || (0..targets).any(|column| !self.cell(newest, column).is_nan());
                if self.starts[newest] < as_of && has_target {
                    self.last_target = self.starts.len();
                }
                if self.last_target >= keep.saturating_mul(2) {
                    self.drain(0..self.last_target - keep);
                }
                // Either they are the future, of which the first matter, or a target comes, before which the newest do.
                if self.starts.len() - self.last_target >= keep.saturating_mul(2).saturating_add(ahead) {
                    self.drain(self.last_target + ahead..self.starts.len() - keep);
                }
            }
            Rows::Versions(keep) => {
                let limit = match keep {
                    Keep::Newest(rows) => rows,
                    Keep::Around { at, before, .. } if self.starts[newest] < at => before,
                    Keep::All | Keep::Around { .. } => usize::MAX,
                };
                if self.distinct >= limit.saturating_mul(2) {
                    self.trim(limit);
                }
            }
        }
    }

    /// Keeps the newest `limit` rows in all their versions.
    fn trim(&mut self, limit: usize) {
        let mut first = self.starts.len();
        let mut left = limit;
        while let Some(at) = first.checked_sub(1) {
            if first == self.starts.len() || self.starts[at] != self.starts[first] {
                if left == 0 {
                    break;
                }
                left -= 1;
            }
            first = at;
        }
        self.drain(0..first);
        self.distinct = limit - left;
    }

    fn drain(&mut self, rows: Range<usize>) {
        let width = self.width();
        self.last_target -= rows.len().min(self.last_target.saturating_sub(rows.start));
        self.cells.drain(rows.start * width..rows.end * width);
        if !self.known.is_empty() {
            self.known.drain(rows.clone());
        }
        self.starts.drain(rows);
    }

    fn truncate(&mut self, rows: usize) {
        self.starts.truncate(rows);
        self.cells.truncate(rows * self.width());
        self.last_target = self.last_target.min(rows);
    }

    /// The newest `limit` rows as they were known at an instant, oldest first: only rows that start before it, of several
    /// versions the last that was known, and none after the last with a value in one of the columns `targets`, if any is named.
    pub fn known_at(&self, as_of: Instant, limit: usize, targets: &[usize]) -> View<'_> {
        let mut rows: Vec<usize> = Vec::with_capacity(limit.min(self.starts.len()));
        let mut newer = None;
        for row in (0..self.starts.partition_point(|&start| start < as_of)).rev() {
            if rows.len() == limit {
                break;
            }
            if !self.known.is_empty() {
                if self.known[row] > as_of || newer == Some(self.starts[row]) {
                    continue;
                }
                newer = Some(self.starts[row]);
            }
            if targets.is_empty()
                || !rows.is_empty()
                || targets.iter().any(|&column| !self.cell(row, column).is_nan())
            {
                rows.push(row);
            }
        }
        rows.reverse();
        View { history: self, rows, columns: (0..self.width()).collect() }
    }

    /// Start and value of the newest row before an instant that has one, in its last version.
    pub fn newest(&self, before: Instant, column: usize) -> Option<(Instant, f64)> {
        let mut newer = None;
        for row in (0..self.starts.partition_point(|&start| start < before)).rev() {
            if self.restated && newer.replace(self.starts[row]) == Some(self.starts[row]) {
                continue;
            }
            let value = self.cell(row, column);
            if !value.is_nan() {
                return Some((self.starts[row], value));
            }
        }
        None
    }

    fn cell(&self, row: usize, column: usize) -> f64 {
        self.cells[row * self.width() + column]
    }
}

/// A history as it was known at one instant.
#[derive(Debug)]
pub struct View<'a> {
    history: &'a History,
    /// Its rows by their places in the history.
    rows: Vec<usize>,
    /// Its columns, likewise.
    columns: Vec<usize>,
}

impl View<'_> {
    /// The key of the series.
    pub fn key(&self) -> Option<&str> {
        self.history.key.as_deref()
    }

    /// Only these columns.
    pub fn of(self, columns: &[usize]) -> Self {
        Self { columns: columns.to_vec(), ..self }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Start of a row.
    pub fn start(&self, row: usize) -> Instant {
        self.history.starts[self.rows[row]]
    }

    /// Starts of the newest rows, as many as there are of `most`.
    pub fn newest_starts(&self, most: usize) -> Vec<Instant> {
        let newest = &self.rows[self.rows.len().saturating_sub(most)..];
        newest.iter().map(|&row| self.history.starts[row]).collect()
    }

    /// Drops all rows but the newest.
    pub fn keep_newest(&mut self, rows: usize) {
        self.rows.drain(..self.rows.len().saturating_sub(rows));
    }

    /// Drops the newest row.
    pub fn pop(&mut self) {
        self.rows.pop();
    }

    /// A value; NaN where it is missing.
    pub fn value(&self, row: usize, column: usize) -> f64 {
        self.number(self.rows[row], column)
    }

    /// Whether a value is SQL NULL.
    pub fn is_null(&self, row: usize, column: usize) -> bool {
        self.is_null_at(self.rows[row], column)
    }

    /// The row that starts at an instant, the last of several.
    pub fn find(&self, start: Instant) -> Option<usize> {
        let after = self.rows.partition_point(|&row| self.history.starts[row] <= start);
        after.checked_sub(1).filter(|&row| self.start(row) == start)
    }

    /// Place of a row in the history.
    pub fn row(&self, row: usize) -> usize {
        self.rows[row]
    }

    /// Place of the row after the newest of the view that starts at an instant.
    pub fn ahead(&self, start: Instant) -> Option<usize> {
        let from = self.rows.last().map_or(0, |last| last + 1);
        self.history.starts[from..].binary_search(&start).ok().map(|row| from + row)
    }

    /// Whether a column has categories.
    pub fn is_categorical(&self, column: usize) -> bool {
        self.history.categorical[self.columns[column]]
    }

    /// A number at a place of the history; NaN where it is missing.
    pub fn number(&self, place: usize, column: usize) -> f64 {
        self.history.cell(place, self.columns[column])
    }

    /// Whether there is SQL NULL at a place of the history.
    pub fn is_null_at(&self, place: usize, column: usize) -> bool {
        self.number(place, column).to_bits() == NULL
    }

    /// A category at a place of the history.
    pub fn category(&self, place: usize, column: usize) -> Option<&str> {
        let name = self.number(place, column);
        if name.is_nan() { None } else { self.history.names.get(name as usize).map(String::as_str) }
    }
}
