//! Whole histories, series by series, with every version of a row: what a reader needs that looks at many moments.
//!
//! The forecast functions read what was known at one instant and forget the rest; a backtest asks for many instants, and
//! one scan answers all of them from memory.
#![allow(unsafe_code)] // datums

use super::keys::readable;
use super::scan::{Fetched, open, start_of, text_of};
use super::{Cell, Columns, Group, Relation, Row, TimeKind, ValueColumns, ValueGroup, ValueRow, quote, sql};
use crate::calendar::Instant;
use crate::error::{Error, Result};
use chrono_tz::Tz;
use kronos_time::Keep;
use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::{IntoDatum, check_for_interrupts, spi::Spi};
use std::ffi::CString;

/// Result columns before the values: key, start, when known.
const BEFORE: usize = 3;

/// SQL NULL among the values: a NaN whose bits no computation makes.
const NULL: u64 = 0x7ff8_6b72_6f6e_6f73;

/// Which columns of a relation a history has.
#[derive(Debug, Clone)]
pub struct HistoryColumns {
    series: Option<(String, String)>,
    time: (String, TimeKind),
    known_at: Option<String>,
    /// A value without a column is always NULL.
    values: Vec<Option<String>>,
}

impl HistoryColumns {
    /// The columns of bars: open, high, low, close, volume, amount.
    pub fn of_bars(columns: Columns) -> Self {
        let mut values: Vec<Option<String>> = columns.prices.into_iter().map(Some).collect();
        values.extend([columns.volume, columns.amount]);
        Self { series: columns.series, time: columns.time, known_at: columns.known_at, values }
    }

    /// The columns of numbers.
    pub fn of_values(columns: ValueColumns) -> Self {
        let values = columns.values.into_iter().map(|column| Some(column.name)).collect();
        Self { series: columns.series, time: columns.time, known_at: columns.known_at, values }
    }

    /// Whether there is a key.
    pub fn has_series(&self) -> bool {
        self.series.is_some()
    }
}

/// What a scan reads and keeps.
#[derive(Debug, Clone, Copy)]
pub struct HistoryLimits<'a> {
    /// Only rows that start before, and are known at, this instant.
    pub as_of: Instant,
    /// Only these series; `None` for all.
    pub only_series: Option<&'a [String]>,
    /// The zone that local times are read in.
    pub zone: Tz,
    /// What of each series is kept.
    pub keep: Keep,
}

/// A query ordered by key, start and when known.
pub struct HistoryScan {
    text: CString,
    arguments: Vec<(Oid, Option<Datum>)>,
    values: usize,
    restated: bool,
    keep: Keep,
}

impl HistoryScan {
    /// Reads the columns from a relation; rows without a time are not read.
    pub fn new(relation: &Relation, columns: &HistoryColumns, limits: HistoryLimits<'_>) -> Result<Self> {
        let (start, bound) = start_of(&columns.time, limits.zone);
        let time = format!("t.{}", quote(&columns.time.0));
        let key = columns.series.as_ref().map(|(name, _)| format!("t.{}", quote(name)));
        let known_at = columns.known_at.as_ref().map(|name| format!("t.{}", quote(name)));
        let mut list = vec![
            format!("{}::pg_catalog.text", key.as_deref().unwrap_or("null")),
            format!("{start} as start"),
            known_at.clone().unwrap_or_else(|| "null::pg_catalog.timestamptz".into()),
        ];
        list.extend(columns.values.iter().map(|name| match name {
            Some(name) => format!("t.{}::pg_catalog.float8", quote(name)),
            None => "null::pg_catalog.float8".to_owned(),
        }));
        let mut condition =
            format!("{time} operator(pg_catalog.>) '-infinity' and {time} operator(pg_catalog.<) {bound}");
        let mut order: Vec<&str> = key.as_deref().into_iter().chain([time.as_str()]).collect();
        if let Some(known_at) = &known_at {
            condition.push_str(&format!(" and {known_at} operator(pg_catalog.<=) $1"));
            order.push(known_at);
        }
        let mut arguments = vec![(pg_sys::TIMESTAMPTZOID, Some(Datum::from(limits.as_of)))];
        if let (Some((_, type_of)), Some(key), Some(only)) = (&columns.series, &key, limits.only_series) {
            arguments.push((pg_sys::TEXTARRAYOID, readable(only, type_of).into_datum()));
            condition.push_str(&format!(
                " and {key} operator(pg_catalog.=) any ($2::pg_catalog.text[]::{type_of}[])"
            ));
        }
        let text = format!(
            "select {} from {} t where {condition} order by {}",
            list.join(", "),
            relation.quoted(),
            order.join(", ")
        );
        Ok(Self {
            text: sql(text)?,
            arguments,
            values: columns.values.len(),
            restated: known_at.is_some(),
            keep: limits.keep,
        })
    }

