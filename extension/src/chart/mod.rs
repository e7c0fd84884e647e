//! What a chart shows: the newest values of one or several series, what models said of them, and what has come since.
//!
//! Forecasts are an array of rows of any kind, or the newest in the ledger. Rows are read by the names of their
//! columns, so that results of `kronos_predict`, of `forecast` and rows of the ledger all serve.

mod fan;
mod panel;
mod request;
mod source;

use crate::calendar;
use crate::call::{level as checked_level, quantile_levels as checked_levels};
use crate::error::{Error, Result};
use crate::guc;
use crate::json::JsonB;
use crate::relation::{Columns, Named, Relation, Wanted, resolve};
use crate::statement::{self, Sight};
use chrono_tz::Tz;
use kronos_plot::{self as plot, Picture};
use panel::{Levels, Read, Reader, wall};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::{AnyArray, pg_sys};
use request::{Request, Style, invalid};

/// Most bars of history.
const LONGEST_HISTORY: i32 = 10_000;

/// What stands below every forecast.
const NOTE: &str = "Research estimate, no advice or offer.";

/// The arguments of `kronos.chart()`.
pub struct Arguments<'a> {
    /// Where the bars are.
    pub relation: Option<pg_sys::Oid>,
    /// Which of its series; `None` for a relation that is one.
    pub series: Option<&'a str>,
    /// Rows of forecasts; `None` to read the ledger.
    pub rows: Option<AnyArray>,
    /// Bars before the cutoff.
    pub history: Option<i32>,
    /// Which forecasts, and the column that is drawn unless an option names another.
    pub target: Option<&'a str>,
    /// Column that tells series apart.
    pub series_col: Option<&'a str>,
    /// Start of the bar.
    pub time_col: Option<&'a str>,
    /// Only forecasts with a cutoff up to then.
    pub as_of: Option<TimestampWithTimeZone>,
    /// Only forecasts of this version, name or alias.
    pub model: Option<&'a str>,
    /// Share between the bounds, for rows that do not say.
    pub level: Option<f64>,
    /// Levels of the quantiles, for rows that do not say.
    pub quantile_levels: Option<Vec<Option<f64>>>,
    /// `svg` or `text`.
    pub format: Option<&'a str>,
    /// The rarer knobs, see [`Request`].
    pub options: Option<JsonB>,
}

/// Draws the chart that the arguments ask for.
///
/// # Errors
/// 22004 and 22023 for arguments out of their domain, 42703 and 42P18 for columns, what the server raises.
pub fn chart(arguments: Arguments<'_>) -> Result<String> {
    let Arguments { relation, series, rows, history, target, series_col, time_col, as_of, model, .. } =
        arguments;
    let request = Request::parse(arguments.format, arguments.options)?;
    let history = history.ok_or(Error::NullArgument { name: "history" })?;
    let keep = usize::try_from(history).ok().filter(|_| history <= LONGEST_HISTORY).ok_or_else(|| {
        invalid("history", format!("from 0 to {LONGEST_HISTORY}"), history.to_string(), None)
    })?;
    let target = target.ok_or(Error::NullArgument { name: "target" })?;
    let level = arguments.level.map(|level| checked_level(Some(level))).transpose()?;
    let quantiles = checked_levels(arguments.quantile_levels)?.as_slice().to_vec();
    let relation = Relation::open(relation)?;
    let value = request.value_col.as_deref().unwrap_or(target);
    let candles = match request.style {
        Some(style) => style == Style::Candles,
        None => value == "close" && has_bars(&relation)?,
    };
    let columns = columns(&relation, value, candles, series_col, time_col)?;
    let series = named_series(&columns, series, &request.series)?;
    let models = named_models(model, &request.models)?;

    let reader = Reader {
        relation: &relation,
        columns: &columns,
        zone: zone(request.calendar.as_deref())?,
        rows,
        target,
        keep,
        as_of,
        models: &models,
    };
    let read = series.iter().map(|&series| reader.read(series)).collect::<Result<Vec<_>>>()?;
    let zone = session_zone()?;
    let mut picture = Picture {
        title: match (request.title, read.as_slice()) {
            (Some(title), _) => title,
            (None, [Read { series: Some(series), .. }]) => format!("{series} · {}", relation.display()),
            (None, _) => relation.display(),
        },
        subtitle: subtitle(&read, &request.models, &zone)?,
        zone,
        ..Picture::default()
    };
    let levels = Levels { level, quantiles };
    let mut was_smoothed = false;
    for read in &read {
        let (panel, smoothed) = read.panel(&levels, request.is_smooth)?;
        was_smoothed |= smoothed;
        let title = if series.len() > 1 { panel_title(read) } else { String::new() };
        picture.panels.push(plot::Panel { title, value: target.to_owned(), candles, ..panel });
    }
    if read.iter().any(|read| read.steps() > 0) {
        let smoothed = if was_smoothed { " Bands are smoothed over neighbouring steps." } else { "" };
        picture.note = format!("{NOTE}{smoothed}");
    }
    Ok(request.format.draw(&picture))
}

