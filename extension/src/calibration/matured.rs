//! Forecasts and their outcomes, in the order in which outcomes became known.
#![allow(unsafe_code)] // SPI cursors and datums

use super::Definition;
use super::starts::start_and_bound;
use crate::calendar::Instant;
use crate::error::Result;
use crate::relation::{Fetched, ValueColumn, open_current, quote, sql, text_of};
use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::spi::Spi;
use pgrx::{IntoDatum, check_for_interrupts};

/// Columns of the query of [`read`].
const WIDTH: usize = 11;

/// A forecast, with its outcome where that is known.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its place on the queue; `None` when it comes fresh from the ledger.
    pub queue_id: Option<i64>,
    /// Key of the series.
    pub series: String,
    /// Step.
    pub step: i32,
    /// Start of the bar that was forecast.
    pub ts: Instant,
    /// End of the last bar used.
    pub cutoff: Instant,
    /// Model.
    pub model_version: String,
    /// Point, lower and upper of the model itself.
    pub forecast: [f64; 3],
    /// Outcome, and when it was known.
    pub outcome: Option<(f64, Instant)>,
}

/// Reads the fresh forecasts of `runs` and, unless everything is learnt anew, those that wait: first those whose outcome was
/// known at `through`, in the order in which it became known, then the others.
///
/// Of several versions of an outcome the first one counts, so that it does not matter when somebody asked; `latest` takes the
/// last one known.
pub fn read(
    definition: &Definition,
    runs: Vec<i64>,
    through: Instant,
    (width, bar_zone): &(String, String),
    latest: bool,
    mut each: impl FnMut(Candidate) -> Result<()>,
    mut pause: impl FnMut() -> Result<()>,
) -> Result<()> {
    let columns = definition.columns()?;
    let calendar_zone = definition.calendar()?.zone();
    let zone = calendar_zone.name();
    let actuals = definition.actuals()?.quoted();
    let (_, at) = start_and_bound(&columns, zone, "c.ts");
    let time = format!("t.{}", quote(&columns.time.0));
    let mut condition = format!("{time} operator(pg_catalog.=) {at}");
    if let Some((name, type_of)) = &columns.series {
        condition.push_str(&format!(" and t.{} operator(pg_catalog.=) c.series::{type_of}", quote(name)));
    }
    let value = columns.values.first().map_or_else(|| "null".to_owned(), ValueColumn::expression);
    let join = match &columns.known_at {
        None => format!(
            "left join {actuals} t on {condition} and c.ts operator(pg_catalog.<) $7
             cross join lateral (select {value} as value, '-infinity'::timestamptz as known_at) a"
        ),
        Some(name) => {
            let known_at = format!("t.{}", quote(name));
            format!(
                "left join lateral (select {value} as value, {known_at} as known_at from {actuals} t
                   where {condition} and c.ts operator(pg_catalog.<) $7 and {known_at} operator(pg_catalog.<=) $7
                     and {value} is not null
                   order by {known_at}{} limit 1) a on true",
                if latest { " desc" } else { "" }
            )
        }
    };
    let model = match &definition.model {
        None => "$8::text is null",
        Some(version) if version.contains('@') => "f.model_version operator(pg_catalog.=) $8",
        Some(_) => "pg_catalog.split_part(f.model_version, '@', 1) operator(pg_catalog.=) $8",
    };
    // Hours are counted in time, days and months by the clock on the wall.
    let end = if width.ends_with("microseconds") {
        format!("c.ts operator(pg_catalog.+) interval '{width}'")
    } else {
        format!(
            "pg_catalog.timezone('{bar_zone}', pg_catalog.timezone('{bar_zone}', c.ts) operator(pg_catalog.+) interval '{width}')"
        )
    };
    let waiting = if latest { "and false" } else { "" };
    let text = format!(
        "select d.queue_id, d.series, d.step, d.ts, d.cutoff, d.model_version, d.point, d.lower, d.upper, d.value, d.known
         from (
           select c.*, a.value,
                  case when a.value is not null then greatest(a.known_at, {end}) end as known
           from (
             select null::bigint as queue_id, f.series, f.step, f.ts, f.cutoff, f.model_version,
                    coalesce(f.raw_forecast, f.forecast) as point, coalesce(f.raw_lower, f.lower) as lower,
                    coalesce(f.raw_upper, f.upper) as upper
             from kronos.forecasts f
             where f.run_id operator(pg_catalog.=) any ($2) and f.relation::oid operator(pg_catalog.=) $3
               and f.target operator(pg_catalog.=) $4 and f.level operator(pg_catalog.=) $5
               and f.calibration operator(pg_catalog.=) any (array['', $1]) and {model}
               and f.kind operator(pg_catalog.=) any ($6)
             union all
             select q.queue_id, q.series, q.step, q.ts, q.cutoff, q.model_version, q.forecast, q.lower, q.upper
             from ledger.own_calibration_queue q
             where q.calibration operator(pg_catalog.=) $1 and q.ts operator(pg_catalog.<) $7 {waiting}
           ) c {join}
           where c.point is not null and c.lower is not null and c.upper is not null
         ) d
         order by case when d.known operator(pg_catalog.<=) $7 then d.known end nulls last, d.ts, d.series collate \"C\", d.step,
                  d.model_version collate \"C\", d.cutoff, d.queue_id, d.value, d.point, d.lower, d.upper"
    );
    let kinds: Vec<String> = definition.options.kinds.iter().map(ToString::to_string).collect();
    let arguments: Vec<(Oid, Option<Datum>)> = vec![
        (pg_sys::TEXTOID, definition.name.as_str().into_datum()),
        (pg_sys::INT8ARRAYOID, runs.into_datum()),
        (pg_sys::OIDOID, definition.relation.into_datum()),
        (pg_sys::TEXTOID, definition.target.as_str().into_datum()),
        (pg_sys::FLOAT8OID, definition.options.settings.level.into_datum()),
        (pg_sys::TEXTARRAYOID, kinds.into_datum()),
        (pg_sys::TIMESTAMPTZOID, Some(Datum::from(through))),
        (pg_sys::TEXTOID, definition.model.as_deref().into_datum()),
    ];
    let text = sql(text)?;
    Spi::connect(|_| {
        let cursor = open_current(&text, &arguments);
        loop {
            check_for_interrupts!();
            let fetched = Fetched::next(cursor);
            if fetched.rows().is_empty() {
                break;
            }
            for &tuple in fetched.rows() {
                // SAFETY: a live tuple of the fetched table; its columns are those of the query text.
                each(unsafe { decode(tuple, fetched.descriptor(), through)? })?;
            }
            drop(fetched);
            pause()?;
        }
        // SAFETY: the portal was opened above and is closed once; after an error the server closes it.
        unsafe { pg_sys::SPI_cursor_close(cursor) };
        Ok(())
    })
}

