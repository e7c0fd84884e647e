//! One ordered scan over numbers and categories, series by series: what models of any column read.
//!
//! Rows after the last value of a target carry the known future, so the scan keeps two stretches of each series apart
//! while it reads: what may be history, and what follows the last target seen so far.
#![allow(unsafe_code)] // datums

use super::columns::ValueColumns;
use super::keys::readable;
use super::scan::{Fetched, open, start_of, text_of};
use super::{Relation, quote, sql};
use crate::calendar::Instant;
use crate::error::{Error, Result};
use chrono_tz::Tz;
use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::{IntoDatum, check_for_interrupts, spi::Spi};
use std::collections::VecDeque;
use std::ffi::CString;

/// Columns of every scan before the values: key, start.
const BEFORE: usize = 2;

/// One value of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// A number; NULL is NaN.
    Number(f64),
    /// A category; NULL is `None`.
    Category(Option<String>),
}

/// One row as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueRow {
    /// Start of what it tells of.
    pub start: Instant,
    /// The columns asked for.
    pub cells: Vec<Cell>,
}

/// The rows of one series, oldest first.
#[derive(Debug, Default)]
pub struct ValueGroup {
    /// Its key; `None` for a single series, or for rows whose key is NULL.
    pub key: Option<String>,
    /// Rows up to the last with a target, at most as many as asked for.
    pub history: VecDeque<ValueRow>,
    /// Rows after it.
    pub ahead: Vec<ValueRow>,
}

/// What a scan reads of a relation.
#[derive(Debug, Clone, Copy)]
pub struct ValueLimits<'a> {
    /// Only rows known at this instant, and only targets of rows that start before it.
    pub as_of: Instant,
    /// Only these series; `None` for all.
    pub only_series: Option<&'a [String]>,
    /// Newest rows kept of each history, and rows kept after it.
    pub keep: usize,
    /// How many of the columns, the first ones, are targets.
    pub targets: usize,
    /// Whether rows after `as_of` are read for what they know of the future.
    pub ahead: bool,
    /// The zone that local times are read in.
    pub zone: Tz,
}

/// A query ordered by key and start.
pub struct ValueScan {
    text: CString,
    arguments: Vec<(Oid, Option<Datum>)>,
    categorical: Vec<bool>,
    keep: usize,
    targets: usize,
    as_of: Instant,
    /// A later row with the same start replaces the earlier one.
    restated: bool,
}

impl ValueScan {
    /// Reads the columns from a relation; rows without a time are not read.
    pub fn new(relation: &Relation, columns: &ValueColumns, limits: ValueLimits<'_>) -> Result<Self> {
        let time = format!("t.{}", quote(&columns.time.0));
        let (start, bound) = start_of(&columns.time, limits.zone);
        let key = columns.series.as_ref().map(|(name, _)| format!("t.{}", quote(name)));
        let mut list = vec![
            format!("{}::pg_catalog.text", key.as_deref().unwrap_or("null")),
            format!("{start} as start"),
        ];
        list.extend(columns.values.iter().map(|column| {
            let type_of = if column.categorical { "text" } else { "float8" };
            format!("t.{}::pg_catalog.{type_of}", quote(&column.name))
        }));
        let mut condition = format!(
            "{time} operator(pg_catalog.>) '-infinity' and {time} operator(pg_catalog.<) {}",
            if limits.ahead { "'infinity'" } else { &bound }
        );
        let mut order = time.clone();
        let restated = columns.known_at.is_some();
        if let Some(known_at) = &columns.known_at {
            let known_at = format!("t.{}", quote(known_at));
            condition.push_str(&format!(" and {known_at} operator(pg_catalog.<=) $1"));
            order.push_str(&format!(", {known_at}"));
        }
        let mut arguments = vec![(pg_sys::TIMESTAMPTZOID, Some(Datum::from(limits.as_of)))];
        if let (Some((_, type_of)), Some(key), Some(only)) = (&columns.series, &key, limits.only_series) {
            arguments.push((pg_sys::TEXTARRAYOID, readable(only, type_of).into_datum()));
            condition.push_str(&format!(
                " and {key} operator(pg_catalog.=) any ($2::pg_catalog.text[]::{type_of}[])"
            ));
        }
        if let Some(key) = &key {
            order = format!("{key}, {order}");
        }
        let text = format!(
            "select {} from {} t where {condition} order by {order}",
            list.join(", "),
            relation.quoted()
        );
        Ok(Self {
            text: sql(text)?,
            arguments,
            categorical: columns.values.iter().map(|column| column.categorical).collect(),
            keep: limits.keep,
            targets: limits.targets,
            as_of: limits.as_of,
            restated,
        })
    }

