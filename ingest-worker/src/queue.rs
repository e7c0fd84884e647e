//! Working off a queue that is a table, in the worker: take a row, tell that it is in hand, end it.
//!
//! The protocol is that of the crate `kronos-queue`, which training jobs use, too: a row belongs to the session that took it.
//! The session is the connection, so one that breaks gives the row back, and what ends then changes nothing.

use kronos_queue::Queue;
use tokio_postgres::{Client, Row, types::ToSql};

/// What is found to do.
#[derive(Debug)]
pub enum Found {
    /// A row that is this session's now, with what was asked to be returned of it.
    Taken { key: i64, row: Row },
    /// A row that has ended its worker too often, and has been ended for it.
    GivenUp { key: i64 },
}

/// Takes the oldest row that no living session has; `returning` is what the caller wants of it.
///
/// A row that was tried too often is ended with `given_up`, a list of columns to set, in the transaction that found it.
///
/// # Errors
/// The server's error.
pub async fn claim(
    client: &mut Client,
    queue: &Queue,
    returning: &str,
    given_up: &str,
) -> Result<Option<Found>, tokio_postgres::Error> {
    for open in client.query(&queue.open(), &[]).await? {
        let key: i64 = open.get(0);
        let transaction = client.transaction().await?;
        // Locked first and looked at afterwards, by a statement that sees what others have done to it before.
        if transaction.query_opt(&queue.lock(), &[&key]).await?.is_none() {
            continue;
        }
        let Some(row) = transaction.query_opt(&queue.free(""), &[&key]).await? else { continue };
        let attempts: i32 = row.get(0);
        let found = if attempts < queue.attempts {
            Found::Taken { key, row: transaction.query_one(&queue.take(returning), &[&key]).await? }
        } else {
            transaction.execute(&queue.end(given_up), &[&key]).await?;
            Found::GivenUp { key }
        };
        transaction.commit().await?;
        return Ok(Some(found));
    }
    Ok(None)
}

/// Tells that the row is in hand; `false` where it is another's by now, and the work is to stop.
///
/// # Errors
/// The server's error.
pub async fn heartbeat(client: &Client, queue: &Queue, key: i64) -> Result<bool, tokio_postgres::Error> {
    let statement = queue.tell("updated_at = clock_timestamp()", "1");
    Ok(client.query_opt(&statement, &[&key]).await?.is_some())
}

/// Ends the row with `set`, a state and what came of it, with `values` from `$2`; `false`, and nothing changed, where it is another's by now.
///
/// # Errors
/// The server's error.
pub async fn end(
    client: &mut Client,
    queue: &Queue,
    key: i64,
    set: &str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<bool, tokio_postgres::Error> {
    finish(client, queue, key, &queue.end(set), values).await
}

/// Gives the row back, to be taken by another; `false` where it is another's already.
///
/// # Errors
/// The server's error.
pub async fn release(client: &mut Client, queue: &Queue, key: i64) -> Result<bool, tokio_postgres::Error> {
    finish(client, queue, key, &queue.release(), &[]).await
}

async fn finish(
    client: &mut Client,
    queue: &Queue,
    key: i64,
    statement: &str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<bool, tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    if transaction.query_opt(&queue.hold(), &[&key]).await?.is_none() {
        return Ok(false);
    }
    let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&key];
    parameters.extend(values);
    transaction.execute(statement, &parameters).await?;
    transaction.commit().await?;
    Ok(true)
}
