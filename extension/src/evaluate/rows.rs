//! The rows to score: found by the names of their columns, read point by point.
#![allow(unsafe_code)] // datums

use super::forecast::Forecast;
use super::options::EvaluateOptions;
use super::{Error, Result, missing};
use crate::relation::{Fetched, Relation, names, open_cursor, quote, sql, text_of};
use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::{FromDatum, IntoDatum, check_for_interrupts, spi::Spi};

/// Columns read, in their order, with the type each is read as; those marked must be there.
const READ: [(&str, &str, bool); 21] = [
    ("series", "text", false),
    ("target", "text", false),
    ("model_version", "text", true),
    ("cutoff", "timestamptz", true),
    ("ts", "timestamptz", true),
    ("step", "int4", true),
    ("forecast", "float8", true),
    ("actual", "float8", false),
    ("lower", "float8", false),
    ("upper", "float8", false),
    ("level", "float8", false),
    ("quantiles", "float8[]", false),
    ("quantile_levels", "float8[]", false),
    ("contaminated", "bool", false),
    ("last_value", "float8", false),
    ("scale", "float8", false),
    ("crps", "float8", false),
    ("pit", "float8", false),
    ("calibration", "text", false),
    ("kind", "text", false),
    ("issued_at", "timestamptz", false),
];

/// Which of the columns a relation has, and by which its rows are grouped.
#[derive(Debug)]
pub struct Columns {
    present: Vec<String>,
    /// Grouping columns, as given.
    pub by: Vec<String>,
    /// The input whose rows count, for a relation that holds those of several.
    input: Option<Oid>,
}

impl Columns {
    /// Finds the columns.
    ///
    /// # Errors
    /// 42703 for one that is missing; 22004 where nothing says what came; 22023 for an input that is no relation.
    pub fn of(
        relation: &Relation,
        by: &[String],
        options: &EvaluateOptions,
        actuals: Option<Oid>,
    ) -> Result<Self> {
        let present = names(relation)?;
        let has = |name: &str| present.iter().any(|column| column == name);
        if let Some((column, ..)) = READ.iter().find(|(name, _, needed)| *needed && !has(name)) {
            return Err(missing(relation, column));
        }
        if let Some(column) = by.iter().find(|name| !has(name)) {
            return Err(missing(relation, column));
        }
        if actuals.is_none() && !has("actual") {
            return Err(Error::NoActuals { relation: relation.display() });
        }
        let input = match (&options.input, actuals) {
            (Some(name), _) => Some(Relation::named(name)?.oid()),
            (None, Some(actuals)) if has("relation") => Some(actuals),
            (None, _) => None,
        };
        if options.input.is_some() && !has("relation") {
            return Err(missing(relation, "relation"));
        }
        Ok(Self { present, by: by.to_vec(), input })
    }

    /// Whether the relation has a column.
    pub fn has(&self, name: &str) -> bool {
        self.present.iter().any(|column| column == name)
    }

