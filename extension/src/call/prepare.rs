//! From the rows of one series to what a model is asked: cut at `as_of`, laid on the calendar's grid, checked.
//!
//! The result is a function of the rows known at `as_of`: what a later row holds, or whether it is there at all, changes nothing.

use super::variates::{CLOSE_CHANNEL, Variates};
use super::{Call, instant_text};
use crate::calendar::{Calendar, Grid, Instant, TELLING, Width, infer_width};
use crate::error::{Error, Result};
use crate::relation::View;
use kronos_models::ask::{Ask, Channel, Covariate, KnownCovariate, LARGEST, Stamp, Values};
use kronos_models::bars::{Bar, complete};
use kronos_models::random::Stream;
use kronos_models::status::Status;
use std::rc::Rc;

/// Newest rows that decide the calendar and the width of a row.
pub const SPACINGS: usize = 256;

/// Missing rows that are counted in one place.
const COUNTED: usize = 1000;

/// Places of volume and amount among the channels of a bar.
const VOLUME: usize = 4;
const AMOUNT: usize = 5;

/// A series ready for a model.
#[derive(Debug)]
pub struct Prepared {
    /// Its key.
    pub key: Option<String>,
    /// End of the last row used.
    pub cutoff: Instant,
    /// Starts of the rows forecast.
    pub future: Vec<Instant>,
    /// Rows after which a pattern usually returns.
    pub season: usize,
    /// Close of the last bar used; of bars only.
    pub last_close: f64,
    /// What the model is asked.
    pub ask: Ask,
    /// Whether it is of bars of which none has a volume.
    pub without_volume: bool,
}

/// Why a series cannot be forecast.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// Its key.
    pub key: Option<String>,
    /// What is said in column `status`.
    pub status: Status,
    /// Start of the first row at fault, where there is one.
    pub at: Option<Instant>,
    /// End of the last row that could be used, where known.
    pub cutoff: Option<Instant>,
    /// A full sentence for DETAIL; an instant in it is written `{at}`.
    pub detail: String,
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        let detail = match fault.at {
            Some(at) => fault.detail.replace("{at}", &instant_text(at)),
            None => fault.detail,
        };
        Self::Series { series: fault.key.unwrap_or_default(), status: fault.status, detail }
    }
}

/// Rows whose key is NULL.
pub fn without_key(noun: &str) -> Fault {
    Fault {
        key: None,
        status: Status::NullSeries,
        at: None,
        cutoff: None,
        detail: format!("A {noun} whose series column is NULL belongs to no series."),
    }
}

/// A series that is named and not there.
pub fn no_rows(name: &str, noun: &str) -> Fault {
    Fault {
        key: Some(name.to_owned()),
        status: Status::NoRows,
        at: None,
        cutoff: None,
        detail: format!("Series \"{name}\" has no {noun}s before as_of."),
    }
}

/// A place on the grid: its start, and the row there unless it is missing.
type Place = (Instant, Option<usize>);

/// The grid of one series, and what of it is asked.
struct Frame<'a> {
    grid: Grid<'a>,
    cutoff: Instant,
    /// Starts to forecast.
    future: Vec<Instant>,
    /// The history.
    places: Vec<Place>,
    without_volume: bool,
}

