//! From the rows of one series to what a model is asked: cut at `as_of`, laid on the calendar's grid.

use super::options::SeriesOptions;
use crate::calendar::{self, Calendar, Grid, Instant, Width, infer_width};
use crate::error::{Error, Result};
use crate::forecast::instant_text;
use crate::relation::{Cell, Fault, Reach, ValueGroup, ValueRow};
use kronos_models::ask::{Ask, Channel, Covariate, KnownCovariate, Values};
use kronos_models::status::Status;

/// Newest spacings that decide the width of a row.
const SPACINGS: usize = 256;

/// Which columns a call reads, in the order of the cells of a row.
#[derive(Debug, Clone, Default)]
pub struct Variates {
    /// Columns to forecast.
    pub targets: Vec<String>,
    /// Covariates whose future is not known.
    pub past: Vec<String>,
    /// Covariates whose future the relation holds.
    pub future: Vec<String>,
    /// Covariates that do not change with time.
    pub statics: Vec<String>,
}

impl Variates {
    /// All columns, in the order of the cells.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        [&self.targets, &self.past, &self.future, &self.statics].into_iter().flatten()
    }
}

/// What all series of a call have in common.
pub struct Rules<'a> {
    /// Which column is what.
    pub variates: &'a Variates,
    /// The rarer knobs.
    pub options: &'a SeriesOptions,
    /// Steps, sessions and wall clock.
    pub calendar: &'a Calendar,
    /// Only rows that end at or before this instant, unless `include_partial`.
    pub as_of: Instant,
    /// How far to forecast.
    pub reach: Reach,
    /// Longest horizon allowed.
    pub max_horizon: usize,
    /// Rows of history the model is given at most.
    pub context: usize,
}

/// A series ready for a model.
#[derive(Debug)]
pub struct Prepared {
    /// Its key.
    pub key: Option<String>,
    /// End of the last row used.
    pub cutoff: Instant,
    /// Starts of the rows forecast.
    pub future: Vec<Instant>,
    /// Width of a row.
    pub width: Width,
    /// What the model is asked.
    pub ask: Ask,
}

/// Cuts and aligns one series.
///
/// # Errors
/// 22004 where a covariate's future has a gap; what else is wrong with a series is its [`Fault`].
pub fn prepare(group: ValueGroup, rules: &Rules<'_>) -> Result<Result<Prepared, Fault>> {
    let ValueGroup { key, history, mut ahead } = group;
    let mut history: Vec<ValueRow> = history.into();
    let name = key.clone().unwrap_or_default();
    let fault =
        |status, at, cutoff, detail: String| Ok(Err(Fault { key: key.clone(), status, at, cutoff, detail }));
    let Some(width) = cut(&mut history, &mut ahead, rules) else {
        return match history.first() {
            None => fault(Status::Nan, None, None, format!("Series \"{name}\" has no value of any target.")),
            Some(_) => {
                let detail =
                    format!("Series \"{name}\" has too few rows to tell their width; pass bucket_width.");
                fault(Status::ShortHistory, None, None, detail)
            }
        };
    };
    let Some(last) = history.last().map(|row| row.start) else {
        return fault(
            Status::Nan,
            None,
            None,
            format!("Series \"{name}\" has no value of any target before as_of."),
        );
    };
    let newest = history.len().saturating_sub(SPACINGS);
    let starts: Vec<Instant> = history[newest..].iter().map(|row| row.start).collect();
    let grid = Grid::fit(rules.calendar, width, &starts);
    let cutoff = grid.end(last);

    let (future, asked) = rules.reach.starts(&grid, last, rules.max_horizon);
    if asked == 0 {
        let detail = format!("No row of series \"{name}\" starts up to until.");
        return fault(Status::PastUntil, None, Some(cutoff), detail);
    }
    if asked > rules.max_horizon {
        let detail = format!("Series \"{name}\" needs more rows up to until than kronos.max_horizon allows.");
        return fault(Status::HorizonLimit, None, Some(cutoff), detail);
    }
    if future.len() < asked {
        let detail = format!("Calendar \"{}\" has no session for {asked} more rows.", rules.calendar.name());
        return fault(Status::NoSession, None, Some(cutoff), detail);
    }
    if let Some((status, at, detail)) = defect(&history, &grid) {
        return fault(status, Some(at), Some(cutoff), detail);
    }
    let rows = on_grid(&history, &grid, rules.context);
    let ahead: Vec<Option<&ValueRow>> = future
        .iter()
        .map(|start| ahead.binary_search_by_key(start, |row| row.start).ok().map(|at| &ahead[at]))
        .collect();
    if let Some((column, step)) = first_unknown(&ahead, rules.variates) {
        return Err(Error::FutureCovariateMissing {
            series: name,
            column: column.to_owned(),
            ts: instant_text(future[step]),
        });
    }
    let ask = Columns { rows: &rows, ahead: &ahead, variates: rules.variates }.ask(asked);
    if ask.history().any(f64::is_infinite) {
        let detail = format!("Series \"{name}\" has an infinite value.");
        return fault(Status::Nan, None, Some(cutoff), detail);
    }
    Ok(Ok(Prepared { key, cutoff, future, width, ask }))
}

