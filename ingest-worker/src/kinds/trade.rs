//! Executed trades.

use futures_util::{FutureExt, future::BoxFuture};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use tokio_postgres::{
    Transaction,
    types::{IsNull, ToSql, Type, to_sql_checked},
};

use super::{DIRECT_FROM, Kind, Placed, Record, Row, Timestamp, Values, cancel::take_back};

/// Side that took liquidity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggressor {
    Buy,
    Sell,
}

impl Aggressor {
    /// The word stored in `market.trades.aggressor`.
    pub fn as_str(self) -> &'static str {
        match self {
            Aggressor::Buy => "buy",
            Aggressor::Sell => "sell",
        }
    }

    /// The other side: a maker's side names the aggressor's opposite.
    pub fn opposite(self) -> Self {
        match self {
            Aggressor::Buy => Aggressor::Sell,
            Aggressor::Sell => Aggressor::Buy,
        }
    }

    /// Reads `buy`/`sell` in any case, and Kraken's `b`/`s`.
    pub fn parse(side: &str) -> Option<Self> {
        match side {
            "buy" | "BUY" | "b" => Some(Aggressor::Buy),
            "sell" | "SELL" | "s" => Some(Aggressor::Sell),
            _ => None,
        }
    }
}

impl ToSql for Aggressor {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut bytes::BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        self.as_str().to_sql(kind, out)
    }

    fn accepts(kind: &Type) -> bool {
        <&str as ToSql>::accepts(kind)
    }

    to_sql_checked!();
}

/// One executed trade, a row of `market.trades`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trade {
    /// Spelling of the feed until the stream maps it to the canonical symbol.
    pub symbol: String,
    pub trade_id: String,
    /// Order among trades of one instant; the trade id itself where ids are dense.
    pub sequence: i64,
    pub event_time: Timestamp,
    pub price: Decimal,
    pub size: Decimal,
    pub side: Option<String>,
    pub aggressor: Option<Aggressor>,
    pub venue: Option<String>,
    pub conditions: Option<Vec<String>>,
    pub received_at: Timestamp,
    pub known_at: Timestamp,
    /// `trade_id` of the cancelled trade this one replaces.
    pub corrects: Option<String>,
}

impl Row for Trade {
    fn kind(&self) -> &'static dyn Kind {
        &Trades
    }

    fn symbol_mut(&mut self) -> Option<&mut String> {
        Some(&mut self.symbol)
    }

    fn instrument(&self) -> Option<&str> {
        Some(&self.symbol)
    }

    fn time(&self) -> Option<Timestamp> {
        Some(self.event_time)
    }

    fn received_at(&self) -> Timestamp {
        self.received_at
    }
}

/// The kind of [`Trade`].
pub struct Trades;

const COLUMNS: &[(&str, Type)] = &[
    ("symbol", Type::TEXT),
    ("feed", Type::TEXT),
    ("event_time", Type::TIMESTAMPTZ),
    ("trade_id", Type::TEXT),
    ("sequence", Type::INT8),
    ("price", Type::NUMERIC),
    ("size", Type::NUMERIC),
    ("side", Type::TEXT),
    ("aggressor", Type::TEXT),
    ("venue", Type::TEXT),
    ("conditions", Type::TEXT_ARRAY),
    ("received_at", Type::TIMESTAMPTZ),
    ("known_at", Type::TIMESTAMPTZ),
    ("corrects", Type::TEXT),
];

/// Notices that came before their trades; see [`take_back`].
const NOTICES: &str = "
select distinct s.symbol, s.feed, s.trade_id, s.event_time, c.cancelled_at
from staging_trades s join market.trade_cancels c using (symbol, feed, trade_id)";

/// Only the feeds that take trades back pay for looking.
fn are_final(rows: &[Placed<'_>]) -> bool {
    !rows.iter().any(|row| row.source.takes_trades_back)
}

impl Kind for Trades {
    fn table(&self) -> &'static str {
        "trades"
    }

    fn columns(&self) -> &'static [(&'static str, Type)] {
        COLUMNS
    }

    fn values<'r>(&self, row: &'r Placed<'r>, values: &mut Values<'r>) {
        let Record::Trade(t) = row.record else { return };
        let row: [&(dyn ToSql + Sync); COLUMNS.len()] = [
            &t.symbol,
            &row.source.name,
            &t.event_time,
            &t.trade_id,
            &t.sequence,
            &t.price,
            &t.size,
            &t.side,
            &t.aggressor,
            &t.venue,
            &t.conditions,
            &t.received_at,
            &t.known_at,
            &t.corrects,
        ];
        values.extend(row);
    }

    /// Large sets are nearly always new. Trades that can be taken back need the staging table to look for their notices.
    fn may_go_direct(&self, rows: &[Placed<'_>]) -> bool {
        rows.len() >= DIRECT_FROM && are_final(rows)
    }

    fn merge<'m>(
        &'m self,
        transaction: &'m Transaction<'_>,
        rows: &'m [Placed<'m>],
    ) -> BoxFuture<'m, Result<u64, tokio_postgres::Error>> {
        async move {
            let stored = transaction.execute(&self.statement(), &[]).await?;
            if !are_final(rows) {
                take_back(transaction, NOTICES).await?;
            }
            Ok(stored)
        }
        .boxed()
    }
}
