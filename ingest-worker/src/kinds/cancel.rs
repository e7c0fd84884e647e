//! Notices that trades are taken back.

use chrono::TimeDelta;
use futures_util::{FutureExt, future::BoxFuture};
use serde::{Deserialize, Serialize};
use tokio_postgres::{
    Transaction,
    types::{ToSql, Type},
};

use super::{Kind, Placed, Record, Row, Timestamp, Values};
use crate::exact::literal;

/// Notice that a trade is taken back, a row of `market.trade_cancels`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cancel {
    pub symbol: String,
    pub trade_id: String,
    pub cancelled_at: Timestamp,
    /// Whether another trade replaces it.
    pub is_correction: bool,
    pub received_at: Timestamp,
}

impl Row for Cancel {
    fn kind(&self) -> &'static dyn Kind {
        &Cancels
    }

    fn symbol_mut(&mut self) -> Option<&mut String> {
        Some(&mut self.symbol)
    }

    fn received_at(&self) -> Timestamp {
        self.received_at
    }
}

/// The kind of [`Cancel`].
pub struct Cancels;

const COLUMNS: &[(&str, Type)] = &[
    ("symbol", Type::TEXT),
    ("feed", Type::TEXT),
    ("trade_id", Type::TEXT),
    ("cancelled_at", Type::TIMESTAMPTZ),
    ("reason", Type::TEXT),
    ("received_at", Type::TIMESTAMPTZ),
    ("known_at", Type::TIMESTAMPTZ),
];

/// Venues correct trades of the last sessions only, which bounds the search: by each notice, and for all of them by
/// constants, which let the planner leave chunks out.
fn trades_of(rows: &[Placed<'_>]) -> String {
    let times = || {
        rows.iter().filter_map(|row| match row.record {
            Record::Cancel(cancel) => Some(cancel.cancelled_at),
            _ => None,
        })
    };
    let from = times().min().and_then(|time| time.checked_sub_signed(TimeDelta::days(11)));
    let to = times().max().and_then(|time| time.checked_add_signed(TimeDelta::days(2)));
    format!(
        "select t.symbol, t.feed, t.trade_id, t.event_time, c.cancelled_at
         from staging_trade_cancels c, market.trades t
         where t.symbol = c.symbol and t.feed = c.feed and t.trade_id = c.trade_id and t.cancelled_at is null
           and t.event_time > c.cancelled_at - interval '10 days' and t.event_time < c.cancelled_at + interval '1 day'
           and t.event_time between {} and {}",
        literal(from, "-infinity"),
        literal(to, "infinity")
    )
}

/// Marks the trades that `query` finds as taken back.
///
/// A notice may come before its trade (reordered frames) or after it: both kinds look for the other. Both only look, and
/// what they found is changed here, each trade by its whole key with its time as a constant: TimescaleDB decompresses
/// whatever an update may touch, which without a constant is every chunk, while reading decompresses nothing.
pub(super) async fn take_back(
    transaction: &Transaction<'_>,
    query: &str,
) -> Result<(), tokio_postgres::Error> {
    for row in transaction.query(query, &[]).await? {
        let (symbol, feed, trade_id): (&str, &str, &str) = (row.get(0), row.get(1), row.get(2));
        let (event_time, cancelled_at): (Timestamp, Timestamp) = (row.get(3), row.get(4));
        let statement = format!(
            "update market.trades set cancelled_at = $5
             where symbol = $1 and feed = $2 and trade_id = $3 and event_time = $4 and cancelled_at is null
               and event_time between {} and {}",
            literal(Some(event_time), "-infinity"),
            literal(Some(event_time), "infinity")
        );
        transaction.execute(&statement, &[&symbol, &feed, &trade_id, &event_time, &cancelled_at]).await?;
    }
    Ok(())
}

impl Kind for Cancels {
    fn table(&self) -> &'static str {
        "trade_cancels"
    }

    fn columns(&self) -> &'static [(&'static str, Type)] {
        COLUMNS
    }

    fn values<'r>(&self, row: &'r Placed<'r>, values: &mut Values<'r>) {
        let Record::Cancel(c) = row.record else { return };
        let row: [&(dyn ToSql + Sync); COLUMNS.len()] = [
            &c.symbol,
            &row.source.name,
            &c.trade_id,
            &c.cancelled_at,
            if c.is_correction { &"correction" } else { &"cancel" },
            &c.received_at,
            (&c.received_at).max(&c.cancelled_at),
        ];
        values.extend(row);
    }

    fn merge<'m>(
        &'m self,
        transaction: &'m Transaction<'_>,
        rows: &'m [Placed<'m>],
    ) -> BoxFuture<'m, Result<u64, tokio_postgres::Error>> {
        async move {
            let stored = transaction.execute(&self.statement(), &[]).await?;
            take_back(transaction, &trades_of(rows)).await?;
            Ok(stored)
        }
        .boxed()
    }
}
