//! Starts of the bars that outcomes are read from.

use crate::calendar::Instant;
use crate::error::{Error, Result};
use crate::relation::{Columns, Relation, TimeKind, quote};
use crate::statement::{self, Sight};
use chrono_tz::Tz;
use pgrx::spi::Spi;

/// Bars that the width is told from.
const NEWEST: usize = 257;

/// The newest starts of a series in the outcomes, ascending.
pub fn newest(
    columns: &Columns,
    actuals: &Relation,
    zone: Tz,
    series: &str,
    before: Instant,
) -> Result<Vec<Instant>> {
    let (start, bound) = start_and_bound(columns, zone.name(), "$1");
    let time = format!("t.{}", quote(&columns.time.0));
    let key = match &columns.series {
        Some((name, type_of)) => format!("t.{} operator(pg_catalog.=) $2::{type_of}", quote(name)),
        None => "$2 is not null".into(),
    };
    let text = format!(
        "select {start} from {} t where {time} operator(pg_catalog.<) {bound} and {key} order by {time} desc limit {NEWEST}",
        actuals.quoted()
    );
    Spi::connect(|client| {
        let arguments = [instant(before)?.into(), series.into()];
        let rows = statement::select_text(client, Sight::Now, &text, &arguments)?;
        let mut starts = Vec::with_capacity(rows.len());
        for row in rows {
            if let Some(start) = row.get::<pgrx::datum::TimestampWithTimeZone>(1)? {
                starts.push(i64::from(start));
            }
        }
        starts.reverse();
        Ok(starts)
    })
}

/// An instant as an argument.
pub fn instant(at: Instant) -> Result<pgrx::datum::TimestampWithTimeZone> {
    pgrx::datum::TimestampWithTimeZone::try_from(at)
        .map_err(|_| Error::Internal { what: "an instant is out of range".into() })
}

/// The start of a bar as an instant, and an instant as the time column compares with it.
pub fn start_and_bound(columns: &Columns, zone: &str, at: &str) -> (String, String) {
    let time = format!("t.{}", quote(&columns.time.0));
    match columns.time.1 {
        TimeKind::Instant => (time, at.to_owned()),
        TimeKind::Local => (
            format!("pg_catalog.timezone('{zone}', {time}::pg_catalog.timestamp)"),
            format!("pg_catalog.timezone('{zone}', {at})"),
        ),
    }
}
