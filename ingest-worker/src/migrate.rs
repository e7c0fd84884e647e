//! `kronos-ingest migrate`: applies the set-up files of `sql/`, the same that `psql -f sql/install.sql` applies.

use crate::{error::Result, postgres::Database};
use kronos_sql::{FILES, SetupFile};

/// Key of the advisory lock that keeps two set-ups of one database apart.
const LOCK: i64 = 0x6b72_6f6e_6f73;

/// Applies every file in one transaction; returns which TimescaleDB was found.
///
/// # Errors
/// [`crate::error::Error::Database`] with the failing statement's message; then nothing has changed.
pub async fn migrate(database: &Database) -> Result<String> {
    let mut client = database.connect().await?;
    let transaction = client.transaction().await?;
    transaction.execute("select pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    for SetupFile { name, script } in FILES {
        tracing::debug!(file = name, "applying");
        transaction
            .batch_execute(script)
            .await
            .inspect_err(|_| tracing::error!(file = name, "set-up file failed"))?;
    }
    let edition: String = transaction.query_one("select market.timescale_edition()", &[]).await?.get(0);
    transaction.commit().await?;
    Ok(edition)
}