/// Cuts, checks and aligns one series.
pub fn prepare(call: &Call, mut rows: View<'_>, as_of: Instant) -> Result<Result<Prepared, Fault>> {
    let key = rows.key().map(str::to_owned);
    let found = cut(call, &mut rows, as_of)?;
    let frame = match frame(call, &mut rows, found.as_ref().map(|(calendar, width)| (&**calendar, *width))) {
        Ok(frame) => frame,
        Err(fault) => return Ok(Err(fault)),
    };
    let Frame { cutoff, without_volume, .. } = frame;
    let name = key.as_deref().unwrap_or("");
    let ahead: Vec<Option<usize>> = frame.future.iter().map(|&start| rows.ahead(start)).collect();
    if let Some((column, step)) = first_unknown(&rows, &ahead, &call.variates) {
        return Err(Error::FutureCovariateMissing {
            series: name.to_owned(),
            column: column.to_owned(),
            ts: instant_text(frame.future[step]),
        });
    }
    let cells = Cells { rows: &rows, places: &frame.places, ahead: &ahead };
    let last = frame.places.last().map_or(cutoff, |&(start, _)| start);
    // Whatever a calendar says of the close, the same bars draw the same paths.
    let stream = Stream::new(call.seed, name, frame.grid.nominal_end(last), call.model_version());
    let mut ask = Ask { horizon: frame.future.len(), stream, ..cells.covariates(&call.variates) };
    if call.model.is_of_bars() {
        ask.targets = cells.bars(&call.variates);
        let starts = frame.places.iter().map(|(start, _)| start).chain(&frame.future);
        ask.stamps = starts.map(|&start| Stamp::from(frame.grid.wall_clock(start))).collect();
    } else {
        ask.targets = cells.targets(&call.variates);
    }
    // Every history has a value for each place.
    if let Some(value) = ask.history().position(|value| value.abs() > LARGEST) {
        let at = Some(frame.places[value % frame.places.len()].0);
        let detail = format!("Series \"{name}\" has a value at {{at}} that is infinite or too large.");
        return Ok(Err(Fault { key, status: Status::Nan, at, cutoff: Some(cutoff), detail }));
    }
    let close = ask.targets.get(CLOSE_CHANNEL).and_then(|close| close.values.last());
    let last_close = close.copied().unwrap_or(f64::NAN);
    Ok(Ok(Prepared {
        key,
        cutoff,
        future: frame.future,
        season: frame.grid.season(last),
        last_close,
        ask,
        without_volume,
    }))
}

/// Lays the newest rows on the grid of their series, whose calendar and width were found.
fn frame<'c>(
    call: &Call,
    rows: &mut View<'_>,
    found: Option<(&'c Calendar, Width)>,
) -> Result<Frame<'c>, Fault> {
    let (key, noun, of_bars) = (rows.key().map(str::to_owned), call.noun(), call.model.is_of_bars());
    let name = key.clone().unwrap_or_default();
    let fault =
        |status, at, cutoff, detail: String| Err(Fault { key: key.clone(), status, at, cutoff, detail });
    let (have, least) = (rows.len(), call.model.least_context());
    if have == 0 && !of_bars {
        return fault(Status::Nan, None, None, format!("Series \"{name}\" has no value of any target."));
    }
    if have < least {
        let detail = format!("Series \"{name}\" has {have} {noun}s, the model needs {least}.");
        return fault(Status::ShortHistory, None, None, detail);
    }
    let Some((calendar, width)) = found else {
        if have > 1 {
            let detail = format!("All {noun}s start at {{at}}.");
            return fault(Status::DuplicateTs, Some(rows.start(0)), None, detail);
        }
        let detail = format!("Series \"{name}\" has too few rows to tell their width; pass bucket_width.");
        return fault(Status::ShortHistory, None, None, detail);
    };
    let starts = rows.newest_starts(SPACINGS);
    call.calendars.note(key.as_deref(), calendar, width, &starts);
    let grid = Grid::fit(calendar, width, &starts);
    let last = starts[starts.len() - 1];
    let cutoff = grid.end(last);

    let max_horizon = crate::guc::max_horizon();
    let (future, asked) = call.reach.starts(&grid, last, max_horizon);
    if asked == 0 {
        let detail = format!("No {noun} of series \"{name}\" starts up to until.");
        return fault(Status::PastUntil, None, Some(cutoff), detail);
    }
    let window = call.window(asked).filter(|_| asked <= max_horizon);
    let Some(window) = window else {
        let detail = format!(
            "Series \"{name}\" needs more {noun}s up to until than kronos.max_horizon or the model allows."
        );
        return fault(Status::HorizonLimit, None, Some(cutoff), detail);
    };
    if future.len() < asked {
        let detail = format!("Calendar \"{}\" has no session for {asked} more {noun}s.", calendar.name());
        return fault(Status::NoSession, None, Some(cutoff), detail);
    }

    rows.keep_newest(window);
    let without_volume = of_bars && (0..rows.len()).all(|row| rows.is_null(row, VOLUME));
    if let Some((status, at, detail)) = defect(call, rows, &grid, without_volume) {
        return fault(status, Some(at), Some(cutoff), detail);
    }
    // A row that a model of columns does not find is missing to it, and that is all.
    let mut places = match on_grid(rows, &grid, of_bars.then_some(call.options.max_gap), window) {
        Ok(places) => places,
        Err((at, missing)) => {
            call.calendars.note_gap(calendar);
            let detail = format!("Bars are missing from {{at}} on, {missing} in this place.");
            return fault(Status::Gap, Some(at), Some(cutoff), detail);
        }
    };
    places.drain(..places.len().saturating_sub(window));
    Ok(Frame { grid, cutoff, future, places, without_volume })
}