/// Takes rows that have not ended at `as_of` out of the history and gives the width of a row.
///
/// What they know of the future stays in `ahead`, which ends up in order.
fn cut(history: &mut Vec<ValueRow>, ahead: &mut Vec<ValueRow>, rules: &Rules<'_>) -> Option<Width> {
    let zone = rules.calendar.zone();
    loop {
        let before = history.len().checked_sub(1)?;
        // The newest row has no say: whether it has ended depends on the width.
        let starts: Vec<Instant> =
            history[before.saturating_sub(SPACINGS)..before].iter().map(|row| row.start).collect();
        let all: Vec<Instant> = history.iter().map(|row| row.start).collect();
        let width = rules
            .options
            .bucket_width
            .or_else(|| infer_width(zone, &starts))
            // Two rows have one spacing between them, and nothing else could tell the width.
            .or_else(|| infer_width(zone, &all))?;
        let zone = calendar::label_zone(zone, &starts);
        if rules.options.include_partial || calendar::end(width, zone, history[before].start) <= rules.as_of {
            return Some(width);
        }
        ahead.splice(0..0, history.pop());
    }
}

/// The first defect of a series: its status, where it is, and a sentence.
fn defect(rows: &[ValueRow], grid: &Grid<'_>) -> Option<(Status, Instant, String)> {
    if let Some(pair) = rows.windows(2).find(|pair| pair[0].start == pair[1].start) {
        return Some((Status::DuplicateTs, pair[0].start, "Several rows start at {at}.".into()));
    }
    let overlap = rows.windows(2).find(|pair| grid.end(pair[0].start) > pair[1].start)?;
    Some((
        Status::Irregular,
        overlap[1].start,
        "The row at {at} starts before the one before it has ended.".into(),
    ))
}

/// The newest `context` places of the grid with the row in each; a place without a row is missing from the series, and
/// the model is told so: a series without it would be another one, shifted.
fn on_grid<'r>(rows: &'r [ValueRow], grid: &Grid<'_>, context: usize) -> Vec<Option<&'r ValueRow>> {
    let mut places: Vec<Option<&ValueRow>> = Vec::with_capacity(rows.len().min(context));
    for (index, row) in rows.iter().enumerate() {
        if let Some(before) = index.checked_sub(1) {
            let missing = grid.missing(rows[before].start, row.start).take(context).count();
            places.extend(std::iter::repeat_n(None, missing));
        }
        places.push(Some(row));
        places.drain(..places.len().saturating_sub(context));
    }
    places
}

/// The first future covariate without a value, and the step it lacks.
fn first_unknown<'v>(ahead: &[Option<&ValueRow>], variates: &'v Variates) -> Option<(&'v str, usize)> {
    let first = variates.targets.len() + variates.past.len();
    let unknown = |cell: &Cell| match cell {
        Cell::Number(value) => value.is_nan(),
        Cell::Category(category) => category.is_none(),
    };
    (0..ahead.len()).find_map(|step| {
        let column = (0..variates.future.len())
            .find(|column| ahead[step].is_none_or(|row| unknown(&row.cells[first + column])))?;
        Some((variates.future[column].as_str(), step))
    })
}

/// Columns of rows as channels and covariates.
struct Columns<'a> {
    rows: &'a [Option<&'a ValueRow>],
    ahead: &'a [Option<&'a ValueRow>],
    variates: &'a Variates,
}

impl Columns<'_> {
    fn ask(&self, horizon: usize) -> Ask {
        let Variates { targets, past, future, statics } = self.variates;
        let mut column = 0;
        let mut next = || {
            column += 1;
            column - 1
        };
        let targets =
            targets.iter().map(|name| Channel { name: name.clone(), values: numbers(self.rows, next()) });
        let targets = targets.collect();
        let covariate =
            |name: &String, column| Covariate { name: name.clone(), values: self.values(column).0 };
        let past = past.iter().map(|name| covariate(name, next())).collect();
        let known = future.iter().map(|name| {
            let (past, future) = self.values(next());
            KnownCovariate { name: name.clone(), past, future }
        });
        let known = known.collect();
        let statics = statics.iter().map(|name| covariate(name, next())).collect();
        Ask { targets, past, known, statics, horizon, ..Ask::default() }
    }

    /// A covariate's past and future, as numbers or as categories.
    fn values(&self, column: usize) -> (Values, Values) {
        let mut rows = self.rows.iter().chain(self.ahead).flatten();
        if rows.any(|row| matches!(row.cells[column], Cell::Category(_))) {
            (categories(self.rows, column), categories(self.ahead, column))
        } else {
            (Values::Numbers(numbers(self.rows, column)), Values::Numbers(numbers(self.ahead, column)))
        }
    }
}

fn numbers(rows: &[Option<&ValueRow>], column: usize) -> Vec<f64> {
    let number = |row: &Option<&ValueRow>| match row.map(|row| &row.cells[column]) {
        Some(Cell::Number(value)) => *value,
        _ => f64::NAN,
    };
    rows.iter().map(number).collect()
}

fn categories(rows: &[Option<&ValueRow>], column: usize) -> Values {
    let steps = rows.iter().map(|row| match row.map(|row| &row.cells[column]) {
        Some(Cell::Category(category)) => category.as_deref(),
        _ => None,
    });
    Values::Categories(steps.collect())
}
