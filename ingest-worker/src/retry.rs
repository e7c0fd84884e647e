//! `retry`: what is in quarantine, once its cause is mended.
//!
//! A row that the database refused lies in `market.rejected_rows` as the worker would have stored it, and a frame that no parser could
//! read as it came: both can be tried again. A row of a file cannot, since nobody knows its columns any more; the file can be loaded
//! again. What is taken leaves the quarantine after it is stored, so that a retry that is killed costs nothing.

use sha2::{Digest, Sha256};
use tokio_postgres::Client;

use crate::{
    error::{Error, Result},
    feeds::{self, FeedSettings},
    kinds::{Record, Timestamp},
    postgres::Database,
    store::{Batch, Failure, Store},
    symbols::Names,
};

/// What became of the rows of the quarantine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retried {
    /// Stored now, or known before.
    pub taken: u64,
    /// Refused or unreadable as before.
    pub refused: u64,
    /// Rows of files, and what was too long to be kept whole.
    pub left: u64,
}

/// Rows of the quarantine that are read at once.
const PAGE: i64 = 500;

/// Tries again the quarantined rows of `feed`, or of all.
///
/// # Errors
/// The database's error; a role that may not delete from the quarantine.
pub async fn retry(database: &Database, feed: Option<&str>) -> Result<Retried> {
    let client = database.connect().await?;
    let may_delete = "select has_table_privilege('market.rejected_rows', 'delete')";
    if !client.query_one(may_delete, &[]).await?.get::<_, bool>(0) {
        return Err(Error::Usage(
            "may not delete from market.rejected_rows; grant market_operator to this role".to_owned(),
        ));
    }
    let mut store = Store::new(database.connect().await?).await?;
    let mut retried = Retried::default();
    let mut last = 0i64;
    let page = "select rejected_id, feed, payload, digest, received_at from market.rejected_rows \
                where rejected_id > $1 and feed = coalesce($2, feed) order by rejected_id limit $3";
    loop {
        let rows = client.query(page, &[&last, &feed, &PAGE]).await?;
        if rows.is_empty() {
            return Ok(retried);
        }
        for row in rows {
            last = row.get(0);
            let (feed, payload, digest): (String, String, Vec<u8>) = (row.get(1), row.get(2), row.get(3));
            if Sha256::digest(payload.as_bytes()).as_slice() != digest {
                retried.left += 1;
                continue;
            }
            match records(&client, &feed, &payload, row.get(4)).await? {
                Read::Records(records) => {
                    let batch = Batch { records, ..Batch::new(&feed) };
                    match store.write(&[batch]).await {
                        Ok(_) => {
                            let delete = "delete from market.rejected_rows where rejected_id = $1";
                            client.execute(delete, &[&last]).await?;
                            retried.taken += 1;
                        }
                        Err(error) if Failure::of(error.code()) == Failure::Refused => retried.refused += 1,
                        Err(error) => return Err(error.into()),
                    }
                }
                Read::Nothing => retried.refused += 1,
                Read::NotOurs => retried.left += 1,
            }
        }
    }
}

/// What a payload is.
enum Read {
    Records(Vec<Record>),
    /// A frame of a feed that cannot be read, still.
    Nothing,
    /// Neither a record nor a frame.
    NotOurs,
}

async fn records(client: &Client, feed: &str, payload: &str, received_at: Timestamp) -> Result<Read> {
    if let Ok(record) = serde_json::from_str::<Record>(payload) {
        return Ok(match record.row() {
            Some(row) if !row.kind().is_quarantine() => Read::Records(vec![record]),
            _ => Read::NotOurs,
        });
    }
    let stream = feeds::find(feed).and_then(|entry| entry.stream(FeedSettings::default()).ok());
    let Some(stream) = stream else { return Ok(Read::NotOurs) };
    let Ok(mut records) = stream.parse(payload.as_bytes(), received_at) else { return Ok(Read::Nothing) };
    if records.iter().any(|record| matches!(record, Record::Rejected(_))) {
        return Ok(Read::Nothing);
    }
    records.retain(|record| record.row().is_some());
    if records.is_empty() {
        return Ok(Read::Nothing);
    }
    let names = Names::of_source(client, feed).await?;
    for symbol in records.iter_mut().filter_map(Record::symbol_mut) {
        *symbol = names.of_feed(symbol);
    }
    Ok(Read::Records(records))
}
