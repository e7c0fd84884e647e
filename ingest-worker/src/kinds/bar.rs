//! Bars as their publisher made them.

use chrono::{Months, TimeDelta};
use serde::{Deserialize, Serialize};
use tokio_postgres::types::{ToSql, Type};

use super::{Kind, Placed, Record, Row, Timestamp, Values};

/// A bar as published by a source, a row of `market.bars`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    pub symbol: String,
    /// Width in seconds; 86400 is a daily bar, 0 one of months.
    pub width_seconds: i64,
    /// Width in calendar months; 0 for one in seconds.
    #[serde(default)]
    pub width_months: i32,
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
        let months = Months::new(self.width_months.unsigned_abs());
        let end = self.time.checked_add_months(months).unwrap_or(Timestamp::MAX_UTC);
        end.checked_add_signed(TimeDelta::seconds(self.width_seconds)).unwrap_or(Timestamp::MAX_UTC)
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
    ("width_seconds", Type::INT8),
    ("width_months", Type::INT4),
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
select distinct on (symbol, width_seconds, width_months, time, source)
       symbol, make_interval(months => width_months, days => (width_seconds / 86400)::int, secs => width_seconds % 86400), time, source,
       open, high, low, close, volume, amount, trade_count, close_adj, sequence, received_at, known_at
from staging_bars
order by symbol, width_seconds, width_months, time, source, sequence desc, received_at desc
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

    /// Widths come as numbers and are stored as intervals.
    fn shape(&self) -> String {
        "select symbol, 0::bigint as width_seconds, 0 as width_months, time, source, open, high, low, close, volume, amount, trade_count,
                close_adj, sequence, received_at, known_at from market.bars"
            .to_owned()
    }

    fn values<'r>(&self, row: &'r Placed<'r>, values: &mut Values<'r>) {
        let Record::Bar(b) = row.record else { return };
        let row: [&(dyn ToSql + Sync); COLUMNS.len()] = [
            &b.symbol,
            &b.width_seconds,
            &b.width_months,
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

    fn names_its_source(&self) -> bool {
        true
    }

    fn statement(&self) -> String {
        MERGE.to_owned()
    }
}