/// Removes rows that have not ended at `as_of` and gives the calendar and the width of those that remain.
///
/// What the removed ones know of the future stays ahead. The newest row has no say in the calendar and the width, which decide
/// whether it has ended.
fn cut(call: &Call, rows: &mut View<'_>, as_of: Instant) -> Result<Option<(Rc<Calendar>, Width)>> {
    let given = call.options.bucket_width;
    loop {
        let newest = rows.newest_starts(TELLING + 1);
        let Some((&last, before)) = newest.split_last() else { return Ok(None) };
        let calendar = call.calendars.of(rows.key(), given, before)?;
        let before = &before[before.len().saturating_sub(SPACINGS)..];
        let width = given.or_else(|| infer_width(&calendar, before));
        // Two rows have one spacing between them, and nothing else could tell the width.
        let Some(width) = width.or_else(|| infer_width(&calendar, &newest)) else { return Ok(None) };
        if call.options.include_partial || Grid::fit(&calendar, width, before).end(last) <= as_of {
            return Ok(Some((calendar, width)));
        }
        rows.pop();
    }
}

/// The first defect of a series: its status, where it is, and a sentence.
fn defect(
    call: &Call,
    rows: &View<'_>,
    grid: &Grid<'_>,
    without_volume: bool,
) -> Option<(Status, Instant, String)> {
    let noun = call.noun();
    let mut pairs = (1..rows.len()).map(|row| (rows.start(row - 1), rows.start(row)));
    if let Some((start, _)) = pairs.clone().find(|(before, start)| before == start) {
        return Some((Status::DuplicateTs, start, format!("Several {noun}s start at {{at}}.")));
    }
    if call.model.is_of_bars()
        && let Some(row) = (0..rows.len()).find(|&row| !is_whole(rows, row, without_volume))
    {
        let detail = "The bar at {at} has a value that is missing, not finite or too large.";
        return Some((Status::Nan, rows.start(row), detail.into()));
    }
    let (_, start) = pairs.find(|&(before, start)| grid.overlap(before, start))?;
    let detail = format!("The {noun} at {{at}} starts before the one before it has ended.");
    Some((Status::Irregular, start, detail))
}

/// Whether a bar has all that a model needs of it: an amount can be told from the others.
fn is_whole(rows: &View<'_>, row: usize, without_volume: bool) -> bool {
    let usable = |column| rows.value(row, column).abs() <= LARGEST;
    (0..VOLUME).all(usable)
        && (without_volume || usable(VOLUME))
        && (rows.is_null(row, AMOUNT) || usable(AMOUNT))
}

/// The places of the grid with the row in each. More than `max_gap` missing in one place are an error, where there is such a
/// limit: where they begin, and how many they are. Of others at most `window` are counted, which is all that can matter.
fn on_grid(
    rows: &View<'_>,
    grid: &Grid<'_>,
    max_gap: Option<usize>,
    window: usize,
) -> Result<Vec<Place>, (Instant, usize)> {
    let counted = max_gap.map_or(window, |max_gap| max_gap.max(COUNTED) + 1);
    let mut places: Vec<Place> = Vec::with_capacity(rows.len());
    for row in 0..rows.len() {
        if let Some(&(before, _)) = places.last() {
            let from = places.len();
            places.extend(grid.missing(before, rows.start(row)).take(counted).map(|start| (start, None)));
            let missing = places.len() - from;
            if max_gap.is_some_and(|max_gap| missing > max_gap) {
                return Err((places[from].0, missing));
            }
        }
        places.push((rows.start(row), Some(rows.row(row))));
    }
    Ok(places)
}