    /// The condition that picks the rows to score, and its parameters.
    pub fn condition(&self, options: &EvaluateOptions) -> (String, Vec<(Oid, Option<Datum>)>) {
        let mut conditions = vec!["t.forecast is not null".to_owned()];
        let mut arguments: Vec<(Oid, Option<Datum>)> = Vec::new();
        let mut bound = |condition: &str, type_of: Oid, value: Option<Datum>| {
            if value.is_some() {
                arguments.push((type_of, value));
                conditions.push(condition.replace('?', &format!("${}", arguments.len())));
            }
        };
        bound("t.ts operator(pg_catalog.>=) ?", pg_sys::TIMESTAMPTZOID, options.since.map(Datum::from));
        bound("t.ts operator(pg_catalog.<) ?", pg_sys::TIMESTAMPTZOID, options.until.map(Datum::from));
        if self.has("target") {
            let target = options.target.clone().and_then(IntoDatum::into_datum);
            bound("t.target::pg_catalog.text operator(pg_catalog.=) ?", pg_sys::TEXTOID, target);
        }
        if self.has("relation") {
            let input = self.input.and_then(IntoDatum::into_datum);
            bound("t.relation::pg_catalog.oid operator(pg_catalog.=) ?", pg_sys::OIDOID, input);
        }
        if let Some(served) = &options.served {
            bound("t.kind operator(pg_catalog.=) ?", pg_sys::TEXTOID, "live".into_datum());
            bound("t.step operator(pg_catalog.=) ?", pg_sys::INT8OID, served.step.into_datum());
            bound("t.level operator(pg_catalog.=) ?", pg_sys::FLOAT8OID, served.level.into_datum());
            bound(
                "t.issued_at operator(pg_catalog.<=) ?",
                pg_sys::TIMESTAMPTZOID,
                Some(Datum::from(served.by)),
            );
            let series = served.series.clone().and_then(IntoDatum::into_datum);
            bound("t.series operator(pg_catalog.=) any (?)", pg_sys::TEXTARRAYOID, series);
        }
        if self.has("contaminated") && !options.contaminated {
            conditions.push("t.contaminated is not true".to_owned());
        }
        (conditions.join(" and "), arguments)
    }
}

/// The different values of a column among the rows to score.
///
/// # Errors
/// What the server raises.
pub fn distinct(
    relation: &Relation,
    columns: &Columns,
    options: &EvaluateOptions,
    column: &'static str,
) -> Result<Vec<String>> {
    let (condition, arguments) = columns.condition(options);
    let from = relation.quoted();
    let text = sql(format!(
        "select distinct t.{column}::pg_catalog.text from {from} t where {condition} order by 1"
    ))?;
    Spi::connect(|_| {
        let cursor = open_cursor(&text, &arguments);
        let mut targets = Vec::new();
        loop {
            let fetched = Fetched::next(cursor);
            if fetched.rows().is_empty() {
                break;
            }
            for &tuple in fetched.rows() {
                let (mut values, mut nulls) = ([Datum::from(0)], [true]);
                // SAFETY: a live tuple of the fetched table with one column of text.
                let target = unsafe {
                    let descriptor = fetched.descriptor();
                    pg_sys::heap_deform_tuple(tuple, descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
                    Cells { values: &values, nulls: &nulls }.text(0)?
                };
                targets.extend(target);
            }
        }
        // SAFETY: the portal was opened above and is closed once; after an error the server closes it.
        unsafe { pg_sys::SPI_cursor_close(cursor) };
        Ok(targets)
    })
}

/// Reads the rows in the order of series, target, cutoff and time, so that those of one cell come together.
///
/// # Errors
/// What `each` returns; what the server raises.
pub fn read(
    relation: &Relation,
    columns: &Columns,
    options: &EvaluateOptions,
    mut each: impl FnMut(Forecast) -> Result<()>,
) -> Result<()> {
    let mut list: Vec<String> = READ
        .iter()
        .map(|(name, type_of, _)| {
            // An order that no locale changes, and that a sort need not ask one for.
            let collation = if *type_of == "text" { " collate pg_catalog.\"C\"" } else { "" };
            match columns.has(name) {
                true => format!("t.{}::pg_catalog.{type_of}{collation}", quote(name)),
                false => format!("null::pg_catalog.{type_of}{collation}"),
            }
        })
        .collect();
    list.extend(columns.by.iter().map(|name| format!("t.{}::pg_catalog.text", quote(name))));
    let (condition, arguments) = columns.condition(options);
    let width = list.len();
    // Series, target, cutoff, time, calibration, kind, model.
    let text = sql(format!(
        "select {} from {} t where {condition} \
         order by 1, 2, 4, 5, 19, 20, 3",
        list.join(", "),
        relation.quoted()
    ))?;
    Spi::connect(|_| {
        let cursor = open_cursor(&text, &arguments);
        let (mut values, mut nulls) = (vec![Datum::from(0); width], vec![true; width]);
        loop {
            check_for_interrupts!();
            let fetched = Fetched::next(cursor);
            if fetched.rows().is_empty() {
                break;
            }
            for &tuple in fetched.rows() {
                // SAFETY: a live tuple of the fetched table; both arrays have one entry per column of the list.
                let forecast = unsafe {
                    let descriptor = fetched.descriptor();
                    pg_sys::heap_deform_tuple(tuple, descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
                    decode(&Cells { values: &values, nulls: &nulls }, options)?
                };
                if let Some(forecast) = forecast {
                    each(forecast)?;
                }
            }
        }
        // SAFETY: the portal was opened above and is closed once; after an error the server closes it.
        unsafe { pg_sys::SPI_cursor_close(cursor) };
        Ok(())
    })
}

/// The values of one row.
struct Cells<'a> {
    values: &'a [Datum],
    nulls: &'a [bool],
}

impl Cells<'_> {
    fn datum(&self, at: usize) -> Option<Datum> {
        (!self.nulls[at]).then(|| self.values[at])
    }

    fn number(&self, at: usize) -> Option<f64> {
        self.datum(at).map(|datum| f64::from_bits(datum.value() as u64)).filter(|value| value.is_finite())
    }

    /// # Safety
    /// Column `at` is text, of a live row.
    unsafe fn text(&self, at: usize) -> Result<Option<String>> {
        // SAFETY: promised by the caller.
        self.datum(at).map(|datum| unsafe { text_of(datum) }.map(str::to_owned)).transpose()
    }

    /// # Safety
    /// Column `at` is `float8[]`, of a live row.
    unsafe fn numbers(&self, at: usize) -> Option<Vec<f64>> {
        // SAFETY: promised by the caller.
        let values = unsafe { Vec::<Option<f64>>::from_datum(self.datum(at)?, false) }?;
        values.into_iter().map(|value| value.filter(|value| value.is_finite())).collect()
    }
}