/// Whether a relation has the prices of a bar, and the caller may read them.
fn has_bars(relation: &Relation) -> Result<bool> {
    let text = "select pg_catalog.count(*) operator(pg_catalog.=) 3 from pg_catalog.pg_attribute a \
         where a.attrelid operator(pg_catalog.=) $1 and not a.attisdropped \
           and a.attname operator(pg_catalog.=) any ('{open,high,low}'::pg_catalog.name[]) \
           and a.atttypid operator(pg_catalog.=) any ('{int2,int4,int8,float4,float8,numeric}'::pg_catalog.regtype[]::pg_catalog.oid[]) \
           and pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT')";
    Ok(statement::value(Sight::Query, text, &[relation.oid().into()])?.unwrap_or(false))
}

fn columns(
    relation: &Relation,
    value: &str,
    candles: bool,
    series_col: Option<&str>,
    time_col: Option<&str>,
) -> Result<Columns> {
    let wanted = Wanted { series: series_col, time: time_col, known_at: None };
    let prices: &[&str] = if candles { &[value, "open", "high", "low"] } else { &[value] };
    let named: Vec<Named<'_>> = prices.iter().map(|name| Named::target(name)).collect();
    resolve(relation, &wanted, &named)
}

/// The series to look up: one or several are needed exactly where the relation has several.
fn named_series<'a>(
    columns: &Columns,
    series: Option<&'a str>,
    several: &'a [String],
) -> Result<Vec<Option<&'a str>>> {
    if series.is_some() && !several.is_empty() {
        let names = several.join(", ");
        return Err(invalid("option \"series\"", "absent where series is given".to_owned(), names, None));
    }
    let named = series.or(several.first().map(String::as_str));
    match (&columns.series, named) {
        (Some((column, _)), None) => Err(invalid(
            "series",
            format!("a value of column \"{column}\""),
            "NULL".to_owned(),
            Some("Pass series => '...', or several with options => '{\"series\": [\"...\", \"...\"]}'."),
        )),
        (None, Some(series)) => Err(invalid(
            "series",
            "NULL for a relation that is one single series".to_owned(),
            format!("\"{series}\""),
            Some("Pass series_col => '...' if a column tells series apart."),
        )),
        _ if several.is_empty() => Ok(vec![series]),
        _ => Ok(several.iter().map(|series| Some(series.as_str())).collect()),
    }
}

/// The models whose forecasts are drawn: any, one, or several over each other.
fn named_models<'a>(model: Option<&'a str>, several: &'a [String]) -> Result<Vec<Option<&'a str>>> {
    match (model, several) {
        (_, []) => Ok(vec![model]),
        (None, several) => Ok(several.iter().map(|model| Some(model.as_str())).collect()),
        (Some(_), several) => {
            let names = several.join(", ");
            Err(invalid("option \"models\"", "absent where model is given".to_owned(), names, None))
        }
    }
}

/// The zone of times that bear none: the calendar's.
fn zone(calendar: Option<&str>) -> Result<Tz> {
    Ok(calendar::load(&calendar.map_or_else(guc::default_calendar, str::to_owned))?.zone())
}

/// The time zone that the session shows instants in.
fn session_zone() -> Result<String> {
    Ok(statement::value(Sight::Query, "select pg_catalog.current_setting('TimeZone')", &[])?
        .unwrap_or_default())
}

/// The line below the headline: how much there is, from when, and of which model where it is one.
fn subtitle(read: &[Read<'_>], models: &[String], zone: &str) -> Result<String> {
    let count = |count: usize| if count == 1 { "1 bar".to_owned() } else { format!("{count} bars") };
    let mut parts = match read {
        [one] => vec![format!("{} of history", count(one.history()))],
        several => vec![format!("{} series", several.len())],
    };
    let steps = read.iter().map(Read::steps).max().unwrap_or(0);
    if steps == 0 {
        parts.push(match read {
            [one] if one.status().is_some() => {
                format!("no forecast: {} · {zone}", one.status().unwrap_or_default())
            }
            _ => format!("no forecast · {zone}"),
        });
        return Ok(parts.join(" · "));
    }
    parts.push(format!("{} of forecast", count(steps)));
    let said = || read.iter().flat_map(|read| &read.said).filter(|said| !said.steps.is_empty());
    let mut cutoffs: Vec<i64> = said().filter_map(|said| said.cutoff()).map(i64::from).collect();
    cutoffs.sort_unstable();
    cutoffs.dedup();
    if let Some(&newest) = cutoffs.last() {
        let cutoff = if cutoffs.len() > 1 { "newest cutoff" } else { "cutoff" };
        parts.push(format!("{cutoff} {} {zone}", plot::moment(wall(newest)?)));
    }
    let mut versions: Vec<&str> =
        said().filter_map(|said| said.head.as_ref()).map(|head| head.model_version.as_str()).collect();
    versions.sort_unstable();
    versions.dedup();
    if let [version] = versions[..]
        && !version.is_empty()
    {
        parts.push(version.to_owned());
    }
    for (place, model) in models.iter().enumerate() {
        if read.iter().all(|read| read.said.get(place).is_none_or(|said| said.steps.is_empty())) {
            parts.push(format!("no forecast of {model}"));
        }
    }
    Ok(parts.join(" · "))
}

/// The name of a series, and why nothing is said of it.
fn panel_title(read: &Read<'_>) -> String {
    let name = read.series.unwrap_or_default();
    match (read.steps(), read.status()) {
        (0, Some(status)) => format!("{name} · no forecast: {status}"),
        (0, None) => format!("{name} · no forecast"),
        _ => name.to_owned(),
    }
}
