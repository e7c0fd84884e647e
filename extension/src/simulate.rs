//! When a simulated market trades: the slots that the pure simulator fills.

use crate::calendar::{self, Calendar, Grid, Instant, Width};
use crate::error::{Error, Result};
use crate::json::JsonB;
use crate::options::Given;
use chrono::{DateTime, NaiveTime, TimeZone};
use kronos_models::simulate::{Market, Slot};
use pgrx::datum::Interval;

/// Microseconds from 1970-01-01 to 2000-01-01, where PostgreSQL counts from.
const EPOCH: i64 = 946_684_800_000_000;
const MINUTE: i64 = 60_000_000;
const DAY: i64 = 1440 * MINUTE;
/// Bars per symbol: two years of minutes. One symbol is computed without a look at interrupts, in well under a second.
const MAX_BARS: i32 = 1_000_000;

/// The starts of the bars of a simulation, and what the simulator has to know of each.
#[derive(Debug)]
pub struct Schedule {
    /// Start of each bar.
    pub starts: Vec<Instant>,
    /// One per start.
    pub slots: Vec<Slot>,
    /// Bars of this width that the market has in a year.
    pub bars_per_year: f64,
}

impl Schedule {
    /// The first `n` bars that start at `start` or later.
    ///
    /// Bars of a market with sessions are counted from the opening, those of a market without from `start`. Bars of
    /// whole days are labelled by local midnight.
    pub fn new(calendar: &Calendar, width: Width, start: Instant, n: usize) -> Result<Self> {
        let origin = match width {
            Width::Micros(_) => opening_before(calendar, start).ok_or_else(|| never_opens(calendar))?,
            Width::Days(_) | Width::Months(_) => local_midnight(calendar, start),
        };
        let grid = Grid::fit(calendar, width, &[origin]);
        let from_origin = || {
            let included = grid.overlaps_session(origin).then_some(origin);
            included.into_iter().chain(grid.after(origin))
        };
        let starts: Vec<Instant> = from_origin().skip_while(|&at| at < start).take(n).collect();
        if starts.len() < n {
            return Err(never_opens(calendar));
        }
        Ok(Self {
            slots: slots(&grid, &starts),
            starts,
            bars_per_year: bars_per_year(width, origin, from_origin()),
        })
    }
}

fn never_opens(calendar: &Calendar) -> Error {
    Error::InvalidArgument {
        name: "calendar".into(),
        expected: "one that opens at least once a year".into(),
        got: format!("\"{}\"", calendar.name()),
        hint: Some("See kronos.calendar_sessions.".into()),
    }
}

/// An opening before an instant, from which the bars of its session and all later ones can be counted; the instant
/// itself where the market does not close.
fn opening_before(calendar: &Calendar, at: Instant) -> Option<Instant> {
    // Sessions begin on whole minutes, and no regular closure lasts longer.
    const REACH: i64 = 14 * DAY;
    let first = (at - REACH).div_euclid(MINUTE) * MINUTE;
    let minutes = Grid::fit(calendar, Width::Micros(MINUTE), &[first]);
    let mut before = minutes.after(first).take_while(|&minute| minute <= at);
    before
        .find(|&minute| !calendar.is_open(minute - MINUTE))
        .or_else(|| if calendar.is_open(at) { Some(at) } else { minutes.after(at).next() })
}

/// Midnight, on the market's wall clock, at the beginning of the date of an instant.
fn local_midnight(calendar: &Calendar, at: Instant) -> Instant {
    let zone = calendar.zone();
    let Some(utc) = DateTime::from_timestamp_micros(at.saturating_add(EPOCH)) else { return at };
    let midnight = utc.with_timezone(&zone).date_naive().and_time(NaiveTime::MIN);
    // Where the clocks skip midnight, the date begins an hour later.
    let begins = zone
        .from_local_datetime(&midnight)
        .earliest()
        .or_else(|| zone.from_local_datetime(&(midnight + chrono::TimeDelta::hours(1))).earliest());
    begins.map_or(at, |begins| begins.timestamp_micros() - EPOCH)
}

/// Closed time before each bar, and its place between two closures; days, weeks and months follow each other without a pause.
fn slots(grid: &Grid<'_>, starts: &[Instant]) -> Vec<Slot> {
    let mut slots: Vec<Slot> = Vec::with_capacity(starts.len());
    let mut opened = 0;
    let mut closes = false;
    for (index, &start) in starts.iter().enumerate() {
        let length = (grid.nominal_end(start) - start).max(1) as f64;
        let closed = match index.checked_sub(1) {
            Some(before) => (start - grid.nominal_end(starts[before])).max(0) as f64 / length,
            None => 0.0,
        };
        if closed > 0.0 {
            place(&mut slots[opened..]);
            opened = index;
            closes = true;
        }
        slots.push(Slot { closed, position: None });
    }
    if closes {
        // The last session may be cut short by the end of the simulation; its bars are placed as those of the first.
        let typical =
            slots[1..].iter().position(|slot| slot.closed > 0.0).map_or(slots.len(), |bars| bars + 1);
        place_within(&mut slots[opened..], typical);
    }
    slots
}

/// Spreads the bars of one session over its length.
fn place(session: &mut [Slot]) {
    place_within(session, session.len());
}

fn place_within(session: &mut [Slot], bars: usize) {
    if bars < 2 {
        return;
    }
    for (index, slot) in session.iter_mut().enumerate() {
        slot.position = Some((index as f64 / (bars - 1) as f64).min(1.0));
    }
}

/// Bars in a year, counted over a span long enough for the width.
fn bars_per_year(width: Width, origin: Instant, starts: impl Iterator<Item = Instant>) -> f64 {
    const YEAR_DAYS: f64 = 365.25;
    // Whole weeks, so that weekends have their share.
    let days = match width {
        Width::Micros(width) if width < 10 * MINUTE => 28,
        Width::Micros(_) => 364,
        Width::Days(_) | Width::Months(_) => 3640,
    };
    let end = origin.saturating_add(days * DAY);
    let count = starts.take_while(|&at| at < end).count().max(1);
    count as f64 * YEAR_DAYS / days as f64
}

/// The width of the bars asked for.
pub fn width(interval: &Interval) -> Result<Width> {
    calendar::width(interval).ok_or_else(|| Error::InvalidArgument {
        name: "bucket_width".into(),
        expected: Width::DOMAIN.into(),
        got: format!(
            "{} months {} days {} microseconds",
            interval.months(),
            interval.days(),
            interval.micros()
        ),
        hint: None,
    })
}

/// The number of bars asked for.
pub fn bars(n: i32) -> Result<usize> {
    match usize::try_from(n) {
        Ok(bars @ 1..) if n <= MAX_BARS => Ok(bars),
        _ => Err(Error::InvalidArgument {
            name: "n".into(),
            expected: format!("between 1 and {MAX_BARS}"),
            got: n.to_string(),
            hint: None,
        }),
    }
}

/// The market that `options` describe.
pub fn market(options: Option<JsonB>) -> Result<Market> {
    let given = Given::options(options, &Market::PARAMETERS)?;
    let mut market = Market::default();
    for name in Market::PARAMETERS {
        if let Some(value) = given.number(name, "a number", |_| true)? {
            market.set(name, value)?;
        }
    }
    Ok(market)
}
