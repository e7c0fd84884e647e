//! `kronos.simulate_bars()`.
#![allow(unsafe_code)] // #[pg_extern] expands to exported C functions
#![allow(clippy::too_many_arguments)] // the argument list is that of SQL

use crate::calendar;
use crate::error::Error;
use crate::guc;
use crate::json::JsonB;
use crate::result_set::ResultSet;
use crate::simulate::{self, Schedule};
use kronos_models::simulate::Simulation;
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use std::collections::HashSet;

#[pg_extern(sql = false)]
fn simulate_bars(
    symbols: Option<Vec<Option<String>>>,
    n: Option<i32>,
    bucket_width: Option<Interval>,
    start: Option<TimestampWithTimeZone>,
    seed: Option<i64>,
    calendar: Option<&str>,
    options: Option<JsonB>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    let symbols = named("symbols", symbols)?;
    let symbols = symbols.into_iter().map(|symbol| named("symbol", symbol)).collect::<Result<Vec<_>, _>>()?;
    let mut seen = HashSet::new();
    if let Some(twice) = symbols.iter().find(|symbol| !seen.insert(symbol.as_str())) {
        return Err(Error::InvalidArgument {
            name: "symbols".into(),
            expected: "distinct".into(),
            got: format!("\"{twice}\" twice"),
            hint: None,
        }
        .into());
    }
    let n = simulate::bars(named("n", n)?)?;
    let width = simulate::width(&named("bucket_width", bucket_width)?)?;
    let start = i64::from(named("start", start)?);
    let seed = named("seed", seed)?;
    let market = simulate::market(options)?;
    if symbols.len() > guc::max_series_per_call() {
        return Err(Error::LimitExceeded {
            what: "number of symbols",
            got: symbols.len() as u64,
            limit: guc::max_series_per_call() as u64,
            guc: "kronos.max_series_per_call",
        }
        .into());
    }
    if !FINITE.contains(&start) {
        return Err(Error::InvalidArgument {
            name: "start".into(),
            expected: "between the years 1900 and 2200".into(),
            got: format!("{start} microseconds from 2000"),
            hint: None,
        }
        .into());
    }

    let calendar = calendar::load(&calendar.map_or_else(guc::default_calendar, str::to_owned))?;
    let schedule = Schedule::new(&calendar, width, start, n)?;
    let simulation =
        Simulation::new(market, &schedule.slots, schedule.bars_per_year, seed).map_err(Error::from)?;
    // SAFETY: the call information of this very function.
    let mut rows = unsafe { ResultSet::begin(fcinfo)? };
    for symbol in symbols {
        for (&at, bar) in schedule.starts.iter().zip(simulation.bars(&symbol)) {
            rows.push::<8>(|row| {
                row.set(0, symbol.as_str());
                row.set_instant(1, Some(at));
                for (column, value) in bar.into_iter().enumerate() {
                    row.set(2 + column, value);
                }
            })?;
            pgrx::check_for_interrupts!();
        }
    }
    Ok(())
}

/// 1900 to 2200 in microseconds from 2000: what calendars can be stepped over without overflow.
const FINITE: std::ops::Range<i64> = -3_155_760_000_000_000..6_311_520_000_000_000;

fn named<T>(name: &'static str, value: Option<T>) -> Result<T, Error> {
    value.ok_or(Error::NullArgument { name })
}
