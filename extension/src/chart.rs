//! What a chart shows: the newest values of a series, one forecast of it, and what has come since.
//!
//! The forecast is an array of rows of any kind, or the newest in the ledger. Rows are read by the names of their
//! columns, so that results of `kronos_predict`, of `forecast` and rows of the ledger all serve.

use crate::calendar::{self, Instant};
use crate::call::{level as checked_level, quantile_levels as checked_levels};
use crate::error::{Error, Result};
use crate::guc;
use crate::json::JsonB;
use crate::options::Given;
use crate::relation::{Columns, Named, Newest, Relation, Wanted, resolve};
use crate::statement::{self, Sight};
use chrono_tz::Tz;
use kronos_plot::{self as plot, Bounds, Picture, Slot, drawable};
use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::spi::Spi;
use pgrx::{AnyArray, direct_function_call, pg_sys};
use std::collections::BTreeMap;

/// Keys of `options`.
const KEYS: &[&str] = &["calendar", "height", "title", "value_col", "width"];

/// Most bars of history.
const LONGEST_HISTORY: i32 = 10_000;

/// Rows of the relation read per step of the forecast, for relations finer than the forecast.
const OUTCOMES_PER_STEP: usize = 16;

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
    /// The rarer knobs, [`KEYS`].
    pub options: Option<JsonB>,
}

/// Draws the chart that the arguments ask for.
///
/// # Errors
/// 22004 and 22023 for arguments out of their domain, 42703 and 42P18 for columns, what the server raises.
pub fn chart(arguments: Arguments<'_>) -> Result<String> {
    let Arguments { relation, series, rows, history, target, series_col, time_col, as_of, model, .. } =
        arguments;
    let given = Given::options(arguments.options, KEYS)?;
    let format = Format::parse(arguments.format, &given)?;
    let history = history.ok_or(Error::NullArgument { name: "history" })?;
    let keep = usize::try_from(history).ok().filter(|_| history <= LONGEST_HISTORY).ok_or_else(|| {
        invalid("history", format!("from 0 to {LONGEST_HISTORY}"), history.to_string(), None)
    })?;
    let target = target.ok_or(Error::NullArgument { name: "target" })?;
    let level = arguments.level.map(|level| checked_level(Some(level))).transpose()?;
    let levels = checked_levels(arguments.quantile_levels)?.as_slice().to_vec();
    let relation = Relation::open(relation)?;
    let columns = columns(&relation, given.text("value_col")?.unwrap_or(target), series_col, time_col)?;
    let series = named_series(&columns, series)?;
    let zone = zone(given.text("calendar")?)?;

    let source = Source { relation: &relation, series, target, as_of, model };
    let (head, steps) = source.read(rows)?;
    let cutoff = head.as_ref().and_then(|head| head.cutoff).or(steps.first().map(|step| step.ts));
    let last = steps.last().map(|step| step.ts);
    let newest = Newest { series, from: None, before: cutoff.or(as_of), keep, zone };
    let past = newest.read(&relation, &columns)?;
    let came = match (cutoff, last) {
        (Some(cutoff), Some(last)) if !steps.is_empty() => {
            let keep = steps.len().saturating_mul(OUTCOMES_PER_STEP);
            let came = Newest { from: Some(cutoff), before: None, keep, ..newest }.through(last);
            came.read(&relation, &columns)?
        }
        _ => Vec::new(),
    };

    let mut picture = Picture {
        title: match (given.text("title")?, series) {
            (Some(title), _) => title.to_owned(),
            (None, Some(series)) => format!("{series} · {}", relation.display()),
            (None, None) => relation.display(),
        },
        value: target.to_owned(),
        zone: session_zone()?,
        known: past.len(),
        ..Picture::default()
    };
    picture.subtitle = subtitle(past.len(), head.as_ref(), &steps, cutoff, &picture.zone)?;
    let forecast = Fan::new(head.as_ref(), &steps, level, levels)?;
    forecast.fill(&mut picture, past, came, &steps)?;
    Ok(format.draw(&picture))
}