    /// Runs the query as the caller and hands over series by series; interrupts are served between fetches.
    ///
    /// # Errors
    /// What `each` returns ends the scan; errors of the query itself are raised by the server.
    pub fn run(&self, mut each: impl FnMut(ValueGroup) -> Result<()>) -> Result<()> {
        Spi::connect(|_| {
            let cursor = open(&self.text, &self.arguments);
            let mut group: Option<ValueGroup> = None;
            loop {
                check_for_interrupts!();
                let fetched = Fetched::next(cursor);
                if fetched.rows().is_empty() {
                    break;
                }
                for &tuple in fetched.rows() {
                    // SAFETY: a live tuple of the fetched table; its columns are those of the query text.
                    let (key, row) = unsafe { self.decode(tuple, fetched.descriptor())? };
                    if group.as_ref().is_none_or(|open| open.key.as_deref() != key) {
                        let next = ValueGroup { key: key.map(str::to_owned), ..ValueGroup::default() };
                        if let Some(done) = group.replace(next) {
                            each(done)?;
                        }
                    }
                    if let Some(group) = &mut group {
                        self.keep(group, row);
                    }
                }
            }
            // SAFETY: the portal was opened above and is closed once; after an error the server closes it.
            unsafe { pg_sys::SPI_cursor_close(cursor) };
            group.map_or(Ok(()), each)
        })
    }

    fn keep(&self, group: &mut ValueGroup, row: ValueRow) {
        if self.restated {
            let same = |other: Option<&ValueRow>| other.is_some_and(|other| other.start == row.start);
            if same(group.ahead.last()) {
                group.ahead.pop();
            } else if group.ahead.is_empty() && same(group.history.back()) {
                group.history.pop_back();
            }
        }
        let told = |cell: &Cell| matches!(cell, Cell::Number(value) if !value.is_nan());
        if row.start < self.as_of && row.cells[..self.targets].iter().any(told) {
            group.history.extend(group.ahead.drain(..));
            group.history.push_back(row);
            group.history.drain(..group.history.len().saturating_sub(self.keep));
        } else if group.ahead.len() < self.keep {
            // Beyond that many rows without a target nothing in front of them is within reach of a model.
            group.ahead.push(row);
        }
    }

    /// Key and values of one result row.
    ///
    /// # Safety
    /// `tuple` is live and has the columns of the query.
    unsafe fn decode<'a>(
        &self,
        tuple: pg_sys::HeapTuple,
        descriptor: pg_sys::TupleDesc,
    ) -> Result<(Option<&'a str>, ValueRow)> {
        let columns = BEFORE + self.categorical.len();
        let (mut values, mut nulls) = (vec![Datum::from(0); columns], vec![true; columns]);
        // SAFETY: both arrays have one entry per column.
        unsafe { pg_sys::heap_deform_tuple(tuple, descriptor, values.as_mut_ptr(), nulls.as_mut_ptr()) };
        if nulls[1] {
            return Err(Error::Internal { what: "a row without a time was read".into() });
        }
        let cell = |(index, &categorical): (usize, &bool)| -> Result<Cell> {
            let (value, null) = (values[BEFORE + index], nulls[BEFORE + index]);
            Ok(match (categorical, null) {
                (false, true) => Cell::Number(f64::NAN),
                (false, false) => Cell::Number(f64::from_bits(value.value() as u64)),
                (true, true) => Cell::Category(None),
                // SAFETY: a text datum of a live tuple.
                (true, false) => Cell::Category(Some(unsafe { text_of(value)? }.to_owned())),
            })
        };
        let cells = self.categorical.iter().enumerate().map(cell).collect::<Result<_>>()?;
        let row = ValueRow { start: values[1].value() as i64, cells };
        // SAFETY: as above.
        Ok((if nulls[0] { None } else { Some(unsafe { text_of(values[0])? }) }, row))
    }
}
