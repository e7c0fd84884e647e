//! One ordered scan, series by series, over the columns that a reader wants.
//!
//! A reader of one moment needs the newest rows of each series, which an index on key and time has at its end: there they are looked
//! up, series by series, rather than read with all that lies before them.
#![allow(unsafe_code)] // datums

use super::cursor::{Fetched, open, text_of};
use super::history::History;
use super::keys::{is_indexed, readable, worth_looking_up};
use super::rows::{Known, Rows};
use super::{Columns, Relation, TimeKind, quote, sql};
use crate::calendar::Instant;
use crate::error::{Error, Result};
use chrono_tz::Tz;
use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::{IntoDatum, check_for_interrupts, spi::Spi};
use std::ffi::CString;

/// Up to this many named series are looked up one by one whether the server tells of an index for it or not: it does not for views.
const LOOKUPS: usize = 16;

/// Result columns before the values: key, start, when known.
const BEFORE: usize = 3;

/// What a scan reads of a relation.
#[derive(Debug, Clone, Copy)]
pub struct ScanLimits<'a> {
    /// Only rows known at this instant, and only targets of rows that start before it.
    pub as_of: Instant,
    /// Only these series; `None` for all.
    pub only_series: Option<&'a [String]>,
    /// The zone that local times are read in.
    pub zone: Tz,
    /// Which rows of each series.
    pub rows: Rows,
}

/// A query ordered by key, start and when known.
pub struct Scan {
    text: CString,
    arguments: Vec<(Oid, Option<Datum>)>,
    /// Whether each value is a category.
    categorical: Vec<bool>,
    restated: bool,
    as_of: Instant,
    rows: Rows,
}

impl Scan {
    /// Reads the columns from a relation; rows without a time are not read.
    ///
    /// # Errors
    /// What the server raises.
    pub fn of_relation(relation: &Relation, columns: &Columns, limits: ScanLimits<'_>) -> Result<Self> {
        let query = Query::of(relation, columns, &limits);
        let mut arguments = vec![(pg_sys::TIMESTAMPTZOID, Some(Datum::from(limits.as_of)))];
        let (names, look_up) = query.access()?;
        if let Some(names) = names {
            arguments.push((pg_sys::TEXTARRAYOID, names.into_datum()));
        }
        Ok(Self {
            text: sql(match look_up {
                Some(known) => query.look_up(known),
                None => query.read(arguments.len() > 1),
            })?,
            arguments,
            categorical: columns.values.iter().map(|column| column.categorical).collect(),
            restated: columns.known_at.is_some(),
            as_of: limits.as_of,
            rows: limits.rows,
        })
    }

