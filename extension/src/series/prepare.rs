//! From the rows of one series to what a model is asked: cut at `as_of`, laid on the calendar's grid, encoded.

use super::options::SeriesOptions;
use crate::calendar::{self, Calendar, Grid, Instant, Width, infer_width};
use crate::error::{Error, Result};
use crate::forecast::instant_text;
use crate::relation::{Cell, Fault, Reach, ValueGroup, ValueRow};
use kronos_models::chronos2::covariates::{Category, distinct, ranks, target_means};
use kronos_models::series::{KnownCovariate, SeriesRequest};

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
    pub request: SeriesRequest,
}

/// Cuts, aligns and encodes one series.
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
            None => fault("nan", None, None, format!("Series \"{name}\" has no value of any target.")),
            Some(_) => {
                let detail =
                    format!("Series \"{name}\" has too few rows to tell their width; pass bucket_width.");
                fault("short_history", None, None, detail)
            }
        };
    };
    let Some(last) = history.last().map(|row| row.start) else {
        return fault(
            "nan",
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
        return fault("past_until", None, Some(cutoff), detail);
    }
    if asked > rules.max_horizon {
        let detail = format!("Series \"{name}\" needs more rows up to until than kronos.max_horizon allows.");
        return fault("horizon_limit", None, Some(cutoff), detail);
    }
    if future.len() < asked {
        let detail = format!("Calendar \"{}\" has no session for {asked} more rows.", rules.calendar.name());
        return fault("no_session", None, Some(cutoff), detail);
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
    let request = Encoder { rows: &rows, ahead: &ahead, variates: rules.variates }.request(asked);
    if request
        .targets
        .iter()
        .flatten()
        .chain(request.past_covariates.iter().flatten())
        .any(|v| v.is_infinite())
    {
        let detail = format!("Series \"{name}\" has an infinite value.");
        return fault("nan", None, Some(cutoff), detail);
    }
    Ok(Ok(Prepared { key, cutoff, future, width, request }))
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
fn defect(rows: &[ValueRow], grid: &Grid<'_>) -> Option<(&'static str, Instant, String)> {
    if let Some(pair) = rows.windows(2).find(|pair| pair[0].start == pair[1].start) {
        return Some(("duplicate_ts", pair[0].start, "Several rows start at {at}.".into()));
    }
    let overlap = rows.windows(2).find(|pair| grid.end(pair[0].start) > pair[1].start)?;
    Some(("irregular", overlap[1].start, "The row at {at} starts before the one before it has ended.".into()))
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

/// Columns of rows as variates of a request.
struct Encoder<'a> {
    rows: &'a [Option<&'a ValueRow>],
    ahead: &'a [Option<&'a ValueRow>],
    variates: &'a Variates,
}

impl Encoder<'_> {
    fn request(&self, horizon: usize) -> SeriesRequest {
        let Variates { targets, past, future, statics } = self.variates;
        let targets: Vec<Vec<f64>> =
            (0..targets.len()).map(|column| self.numbers(self.rows, column)).collect();
        let mut request = SeriesRequest { horizon, ..SeriesRequest::default() };
        let mut column = targets.len();
        for _ in past {
            request.past_covariates.push(self.encoded(column, &targets).0);
            column += 1;
        }
        for _ in future {
            let (past, future) = self.encoded(column, &targets);
            request.known_covariates.push(KnownCovariate { past, future });
            column += 1;
        }
        for _ in statics {
            let (past, _) = self.encoded(column, &targets);
            let last = past.iter().rev().copied().find(|value| !value.is_nan()).unwrap_or(f64::NAN);
            request.known_covariates.push(KnownCovariate { past, future: vec![last; horizon] });
            column += 1;
        }
        request.targets = targets;
        request
    }

    fn numbers(&self, rows: &[Option<&ValueRow>], column: usize) -> Vec<f64> {
        let number = |row: &Option<&ValueRow>| match row.map(|row| &row.cells[column]) {
            Some(Cell::Number(value)) => *value,
            _ => f64::NAN,
        };
        rows.iter().map(number).collect()
    }

    /// A covariate's past and future; categories by the target's means or, with several targets, by rank.
    ///
    /// Ranks are those of the series' own categories, so that no other series of the call changes them.
    fn encoded(&self, column: usize, targets: &[Vec<f64>]) -> (Vec<f64>, Vec<f64>) {
        let categorical = self
            .rows
            .iter()
            .chain(self.ahead)
            .flatten()
            .any(|row| matches!(row.cells[column], Cell::Category(_)));
        if !categorical {
            return (self.numbers(self.rows, column), self.numbers(self.ahead, column));
        }
        fn categories<'r>(rows: &[Option<&'r ValueRow>], column: usize) -> Vec<Category<'r>> {
            let category = |row: &Option<&'r ValueRow>| match row.map(|row| &row.cells[column]) {
                Some(Cell::Category(category)) => category.as_deref(),
                _ => None,
            };
            rows.iter().map(category).collect()
        }
        let (past, future) = (categories(self.rows, column), categories(self.ahead, column));
        match targets {
            [target] => target_means(target, &past, &future),
            _ => {
                let known = distinct(past.iter().copied());
                (ranks(&known, &past), ranks(&known, &future))
            }
        }
    }
}