/// One row; `None` where the forecast is no number.
///
/// # Safety
/// The cells are those of a live row with the columns of [`READ`], then texts.
unsafe fn decode(cells: &Cells<'_>, options: &EvaluateOptions) -> Result<Option<Forecast>> {
    let (Some(cutoff), Some(ts), Some(step), Some(forecast)) =
        (cells.datum(3), cells.datum(4), cells.datum(5), cells.number(6))
    else {
        return Ok(None);
    };
    // SAFETY: the columns have the types that they are read as.
    unsafe {
        let text = |at| cells.text(at).map(Option::unwrap_or_default);
        let bounds = (cells.number(8), cells.number(9), cells.number(10).or(options.level));
        let levels = cells.numbers(12).unwrap_or_else(|| options.quantile_levels.clone());
        let quantiles = cells.numbers(11).filter(|values| values.len() == levels.len() && !levels.is_empty());
        Ok(Some(Forecast {
            key: (READ.len()..cells.values.len()).map(|at| cells.text(at)).collect::<Result<_>>()?,
            series: text(0)?,
            target: text(1)?,
            model_version: text(2)?,
            variant: (text(18)?, text(19)?),
            issued_at: cells.datum(20).map(|datum| datum.value() as i64),
            cutoff: cutoff.value() as i64,
            ts: ts.value() as i64,
            step: step.value() as i32,
            forecast,
            actual: cells.number(7),
            interval: match bounds {
                (Some(lower), Some(upper), Some(level)) => Some((lower, upper, level)),
                _ => None,
            },
            quantiles: quantiles.map(|values| (values, levels)),
            contaminated: cells.datum(13).map(|datum| datum.value() & 1 == 1),
            last_value: cells.number(14),
            scale: cells.number(15),
            crps: cells.number(16),
            pit: cells.number(17),
            benchmark: None,
        }))
    }
}