    /// Runs the query as the caller and hands over series by series; interrupts are served between fetches.
    ///
    /// # Errors
    /// What `each` returns ends the scan; errors of the query itself are raised by the server.
    pub fn run(&self, mut each: impl FnMut(History) -> Result<()>) -> Result<()> {
        Spi::connect(|_| {
            let cursor = open(&self.text, &self.arguments);
            let mut history: Option<History> = None;
            loop {
                check_for_interrupts!();
                let fetched = Fetched::next(cursor);
                if fetched.rows().is_empty() {
                    break;
                }
                for &tuple in fetched.rows() {
                    // SAFETY: a live tuple of the fetched table; its columns are those of the query text.
                    unsafe { self.take(tuple, fetched.descriptor(), &mut history, &mut each)? };
                }
            }
            // SAFETY: the portal was opened above and is closed once; after an error the server closes it.
            unsafe { pg_sys::SPI_cursor_close(cursor) };
            history.map_or(Ok(()), each)
        })
    }

    /// Adds one result row to its series; a series that ends with it is handed over.
    ///
    /// # Safety
    /// `tuple` is live and has the columns of the query.
    unsafe fn take(
        &self,
        tuple: pg_sys::HeapTuple,
        descriptor: pg_sys::TupleDesc,
        history: &mut Option<History>,
        each: &mut impl FnMut(History) -> Result<()>,
    ) -> Result<()> {
        let columns = BEFORE + self.values;
        let (mut values, mut nulls) = (vec![Datum::from(0); columns], vec![true; columns]);
        // SAFETY: both arrays have one entry per column.
        unsafe { pg_sys::heap_deform_tuple(tuple, descriptor, values.as_mut_ptr(), nulls.as_mut_ptr()) };
        if nulls[1] {
            return Err(Error::Internal { what: "a row without a time was read".into() });
        }
        // SAFETY: a text datum of a live tuple.
        let key = if nulls[0] { None } else { Some(unsafe { text_of(values[0])? }) };
        if history.as_ref().is_none_or(|open| open.key.as_deref() != key) {
            let next = History::new(key.map(str::to_owned), self.values, self.restated);
            if let Some(done) = history.replace(next) {
                each(done)?;
            }
        }
        if let Some(history) = history {
            let start = values[1].value() as i64;
            let known_at = if nulls[2] { Instant::MIN } else { values[2].value() as i64 };
            let cells = (BEFORE..columns).map(|at| {
                if nulls[at] { f64::from_bits(NULL) } else { f64::from_bits(values[at].value() as u64) }
            });
            history.push(start, known_at, cells, self.keep);
        }
        Ok(())
    }
}

/// The rows of one series, oldest first, each in every version.
#[derive(Debug)]
pub struct History {
    /// Its key; `None` for a single series, or for rows whose key is NULL.
    pub key: Option<String>,
    starts: Vec<Instant>,
    /// Empty without a column that says so.
    known: Vec<Instant>,
    cells: Vec<f64>,
    width: usize,
    restated: bool,
    /// Different starts so far, and those of them at or after the instant of [`Keep::Around`].
    distinct: usize,
    after: usize,
}

