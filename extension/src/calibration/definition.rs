//! A calibration as it is made and as it is read back.

use super::options::{CalibrationOptions, choice};
use super::require_tables;
use super::starts::newest;
use crate::calendar::{self, Calendar, Instant, Width, infer_width, label_zone};
use crate::catalog;
use crate::error::{Error, Result};
use crate::json::JsonB;
use crate::options::width;
use crate::query::{Kind, Query, Wanted as WantedColumn};
use crate::relation::{Columns, Named, Relation, ValueColumn, Wanted, quote, resolve};
use crate::statement::{self, Sight};
use kronos_models::baselines::Baseline;
use kronos_models::calibration::Method;
use pgrx::pg_sys::Oid;
use pgrx::spi::Spi;
use std::collections::HashMap;

/// What states may be kept per.
const PER: &[&str] = &["series", "step"];

/// The arguments of `kronos.create_calibration()`.
pub struct New<'a> {
    /// Name of the calibration.
    pub name: &'a str,
    /// Relation of the outcomes.
    pub actuals: Option<Oid>,
    /// Column that was forecast.
    pub target: &'a str,
    /// `series_col`.
    pub series_col: Option<&'a str>,
    /// `time_col`.
    pub time_col: Option<&'a str>,
    /// Name, alias or version.
    pub model: Option<&'a str>,
    /// Probability to cover.
    pub level: f64,
    /// Name of the method.
    pub method: &'a str,
    /// What has a state of its own.
    pub per: Vec<String>,
    /// The rarer knobs.
    pub options: Option<JsonB>,
    /// Whether one of that name is no error.
    pub if_not_exists: bool,
}

/// A calibration.
pub struct Definition {
    /// Its name.
    pub name: String,
    /// The rules and what else is optional.
    pub options: CalibrationOptions,
    /// Relation of the outcomes.
    pub actuals: Oid,
    /// Input of the forecasts.
    pub relation: Oid,
    /// Column that was forecast.
    pub target: String,
    /// Name or version of the model; `None` for all.
    pub model: Option<String>,
    /// Whether each series has a state of its own.
    pub per_series: bool,
    /// Whether each step has.
    pub per_step: bool,
    series_col: Option<String>,
    time_col: Option<String>,
    bar: Option<(String, String)>,
}

/// Makes a calibration.
///
/// # Errors
/// 22023 for what does not exist or is out of range, 42703 and 42804 for columns, 42710 where the name is taken.
pub fn create(new: New<'_>) -> Result<()> {
    require_tables()?;
    let New { name, target, level, .. } = new;
    if name.is_empty() {
        return Err(Error::InvalidArgument {
            name: "name".into(),
            expected: "a name".into(),
            got: "an empty string".into(),
            hint: None,
        });
    }
    let method = choice("method", new.method, &Method::ALL, |method| method.name())?;
    for one in &new.per {
        choice("per", one, PER, |one| one)?;
    }
    let options = CalibrationOptions::parse(new.options, level, method, target)?;
    let actuals = Relation::open(new.actuals)?;
    calendar::load(&options.calendar)?;
    options.bucket_width.as_deref().map(width).transpose()?;
    let relation = match &options.relation {
        None => None,
        Some(name) => statement::value::<Oid>(
            Sight::Query,
            "select $1::pg_catalog.regclass::pg_catalog.oid",
            &[name.as_str().into()],
        )?,
    };
    let model = new.model.map(model_of).transpose()?;
    let definition = Definition {
        name: name.to_owned(),
        actuals: actuals.oid(),
        relation: relation.unwrap_or(actuals.oid()),
        target: target.to_owned(),
        model: model.clone(),
        per_series: true,
        per_step: true,
        series_col: new.series_col.map(str::to_owned),
        time_col: new.time_col.map(str::to_owned),
        bar: None,
        options,
    };
    definition.require_readable()?;
    definition.sector_query()?;
    let taken = |mine: bool| match (mine, new.if_not_exists) {
        (true, true) => {
            pgrx::notice!("calibration \"{name}\" already exists, skipping");
            Ok(())
        }
        (true, false) => Err(Error::DuplicateObject { kind: "calibration", name: name.to_owned() }),
        (false, _) => Err(Error::DuplicateOfAnother { kind: "calibration", name: name.to_owned() }),
    };
    let mine = statement::value::<bool>(
        Sight::Now,
        "select pg_catalog.bool_or(c.mine) from ledger.readable_calibrations c where c.calibration operator(pg_catalog.=) $1",
        &[name.into()],
    )?;
    if let Some(mine) = mine {
        return taken(mine);
    }
    let made = Spi::connect_mut(|client| {
        let rows = statement::write_returning(
            client,
            "insert into ledger.new_calibrations
               (calibration, actuals, relation, target, series_col, time_col, model, level, method, per, options)
             values ($1, $2::oid::regclass, $3::oid::regclass, $4, $5::text::name, $6::text::name, $7, $8, $9, $10, $11)
             on conflict do nothing returning true",
            &[
                name.into(),
                definition.actuals.into(),
                definition.relation.into(),
                target.into(),
                new.series_col.into(),
                new.time_col.into(),
                model.into(),
                level.into(),
                method.name().into(),
                new.per.into(),
                JsonB(definition.options.stored()).into(),
            ],
        )?;
        Ok::<_, Error>(!rows.is_empty())
    })?;
    // One that the caller cannot see has the name.
    if made { Ok(()) } else { taken(false) }
}

