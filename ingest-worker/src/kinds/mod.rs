//! What feeds deliver, normalised: one file per kind of row, the table of kinds, and the signals that carry no row.
//!
//! A kind is a struct, its columns, and how its rows are merged into their table; the file says all of it, and the store,
//! the drivers and the commands know kinds by [`Row`] and [`Kind`] alone. Adding one is its file, a variant of
//! [`Record`] (which is also its form in spill files) and a line of [`KINDS`]. Rejected: boxed rows instead of the enum,
//! an allocation for each of 300,000 rows in a second.
//!
//! Records keep the spelling of prices and sizes exactly (`Decimal` with its scale), because `market.trades` stores
//! them as `numeric`; only bars, which are derived by their publisher, are `f64`.

mod bar;
mod cancel;
mod document;
mod quote;
mod rejected;
mod signal;
mod trade;

use futures_util::{FutureExt, future::BoxFuture};
use serde::{Deserialize, Serialize};
use tokio_postgres::{
    Transaction,
    types::{ToSql, Type},
};

pub use bar::{Bar, BarWidth};
pub use cancel::Cancel;
pub use document::{Document, Listing, canonical};
pub use quote::Quote;
pub use rejected::Rejected;
pub use signal::Signal;
pub use trade::{Aggressor, Trade};

pub use crate::exact::Timestamp;

/// One decoded item of a frame or response.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Record {
    Trade(Trade),
    Quote(Quote),
    /// A finished bar.
    Bar(Bar),
    /// A bar that may still change; it is final when a later one of the same series starts.
    OpenBar(Bar),
    Cancel(Cancel),
    Document(Document),
    Rejected(Rejected),
    Signal(Signal),
}

impl Record {
    /// The row that it is; `None` for what is not stored.
    pub fn row(&self) -> Option<&dyn Row> {
        match self {
            Record::Trade(row) => Some(row),
            Record::Quote(row) => Some(row),
            Record::Bar(row) => Some(row),
            Record::Cancel(row) => Some(row),
            Record::Document(row) => Some(row),
            Record::Rejected(row) => Some(row),
            Record::OpenBar(_) | Record::Signal(_) => None,
        }
    }

    /// When what it tells of happened, also of a bar that may still change.
    pub fn time(&self) -> Option<Timestamp> {
        match self {
            Record::OpenBar(bar) => bar.time(),
            other => other.row()?.time(),
        }
    }

    /// The symbol, to be replaced by its canonical spelling; `None` where there is none.
    pub fn symbol_mut(&mut self) -> Option<&mut String> {
        match self {
            Record::Trade(row) => row.symbol_mut(),
            Record::Quote(row) => row.symbol_mut(),
            Record::Bar(row) | Record::OpenBar(row) => row.symbol_mut(),
            Record::Cancel(row) => row.symbol_mut(),
            Record::Document(row) => row.symbol_mut(),
            Record::Rejected(row) => row.symbol_mut(),
            Record::Signal(signal) => signal.symbol_mut(),
        }
    }
}

/// What is asked of every row, whatever its kind.
pub trait Row {
    /// What the store does with it.
    fn kind(&self) -> &'static dyn Kind;

    /// The symbol, to be replaced by its canonical spelling.
    fn symbol_mut(&mut self) -> Option<&mut String> {
        None
    }

    /// The symbol that `market.instruments` must know before the row is stored.
    fn instrument(&self) -> Option<&str> {
        None
    }

    /// When what it tells of happened, where people ask how fresh a feed is.
    fn time(&self) -> Option<Timestamp> {
        None
    }

    /// Our clock when it arrived.
    fn received_at(&self) -> Timestamp;
}

/// Where rows come from, and what the store must know of it.
#[derive(Clone, Copy, Debug)]
pub struct Source<'r> {
    pub name: &'r str,
    pub takes_trades_back: bool,
    /// The calendar of what it trades, where that is one.
    pub calendar: Option<&'r str>,
}