/// What a chart is drawn as, with its size.
enum Format {
    Svg { width: f64, height: f64 },
    Text { width: usize, height: usize },
}

impl Format {
    fn parse(format: Option<&str>, given: &Given) -> Result<Self> {
        match format.ok_or(Error::NullArgument { name: "format" })? {
            "svg" => Ok(Self::Svg {
                width: given.integer("width", 240, 10_000)?.unwrap_or(960) as f64,
                height: given.integer("height", 160, 10_000)?.unwrap_or(420) as f64,
            }),
            "text" => Ok(Self::Text {
                width: given.integer("width", 40, 1000)?.unwrap_or(100),
                height: given.integer("height", 10, 500)?.unwrap_or(24),
            }),
            other => Err(invalid("format", "\"svg\" or \"text\"".to_owned(), format!("\"{other}\""), None)),
        }
    }

    fn draw(&self, picture: &Picture) -> String {
        match *self {
            Self::Svg { width, height } => plot::svg(picture, width, height),
            Self::Text { width, height } => plot::text(picture, width, height),
        }
    }
}

fn columns(
    relation: &Relation,
    value: &str,
    series_col: Option<&str>,
    time_col: Option<&str>,
) -> Result<Columns> {
    let wanted = Wanted { series: series_col, time: time_col, known_at: None };
    resolve(relation, &wanted, &[Named::target(value)])
}

/// The series to look up: one is needed exactly where the relation has several.
fn named_series<'a>(columns: &Columns, series: Option<&'a str>) -> Result<Option<&'a str>> {
    match (&columns.series, series) {
        (Some((column, _)), None) => Err(invalid(
            "series",
            format!("a value of column \"{column}\""),
            "NULL".to_owned(),
            Some("Pass series => '...'."),
        )),
        (None, Some(series)) => Err(invalid(
            "series",
            "NULL for a relation that is one single series".to_owned(),
            format!("\"{series}\""),
            Some("Pass series_col => '...' if a column tells series apart."),
        )),
        _ => Ok(series),
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

/// An instant on the session's wall clock, in microseconds since 2000-01-01 00:00.
#[allow(unsafe_code)]
fn wall(at: Instant) -> Result<i64> {
    // SAFETY: the function takes one timestamptz and gives a timestamp, both 64 bits by value.
    unsafe { direct_function_call::<i64>(pg_sys::timestamptz_timestamp, &[Some(pg_sys::Datum::from(at))]) }
        .ok_or_else(|| Error::Internal { what: "an instant has no local time".into() })
}

/// Where a forecast is looked for.
struct Source<'a> {
    relation: &'a Relation,
    series: Option<&'a str>,
    target: &'a str,
    as_of: Option<TimestampWithTimeZone>,
    model: Option<&'a str>,
}

/// What all steps of a forecast have in common.
struct Head {
    cutoff: Option<TimestampWithTimeZone>,
    model_version: String,
    calibration: String,
    status: Option<String>,
}

/// One step of a forecast, as it was read.
struct Step {
    ts: TimestampWithTimeZone,
    point: Option<f64>,
    interval: Option<Bounds>,
    raw: Option<Bounds>,
    level: Option<f64>,
    levels: Option<Vec<Option<f64>>>,
    quantiles: Option<Vec<Option<f64>>>,
}

/// Columns of a forecast's rows as they are read; whatever else rows have is left alone.
const COLUMNS: &str = "series pg_catalog.text, target pg_catalog.text, ts pg_catalog.timestamptz, \
     issued_at pg_catalog.timestamptz, cutoff pg_catalog.timestamptz, model_version pg_catalog.text, \
     calibration pg_catalog.text, status pg_catalog.text, forecast pg_catalog.float8, close pg_catalog.float8, \
     lower pg_catalog.float8, upper pg_catalog.float8, level pg_catalog.float8, quantile_levels pg_catalog.float8[], \
     quantiles pg_catalog.float8[], raw_lower pg_catalog.float8, raw_upper pg_catalog.float8";

