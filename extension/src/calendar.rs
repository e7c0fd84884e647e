//! Calendars of the catalogue, and intervals as widths: what the arithmetic of time has from PostgreSQL.

mod of_series;

pub use of_series::{Calendars, Known, TELLING};

use crate::error::{Error, Result};
use crate::statement::{self, Sight};
use chrono::{Days, NaiveDate};
use chrono_tz::Tz;
use kronos_time::{Session, Week};
use pgrx::datum::Interval;
use pgrx::spi::{Spi, SpiClient};
use std::collections::{BTreeMap, HashMap};

pub use kronos_time::{Calendar, Grid, Instant, Width, infer_width, label_zone};

/// A session that lasts all day.
const ALL_DAY: Session = Session { open: 0, close: 86_400 };

/// An interval as the width of a bar; `None` for one that [`Width::DOMAIN`] does not include.
pub fn width(interval: &Interval) -> Option<Width> {
    Width::from_parts(interval.months(), interval.days(), interval.micros())
}

/// Reads a calendar as the invoker, through the views of schema `kronos`.
///
/// # Errors
/// [`Error::UndefinedCalendar`] for a name nobody defined.
pub fn load(name: &str) -> Result<Calendar> {
    Spi::connect(|client| match read(client, Some(name))?.pop() {
        Some(calendar) => Ok(calendar),
        None => Err(Error::UndefinedCalendar { name: name.to_owned(), known: names(client)? }),
    })
}

/// Reads a calendar as the invoker, if there is one of that name.
pub fn find(name: &str) -> Result<Option<Calendar>> {
    Spi::connect(|client| Ok(read(client, Some(name))?.pop()))
}

/// Reads every calendar as the invoker: those of the extension, then those of users.
pub fn load_all() -> Result<Vec<Calendar>> {
    Spi::connect(|client| read(client, None))
}

/// One calendar, or all.
///
/// The queries take the name as `(select $1)`: where the planner sees it, it finds a plan for that very name cheaper by a
/// hair and plans anew in every call.
fn read(client: &SpiClient<'_>, name: Option<&str>) -> Result<Vec<Calendar>> {
    let of = |column: &str| match name {
        Some(_) => format!("where {column} operator(pg_catalog.=) (select $1)"),
        None => "where $1::text is null".to_owned(),
    };
    let mut weeks = weeks(client, name, &of("calendar"))?;
    let mut exceptions = exceptions(client, name, &of("calendar"))?;
    // XNYS before XNAS: of two markets with the same hours the first is meant.
    let text = format!(
        "select name, timezone from kronos.calendars {} order by builtin desc, name collate \"C\" desc",
        of("name")
    );
    let mut calendars = Vec::new();
    for row in statement::select_text(client, Sight::Query, &text, &[name.into()])? {
        let (name, zone) =
            (row.get::<String>(1)?.unwrap_or_default(), row.get::<String>(2)?.unwrap_or_default());
        let zone: Tz = zone.parse().map_err(|_| Error::Unsupported {
            what: format!("time zone \"{zone}\" of calendar \"{name}\""),
            hint: "Use an IANA name such as America/New_York.".into(),
        })?;
        let weeks: Vec<(NaiveDate, Week)> = weeks.remove(&name).unwrap_or_default().into_iter().collect();
        let exceptions = exceptions.remove(&name).unwrap_or_default();
        let mut lists = weeks.iter().flat_map(|(_, week)| week);
        let always = exceptions.is_empty()
            && !weeks.is_empty()
            && lists.all(|sessions| sessions.as_slice() == [ALL_DAY]);
        calendars.push(match always {
            true => Calendar::always(name, zone),
            false => Calendar::with_weeks(name, zone, weeks, exceptions),
        });
    }
    Ok(calendars)
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

/// The regular sessions of calendars, by the date from which they hold.
fn weeks(
    client: &SpiClient<'_>,
    name: Option<&str>,
    of: &str,
) -> Result<HashMap<String, BTreeMap<NaiveDate, Week>>> {
    let text = format!(
        "select calendar, weekday::int4, extract(epoch from opens)::int4, extract(epoch from closes)::int4,
                case when pg_catalog.isfinite(since) then since - date '1970-01-01' end
         from kronos.calendar_sessions {of}"
    );
    let mut found: HashMap<String, BTreeMap<NaiveDate, Week>> = HashMap::new();
    for row in statement::select_text(client, Sight::Query, &text, &[name.into()])? {
        let (Some(calendar), Some(weekday), Some(open), Some(close)) =
            (row.get::<String>(1)?, row.get::<i32>(2)?, row.get(3)?, row.get(4)?)
        else {
            continue;
        };
        let since = row.get::<i32>(5)?.and_then(date).unwrap_or(NaiveDate::MIN);
        let week = found.entry(calendar).or_default().entry(since).or_default();
        if let Some(sessions) = usize::try_from(weekday - 1).ok().and_then(|weekday| week.get_mut(weekday)) {
            sessions.push(Session { open, close });
        }
    }
    Ok(found)
}

/// Dates with their own sessions; a date without any is listed with an empty list.
fn exceptions(
    client: &SpiClient<'_>,
    name: Option<&str>,
    of: &str,
) -> Result<HashMap<String, BTreeMap<NaiveDate, Vec<Session>>>> {
    let text = format!(
        "select calendar, day - date '1970-01-01', extract(epoch from opens)::int4, extract(epoch from closes)::int4
         from kronos.calendar_exceptions {of}"
    );
    let mut found: HashMap<String, BTreeMap<NaiveDate, Vec<Session>>> = HashMap::new();
    for row in statement::select_text(client, Sight::Query, &text, &[name.into()])? {
        let (Some(calendar), Some(day)) = (row.get::<String>(1)?, row.get::<i32>(2)?.and_then(date)) else {
            continue;
        };
        let sessions = found.entry(calendar).or_default().entry(day).or_default();
        if let (Some(open), Some(close)) = (row.get(3)?, row.get(4)?) {
            sessions.push(Session { open, close });
        }
    }
    Ok(found)
}

/// The date some days after 1970-01-01; `None` beyond the dates that can be computed with.
fn date(days: i32) -> Option<NaiveDate> {
    let offset = Days::new(days.unsigned_abs().into());
    let epoch = NaiveDate::default();
    if days < 0 { epoch.checked_sub_days(offset) } else { epoch.checked_add_days(offset) }
}
