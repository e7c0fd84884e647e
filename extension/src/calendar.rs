//! Calendars of the catalogue, and intervals as widths: what the arithmetic of time has from PostgreSQL.

use crate::error::{Error, Result};
use crate::statement::{self, Sight};
use chrono::{Days, NaiveDate};
use chrono_tz::Tz;
use kronos_time::Session;
use pgrx::datum::Interval;
use pgrx::spi::{Spi, SpiClient};
use std::collections::BTreeMap;

pub use kronos_time::{Calendar, Grid, Instant, Width, end, infer_width, label_zone};

/// A session that lasts all day.
const ALL_DAY: Session = Session { open: 0, close: 86_400 };

/// An interval as the width of a bar; `None` for one that [`Width::DOMAIN`] does not include.
pub fn width(interval: &Interval) -> Option<Width> {
    Width::from_parts(interval.months(), interval.days(), interval.micros())
}

/// Reads a calendar as the invoker, through the views of schema `kronos`.
///
/// The queries take the name as `(select $1)`: where the planner sees it, it finds a plan for that very name cheaper by a
/// hair and plans anew in every call.
///
/// # Errors
/// [`Error::UndefinedCalendar`] for a name nobody defined.
pub fn load(name: &str) -> Result<Calendar> {
    Spi::connect(|client| {
        let Some(zone) = zone(client, name)? else {
            return Err(Error::UndefinedCalendar { name: name.to_owned(), known: names(client)? });
        };
        let weekly = weekly(client, name)?;
        let exceptions = exceptions(client, name)?;
        if exceptions.is_empty() && weekly.iter().all(|sessions| sessions.as_slice() == [ALL_DAY]) {
            return Ok(Calendar::always(name, zone));
        }
        Ok(Calendar::with_sessions(name, zone, weekly, exceptions))
    })
}

fn zone(client: &SpiClient<'_>, name: &str) -> Result<Option<Tz>> {
    let found = statement::select(
        client,
        Sight::Query,
        "select timezone from kronos.calendars where name = (select $1)",
        Some(1),
        &[name.into()],
    )?;
    let Some(row) = found.into_iter().next() else { return Ok(None) };
    let zone = row.get::<String>(1)?.unwrap_or_default();
    zone.parse().map(Some).map_err(|_| Error::Unsupported {
        what: format!("time zone \"{zone}\" of calendar \"{name}\""),
        hint: "Use an IANA name such as America/New_York.".into(),
    })
}

fn names(client: &SpiClient<'_>) -> Result<Vec<String>> {
    let rows = statement::select(
        client,
        Sight::Query,
        "select name from kronos.calendars order by name",
        None,
        &[],
    )?;
    Ok(rows
        .into_iter()
        .map(|row| row.get::<String>(1))
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .flatten()
        .collect())
}

fn weekly(client: &SpiClient<'_>, name: &str) -> Result<[Vec<Session>; 7]> {
    let rows = statement::select(
        client,
        Sight::Query,
        "select weekday::int4, extract(epoch from opens)::int4, extract(epoch from closes)::int4
         from kronos.calendar_sessions where calendar = (select $1)",
        None,
        &[name.into()],
    )?;
    let mut weekly: [Vec<Session>; 7] = Default::default();
    for row in rows {
        let (Some(weekday), Some(open), Some(close)) = (row.get::<i32>(1)?, row.get(2)?, row.get(3)?) else {
            continue;
        };
        if let Some(sessions) = usize::try_from(weekday - 1).ok().and_then(|weekday| weekly.get_mut(weekday))
        {
            sessions.push(Session { open, close });
        }
    }
    Ok(weekly)
}

/// Dates with their own sessions; a date without any is listed with an empty list.
fn exceptions(client: &SpiClient<'_>, name: &str) -> Result<BTreeMap<NaiveDate, Vec<Session>>> {
    let rows = statement::select(
        client,
        Sight::Query,
        "select day - date '1970-01-01', extract(epoch from opens)::int4, extract(epoch from closes)::int4
         from kronos.calendar_exceptions where calendar = (select $1)",
        None,
        &[name.into()],
    )?;
    let mut exceptions: BTreeMap<NaiveDate, Vec<Session>> = BTreeMap::new();
    for row in rows {
        let Some(day) = row.get::<i32>(1)?.and_then(date) else { continue };
        let sessions = exceptions.entry(day).or_default();
        if let (Some(open), Some(close)) = (row.get(2)?, row.get(3)?) {
            sessions.push(Session { open, close });
        }
    }
    Ok(exceptions)
}

/// The date some days after 1970-01-01; `None` beyond the dates that can be computed with.
fn date(days: i32) -> Option<NaiveDate> {
    let offset = Days::new(days.unsigned_abs().into());
    let epoch = NaiveDate::default();
    if days < 0 { epoch.checked_sub_days(offset) } else { epoch.checked_add_days(offset) }
}
