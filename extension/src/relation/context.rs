//! From the rows of one series to what a model is asked: cut at `as_of`, checked, aligned to the calendar.

use super::{Group, Row};
use crate::calendar::{self, Calendar, Grid, Instant, Width, infer_width};
use kronos_models::bars::{Bar, BarRequest, Stamp, complete};
use kronos_models::random::Stream;
use kronos_models::status::Status;

/// Bars below which no model is asked.
pub const MIN_CONTEXT: usize = 32;

/// Newest spacings that decide the width of a bar.
const SPACINGS: usize = 256;

/// Rows kept beyond the context: bars that are not finished at `as_of`.
pub const SPARE: usize = 8;

/// How far a forecast reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// A number of bars.
    Bars(usize),
    /// Every bar that starts up to and including this instant.
    Until(Instant),
}

impl Reach {
    /// The starts after the one that is last, one more than `max_horizon` at most, and how many were asked for.
    pub fn starts(self, grid: &Grid<'_>, last: Instant, max_horizon: usize) -> (Vec<Instant>, usize) {
        match self {
            Self::Bars(horizon) => (grid.after(last).take(horizon).collect(), horizon),
            Self::Until(until) => {
                let starts = grid.after(last).take_while(|&start| start <= until).take(max_horizon + 1);
                let starts: Vec<Instant> = starts.collect();
                let asked = starts.len();
                (starts, asked)
            }
        }
    }
}

/// What all series of a call have in common.
#[derive(Debug)]
pub struct Rules<'a> {
    /// Steps, sessions and wall clock.
    pub calendar: &'a Calendar,
    /// Width of a bar; `None` to infer it per series.
    pub width: Option<Width>,
    /// Only bars that end at or before this instant, unless `include_partial`.
    pub as_of: Instant,
    /// Keeps the newest bar though it has not ended.
    pub include_partial: bool,
    /// How far to forecast.
    pub reach: Reach,
    /// Longest horizon allowed.
    pub max_horizon: usize,
    /// The longest window of the model.
    pub max_context: usize,
    /// Context asked for; `None` for as much as fits.
    pub context: Option<usize>,
    /// Whether the window may slide past the model's.
    pub slide: bool,
    /// Missing bars that may be carried forward in one place.
    pub max_gap: usize,
    /// Part of every random stream.
    pub seed: i64,
    /// Part of every random stream.
    pub model_version: &'a str,
}

impl Rules<'_> {
    /// Bars of context that leave room for a horizon; `None` when too few remain.
    pub fn window(&self, horizon: usize) -> Option<usize> {
        let room = if self.slide {
            self.context.unwrap_or(self.max_context)
        } else {
            let room = (self.max_context + 1).checked_sub(horizon)?;
            self.context.map_or(room, |context| context.min(room))
        };
        (room >= MIN_CONTEXT && horizon <= self.max_context).then_some(room)
    }

    /// Newest rows of a series that can matter.
    pub fn keep(&self) -> usize {
        let longest = match self.reach {
            Reach::Bars(horizon) => self.window(horizon),
            Reach::Until(_) => self.window(1),
        };
        longest.unwrap_or(self.max_context).max(SPACINGS) + SPARE
    }
}

/// A series ready for a model.
#[derive(Debug)]
pub struct Prepared {
    /// Its key.
    pub key: Option<String>,
    /// End of the last bar used.
    pub cutoff: Instant,
    /// Close of the last bar used.
    pub last_close: f64,
    /// Starts of the forecast bars.
    pub future: Vec<Instant>,
    /// What the model is asked.
    pub request: BarRequest,
    /// Whether no bar has a volume.
    pub without_volume: bool,
    /// Whether most of its bars lie outside the calendar's sessions.
    pub off_session: bool,
}

/// Why a series cannot be forecast.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// Its key.
    pub key: Option<String>,
    /// The word in column `status`.
    pub status: Status,
    /// Start of the first bar at fault, where there is one.
    pub at: Option<Instant>,
    /// End of the last bar that could be used, where known.
    pub cutoff: Option<Instant>,
    /// A full sentence for DETAIL; an instant in it is written `{at}`.
    pub detail: String,
}

