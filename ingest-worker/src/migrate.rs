//! `kronos-ingest migrate`: applies the set-up files of `sql/`, the same that `psql -f sql/install.sql` applies.

use crate::{error::Result, postgres::Database};

/// The files in the order of `sql/install.sql`, compiled in so that the worker needs no checkout.
pub const FILES: &[(&str, &str)] = include!("../../sql/files.rs");

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
    for (file, text) in FILES {
        tracing::debug!(file, "applying");
        transaction.batch_execute(text).await.inspect_err(|_| tracing::error!(file, "set-up file failed"))?;
    }
    let edition: String = transaction.query_one("select market.timescale_edition()", &[]).await?.get(0);
    transaction.commit().await?;
    Ok(edition)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_doors_apply_the_same_files_and_each_records_its_version() {
        let psql = include_str!("../../sql/install.sql");
        let included: Vec<_> = psql.lines().filter_map(|line| line.strip_prefix("\\ir ")).collect();
        let ours: Vec<_> = FILES.iter().map(|(file, _)| *file).collect();
        assert_eq!(included, ours);
        for (file, text) in FILES {
            let record = format!("call market.record_file('{file}', ");
            assert_eq!(text.matches(&record).count(), 1, "{file}");
        }
    }
}