/// The name or version that is stored: an alias means the name behind it now.
fn model_of(name: &str) -> Result<String> {
    if Baseline::from_name(name).is_some()
        || catalog::entries(Sight::Query)?.iter().any(|entry| entry.name == name)
    {
        return Ok(name.to_owned());
    }
    let entry = catalog::resolve(Some(name))?;
    Ok(if name.contains('@') { entry.version } else { entry.name })
}

/// Locks a calibration of the caller, so that no other session lets it learn, and reads it.
///
/// # Errors
/// 42704 where there is none, 42501 where it belongs to another role.
pub fn lock(name: &str) -> Result<Definition> {
    Definition::load(name, Sight::Now)?;
    let owned = Spi::connect_mut(|client| {
        let rows = statement::write_returning(
            client,
            "select 1 from ledger.own_calibrations c where c.calibration operator(pg_catalog.=) $1 for update",
            &[name.into()],
        )?;
        Ok::<_, Error>(!rows.is_empty())
    })?;
    if !owned {
        return Err(Error::NotOwner { kind: "calibration", name: name.to_owned() });
    }
    // Whoever held the lock may have found the width of a bar meanwhile.
    Definition::load(name, Sight::Now)
}

impl Definition {
    /// Reads a calibration.
    ///
    /// # Errors
    /// 42704 where there is none that the caller may read.
    pub fn load(name: &str, sight: Sight) -> Result<Self> {
        require_tables()?;
        Spi::connect(|client| {
            let mut rows = statement::select(
                client,
                sight,
                "select c.actuals::oid, c.relation::oid, c.target, c.series_col::text, c.time_col::text, c.model, c.level, c.method,
                        c.per, c.options, c.bar_width, c.bar_zone
                 from ledger.readable_calibrations c where c.calibration operator(pg_catalog.=) $1",
                Some(1),
                &[name.into()],
            )?;
            let Some(row) = rows.next() else {
                let known = statement::select(
                    client,
                    sight,
                    "select c.calibration from ledger.readable_calibrations c order by 1",
                    None,
                    &[],
                )?;
                let known = known.map(|row| Ok(row.get::<String>(1)?.unwrap_or_default()));
                return Err(Error::UndefinedCalibration {
                    name: name.to_owned(),
                    known: known.collect::<Result<_>>()?,
                });
            };
            let text = |column: usize| -> Result<String> { Ok(row.get(column)?.unwrap_or_default()) };
            let (target, level) = (text(3)?, row.get::<f64>(7)?.unwrap_or(f64::NAN));
            let method = choice("method", &text(8)?, &Method::ALL, |method| method.name())?;
            let per: Vec<String> = row.get(9)?.unwrap_or_default();
            let has = |name: &str| per.iter().any(|one| one == name);
            Ok(Self {
                name: name.to_owned(),
                actuals: row.get(1)?.unwrap_or(Oid::INVALID),
                relation: row.get(2)?.unwrap_or(Oid::INVALID),
                options: CalibrationOptions::parse(row.get(10)?, level, method, &target)?,
                target,
                series_col: row.get(4)?,
                time_col: row.get(5)?,
                model: row.get(6)?,
                per_series: has("series"),
                per_step: has("step"),
                bar: row.get::<String>(11)?.zip(row.get::<String>(12)?),
            })
        })
    }

    /// The relation of the outcomes.
    pub fn actuals(&self) -> Result<Relation> {
        Relation::open(Some(self.actuals))
    }