impl Source<'_> {
    /// The newest forecast among rows, or in the ledger without any.
    fn read(&self, rows: Option<AnyArray>) -> Result<(Option<Head>, Vec<Step>)> {
        let list = "f.ts, f.issued_at, f.status, f.lower, f.upper, f.level, f.quantile_levels, f.quantiles, \
             f.raw_lower, f.raw_upper, coalesce(f.cutoff, '-infinity') as cutoff, \
             coalesce(f.model_version, '') as model_version, coalesce(f.calibration, '') as calibration";
        match rows {
            Some(rows) => self.newest(
                &format!(
                    "(select {list}, coalesce(f.forecast, f.close) as point \
                      from pg_catalog.jsonb_to_recordset(pg_catalog.to_jsonb($6)) as f({COLUMNS}) \
                      where (f.series is null or f.series operator(pg_catalog.=) $1) \
                        and (f.target is null or f.target operator(pg_catalog.=) $2))"
                ),
                Some(rows),
            ),
            None if self.has_ledger()? => self.newest(
                &format!(
                    "(select {list}, f.forecast as point from kronos.forecasts f \
                      where f.kind operator(pg_catalog.<>) 'backtest' and f.relation operator(pg_catalog.=) $5::pg_catalog.regclass \
                        and f.series operator(pg_catalog.=) $1 and f.target operator(pg_catalog.=) $2)"
                ),
                None,
            ),
            None => Ok((None, Vec::new())),
        }
    }

    /// Whether there is a ledger that the caller may read.
    fn has_ledger(&self) -> Result<bool> {
        let text =
            "select pg_catalog.has_table_privilege(pg_catalog.to_regclass('kronos.forecasts'), 'SELECT')";
        Ok(statement::value(Sight::Query, text, &[])?.unwrap_or(false))
    }

    #[allow(unsafe_code)]
    fn newest(&self, source: &str, rows: Option<AnyArray>) -> Result<(Option<Head>, Vec<Step>)> {
        // The planner sees through the source: a ledger is asked for one cutoff by its index.
        let text = format!(
            "select f.ts, f.point, f.lower, f.upper, f.level, f.quantile_levels, f.quantiles, f.raw_lower, f.raw_upper, \
                    case when f.cutoff operator(pg_catalog.>) '-infinity' then f.cutoff end, f.model_version, f.calibration, f.status \
             from (select f.cutoff, f.model_version, f.calibration from {source} f \
                   where ($3 is null or f.cutoff operator(pg_catalog.<=) $3) \
                     and ($4 is null or f.model_version operator(pg_catalog.=) $4 \
                          or pg_catalog.split_part(f.model_version, '@', 1) operator(pg_catalog.=) $4 \
                          or exists (select from kronos.models m where m.version operator(pg_catalog.=) f.model_version \
                                     and $4 operator(pg_catalog.=) any (m.aliases))) \
                   order by (f.point is null), f.cutoff desc, f.issued_at desc nulls last, f.calibration desc, f.model_version \
                   limit 1) c, {source} f \
             where f.cutoff operator(pg_catalog.=) c.cutoff and f.model_version operator(pg_catalog.=) c.model_version \
               and f.calibration operator(pg_catalog.=) c.calibration \
             order by f.ts nulls last"
        );
        let mut arguments = vec![
            DatumWithOid::from(self.series.unwrap_or_default()),
            self.target.into(),
            self.as_of.into(),
            self.model.map(str::to_owned).into(),
            self.relation.oid().into(),
        ];
        if let Some(rows) = rows {
            // SAFETY: the datum is an array of the type it says it is, alive for the call.
            arguments.push(unsafe { DatumWithOid::new(rows.datum(), rows.oid()) });
        }
        Spi::connect(|client| {
            let mut head = None;
            let mut steps: Vec<Step> = Vec::new();
            for row in statement::select_text(client, Sight::Query, &text, &arguments)? {
                head.get_or_insert(Head {
                    cutoff: row.get(10)?,
                    model_version: row.get(11)?.unwrap_or_default(),
                    calibration: row.get(12)?.unwrap_or_default(),
                    status: row.get(13)?,
                });
                let number =
                    |column: usize| -> Result<Option<f64>> { Ok(row.get::<f64>(column)?.and_then(drawable)) };
                let Some(ts) = row.get::<TimestampWithTimeZone>(1)?.filter(|&ts| is_finite(ts)) else {
                    continue;
                };
                // Rows of several runs may tell of the same bar; what was issued for it is the same.
                if steps.last().is_some_and(|step| step.ts == ts) || row.get::<f64>(2)?.is_none() {
                    continue;
                }
                steps.push(Step {
                    ts,
                    point: number(2)?,
                    interval: bounds(number(3)?, number(4)?),
                    level: row.get(5)?,
                    levels: row.get(6)?,
                    quantiles: row.get(7)?,
                    raw: bounds(number(8)?, number(9)?),
                });
            }
            Ok((head, steps))
        })
    }
}