    /// Reads bars from an array of `kronos.bar`, whose type is `array_type`.
    ///
    /// # Safety
    /// `bars` is a datum of that type, or `None` for NULL.
    pub unsafe fn of_array(
        bars: Option<Datum>,
        array_type: Oid,
        as_of: Instant,
        known: Known,
    ) -> Result<Self> {
        let text = "select null::pg_catalog.text, b.ts, null::pg_catalog.timestamptz, b.open, b.high, b.low, b.close, b.volume, b.amount \
             from pg_catalog.unnest($2) b where b.ts is null or b.ts operator(pg_catalog.<) $1 order by b.ts";
        Ok(Self {
            text: sql(text.to_owned())?,
            arguments: vec![(pg_sys::TIMESTAMPTZOID, Some(Datum::from(as_of))), (array_type, bars)],
            categorical: vec![false; 6],
            restated: false,
            as_of,
            rows: Rows::Known(known),
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
            // One more for what rows are ordered by.
            let columns = BEFORE + self.categorical.len() + 1;
            let (mut values, mut nulls) = (vec![Datum::from(0); columns], vec![true; columns]);
            loop {
                check_for_interrupts!();
                let fetched = Fetched::next(cursor);
                if fetched.rows().is_empty() {
                    break;
                }
                for &tuple in fetched.rows() {
                    // SAFETY: a live tuple of the fetched table; both arrays have one entry per column of the query.
                    unsafe {
                        pg_sys::heap_deform_tuple(
                            tuple,
                            fetched.descriptor(),
                            values.as_mut_ptr(),
                            nulls.as_mut_ptr(),
                        );
                        self.take(&values, &nulls, &mut history, &mut each)?;
                    };
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
    /// Values and nulls are those of a live tuple of the query.
    unsafe fn take(
        &self,
        values: &[Datum],
        nulls: &[bool],
        history: &mut Option<History>,
        each: &mut impl FnMut(History) -> Result<()>,
    ) -> Result<()> {
        if nulls[1] {
            return Err(Error::NullArgument { name: "ts of a bar" });
        }
        // SAFETY: a text datum of a live tuple.
        let key = if nulls[0] { None } else { Some(unsafe { text_of(values[0])? }) };
        if history.as_ref().is_none_or(|open| open.key.as_deref() != key) {
            let next = History::new(key.map(str::to_owned), &self.categorical, self.restated);
            if let Some(done) = history.replace(next) {
                each(done)?;
            }
        }
        let Some(history) = history else { return Ok(()) };
        let start = values[1].value() as i64;
        let known_at = if nulls[2] { Instant::MIN } else { values[2].value() as i64 };
        if !history.opens(start, known_at, self.rows, self.as_of) {
            return Ok(());
        }
        let cells = nulls[BEFORE..].iter().zip(&values[BEFORE..]);
        for (&categorical, (&null, &value)) in self.categorical.iter().zip(cells) {
            match (null, categorical) {
                (true, _) => history.push_null(),
                (_, false) => history.push_number(f64::from_bits(value.value() as u64)),
                // SAFETY: a text datum of a live tuple.
                (_, true) => history.push_category(unsafe { text_of(value)? }),
            }
        }
        history.close(self.rows, self.as_of);
        Ok(())
    }
}

/// The parts that the texts of scans are made of.
struct Query<'a> {
    relation: &'a Relation,
    columns: &'a Columns,
    limits: &'a ScanLimits<'a>,
    time: String,
    key: Option<String>,
    /// The select list: key, start, when known, values.
    list: String,
    /// Rows that are no future.
    past: String,
}

impl<'a> Query<'a> {
    fn of(relation: &'a Relation, columns: &'a Columns, limits: &'a ScanLimits<'a>) -> Self {
        let time = format!("t.{}", quote(&columns.time.0));
        let (start, bound) = start_of(&columns.time, limits.zone);
        let key = columns.series.as_ref().map(|(name, _)| format!("t.{}", quote(name)));
        let known_at = columns.known_at.as_ref().map(|name| format!("t.{}", quote(name)));
        let mut list = vec![
            format!("{}::pg_catalog.text as series", key.as_deref().unwrap_or("null")),
            format!("{start} as start"),
            format!("{} as known", known_at.as_deref().unwrap_or("null::pg_catalog.timestamptz")),
        ];
        let values = columns.values.iter().enumerate();
        list.extend(values.map(|(place, column)| format!("{} as v{place}", column.expression())));
        let past =
            format!("{time} operator(pg_catalog.>) '-infinity' and {time} operator(pg_catalog.<) {bound}");
        Self { relation, columns, limits, list: list.join(", "), past, time, key }
    }

    /// The names to read, where not all are, and whether each is looked up by itself.
    fn access(&self) -> Result<(Option<Vec<String>>, Option<Known>)> {
        // Of several versions of a row the newest is not the one that an index has at its end.
        let known = match self.limits.rows {
            Rows::Known(known) if self.columns.known_at.is_none() => Some(known),
            _ => None,
        };
        let Some((key, type_of)) = &self.columns.series else { return Ok((None, known)) };
        let time = &self.columns.time.0;
        match (self.limits.only_series, known) {
            (Some(only), None) => Ok((Some(readable(only, type_of)), None)),
            (Some(only), Some(known)) => {
                let names = readable(only, type_of);
                let look_up = names.len() <= LOOKUPS || is_indexed(self.relation, key, time)?;
                Ok((Some(names), look_up.then_some(known)))
            }
            (None, None) => Ok((None, None)),
            (None, Some(known)) => {
                let names = worth_looking_up(self.relation, key, time, known.keep + known.ahead)?;
                let look_up = names.is_some().then_some(known);
                Ok((names, look_up))
            }
        }
    }

    /// Reads all rows, or all of the series named in `$2`.
    fn read(&self, named: bool) -> String {
        let Self { time, list, .. } = self;
        let mut condition = match self.limits.rows {
            Rows::Known(Known { ahead: 1.., .. }) => format!(
                "{time} operator(pg_catalog.>) '-infinity' and {time} operator(pg_catalog.<) 'infinity'"
            ),
            _ => self.past.clone(),
        };
        let mut order: Vec<String> = self.key.iter().chain([time]).cloned().collect();
        if let Some(name) = &self.columns.known_at {
            let known_at = format!("t.{}", quote(name));
            condition.push_str(&format!(" and {known_at} operator(pg_catalog.<=) $1"));
            order.push(known_at);
        }
        if let (Some(key), true) = (&self.key, named) {
            condition.push_str(&format!(" and {key} operator(pg_catalog.=) any ({})", self.names()));
        }
        format!(
            "select {list} from {} t where {condition} order by {}",
            self.relation.quoted(),
            order.join(", ")
        )
    }

    /// Looks up the newest rows of each of the series named in `$2`, or of the only one.
    fn look_up(&self, known: Known) -> String {
        let Self { time, past, .. } = self;
        let from = self.relation.quoted();
        let (keys, own, list, order) = match &self.key {
            Some(key) => (
                format!("(select distinct pg_catalog.unnest({}) as key)", self.names()),
                format!(" and {key} operator(pg_catalog.=) k.key"),
                format!("{}, {key} as place", self.list),
                "newest.place, newest.start",
            ),
            None => ("(select)".to_owned(), String::new(), self.list.clone(), "newest.start"),
        };
        let has_target: Vec<String> = self.columns.values[..known.targets]
            .iter()
            .map(|column| format!("{} operator(pg_catalog.<>) 'NaN'", column.expression()))
            .collect();
        let newest = |more: &str| {
            let keep = known.keep;
            format!("(select {list} from {from} t where {past}{own}{more} order by {time} desc limit {keep})")
        };
        if has_target.is_empty() {
            let newest = newest("");
            return format!(
                "select newest.* from {keys} k cross join lateral {newest} newest order by {order}"
            );
        }
        let last = format!(
            "(select {time} as at from {from} t where {past}{own} and ({}) order by {time} desc limit 1)",
            has_target.join(" or ")
        );
        // Without a target there is nothing to forecast, but there is a series.
        let mut rows = newest(&format!(" and {time} operator(pg_catalog.<=) coalesce(last.at, 'infinity')"));
        if known.ahead > 0 {
            rows.push_str(&format!(
                " union all (select {list} from {from} t where {time} operator(pg_catalog.>) last.at \
                 and {time} operator(pg_catalog.<) 'infinity'{own} order by {time} limit {})",
                known.ahead
            ));
        }
        format!(
            "select newest.* from {keys} k left join lateral {last} last on true \
             cross join lateral ({rows}) newest order by {order}"
        )
    }

    /// The keys in `$2`, of the type of their column.
    fn names(&self) -> String {
        let type_of = self.columns.series.as_ref().map_or("pg_catalog.text", |(_, type_of)| type_of);
        format!("$2::pg_catalog.text[]::{type_of}[]")
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
