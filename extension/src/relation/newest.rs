//! The newest values of some columns of one series, as charts show them: NULLs kept, nothing carried forward.

use super::keys::readable;
use super::scan::start_of;
use super::{Columns, Relation, quote};
use crate::calendar::Instant;
use crate::error::Result;
use crate::statement::{self, Sight};
use chrono_tz::Tz;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::spi::Spi;

/// Which rows are wanted.
#[derive(Debug, Clone, Copy)]
pub struct Newest<'a> {
    /// The series; `None` for a relation that is one single series.
    pub series: Option<&'a str>,
    /// Only rows that start at this instant or later.
    pub from: Option<TimestampWithTimeZone>,
    /// Only rows that start before it.
    pub before: Option<TimestampWithTimeZone>,
    /// At most so many, the newest of them.
    pub keep: usize,
    /// The zone that local times are read in.
    pub zone: Tz,
}

impl Newest<'_> {
    /// The same rows up to one that starts at `last`.
    pub fn through(self, last: TimestampWithTimeZone) -> Self {
        let after = TimestampWithTimeZone::try_from(i64::from(last).saturating_add(1));
        Self { before: after.ok(), ..self }
    }

    /// Start of each row and its values in the order of the columns, oldest first; NULL is NaN.
    ///
    /// # Errors
    /// What the server raises.
    pub fn read(&self, relation: &Relation, columns: &Columns) -> Result<Vec<(Instant, Vec<f64>)>> {
        if let (Some((_, type_of)), Some(series)) = (&columns.series, self.series)
            && readable(&[series.to_owned()], type_of).is_empty()
        {
            return Ok(Vec::new());
        }
        let time = format!("t.{}", quote(&columns.time.0));
        let (start, before) = start_of(&columns.time, self.zone);
        let from = before.replace("$1", "$2");
        let mut condition =
            format!("{time} operator(pg_catalog.>) '-infinity' and {time} operator(pg_catalog.<) 'infinity'");
        if self.before.is_some() {
            condition.push_str(&format!(" and {time} operator(pg_catalog.<) {before}"));
        }
        if self.from.is_some() {
            condition.push_str(&format!(" and {time} operator(pg_catalog.>=) {from}"));
        }
        if let (Some((key, type_of)), Some(_)) = (&columns.series, self.series) {
            condition.push_str(&format!(
                " and t.{} operator(pg_catalog.=) $3::pg_catalog.text::{type_of}",
                quote(key)
            ));
        }
        let values: String = columns
            .values
            .iter()
            .enumerate()
            .map(|(place, value)| format!(", {} as value_{place}", value.expression()))
            .collect();
        let text = format!(
            "select newest.* from (select {start} as start{values} from {} t \
             where {condition} order by {time} desc limit {}) newest order by newest.start",
            relation.quoted(),
            self.keep
        );
        Spi::connect(|client| {
            let rows = statement::select_text(
                client,
                Sight::Query,
                &text,
                &[self.before.into(), self.from.into(), self.series.map(str::to_owned).into()],
            )?;
            let mut newest = Vec::with_capacity(rows.len());
            for row in rows {
                if let Some(start) = row.get::<TimestampWithTimeZone>(1)? {
                    let values = (0..columns.values.len())
                        .map(|place| Ok(row.get::<f64>(place + 2)?.unwrap_or(f64::NAN)))
                        .collect::<Result<Vec<f64>>>()?;
                    newest.push((i64::from(start), values));
                }
            }
            Ok(newest)
        })
    }
}