fn is_finite(ts: TimestampWithTimeZone) -> bool {
    !matches!(i64::from(ts), i64::MIN | i64::MAX)
}

fn bounds(lower: Option<f64>, upper: Option<f64>) -> Option<Bounds> {
    Some((lower?, upper?))
}

fn subtitle(
    history: usize,
    head: Option<&Head>,
    steps: &[Step],
    cutoff: Option<TimestampWithTimeZone>,
    zone: &str,
) -> Result<String> {
    let count = |count: usize| if count == 1 { "1 bar".to_owned() } else { format!("{count} bars") };
    let mut parts = vec![format!("{} of history", count(history))];
    match (head, cutoff) {
        (Some(Head { status: Some(status), .. }), _) if steps.is_empty() => {
            parts.push(format!("no forecast: {status} · {zone}"))
        }
        (Some(head), Some(cutoff)) if !steps.is_empty() => {
            parts.push(format!("{} of forecast", count(steps.len())));
            parts.push(format!("cutoff {} {zone}", plot::moment(wall(cutoff.into())?)));
            if !head.model_version.is_empty() {
                parts.push(head.model_version.clone());
            }
        }
        _ => parts.push(format!("no forecast · {zone}")),
    }
    Ok(parts.join(" · "))
}

/// The bands that all steps share, from the widest to the narrowest.
struct Fan {
    bands: Vec<Band>,
    calibrated: Option<String>,
}

struct Band {
    name: String,
    /// Share of the distribution between the bounds.
    mass: f64,
    source: BandSource,
}

#[derive(Clone, Copy)]
enum BandSource {
    /// Places of two quantiles.
    Quantiles(usize, usize),
    /// The model's own interval.
    Interval,
}

impl Fan {
    fn new(head: Option<&Head>, steps: &[Step], level: Option<f64>, levels: Vec<f64>) -> Result<Self> {
        let calibration = head.map_or("", |head| head.calibration.as_str());
        let level = level.or_else(|| steps.iter().find_map(|step| step.level));
        let mut bands = quantile_bands(steps, levels)?;
        let own = |step: &Step| if calibration.is_empty() { step.interval } else { step.raw };
        if steps.iter().any(|step| own(step).is_some()) {
            // Rows that do not say their level may have it among their quantiles.
            let same = |band: &Band| match level {
                Some(level) => (band.mass - level).abs() < 1e-9,
                None => steps.iter().all(|step| own(step) == band.of(step, false)),
            };
            if !bands.iter().any(same) {
                let name = level.map_or_else(|| "interval".to_owned(), percent);
                bands.push(Band { name, mass: level.unwrap_or(1.0), source: BandSource::Interval });
            }
        }
        bands.sort_by(|a, b| b.mass.total_cmp(&a.mass));
        let calibrated = (!calibration.is_empty()).then(|| {
            let interval = level.map_or_else(|| "interval".to_owned(), percent);
            format!("{interval}, calibrated by {calibration}")
        });
        Ok(Self { bands, calibrated })
    }

