//! `kronos.calendar_days()` and `kronos.infer_calendar()`.
#![allow(unsafe_code)] // #[pg_extern] expands to exported C functions

use super::forecast::{utf8, whole};
use crate::calendar::{self, Known, TELLING};
use crate::call::now;
use crate::error::{Error, Result};
use crate::relation::{Named, Relation, Rows, Scan, ScanLimits, Wanted, names, resolve};
use crate::result_set::ResultSet;
use chrono::{Datelike, NaiveDate};
use kronos_time::Keep;
use pgrx::datum::{Date, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use std::ffi::CStr;

/// Dates that a calendar can be asked about.
const YEARS: std::ops::RangeInclusive<i32> = 1900..=2200;

#[pg_extern(sql = false)]
fn calendar_days(
    calendar: Option<&str>,
    first: Option<Date>,
    last: Option<Date>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> std::result::Result<(), ErrorReport> {
    let name = calendar.ok_or(Error::NullArgument { name: "calendar" })?;
    let (first, last) = (date("first", first)?, date("last", last)?);
    let calendar = calendar::load(name)?;
    // SAFETY: the call information of this very function.
    let mut rows = unsafe { ResultSet::begin(fcinfo)? };
    for day in first.iter_days().take_while(|day| *day <= last) {
        pgrx::check_for_interrupts!();
        let epoch_days = day.signed_duration_since(EPOCH).num_days();
        for &(opens, closes) in calendar.sessions_of_day(day).iter() {
            rows.push::<3>(|row| {
                row.set(0, i32::try_from(epoch_days).ok());
                row.set_instant(1, Some(opens));
                row.set_instant(2, Some(closes));
            })?;
        }
    }
    Ok(())
}

/// Columns of bars, which are no keys of series.
const BARS: [&str; 8] = ["open", "high", "low", "close", "close_adj", "volume", "amount", "trade_count"];

#[pg_extern(sql = false)]
fn infer_calendar(
    relation: Option<Oid>,
    only_series: Option<Vec<Option<String>>>,
    series_col: Option<&CStr>,
    time_col: Option<&CStr>,
    as_of: Option<TimestampWithTimeZone>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> std::result::Result<(), ErrorReport> {
    let relation = Relation::open(relation)?;
    let only_series = whole("a name in only_series", only_series)?;
    let known = Known::new()?;
    let existing = names(&relation)?;
    let numbers = BARS.into_iter().filter(|name| existing.iter().any(|column| column == name));
    let numbers: Vec<Named<'_>> = numbers.map(Named::target).collect();
    let wanted = Wanted {
        series: series_col.map(utf8).transpose()?,
        time: time_col.map(utf8).transpose()?,
        known_at: None,
    };
    let columns = resolve(&relation, &wanted, &numbers)?;
    if only_series.is_some() && columns.series.is_none() {
        return Err(Error::NoSeriesColumn { relation: relation.display() }.into());
    }
    let as_of = as_of.map_or(i64::MAX, i64::from).min(now());
    let limits = ScanLimits {
        as_of,
        only_series: only_series.as_deref(),
        zone: chrono_tz::Tz::UTC,
        rows: Rows::Versions(Keep::Newest(TELLING)),
    };
    let scan = Scan::of_relation(&relation, &columns, limits)?;
    // SAFETY: the call information of this very function.
    let mut rows = unsafe { ResultSet::begin(fcinfo)? };
    scan.run(|history| {
        let newest = history.known_at(as_of, TELLING, &[]);
        let mut starts: Vec<i64> = (0..newest.len()).map(|row| newest.start(row)).collect();
        starts.dedup();
        let fitting = known.infer(None, &starts)?;
        let names: Vec<String> = fitting.iter().map(|calendar| calendar.name().to_owned()).collect();
        rows.push::<3>(|row| {
            row.set(0, history.key.as_deref());
            row.set(1, names.first().filter(|_| names.len() == 1).cloned());
            row.set(2, names);
        })
    })?;
    Ok(())
}

/// 2000-01-01, from which the server counts.
const EPOCH: NaiveDate = match NaiveDate::from_ymd_opt(2000, 1, 1) {
    Some(date) => date,
    None => NaiveDate::MIN,
};

fn date(name: &'static str, value: Option<Date>) -> Result<NaiveDate> {
    let value = value.ok_or(Error::NullArgument { name })?;
    let days = chrono::TimeDelta::days(value.to_pg_epoch_days().into());
    EPOCH.checked_add_signed(days).filter(|date| YEARS.contains(&date.year())).ok_or_else(|| {
        Error::InvalidArgument {
            name: name.into(),
            expected: "a date between the years 1900 and 2200".into(),
            got: format!("{} days from 2000", value.to_pg_epoch_days()),
            hint: None,
        }
    })
}
