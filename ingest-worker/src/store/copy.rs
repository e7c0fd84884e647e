//! One connection that stores batches: staging tables, copies, merges.
//!
//! Large sets of rows that are nearly always new are first tried without the staging table: `COPY` writes pages
//! where `INSERT … ON CONFLICT` writes rows. One known key refuses the whole copy, the savepoint takes it back, and the
//! set goes the long way.

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
};

use tokio_postgres::{Client, Transaction, binary_copy::BinaryCopyInWriter, error::SqlState, types::Type};

use super::{
    batch::{Batch, Written},
    bookkeeping,
};
use crate::{
    feeds,
    kinds::{KINDS, Kind, Placed, Source, column_list},
};

/// An open connection with its staging tables.
pub struct Store {
    client: Client,
    /// Symbols and sources this connection has seen in `market.instruments` and `market.sources`.
    known: HashSet<String>,
    /// Writes that go the long way because one before them held known keys.
    detour: u32,
}

/// Writes that go the long way after a refused copy: repeated data seldom comes alone.
const DETOUR: u32 = 32;

/// A kind and its rows.
type Group<'r> = (&'static dyn Kind, Vec<Placed<'r>>);

fn source_key(source: &str) -> String {
    format!("source {source}")
}

impl Store {
    /// Prepares the staging tables of a fresh connection.
    ///
    /// # Errors
    /// The server's error, for example `42P01` before the first `migrate`.
    pub async fn new(client: Client) -> Result<Self, tokio_postgres::Error> {
        let staging: String = KINDS
            .iter()
            .map(|kind| {
                let (table, shape) = (kind.table(), kind.shape());
                format!("create temp table if not exists staging_{table} on commit delete rows as {shape} with no data;\n")
            })
            .collect();
        client.batch_execute(&staging).await?;
        Ok(Store { client, known: HashSet::new(), detour: 0 })
    }

    /// Whether the connection is gone.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// The plain connection, for reading.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Stores `batches` in one transaction: all of it, or nothing.
    ///
    /// # Errors
    /// The server's error; the transaction is rolled back.
    pub async fn write(&mut self, batches: &[Batch]) -> Result<Written, tokio_postgres::Error> {
        let groups = sorted(batches);
        let mut transaction = self.client.transaction().await?;
        let learned = register(&transaction, &groups, &self.known).await?;
        self.detour = self.detour.saturating_sub(1);
        let mut written = Written::default();
        for (kind, rows) in &groups {
            let given = rows.len() as u64;
            if self.detour == 0 && kind.may_go_direct(rows) {
                if copy_directly(&mut transaction, *kind, rows).await? {
                    written.stored += given;
                    continue;
                }
                self.detour = DETOUR;
            }
            copy(&transaction, *kind, rows, &format!("staging_{}", kind.table())).await?;
            let stored = kind.merge(&transaction, rows).await?;
            if kind.is_quarantine() {
                written.rejected += given;
            } else {
                written.stored += stored;
                written.known += given.saturating_sub(stored);
            }
        }
        bookkeeping::store(&transaction, batches).await?;
        transaction.commit().await?;
        self.known.extend(learned);
        Ok(written)
    }
}

/// The rows of `batches`, in the order of [`KINDS`].
fn sorted(batches: &[Batch]) -> Vec<Group<'_>> {
    let mut groups: Vec<_> = KINDS.iter().map(|kind| (*kind, Vec::new())).collect();
    for batch in batches {
        let entry = feeds::find(&batch.feed);
        let takes_trades_back = entry.is_some_and(|entry| entry.takes_trades_back);
        let calendar = entry.and_then(|entry| entry.calendar);
        let source = Source { name: &batch.feed, takes_trades_back, calendar };
        for record in &batch.records {
            let Some(row) = record.row() else { continue };
            let table = row.kind().table();
            if let Some((_, rows)) = groups.iter_mut().find(|(kind, _)| kind.table() == table) {
                let place = i64::try_from(rows.len()).unwrap_or(i64::MAX);
                rows.push(Placed { source, record, place });
            }
        }
    }
    groups.retain(|(_, rows)| !rows.is_empty());
    groups
}

/// Writes down the symbols and sources that rows are about to refer to; those that were not in `known`.
async fn register(
    transaction: &Transaction<'_>,
    groups: &[Group<'_>],
    known: &HashSet<String>,
) -> Result<Vec<String>, tokio_postgres::Error> {
    let rows = || groups.iter().flat_map(|(_, rows)| rows);
    let symbols: HashMap<&str, Option<&str>> = rows()
        .filter_map(|row| Some((row.record.row()?.instrument()?, row.source.calendar)))
        .filter(|(symbol, _)| !known.contains(*symbol))
        .collect();
    if !symbols.is_empty() {
        let (symbols, calendars): (Vec<&str>, Vec<Option<&str>>) = symbols.iter().unzip();
        let statement = "insert into market.instruments (symbol, calendar) select * from unnest($1::text[], $2::text[]) \
                         on conflict do nothing";
        transaction.execute(statement, &[&symbols, &calendars]).await?;
    }
    let naming = groups.iter().filter(|(kind, _)| kind.names_its_source()).flat_map(|(_, rows)| rows);
    let sources: HashSet<&str> =
        naming.map(|row| row.source.name).filter(|source| !known.contains(&source_key(source))).collect();
    for source in &sources {
        // Who only ingests may not add sources, and has no need to where an operator did.
        let is_there = "select from market.sources where source = $1";
        if transaction.query_opt(is_there, &[source]).await?.is_none() {
            let add = "insert into market.sources (source, kind, rank) values ($1, 'file', 50) on conflict do nothing";
            transaction.execute(add, &[source]).await?;
        }
    }
    let symbols = symbols.into_keys().map(str::to_owned);
    Ok(symbols.chain(sources.into_iter().map(source_key)).collect())
}

/// Copies the rows into their table; `false`, and nothing changed, when one of them is there already.
async fn copy_directly(
    transaction: &mut Transaction<'_>,
    kind: &dyn Kind,
    rows: &[Placed<'_>],
) -> Result<bool, tokio_postgres::Error> {
    let savepoint = transaction.savepoint("direct").await?;
    match copy(&savepoint, kind, rows, &format!("market.{}", kind.table())).await {
        Ok(()) => savepoint.commit().await.map(|()| true),
        Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
            savepoint.rollback().await.map(|()| false)
        }
        Err(error) => Err(error),
    }
}

async fn copy(
    transaction: &Transaction<'_>,
    kind: &dyn Kind,
    rows: &[Placed<'_>],
    table: &str,
) -> Result<(), tokio_postgres::Error> {
    let statement = format!("copy {table} ({}) from stdin (format binary)", column_list(kind.columns()));
    let types: Vec<Type> = kind.columns().iter().map(|(_, kind)| kind.clone()).collect();
    let sink = transaction.copy_in(&statement).await?;
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &types));
    let mut values = Vec::with_capacity(types.len());
    for row in rows {
        values.clear();
        kind.values(row, &mut values);
        writer.as_mut().write(&values).await?;
    }
    writer.finish().await.map(drop)
}