    /// Puts history, forecast and outcomes into the order of time.
    fn fill(
        self,
        picture: &mut Picture,
        past: Vec<(Instant, f64)>,
        came: Vec<(Instant, f64)>,
        steps: &[Step],
    ) -> Result<()> {
        let mut slots: Vec<Slot> = Vec::with_capacity(past.len() + steps.len());
        for (start, value) in past {
            slots.push(Slot { wall: wall(start)?, actual: drawable(value), ..Slot::default() });
        }
        let mut ahead: BTreeMap<Instant, Slot> = BTreeMap::new();
        for step in steps {
            let bands = self.bands.iter().map(|band| band.of(step, self.calibrated.is_some())).collect();
            let calibrated = self.calibrated.as_ref().and(step.interval);
            let slot = Slot { point: step.point, bands, calibrated, ..Slot::default() };
            ahead.insert(step.ts.into(), slot);
        }
        for (start, value) in came {
            ahead.entry(start).or_default().actual = drawable(value);
        }
        for (start, slot) in ahead {
            slots.push(Slot { wall: wall(start)?, ..slot });
        }
        picture.slots = slots;
        picture.bands = self.bands.into_iter().map(|band| band.name).collect();
        picture.calibrated = self.calibrated;
        Ok(())
    }
}

impl Band {
    fn of(&self, step: &Step, calibrated: bool) -> Option<Bounds> {
        match self.source {
            BandSource::Interval if calibrated => step.raw,
            BandSource::Interval => step.interval,
            BandSource::Quantiles(lower, upper) => {
                let quantiles = step.quantiles.as_ref()?;
                let at = |place: usize| quantiles.get(place).copied().flatten().and_then(drawable);
                bounds(at(lower), at(upper))
            }
        }
    }
}

/// Bands between the outermost quantiles, then those within them, and so on; the one in the middle bounds nothing.
fn quantile_bands(steps: &[Step], levels: Vec<f64>) -> Result<Vec<Band>> {
    let Some((step, quantiles)) = steps.iter().find_map(|step| Some((step, step.quantiles.as_ref()?))) else {
        return Ok(Vec::new());
    };
    let levels = match &step.levels {
        Some(own) if levels.is_empty() => checked_levels(Some(own.clone()))?.as_slice().to_vec(),
        _ => levels,
    };
    if levels.len() != quantiles.len() {
        return Err(invalid(
            "quantile_levels",
            format!("as many as the rows have quantiles, {}", quantiles.len()),
            levels.len().to_string(),
            Some("Pass the quantile_levels of the call that made the rows."),
        ));
    }
    let pair = |lower: usize| -> Band {
        let upper = levels.len() - 1 - lower;
        let (from, to) = (levels[lower], levels[upper]);
        let symmetric = (from + to - 1.0).abs() < 1e-9;
        let name =
            if symmetric { percent(to - from) } else { format!("{} to {}", percent(from), percent(to)) };
        Band { name, mass: to - from, source: BandSource::Quantiles(lower, upper) }
    };
    Ok((0..levels.len() / 2).map(pair).collect())
}

/// A fraction as a percentage of at most two decimals.
fn percent(fraction: f64) -> String {
    let text = format!("{:.2}", 100.0 * fraction);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

fn invalid(name: &str, expected: String, got: String, hint: Option<&str>) -> Error {
    Error::InvalidArgument { name: name.to_owned(), expected, got, hint: hint.map(str::to_owned) }
}
