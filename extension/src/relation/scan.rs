//! One ordered scan, series by series, keeping only the newest bars of each.
//!
//! The server's own cursor is used rather than pgrx's, whose fetched rows stay allocated until the end of the SPI
//! session: a scan over years of bars would hold all of them.
#![allow(unsafe_code)] // SPI cursors and datums

use super::keys::readable;
use super::{Columns, Relation, columns::TimeKind, quote, sql};
use crate::calendar::Instant;
use crate::error::{Error, Result};
use chrono_tz::Tz;
use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::{IntoDatum, check_for_interrupts, spi::Spi, varlena};
use std::collections::VecDeque;
use std::ffi::{CStr, CString};

/// Rows fetched at once; a few hundred kilobytes.
const FETCH: std::ffi::c_long = 2000;

/// Up to this many named series are looked up one by one, which an index on (series, time) answers from its end.
const LOOKUPS: usize = 16;

/// Result columns of every scan: key, start, open, high, low, close, volume, amount.
const WIDTH: usize = 8;

/// One bar as it was read; NULL prices are NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// Start of the bar.
    pub start: Instant,
    /// Open, high, low, close.
    pub prices: [f64; 4],
    /// `None` when NULL or without a column.
    pub volume: Option<f64>,
    /// `None` when NULL or without a column.
    pub amount: Option<f64>,
}

/// The newest bars of one series, oldest first.
#[derive(Debug)]
pub struct Group {
    /// Its key; `None` for a single series, or for rows whose key is NULL.
    pub key: Option<String>,
    /// At most as many as asked for.
    pub rows: Vec<Row>,
}

/// What a scan reads of a relation.
#[derive(Debug, Clone, Copy)]
pub struct ScanLimits<'a> {
    /// Only bars that start before, and are known at, this instant.
    pub as_of: Instant,
    /// Only these series; `None` for all.
    pub only_series: Option<&'a [String]>,
    /// Newest bars kept per series.
    pub keep: usize,
    /// The zone that local times are read in.
    pub zone: Tz,
}

/// A query whose rows have the columns of [`WIDTH`], ordered by key and start.
pub struct Scan {
    text: CString,
    arguments: Vec<(Oid, Option<Datum>)>,
    keep: usize,
    /// A later row with the same start replaces the earlier one.
    restated: bool,
}

impl Scan {
    /// Reads bars from a relation.
    ///
    /// Rows without a time are not bars and are not read. With a `known_at` column the last version of a bar known at
    /// `as_of` counts.
    pub fn of_relation(relation: &Relation, columns: &Columns, limits: ScanLimits<'_>) -> Result<Self> {
        let time = format!("t.{}", quote(&columns.time.0));
        let (start, bound) = start_of(&columns.time, limits.zone);
        let number = |column: Option<&String>| match column {
            Some(name) => format!("t.{}::pg_catalog.float8", quote(name)),
            None => "null::pg_catalog.float8".to_owned(),
        };
        let key = columns.series.as_ref().map(|(name, _)| format!("t.{}", quote(name)));
        let mut list = vec![
            format!("{}::pg_catalog.text", key.as_deref().unwrap_or("null")),
            format!("{start} as start"),
        ];
        list.extend(columns.prices.iter().map(|name| number(Some(name))));
        list.push(number(columns.volume.as_ref()));
        list.push(number(columns.amount.as_ref()));
        let list = list.join(", ");
        let from = relation.quoted();
        let mut condition =
            format!("{time} operator(pg_catalog.<) {bound} and {time} operator(pg_catalog.>) '-infinity'");
        let mut order = time.clone();
        if let Some(known_at) = &columns.known_at {
            let known_at = format!("t.{}", quote(known_at));
            condition.push_str(&format!(" and {known_at} operator(pg_catalog.<=) $1"));
            order.push_str(&format!(", {known_at}"));
        }
        let mut arguments = vec![(pg_sys::TIMESTAMPTZOID, Some(Datum::from(limits.as_of)))];
        let newest = |extra: &str| {
            format!(
                "(select {list} from {from} t where {condition}{extra} order by {time} desc limit {})",
                limits.keep
            )
        };
        let text = match (&columns.series, &key, limits.only_series) {
            (Some((_, type_of)), Some(key), Some(only)) => {
                arguments.push((pg_sys::TEXTARRAYOID, readable(only, type_of).into_datum()));
                let names = format!("$2::pg_catalog.text[]::{type_of}[]");
                if only.len() <= LOOKUPS && columns.known_at.is_none() {
                    format!(
                        "select newest.* from (select distinct pg_catalog.unnest({names}) as key) k \
                         cross join lateral {} newest order by k.key, newest.start",
                        newest(&format!(" and {key} operator(pg_catalog.=) k.key"))
                    )
                } else {
                    format!(
                        "select {list} from {from} t where {condition} \
                         and {key} operator(pg_catalog.=) any ({names}) order by {key}, {order}"
                    )
                }
            }
            (_, Some(key), _) => {
                format!("select {list} from {from} t where {condition} order by {key}, {order}")
            }
            _ if columns.known_at.is_none() => {
                format!("select * from {} newest order by newest.start", newest(""))
            }
            _ => format!("select {list} from {from} t where {condition} order by {order}"),
        };
        Ok(Self { text: sql(text)?, arguments, keep: limits.keep, restated: columns.known_at.is_some() })
    }