/// One row of the query of [`read`].
///
/// # Safety
/// `tuple` is live and has its columns.
unsafe fn decode(
    tuple: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
    through: Instant,
) -> Result<Candidate> {
    let mut values = [Datum::from(0); WIDTH];
    let mut nulls = [true; WIDTH];
    // SAFETY: both arrays have one entry per column.
    unsafe { pg_sys::heap_deform_tuple(tuple, descriptor, values.as_mut_ptr(), nulls.as_mut_ptr()) };
    let given = |column: usize| (!nulls[column]).then(|| values[column]);
    let instant = |column: usize| given(column).map_or(0, |datum| datum.value() as i64);
    let number = |column: usize| given(column).map_or(f64::NAN, |datum| f64::from_bits(datum.value() as u64));
    let text = |column: usize| match given(column) {
        // SAFETY: a text column of a live tuple.
        Some(datum) => unsafe { text_of(datum) }.map(str::to_owned),
        None => Ok(String::new()),
    };
    Ok(Candidate {
        queue_id: given(0).map(|datum| datum.value() as i64),
        series: text(1)?,
        step: given(2).map_or(0, |datum| datum.value() as i32),
        ts: instant(3),
        cutoff: instant(4),
        model_version: text(5)?,
        forecast: [number(6), number(7), number(8)],
        outcome: given(9)
            .and(given(10))
            .map(|_| (number(9), instant(10)))
            .filter(|&(_, known)| known <= through),
    })
}
