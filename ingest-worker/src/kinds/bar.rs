//! Bars as their publisher made them.

use bytes::{BufMut, BytesMut};
use chrono::{Months, TimeDelta};
use serde::{Deserialize, Serialize};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::{DIRECT_FROM, Kind, Placed, Record, Row, Timestamp, Values};

/// The time that a bar covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BarWidth {
    /// 86400 is a day, 0 some months.
    #[serde(rename = "width_seconds")]
    pub seconds: i64,
    /// Calendar months; 0 where it is some seconds.
    #[serde(rename = "width_months", default)]
    pub months: i32,
}

impl BarWidth {
    pub fn of_seconds(seconds: i64) -> Self {
        BarWidth { seconds, months: 0 }
    }
}

/// PostgreSQL's interval, in which days are no number of hours.
impl ToSql for BarWidth {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.put_i64(self.seconds % 86_400 * 1_000_000);
        out.put_i32(i32::try_from(self.seconds / 86_400)?);
        out.put_i32(self.months);
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::INTERVAL
    }

    to_sql_checked!();
}

/// A bar as published by a source, a row of `market.bars`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    pub symbol: String,
    #[serde(flatten)]
    pub width: BarWidth,
    /// Start of the bar.
    pub time: Timestamp,
    pub open: f64,
    pub high: f64,
    pub low: f64,
    pub close: f64,
    pub volume: Option<f64>,
    pub amount: Option<f64>,
    pub trade_count: Option<i64>,
    pub close_adj: Option<f64>,
    /// Revision: the higher one wins in the table, whatever arrives last.
    pub sequence: i64,
    pub received_at: Timestamp,
    pub known_at: Timestamp,
}

impl Bar {
    /// End of the bar: the earliest instant at which it is known.
    pub fn end(&self) -> Timestamp {
        let months = Months::new(self.width.months.unsigned_abs());
        let end = self.time.checked_add_months(months).unwrap_or(Timestamp::MAX_UTC);
        end.checked_add_signed(TimeDelta::seconds(self.width.seconds)).unwrap_or(Timestamp::MAX_UTC)
    }
}

impl Row for Bar {
    fn kind(&self) -> &'static dyn Kind {
        &Bars
    }

    fn symbol_mut(&mut self) -> Option<&mut String> {
        Some(&mut self.symbol)
    }

    fn instrument(&self) -> Option<&str> {
        Some(&self.symbol)
    }

    fn time(&self) -> Option<Timestamp> {
        Some(self.time)
    }

    fn received_at(&self) -> Timestamp {
        self.received_at
    }
}

/// The kind of [`Bar`].
pub struct Bars;

const COLUMNS: &[(&str, Type)] = &[
    ("symbol", Type::TEXT),
    ("bar_width", Type::INTERVAL),
    ("time", Type::TIMESTAMPTZ),
    ("source", Type::TEXT),
    ("open", Type::FLOAT8),
    ("high", Type::FLOAT8),
    ("low", Type::FLOAT8),
    ("close", Type::FLOAT8),
    ("volume", Type::FLOAT8),
    ("amount", Type::FLOAT8),
    ("trade_count", Type::INT8),
    ("close_adj", Type::FLOAT8),
    ("sequence", Type::INT8),
    ("received_at", Type::TIMESTAMPTZ),
    ("known_at", Type::TIMESTAMPTZ),
];

const MERGE: &str = "
insert into market.bars as b (symbol, bar_width, time, source, open, high, low, close, volume, amount, trade_count,
                              close_adj, sequence, received_at, known_at)
select distinct on (symbol, bar_width, time, source)
       symbol, bar_width, time, source, open, high, low, close, volume, amount, trade_count, close_adj, sequence, received_at, known_at
from staging_bars
order by symbol, bar_width, time, source, sequence desc, received_at desc
on conflict (symbol, bar_width, time, source) do update
  set open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close,
      volume = excluded.volume, amount = excluded.amount, trade_count = excluded.trade_count,
      close_adj = excluded.close_adj, sequence = excluded.sequence, received_at = excluded.received_at,
      known_at = excluded.known_at
  where excluded.sequence > b.sequence
    and (excluded.open, excluded.high, excluded.low, excluded.close, excluded.volume, excluded.amount,
         excluded.trade_count, excluded.close_adj)
        is distinct from (b.open, b.high, b.low, b.close, b.volume, b.amount, b.trade_count, b.close_adj)";

impl Kind for Bars {
    fn table(&self) -> &'static str {
        "bars"
    }

    fn columns(&self) -> &'static [(&'static str, Type)] {
        COLUMNS
    }

    fn values<'r>(&self, row: &'r Placed<'r>, values: &mut Values<'r>) {
        let Record::Bar(b) = row.record else { return };
        let row: [&(dyn ToSql + Sync); COLUMNS.len()] = [
            &b.symbol,
            &b.width,
            &b.time,
            &row.source.name,
            &b.open,
            &b.high,
            &b.low,
            &b.close,
            &b.volume,
            &b.amount,
            &b.trade_count,
            &b.close_adj,
            &b.sequence,
            &b.received_at,
            &b.known_at,
        ];
        values.extend(row);
    }

    /// Many bars at once are history, which is nearly always new.
    fn may_go_direct(&self, rows: &[Placed<'_>]) -> bool {
        rows.len() >= DIRECT_FROM
    }

    fn names_its_source(&self) -> bool {
        true
    }

    fn statement(&self) -> String {
        MERGE.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_that_an_older_worker_left_on_disk_is_read() {
        let text = r#"{"symbol":"A","width_seconds":60,"time":"2024-01-02T09:30:00Z","open":1.0,"high":2.0,"low":1.0,"close":2.0,
            "volume":null,"amount":null,"trade_count":3,"close_adj":null,"sequence":0,"received_at":"2024-01-02T09:31:00Z",
            "known_at":"2024-01-02T09:31:00Z"}"#;
        let bar: Bar = serde_json::from_str(text).unwrap();
        assert_eq!((bar.width, bar.trade_count), (BarWidth::of_seconds(60), Some(3)));
        assert_eq!(bar.end(), bar.known_at);
        let again: Bar = serde_json::from_str(&serde_json::to_string(&bar).unwrap()).unwrap();
        assert_eq!(again, bar);
    }
}