    /// The columns of the outcomes: key, time, when known, and the value.
    pub fn columns(&self) -> Result<Columns> {
        let wanted = Wanted {
            series: self.series_col.as_deref(),
            time: self.time_col.as_deref(),
            known_at: self.options.known_at_col.as_deref(),
        };
        let name = self.options.actual_col.as_deref().unwrap_or(&self.target);
        resolve(&self.actuals()?, &wanted, &[Named::target(name)])
    }

    /// The calendar whose zone local times are in.
    pub fn calendar(&self) -> Result<Calendar> {
        calendar::load(&self.options.calendar)
    }

    /// Whoever may not read the outcomes hears so from the server.
    ///
    /// # Errors
    /// 42501 of the relation; 42703 and 42804 for its columns.
    pub fn require_readable(&self) -> Result<()> {
        let columns = self.columns()?;
        let read =
            [Some(&columns.time.0), columns.series.as_ref().map(|(name, _)| name), columns.known_at.as_ref()];
        let read = read.into_iter().flatten().map(|name| format!("t.{}", quote(name)));
        let read: Vec<String> = read.chain(columns.values.iter().map(ValueColumn::expression)).collect();
        let text = format!("select {} from {} t limit 0", read.join(", "), self.actuals()?.quoted());
        Spi::connect(|client| statement::select_text(client, Sight::Query, &text, &[]).map(drop))?;
        Ok(())
    }

    /// Width of a bar as an SQL interval, and the zone whose days and months it counts, once they were found.
    pub fn known_bar(&self) -> Option<(String, String)> {
        self.bar.clone()
    }

    /// Finds the width from the newest bars of one series before `before`, once, and keeps it: when an outcome was known must
    /// not depend on what came later. `None` while there are fewer than two bars.
    pub fn find_bar(&mut self, series: &str, before: Instant) -> Result<Option<(String, String)>> {
        let calendar = self.calendar()?;
        let starts = newest(&self.columns()?, &self.actuals()?, calendar.zone(), series, before)?;
        let given = self.options.bucket_width.as_deref().map(width).transpose()?;
        let Some(width) = given.or_else(|| infer_width(&calendar, &starts)) else { return Ok(None) };
        let written = match width {
            Width::Micros(micros) => format!("{micros} microseconds"),
            Width::Days(days) => format!("{days} days"),
            Width::Months(months) => format!("{months} months"),
        };
        let zone = label_zone(calendar.zone(), &starts).name().to_owned();
        statement::write(
            "update ledger.own_calibrations c set bar_width = $2, bar_zone = $3 where c.calibration operator(pg_catalog.=) $1",
            &[self.name.as_str().into(), written.as_str().into(), zone.as_str().into()],
        )?;
        self.bar = Some((written, zone));
        Ok(self.bar.clone())
    }

    /// The query of sectors: the option `groups`, else the instruments where the caller may read them.
    fn sector_query(&self) -> Result<Option<Query>> {
        const INSTRUMENTS: &str =
            "select i.symbol as series, i.sector from market.instruments i where i.sector is not null";
        let text = match &self.options.groups {
            Some(text) => text.as_str(),
            None => {
                let readable = statement::value::<bool>(
                    Sight::Query,
                    "select pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE')
                        and pg_catalog.has_table_privilege(c.oid, 'SELECT')
                     from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace
                     where n.nspname operator(pg_catalog.=) 'market' and c.relname operator(pg_catalog.=) 'instruments'
                     union all select false limit 1",
                    &[],
                )?;
                if readable != Some(true) {
                    return Ok(None);
                }
                INSTRUMENTS
            }
        };
        let query = Query::prepare("groups", text)?;
        query.require("series")?;
        query.require("sector")?;
        Ok(Some(query))
    }

    /// The sector of each series, where it has one.
    pub fn sectors(&self) -> Result<HashMap<String, String>> {
        let mut sectors = HashMap::new();
        if !self.per_series {
            return Ok(sectors);
        }
        if let Some(query) = self.sector_query()? {
            let column = |name: &str| WantedColumn { name: name.to_owned(), kind: Kind::Text };
            query.read(&[column("series"), column("sector")], "1, 2", |row| {
                if let (Some(series), Some(sector)) = (row.text(0)?, row.text(1)?) {
                    sectors.entry(series.to_owned()).or_insert_with(|| sector.to_owned());
                }
                Ok(())
            })?;
        }
        Ok(sectors)
    }

    /// What a state is kept under.
    pub fn member<'a>(&self, series: &'a str) -> &'a str {
        if self.per_series { series } else { "" }
    }

    /// The step that a state is kept under.
    pub fn step(&self, step: i32) -> i32 {
        if self.per_step { step } else { 0 }
    }
}