/// Cuts, checks and aligns one series.
///
/// The result is a function of the rows known at `as_of`: what a later row holds, or whether it is there at all,
/// changes nothing. So the width that decides whether the newest row has ended is inferred from the rows before it.
pub fn prepare(group: Group, rules: &Rules<'_>) -> Result<Prepared, Fault> {
    let Group { key, mut rows } = group;
    let fault =
        |status, at, cutoff, detail: String| Err(Fault { key: key.clone(), status, at, cutoff, detail });
    let width = cut(&mut rows, rules);
    let name = key.as_deref().unwrap_or("");
    let short = |have: usize| format!("Series \"{name}\" has {have} bars, the model needs {MIN_CONTEXT}.");
    if rows.len() < MIN_CONTEXT {
        return fault(Status::ShortHistory, None, None, short(rows.len()));
    }
    let Some(width) = width else {
        return fault(Status::DuplicateTs, Some(rows[0].start), None, "All bars start at {at}.".into());
    };
    let newest = rows.len().saturating_sub(rules.keep() - SPARE);
    let starts: Vec<Instant> = rows[newest..].iter().map(|row| row.start).collect();
    let grid = Grid::fit(rules.calendar, width, &starts);
    let last = starts[starts.len() - 1];
    let cutoff = grid.end(last);

    let (future, asked) = rules.reach.starts(&grid, last, rules.max_horizon);
    if asked == 0 {
        return fault(
            Status::PastUntil,
            None,
            Some(cutoff),
            format!("No bar of series \"{name}\" starts up to until."),
        );
    }
    let window = rules.window(asked).filter(|_| asked <= rules.max_horizon);
    let Some(window) = window else {
        let detail = format!(
            "Series \"{name}\" needs more bars up to until than kronos.max_horizon or the model allows."
        );
        return fault(Status::HorizonLimit, None, Some(cutoff), detail);
    };
    if future.len() < asked {
        let detail = format!("Calendar \"{}\" has no session for {asked} more bars.", rules.calendar.name());
        return fault(Status::NoSession, None, Some(cutoff), detail);
    }

    rows.drain(..rows.len().saturating_sub(window));
    let without_volume = rows.iter().all(|row| row.volume.is_none());
    if let Some((status, at, detail)) = defect(&rows, &grid, without_volume) {
        return fault(status, Some(at), Some(cutoff), detail);
    }
    let off_session = 2 * rows.iter().filter(|row| !grid.overlaps_session(row.start)).count() > rows.len();
    let mut bars = match carry_forward(&rows, &grid, rules.max_gap) {
        Ok(bars) => bars,
        Err((at, missing)) => {
            let detail = format!("Bars are missing from {{at}} on, {missing} in this place.");
            return fault(Status::Gap, Some(at), Some(cutoff), detail);
        }
    };
    bars.drain(..bars.len().saturating_sub(window));

    let stamps: Vec<Stamp> = bars
        .iter()
        .map(|(start, _)| *start)
        .chain(future.iter().copied())
        .map(|start| grid.wall_clock(start).into())
        .collect();
    let last_close = bars[bars.len() - 1].1[3];
    let stream = Stream::new(rules.seed, name, cutoff, rules.model_version);
    let bars: Vec<Bar> = bars.into_iter().map(|(_, bar)| bar).collect();
    let request = BarRequest { bars, stamps, horizon: asked, stream };
    Ok(Prepared { key, cutoff, last_close, future, request, without_volume, off_session })
}

/// Removes what is not known at `as_of` and gives the width of the bars that remain.
fn cut(rows: &mut Vec<Row>, rules: &Rules<'_>) -> Option<Width> {
    let zone = rules.calendar.zone();
    loop {
        let before = rows.len().checked_sub(1)?;
        let starts: Vec<Instant> =
            rows[before.saturating_sub(SPACINGS)..before].iter().map(|row| row.start).collect();
        let width = rules.width.or_else(|| infer_width(zone, &starts))?;
        let zone = calendar::label_zone(zone, &starts);
        if rules.include_partial || calendar::end(width, zone, rows[before].start) <= rules.as_of {
            return Some(width);
        }
        rows.pop();
    }
}

/// The first defect of a series: its status, where it is, and a sentence.
fn defect(rows: &[Row], grid: &Grid<'_>, without_volume: bool) -> Option<(Status, Instant, String)> {
    if let Some(pair) = rows.windows(2).find(|pair| pair[0].start == pair[1].start) {
        return Some((Status::DuplicateTs, pair[0].start, "Several bars start at {at}.".into()));
    }
    let unusable = |row: &&Row| {
        let volume = if without_volume { Some(0.0) } else { row.volume };
        !(row.prices.iter().all(|price| usable(*price))
            && volume.is_some_and(usable)
            && row.amount.is_none_or(usable))
    };
    if let Some(row) = rows.iter().find(unusable) {
        return Some((
            Status::Nan,
            row.start,
            "The bar at {at} has a value that is missing, not finite or too large.".into(),
        ));
    }
    let overlap = rows.windows(2).find(|pair| grid.end(pair[0].start) > pair[1].start)?;
    Some((
        Status::Irregular,
        overlap[1].start,
        "The bar at {at} starts before the one before it has ended.".into(),
    ))
}

/// Whether a model can take a value: it computes in single precision.
fn usable(value: f64) -> bool {
    (value as f32).is_finite()
}

/// The bars with up to `max_gap` missing ones filled in each place, or the start of the first place with more and
/// how many are missing there (counted up to a thousand).
fn carry_forward(
    rows: &[Row],
    grid: &Grid<'_>,
    max_gap: usize,
) -> Result<Vec<(Instant, Bar)>, (Instant, usize)> {
    let mut bars: Vec<(Instant, Bar)> = Vec::with_capacity(rows.len());
    for row in rows {
        if let Some(&(before, [.., close, _, _])) = bars.last() {
            let missing: Vec<Instant> = grid.missing(before, row.start).take(max_gap.max(1000) + 1).collect();
            if let Some(&first) = missing.first()
                && missing.len() > max_gap
            {
                return Err((first, missing.len()));
            }
            bars.extend(missing.into_iter().map(|start| (start, complete([close; 4], Some(0.0), Some(0.0)))));
        }
        bars.push((row.start, complete(row.prices, row.volume, row.amount)));
    }
    Ok(bars)
}

impl Prepared {
    /// Moves out what the model is asked, leaving the rest.
    pub fn take_request(&mut self) -> BarRequest {
        let Self { request: BarRequest { bars, stamps, horizon, stream }, .. } = self;
        BarRequest {
            bars: std::mem::take(bars),
            stamps: std::mem::take(stamps),
            horizon: *horizon,
            stream: *stream,
        }
    }
}

impl Fault {
    /// The sentence for DETAIL, with instants written by `write`.
    pub fn detail(&self, write: impl Fn(Instant) -> String) -> String {
        match self.at {
            Some(at) => self.detail.replace("{at}", &write(at)),
            None => self.detail.clone(),
        }
    }
}
