//! One forecast out of an array of rows, or out of the ledger.

use crate::error::Result;
use crate::relation::Relation;
use crate::statement::{self, Sight};
use kronos_plot::{Bounds, drawable};
use pgrx::AnyArray;
use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::spi::Spi;

/// Where a forecast is looked for.
pub(super) struct Source<'a> {
    pub relation: &'a Relation,
    pub series: Option<&'a str>,
    pub target: &'a str,
    pub as_of: Option<TimestampWithTimeZone>,
    pub model: Option<&'a str>,
}

/// What all steps of a forecast have in common.
pub(super) struct Head {
    pub cutoff: Option<TimestampWithTimeZone>,
    pub model_version: String,
    pub calibration: String,
    pub status: Option<String>,
}

/// One step of a forecast, as it was read.
pub(super) struct Step {
    pub ts: TimestampWithTimeZone,
    pub point: Option<f64>,
    pub interval: Option<Bounds>,
    pub raw: Option<Bounds>,
    pub level: Option<f64>,
    pub levels: Option<Vec<Option<f64>>>,
    pub quantiles: Option<Vec<Option<f64>>>,
}

/// A forecast as it was read.
#[derive(Default)]
pub(super) struct Said {
    /// `None` where there is no row of it.
    pub head: Option<Head>,
    /// In the order of time; none for a series that could not be forecast.
    pub steps: Vec<Step>,
}

impl Said {
    /// The instant from which on the forecast did not know what happened.
    pub fn cutoff(&self) -> Option<TimestampWithTimeZone> {
        let head = self.head.as_ref().and_then(|head| head.cutoff);
        head.or(self.steps.first().map(|step| step.ts))
    }
}

/// Columns of a forecast's rows as they are read; whatever else rows have is left alone.
const COLUMNS: &str = "series pg_catalog.text, target pg_catalog.text, ts pg_catalog.timestamptz, \
     issued_at pg_catalog.timestamptz, cutoff pg_catalog.timestamptz, model_version pg_catalog.text, \
     calibration pg_catalog.text, status pg_catalog.text, forecast pg_catalog.float8, close pg_catalog.float8, \
     lower pg_catalog.float8, upper pg_catalog.float8, level pg_catalog.float8, quantile_levels pg_catalog.float8[], \
     quantiles pg_catalog.float8[], raw_lower pg_catalog.float8, raw_upper pg_catalog.float8";

impl Source<'_> {
    /// The newest forecast among rows, or in the ledger without any.
    pub fn read(&self, rows: Option<AnyArray>) -> Result<Said> {
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
            None => Ok(Said::default()),
        }
    }

    /// Whether there is a ledger that the caller may read.
    fn has_ledger(&self) -> Result<bool> {
        let text =
            "select pg_catalog.has_table_privilege(pg_catalog.to_regclass('kronos.forecasts'), 'SELECT')";
        Ok(statement::value(Sight::Query, text, &[])?.unwrap_or(false))
    }

    #[allow(unsafe_code)]
    fn newest(&self, source: &str, rows: Option<AnyArray>) -> Result<Said> {
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
            Ok(Said { head, steps })
        })
    }
}

fn is_finite(ts: TimestampWithTimeZone) -> bool {
    !matches!(i64::from(ts), i64::MIN | i64::MAX)
}

/// Both bounds, or none.
pub(super) fn bounds(lower: Option<f64>, upper: Option<f64>) -> Option<Bounds> {
    Some((lower?, upper?))
}