/// The first future covariate without a value, and the step it lacks.
fn first_unknown<'v>(
    rows: &View<'_>,
    ahead: &[Option<usize>],
    variates: &'v Variates,
) -> Option<(&'v str, usize)> {
    let first = variates.first_future();
    (0..ahead.len()).find_map(|step| {
        let unknown =
            |column: &usize| ahead[step].is_none_or(|row| rows.number(row, first + column).is_nan());
        let column = (0..variates.future.len()).find(unknown)?;
        Some((variates.future[column].as_str(), step))
    })
}

/// Columns of rows as channels and covariates.
struct Cells<'a> {
    rows: &'a View<'a>,
    places: &'a [Place],
    ahead: &'a [Option<usize>],
}

impl Cells<'_> {
    /// The bars as channels, with those that are missing carried forward.
    fn bars(&self, variates: &Variates) -> Vec<Channel> {
        let mut last = f64::NAN;
        let bar = |&(_, row): &Place| -> Bar {
            let bar = match row {
                Some(row) => {
                    let value = |column| self.rows.number(row, column);
                    let given = |column| (!self.rows.is_null_at(row, column)).then(|| value(column));
                    complete([value(0), value(1), value(2), value(3)], given(VOLUME), given(AMOUNT))
                }
                None => complete([last; 4], Some(0.0), Some(0.0)),
            };
            last = bar[CLOSE_CHANNEL];
            bar
        };
        let bars: Vec<Bar> = self.places.iter().map(bar).collect();
        let channel = |(place, name): (usize, &String)| Channel {
            name: name.clone(),
            values: bars.iter().map(|bar| bar[place]).collect(),
        };
        variates.targets.iter().enumerate().map(channel).collect()
    }

    fn targets(&self, variates: &Variates) -> Vec<Channel> {
        let channel =
            |(column, name): (usize, &String)| Channel { name: name.clone(), values: self.numbers(column) };
        variates.targets.iter().enumerate().map(channel).collect()
    }

    fn covariates(&self, variates: &Variates) -> Ask {
        let first_future = variates.first_future();
        let first_static = first_future + variates.future.len();
        let covariate =
            |(name, column): (&String, usize)| Covariate { name: name.clone(), values: self.past(column) };
        let known = |(name, column): (&String, usize)| KnownCovariate {
            name: name.clone(),
            past: self.past(column),
            future: self.future(column),
        };
        Ask {
            past: variates.past.iter().zip(variates.targets.len()..).map(covariate).collect(),
            known: variates.future.iter().zip(first_future..).map(known).collect(),
            statics: variates.statics.iter().zip(first_static..).map(covariate).collect(),
            ..Ask::default()
        }
    }

    fn past(&self, column: usize) -> Values {
        self.values(column, self.places.iter().map(|&(_, row)| row))
    }

    fn future(&self, column: usize) -> Values {
        self.values(column, self.ahead.iter().copied())
    }

    fn numbers(&self, column: usize) -> Vec<f64> {
        let number = |&(_, row): &Place| row.map_or(f64::NAN, |row| self.rows.number(row, column));
        self.places.iter().map(number).collect()
    }

    /// A covariate as numbers or as categories.
    fn values(&self, column: usize, rows: impl Iterator<Item = Option<usize>>) -> Values {
        if self.rows.is_categorical(column) {
            Values::Categories(rows.map(|row| row.and_then(|row| self.rows.category(row, column))).collect())
        } else {
            let number = |row: Option<usize>| row.map_or(f64::NAN, |row| self.rows.number(row, column));
            Values::Numbers(rows.map(number).collect())
        }
    }
}