impl History {
    fn new(key: Option<String>, width: usize, restated: bool) -> Self {
        let (starts, known, cells) = (Vec::new(), Vec::new(), Vec::new());
        Self { key, starts, known, cells, width, restated, distinct: 0, after: 0 }
    }

    fn push(&mut self, start: Instant, known_at: Instant, cells: impl Iterator<Item = f64>, keep: Keep) {
        let new = self.starts.last() != Some(&start);
        let limit = match keep {
            Keep::All => usize::MAX,
            Keep::Newest(rows) => rows,
            Keep::Around { at, before, .. } if start < at => before,
            Keep::Around { after, .. } => {
                self.after += usize::from(new);
                if self.after > after {
                    return;
                }
                usize::MAX
            }
        };
        self.distinct += usize::from(new);
        self.starts.push(start);
        if self.restated {
            self.known.push(known_at);
        }
        self.cells.extend(cells);
        // Rare and in bulk, so that each row is moved once on average.
        if self.distinct >= limit.saturating_mul(2) {
            self.trim(limit);
        }
    }

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
        self.starts.drain(..first);
        if self.restated {
            self.known.drain(..first);
        }
        self.cells.drain(..first * self.width);
        self.distinct = limit - left;
    }

    /// The newest `limit` rows as they were known at an instant, oldest first: only rows that start before it, of several
    /// versions the last that was known, and none after the last with a value in one of the columns `told`, if any is named.
    pub fn known_at(&self, as_of: Instant, limit: usize, told: &[usize]) -> View<'_> {
        let mut rows: Vec<usize> = Vec::with_capacity(limit.min(self.starts.len()));
        let mut newer = None;
        for row in (0..self.starts.partition_point(|&start| start < as_of)).rev() {
            if rows.len() == limit {
                break;
            }
            if self.restated {
                if self.known[row] > as_of || newer == Some(self.starts[row]) {
                    continue;
                }
                newer = Some(self.starts[row]);
            }
            if told.is_empty()
                || !rows.is_empty()
                || told.iter().any(|&column| !self.cell(row, column).is_nan())
            {
                rows.push(row);
            }
        }
        rows.reverse();
        View { history: self, rows }
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
        self.cells[row * self.width + column]
    }
}

/// A history as it was known at one instant.
#[derive(Debug)]
pub struct View<'a> {
    history: &'a History,
    rows: Vec<usize>,
}

impl View<'_> {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Start of a row.
    pub fn start(&self, row: usize) -> Instant {
        self.history.starts[self.rows[row]]
    }

    /// A value; NaN where it is missing.
    pub fn value(&self, row: usize, column: usize) -> f64 {
        self.history.cell(self.rows[row], column)
    }

    /// The row that starts at an instant, the last of several.
    pub fn find(&self, start: Instant) -> Option<usize> {
        let after = self.rows.partition_point(|&row| self.history.starts[row] <= start);
        after.checked_sub(1).filter(|&row| self.start(row) == start)
    }

    /// The rows as bars, from the columns of [`HistoryColumns::of_bars`].
    pub fn bars(&self) -> Group {
        let history = self.history;
        let rows = self.rows.iter().map(|&row| {
            let given = |column| {
                let value = history.cell(row, column);
                (value.to_bits() != NULL).then_some(value)
            };
            let prices = [0, 1, 2, 3].map(|column| history.cell(row, column));
            Row { start: history.starts[row], prices, volume: given(4), amount: given(5) }
        });
        Group { key: history.key.clone(), rows: rows.collect() }
    }

    /// The rows as numbers in the columns given.
    pub fn values(&self, columns: &[usize]) -> ValueGroup {
        let history = self.history;
        let rows = self.rows.iter().map(|&row| ValueRow {
            start: history.starts[row],
            cells: columns.iter().map(|&column| Cell::Number(history.cell(row, column))).collect(),
        });
        ValueGroup { key: history.key.clone(), history: rows.collect(), ahead: Vec::new() }
    }
}