    /// Reads bars from an array of `kronos.bar`, whose type is `array_type`.
    ///
    /// # Safety
    /// `bars` is a datum of that type, or `None` for NULL.
    pub unsafe fn of_array(
        bars: Option<Datum>,
        array_type: Oid,
        as_of: Instant,
        keep: usize,
    ) -> Result<Self> {
        let text = "select null::pg_catalog.text, b.ts, b.open, b.high, b.low, b.close, b.volume, b.amount \
             from pg_catalog.unnest($2) b where b.ts is null or b.ts operator(pg_catalog.<) $1 order by b.ts";
        Ok(Self {
            text: sql(text.to_owned())?,
            arguments: vec![(pg_sys::TIMESTAMPTZOID, Some(Datum::from(as_of))), (array_type, bars)],
            keep,
            restated: false,
        })
    }

    /// Runs the query as the caller and hands over series by series; interrupts are served between fetches.
    ///
    /// # Errors
    /// What `each` returns ends the scan; errors of the query itself are raised by the server.
    pub fn run(&self, mut each: impl FnMut(Group) -> Result<()>) -> Result<()> {
        Spi::connect(|_| {
            let cursor = open(&self.text, &self.arguments);
            let mut group: Option<(Option<String>, VecDeque<Row>)> = None;
            loop {
                check_for_interrupts!();
                let fetched = Fetched::next(cursor);
                if fetched.rows().is_empty() {
                    break;
                }
                for &tuple in fetched.rows() {
                    // SAFETY: a live tuple of the fetched table; its columns are those of the query text.
                    let (key, row) = unsafe { decode(tuple, fetched.descriptor())? };
                    match &mut group {
                        Some((open, rows)) if open.as_deref() == key => self.keep(rows, row),
                        _ => {
                            let next = (key.map(str::to_owned), VecDeque::from([row]));
                            if let Some((key, rows)) = group.replace(next) {
                                each(Group { key, rows: rows.into() })?;
                            }
                        }
                    }
                }
            }
            // SAFETY: the portal was opened above and is closed once; after an error the server closes it.
            unsafe { pg_sys::SPI_cursor_close(cursor) };
            match group {
                Some((key, rows)) => each(Group { key, rows: rows.into() }),
                None => Ok(()),
            }
        })
    }

    fn keep(&self, rows: &mut VecDeque<Row>, row: Row) {
        if self.restated && rows.back().is_some_and(|last| last.start == row.start) {
            rows.pop_back();
        }
        if rows.len() == self.keep {
            rows.pop_front();
        }
        rows.push_back(row);
    }
}

/// Opens a cursor on a query in the SPI session that the caller is connected to, under the snapshot of the calling query.
pub fn open(text: &CStr, arguments: &[(Oid, Option<Datum>)]) -> pg_sys::Portal {
    cursor(text, arguments, true)
}

/// Opens a cursor that sees what other sessions have committed since the calling query began, as a function that has waited for
/// a lock must.
pub fn open_current(text: &CStr, arguments: &[(Oid, Option<Datum>)]) -> pg_sys::Portal {
    cursor(text, arguments, false)
}