/// A row with its source.
#[derive(Clone, Copy)]
pub struct Placed<'r> {
    pub source: Source<'r>,
    pub record: &'r Record,
    /// Its place among those that are stored with it: a table has no order of its own, not even that of a copy into it.
    pub place: i64,
}

/// Rows from which a copy without staging is tried.
const DIRECT_FROM: usize = 64;

/// The values of one row, in the order of its kind's columns.
pub type Values<'r> = Vec<&'r (dyn ToSql + Sync)>;

/// One kind of row: what the store does with a set of them.
///
/// Rows are copied in binary into a temporary staging table and merged from there, so that whatever is delivered twice is
/// one row.
pub trait Kind: Send + Sync {
    /// Name of the table in schema `market`.
    fn table(&self) -> &'static str;

    /// Columns of the staging table and their types, in the order of [`Kind::values`].
    fn columns(&self) -> &'static [(&'static str, Type)];

    /// Adds the values of a row of this kind.
    fn values<'r>(&self, row: &'r Placed<'r>, values: &mut Values<'r>);

    /// The query whose columns the staging table has.
    fn shape(&self) -> String {
        format!("select {} from market.{}", column_list(self.columns()), self.table())
    }

    /// Whether these rows may be tried without the staging table, because they are many and surely have no other effect.
    fn may_go_direct(&self, rows: &[Placed<'_>]) -> bool {
        let _ = rows;
        false
    }

    /// Whether `market.sources` must know the source before its first row.
    fn names_its_source(&self) -> bool {
        false
    }

    /// Whether its rows are what could not be stored otherwise.
    fn is_quarantine(&self) -> bool {
        false
    }

    /// The statement that merges the staging table into the table.
    fn statement(&self) -> String {
        let (table, columns) = (self.table(), column_list(self.columns()));
        format!(
            "insert into market.{table} ({columns}) select {columns} from staging_{table} on conflict do nothing"
        )
    }

    /// Merges `rows`, which are in the staging table; how many were new or changed a row.
    fn merge<'m>(
        &'m self,
        transaction: &'m Transaction<'_>,
        rows: &'m [Placed<'m>],
    ) -> BoxFuture<'m, Result<u64, tokio_postgres::Error>> {
        let _ = rows;
        async move { transaction.execute(&self.statement(), &[]).await }.boxed()
    }
}

/// Every kind of row, in the order in which they are stored: notices before the trades that look for them.
pub const KINDS: &[&dyn Kind] = &[
    &cancel::Cancels,
    &trade::Trades,
    &quote::Quotes,
    &bar::Bars,
    &document::Documents,
    &rejected::RejectedRows,
];

/// Columns as a statement names them.
pub fn column_list(columns: &[(&str, Type)]) -> String {
    columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_known_by_its_table_and_found_in_the_list() {
        let tables: Vec<_> = KINDS.iter().map(|kind| kind.table()).collect();
        let unique: std::collections::BTreeSet<_> = tables.iter().collect();
        assert_eq!(unique.len(), tables.len());
        let rejected = Record::Rejected(Rejected::new(b"x", "test", Timestamp::UNIX_EPOCH));
        assert!(
            rejected
                .row()
                .is_some_and(|row| tables.contains(&row.kind().table()) && row.kind().is_quarantine())
        );
        assert!(Record::Signal(Signal::Authenticated).row().is_none());
    }

    #[test]
    fn values_fit_the_columns_of_their_kind() {
        let source = Source { name: "test", takes_trades_back: false, calendar: None };
        let record = Record::Rejected(Rejected::new(b"x", "test", Timestamp::UNIX_EPOCH));
        let row = Placed { source, record: &record, place: 0 };
        for kind in KINDS {
            let mut values = Vec::new();
            kind.values(&row, &mut values);
            let expected = if kind.table() == "rejected_rows" { kind.columns().len() } else { 0 };
            assert_eq!(values.len(), expected, "a row of another kind is left out");
        }
    }
}