fn cursor(text: &CStr, arguments: &[(Oid, Option<Datum>)], read_only: bool) -> pg_sys::Portal {
    let mut types: Vec<Oid> = arguments.iter().map(|&(type_of, _)| type_of).collect();
    let mut values: Vec<Datum> =
        arguments.iter().map(|&(_, value)| value.unwrap_or_else(|| Datum::from(0))).collect();
    let nulls: Vec<std::ffi::c_char> =
        arguments.iter().map(|(_, value)| if value.is_some() { b' ' } else { b'n' } as _).collect();
    // SAFETY: connected to SPI; the three arrays have one entry per parameter; the text is NUL-terminated.
    unsafe {
        pg_sys::SPI_cursor_open_with_args(
            std::ptr::null(),
            text.as_ptr(),
            types.len() as i32,
            types.as_mut_ptr(),
            values.as_mut_ptr(),
            nulls.as_ptr(),
            read_only,
            pg_sys::CURSOR_OPT_NO_SCROLL as i32,
        )
    }
}

/// The time column as an instant, and the parameter `$1` as its column compares with it.
pub(super) fn start_of((time, kind): &(String, TimeKind), zone: Tz) -> (String, String) {
    let (time, zone) = (format!("t.{}", quote(time)), zone.name());
    match kind {
        TimeKind::Instant => (time, "$1".to_owned()),
        TimeKind::Local => (
            format!("pg_catalog.timezone('{zone}', {time}::pg_catalog.timestamp)"),
            format!("pg_catalog.timezone('{zone}', $1)"),
        ),
    }
}

/// One fetch from a cursor, freed when dropped.
pub struct Fetched(*mut pg_sys::SPITupleTable);

impl Fetched {
    /// The next rows of an open cursor of this SPI session; none at its end.
    pub fn next(cursor: pg_sys::Portal) -> Self {
        // SAFETY: an open portal of this SPI session; the table belongs to whoever frees it.
        unsafe {
            pg_sys::SPI_cursor_fetch(cursor, true, FETCH);
            Self(pg_sys::SPI_tuptable)
        }
    }

    /// The rows.
    pub fn rows(&self) -> &[pg_sys::HeapTuple] {
        // SAFETY: the server fills `vals` up to `numvals`; the table lives as long as self.
        unsafe {
            match self.0.as_ref() {
                Some(table) if table.numvals > 0 => {
                    std::slice::from_raw_parts(table.vals, table.numvals as usize)
                }
                _ => &[],
            }
        }
    }

    /// What the rows are made of; only asked for where there are rows.
    pub fn descriptor(&self) -> pg_sys::TupleDesc {
        // SAFETY: only asked for tables with rows.
        unsafe { (*self.0).tupdesc }
    }
}

impl Drop for Fetched {
    fn drop(&mut self) {
        // SAFETY: freed once; NULL is allowed.
        unsafe { pg_sys::SPI_freetuptable(self.0) };
    }
}

/// Key and bar of one result row.
///
/// # Safety
/// `tuple` is live and has the columns of [`WIDTH`]: text, timestamptz, six float8.
unsafe fn decode<'a>(
    tuple: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
) -> Result<(Option<&'a str>, Row)> {
    let mut values = [Datum::from(0); WIDTH];
    let mut nulls = [true; WIDTH];
    // SAFETY: both arrays have one entry per column.
    unsafe { pg_sys::heap_deform_tuple(tuple, descriptor, values.as_mut_ptr(), nulls.as_mut_ptr()) };
    let float = |column: usize| (!nulls[column]).then(|| f64::from_bits(values[column].value() as u64));
    let price = |column| float(column).unwrap_or(f64::NAN);
    if nulls[1] {
        return Err(Error::NullArgument { name: "ts of a bar" });
    }
    let row = Row {
        start: values[1].value() as i64,
        prices: [price(2), price(3), price(4), price(5)],
        volume: float(6),
        amount: float(7),
    };
    if nulls[0] {
        return Ok((None, row));
    }
    // SAFETY: a text datum of a live tuple.
    Ok((Some(unsafe { text_of(values[0])? }), row))
}

/// The characters of a text datum.
///
/// # Errors
/// 0A000 in a database of another encoding than UTF8.
///
/// # Safety
/// A text datum that outlives the result.
pub unsafe fn text_of<'a>(datum: Datum) -> Result<&'a str> {
    // SAFETY: promised by the caller; a compressed or external value is copied into the current context first.
    let bytes = unsafe {
        let text = pg_sys::pg_detoast_datum_packed(datum.cast_mut_ptr());
        varlena::varlena_to_byte_slice(text)
    };
    std::str::from_utf8(bytes).map_err(|_| Error::Unsupported {
        what: "a database encoding other than UTF8".into(),
        hint: "Create the database with ENCODING 'UTF8'.".into(),
    })
}
