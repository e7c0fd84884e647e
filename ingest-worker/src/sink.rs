//! Batches on their way into the database: what one holds, and the statements that store it once.
//!
//! Rows are copied in binary into temporary staging tables and inserted from there with `ON CONFLICT`, in one
//! transaction with the cursors and gaps they prove. Whatever is delivered twice, or again after a crash, is one row.
//!
//! Large sets of trades, which are nearly always new, are first tried without the staging table: `COPY` writes pages
//! where `INSERT … ON CONFLICT` writes rows. One known key refuses the whole copy, the savepoint takes it back, and the
//! set goes the long way.

use std::{collections::HashSet, pin::pin};

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use tokio_postgres::{
    Client, Transaction,
    binary_copy::BinaryCopyInWriter,
    error::SqlState,
    types::{ToSql, Type},
};

use crate::{
    exact::literal,
    record::{Bar, Cancel, Quote, Record, Rejected, Timestamp, Trade, clean},
};

/// Where a stream of a feed stands, a row of `market.feed_cursors`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CursorMove {
    pub channel: String,
    pub symbol: String,
    pub sequence: i64,
    pub event_time: Option<Timestamp>,
}

/// What happened to a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GapStatus {
    Open,
    Filled,
    Unfillable,
}

impl GapStatus {
    fn as_str(self) -> &'static str {
        match self {
            GapStatus::Open => "open",
            GapStatus::Filled => "filled",
            GapStatus::Unfillable => "unfillable",
        }
    }
}

/// A run of missing messages, a row of `market.feed_gaps`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GapRow {
    pub channel: String,
    pub symbol: String,
    /// `seq`, `id`, `reconnect`, `idle` or `clock`.
    pub cause: String,
    pub from_seq: i64,
    pub to_seq: i64,
    pub from_time: Option<Timestamp>,
    pub to_time: Option<Timestamp>,
    pub detected_at: Timestamp,
    pub status: GapStatus,
    pub filled_at: Option<Timestamp>,
    pub filled_rows: Option<i64>,
    pub note: Option<String>,
}

/// A connection, a row of `market.feed_sessions`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionRow {
    pub url: String,
    pub opened_at: Timestamp,
    pub closed_at: Option<Timestamp>,
    pub close_code: Option<i32>,
    pub close_reason: Option<String>,
    pub frames: i64,
    pub bytes: i64,
    pub last_frame_at: Option<Timestamp>,
}

/// What is stored together: rows of one feed and the bookkeeping they prove.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    pub feed: String,
    pub records: Vec<Record>,
    pub cursors: Vec<CursorMove>,
    pub gaps: Vec<GapRow>,
    pub sessions: Vec<SessionRow>,
}

impl Batch {
    pub fn new(feed: impl Into<String>) -> Self {
        Batch { feed: feed.into(), ..Batch::default() }
    }

    /// Cursors, gaps and sessions.
    pub fn bookkeeping(&self) -> usize {
        self.cursors.len() + self.gaps.len() + self.sessions.len()
    }

    /// Each piece of the bookkeeping as a batch of its own.
    pub fn apart(&self) -> Vec<Self> {
        let cursors =
            self.cursors.iter().map(|one| Self { cursors: vec![one.clone()], ..Self::new(&self.feed) });
        let gaps = self.gaps.iter().map(|one| Self { gaps: vec![one.clone()], ..Self::new(&self.feed) });
        let sessions =
            self.sessions.iter().map(|one| Self { sessions: vec![one.clone()], ..Self::new(&self.feed) });
        cursors.chain(gaps).chain(sessions).collect()
    }

    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.bookkeeping() == 0
    }
}

/// What became of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Stored, or changed by a newer version of theirs.
    pub stored: u64,
    /// Stored before.
    pub known: u64,
    /// Quarantined, those that were quarantined before included.
    pub rejected: u64,
}

impl std::ops::AddAssign for Written {
    fn add_assign(&mut self, other: Self) {
        self.stored += other.stored;
        self.known += other.known;
        self.rejected += other.rejected;
    }
}

/// An open connection with its staging tables.
pub struct Store {
    client: Client,
    /// Symbols and sources this connection has seen in `market.instruments` and `market.sources`.
    known: HashSet<String>,
    /// Sets of trades that go the long way because one before them held known keys.
    detour: u32,
}

/// Trades from which a copy without staging is tried.
const DIRECT_FROM: usize = 64;
/// Sets that go the long way after a refused copy: repeated data seldom comes alone.
const DETOUR: u32 = 32;

const STAGING: &str = "
create temp table if not exists staging_trades on commit delete rows as
  select symbol, feed, event_time, trade_id, sequence, price, size, side, aggressor, venue, conditions,
         received_at, known_at, corrects from market.trades with no data;
create temp table if not exists staging_quotes on commit delete rows as
  select symbol, feed, event_time, sequence, bid, bid_size, ask, ask_size, bid_venue, ask_venue, conditions,
         received_at, known_at from market.quotes with no data;
create temp table if not exists staging_bars on commit delete rows as
  select symbol, 0::bigint as width_seconds, time, source, open, high, low, close, volume, amount, trade_count,
         close_adj, sequence, received_at, known_at from market.bars with no data;
create temp table if not exists staging_cancels on commit delete rows as
  select symbol, feed, trade_id, cancelled_at, reason, received_at, known_at from market.trade_cancels with no data;
";

const TRADES: &str = "
insert into market.trades (symbol, feed, event_time, trade_id, sequence, price, size, side, aggressor, venue,
                           conditions, received_at, known_at, corrects)
select symbol, feed, event_time, trade_id, sequence, price, size, side, aggressor, venue,
       conditions, received_at, known_at, corrects from staging_trades
on conflict do nothing";

/// The columns of a trade in the order they are copied.
const TRADE_COLUMNS: &str = "symbol, feed, event_time, trade_id, sequence, price, size, side, aggressor, venue, \
                             conditions, received_at, known_at, corrects";

/// A notice may come before its trade (reordered frames) or after it: both ends look for the other.
///
/// Both only look, and [`take_back`] changes what they found: TimescaleDB decompresses whatever an update that joins may
/// touch, which is every chunk, while reading decompresses nothing.
const NOTICES_OF_NEW_TRADES: &str = "
select distinct s.symbol, s.feed, s.trade_id, s.event_time, c.cancelled_at
from staging_trades s join market.trade_cancels c using (symbol, feed, trade_id)";

const CANCELS: &str = "
insert into market.trade_cancels (symbol, feed, trade_id, cancelled_at, reason, received_at, known_at)
select symbol, feed, trade_id, cancelled_at, reason, received_at, known_at from staging_cancels
on conflict do nothing";

/// Venues correct trades of the last sessions only, which bounds the search: by each notice, and for all of them by
/// constants, which let the planner leave chunks out.
fn trades_of_new_notices(cancels: &[(&str, &Cancel)]) -> String {
    let times = || cancels.iter().map(|(_, cancel)| cancel.cancelled_at);
    let from = times().min().and_then(|time| time.checked_sub_signed(TimeDelta::days(11)));
    let to = times().max().and_then(|time| time.checked_add_signed(TimeDelta::days(2)));
    format!(
        "select t.symbol, t.feed, t.trade_id, t.event_time, c.cancelled_at
         from staging_cancels c, market.trades t
         where t.symbol = c.symbol and t.feed = c.feed and t.trade_id = c.trade_id and t.cancelled_at is null
           and t.event_time > c.cancelled_at - interval '10 days' and t.event_time < c.cancelled_at + interval '1 day'
           and t.event_time between {} and {}",
        literal(from, "-infinity"),
        literal(to, "infinity")
    )
}

/// Marks the trades that `query` finds as taken back, each by its whole key: the time as a constant, which bounds what
/// TimescaleDB decompresses to the rows about this instant.
async fn take_back(transaction: &Transaction<'_>, query: &str) -> Result<(), tokio_postgres::Error> {
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

const QUOTES: &str = "
insert into market.quotes (symbol, feed, event_time, sequence, bid, bid_size, ask, ask_size, bid_venue, ask_venue,
                           conditions, received_at, known_at)
select symbol, feed, event_time, sequence, bid, bid_size, ask, ask_size, bid_venue, ask_venue,
       conditions, received_at, known_at from staging_quotes
on conflict do nothing";

const BARS: &str = "
insert into market.bars as b (symbol, bar_width, time, source, open, high, low, close, volume, amount, trade_count,
                              close_adj, sequence, received_at, known_at)
select distinct on (symbol, width_seconds, time, source)
       symbol, make_interval(days => (width_seconds / 86400)::int, secs => width_seconds % 86400), time, source,
       open, high, low, close, volume, amount, trade_count, close_adj, sequence, received_at, known_at
from staging_bars
order by symbol, width_seconds, time, source, sequence desc, received_at desc
on conflict (symbol, bar_width, time, source) do update
  set open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close,
      volume = excluded.volume, amount = excluded.amount, trade_count = excluded.trade_count,
      close_adj = excluded.close_adj, sequence = excluded.sequence, received_at = excluded.received_at,
      known_at = excluded.known_at
  where excluded.sequence > b.sequence
    and (excluded.open, excluded.high, excluded.low, excluded.close, excluded.volume, excluded.amount,
         excluded.trade_count, excluded.close_adj)
        is distinct from (b.open, b.high, b.low, b.close, b.volume, b.amount, b.trade_count, b.close_adj)";

const REJECTED: &str = "
insert into market.rejected_rows (feed, received_at, reason, payload, digest)
values ($1, $2, $3, $4, $5) on conflict (feed, digest) do nothing";

/// Cursors only move forward: a batch that is stored again cannot take one back.
const CURSOR: &str = "
insert into market.feed_cursors as c (feed, channel, symbol, sequence, event_time, updated_at)
values ($1, $2, $3, $4, $5, now())
on conflict (feed, channel, symbol) do update
  set sequence = greatest(c.sequence, excluded.sequence), event_time = greatest(c.event_time, excluded.event_time),
      updated_at = excluded.updated_at";

/// A closed gap stays closed.
const GAP: &str = "
insert into market.feed_gaps as g (feed, channel, symbol, cause, from_seq, to_seq, from_time, to_time, detected_at,
                                   status, filled_at, filled_rows, note)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
on conflict (feed, channel, symbol, cause, from_seq, to_seq) do update
  set status = excluded.status, filled_at = excluded.filled_at, filled_rows = excluded.filled_rows,
      note = excluded.note
  where g.status = 'open' and excluded.status <> 'open'";

const SESSION: &str = "
insert into market.feed_sessions as s (feed, url, opened_at, closed_at, close_code, close_reason, frames, bytes,
                                       last_frame_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
on conflict (feed, opened_at) do update
  set closed_at = coalesce(excluded.closed_at, s.closed_at), close_code = excluded.close_code,
      close_reason = excluded.close_reason, frames = excluded.frames, bytes = excluded.bytes,
      last_frame_at = excluded.last_frame_at";

/// Rows of a set of batches, sorted by their table.
#[derive(Default)]
struct Rows<'a> {
    trades: Vec<(&'a str, &'a Trade)>,
    quotes: Vec<(&'a str, &'a Quote)>,
    bars: Vec<(&'a str, &'a Bar)>,
    cancels: Vec<(&'a str, &'a Cancel)>,
    rejected: Vec<(&'a str, &'a Rejected)>,
}

impl<'a> Rows<'a> {
    fn of(batches: &'a [Batch]) -> Self {
        let mut rows = Rows::default();
        for batch in batches {
            let feed = batch.feed.as_str();
            for record in &batch.records {
                match record {
                    Record::Trade(trade) => rows.trades.push((feed, trade)),
                    Record::Quote(quote) => rows.quotes.push((feed, quote)),
                    Record::Bar(bar) => rows.bars.push((feed, bar)),
                    Record::Cancel(cancel) => rows.cancels.push((feed, cancel)),
                    Record::Rejected(rejected) => rows.rejected.push((feed, rejected)),
                    Record::OpenBar(_) | Record::Signal(_) => {}
                }
            }
        }
        rows
    }

    fn symbols(&self) -> impl Iterator<Item = &'a str> + '_ {
        let trades = self.trades.iter().map(|(_, t)| t.symbol.as_str());
        let quotes = self.quotes.iter().map(|(_, q)| q.symbol.as_str());
        trades.chain(quotes).chain(self.bars.iter().map(|(_, b)| b.symbol.as_str()))
    }
}

impl Store {
    /// Prepares the staging tables of a fresh connection.
    ///
    /// # Errors
    /// The server's error, for example `42P01` before the first `migrate`.
    pub async fn new(client: Client) -> Result<Self, tokio_postgres::Error> {
        client.batch_execute(STAGING).await?;
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
        let rows = Rows::of(batches);
        let new_symbols: HashSet<&str> = rows.symbols().filter(|s| !self.known.contains(*s)).collect();
        let new_sources: HashSet<&str> = rows
            .bars
            .iter()
            .map(|(feed, _)| *feed)
            .filter(|s| !self.known.contains(&source_key(s)))
            .collect();
        let mut transaction = self.client.transaction().await?;
        if !new_symbols.is_empty() {
            let symbols: Vec<&str> = new_symbols.iter().copied().collect();
            transaction
                .execute(
                    "insert into market.instruments (symbol) select unnest($1::text[]) on conflict do nothing",
                    &[&symbols],
                )
                .await?;
        }
        for source in &new_sources {
            let statement = "insert into market.sources (source, kind, rank) \
                             select $1, 'file', 50 where not exists (select from market.sources where source = $1)";
            transaction.execute(statement, &[source]).await?;
        }
        self.detour = self.detour.saturating_sub(1);
        let mut is_stored = rows.trades.is_empty();
        if self.detour == 0 && rows.may_go_direct() {
            is_stored = rows.copy_directly(&mut transaction).await?;
            if !is_stored {
                self.detour = DETOUR;
            }
        }
        let stored = rows.store(&transaction, is_stored).await?;
        store_bookkeeping(&transaction, batches).await?;
        transaction.commit().await?;
        let learned =
            new_symbols.iter().map(|s| (*s).to_owned()).chain(new_sources.iter().map(|s| source_key(s)));
        let learned: Vec<String> = learned.collect();
        self.known.extend(learned);
        let given = rows.trades.len() + rows.quotes.len() + rows.bars.len() + rows.cancels.len();
        let known = (given as u64).saturating_sub(stored);
        Ok(Written { stored, known, rejected: rows.rejected.len() as u64 })
    }
}

/// Whether the feed takes trades back.
fn is_cancelling(feed: &str) -> bool {
    feed.starts_with("alpaca")
}

fn source_key(source: &str) -> String {
    format!("source {source}")
}

impl Rows<'_> {
    /// Trades that can be taken back need the staging table to look for their notices.
    fn may_go_direct(&self) -> bool {
        self.trades.len() >= DIRECT_FROM && !self.trades.iter().any(|(feed, _)| is_cancelling(feed))
    }

    /// Copies the trades into their table; `false`, and nothing changed, when one of them is there already.
    async fn copy_directly(&self, transaction: &mut Transaction<'_>) -> Result<bool, tokio_postgres::Error> {
        let savepoint = transaction.savepoint("direct").await?;
        match self.copy_trades(&savepoint, "market.trades").await {
            Ok(()) => savepoint.commit().await.map(|()| true),
            Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
                savepoint.rollback().await.map(|()| false)
            }
            Err(error) => Err(error),
        }
    }

    /// Stores all rows but the trades that are stored already, and counts all that are new.
    async fn store(
        &self,
        transaction: &Transaction<'_>,
        trades_are_stored: bool,
    ) -> Result<u64, tokio_postgres::Error> {
        let mut stored = self.trades.len() as u64;
        if !trades_are_stored {
            self.copy_trades(transaction, "staging_trades").await?;
            stored = transaction.execute_raw(TRADES, NONE).await?;
        }
        if !self.cancels.is_empty() {
            self.copy_cancels(transaction).await?;
            stored += transaction.execute_raw(CANCELS, NONE).await?;
            take_back(transaction, &trades_of_new_notices(&self.cancels)).await?;
        }
        // Only the feed that takes trades back pays for looking.
        if self.trades.iter().any(|(feed, _)| is_cancelling(feed)) {
            take_back(transaction, NOTICES_OF_NEW_TRADES).await?;
        }
        if !self.quotes.is_empty() {
            self.copy_quotes(transaction).await?;
            stored += transaction.execute_raw(QUOTES, NONE).await?;
        }
        if !self.bars.is_empty() {
            self.copy_bars(transaction).await?;
            stored += transaction.execute_raw(BARS, NONE).await?;
        }
        for (feed, rejected) in &self.rejected {
            let row: [&(dyn ToSql + Sync); 5] = [
                feed,
                &rejected.received_at,
                &rejected.reason,
                &rejected.payload,
                &rejected.digest.as_slice(),
            ];
            transaction.execute(REJECTED, &row).await?;
        }
        Ok(stored)
    }

    async fn copy_trades(
        &self,
        transaction: &Transaction<'_>,
        table: &str,
    ) -> Result<(), tokio_postgres::Error> {
        let statement = format!("copy {table} ({TRADE_COLUMNS}) from stdin (format binary)");
        let sink = transaction.copy_in(&statement).await?;
        let mut writer = pin!(BinaryCopyInWriter::new(
            sink,
            &[
                Type::TEXT,
                Type::TEXT,
                Type::TIMESTAMPTZ,
                Type::TEXT,
                Type::INT8,
                Type::NUMERIC,
                Type::NUMERIC,
                Type::TEXT,
                Type::TEXT,
                Type::TEXT,
                Type::TEXT_ARRAY,
                Type::TIMESTAMPTZ,
                Type::TIMESTAMPTZ,
                Type::TEXT,
            ]
        ));
        for (feed, t) in &self.trades {
            let row: [&(dyn ToSql + Sync); 14] = [
                &t.symbol,
                feed,
                &t.event_time,
                &t.trade_id,
                &t.sequence,
                &t.price,
                &t.size,
                &t.side,
                &t.aggressor.map(|a| a.as_str()),
                &t.venue,
                &t.conditions,
                &t.received_at,
                &t.known_at,
                &t.corrects,
            ];
            writer.as_mut().write(&row).await?;
        }
        writer.finish().await.map(drop)
    }

    async fn copy_cancels(&self, transaction: &Transaction<'_>) -> Result<(), tokio_postgres::Error> {
        let sink = transaction.copy_in("copy staging_cancels from stdin (format binary)").await?;
        let mut writer = pin!(BinaryCopyInWriter::new(
            sink,
            &[
                Type::TEXT,
                Type::TEXT,
                Type::TEXT,
                Type::TIMESTAMPTZ,
                Type::TEXT,
                Type::TIMESTAMPTZ,
                Type::TIMESTAMPTZ,
            ]
        ));
        for (feed, c) in &self.cancels {
            let reason = if c.is_correction { "correction" } else { "cancel" };
            let known_at = c.received_at.max(c.cancelled_at);
            let row: [&(dyn ToSql + Sync); 7] =
                [&c.symbol, feed, &c.trade_id, &c.cancelled_at, &reason, &c.received_at, &known_at];
            writer.as_mut().write(&row).await?;
        }
        writer.finish().await.map(drop)
    }

    async fn copy_quotes(&self, transaction: &Transaction<'_>) -> Result<(), tokio_postgres::Error> {
        let sink = transaction.copy_in("copy staging_quotes from stdin (format binary)").await?;
        let mut writer = pin!(BinaryCopyInWriter::new(
            sink,
            &[
                Type::TEXT,
                Type::TEXT,
                Type::TIMESTAMPTZ,
                Type::INT8,
                Type::NUMERIC,
                Type::NUMERIC,
                Type::NUMERIC,
                Type::NUMERIC,
                Type::TEXT,
                Type::TEXT,
                Type::TEXT_ARRAY,
                Type::TIMESTAMPTZ,
                Type::TIMESTAMPTZ,
            ]
        ));
        for (feed, q) in &self.quotes {
            let row: [&(dyn ToSql + Sync); 13] = [
                &q.symbol,
                feed,
                &q.event_time,
                &q.sequence,
                &q.bid,
                &q.bid_size,
                &q.ask,
                &q.ask_size,
                &q.bid_venue,
                &q.ask_venue,
                &q.conditions,
                &q.received_at,
                &q.known_at,
            ];
            writer.as_mut().write(&row).await?;
        }
        writer.finish().await.map(drop)
    }

    async fn copy_bars(&self, transaction: &Transaction<'_>) -> Result<(), tokio_postgres::Error> {
        let sink = transaction.copy_in("copy staging_bars from stdin (format binary)").await?;
        let mut writer = pin!(BinaryCopyInWriter::new(
            sink,
            &[
                Type::TEXT,
                Type::INT8,
                Type::TIMESTAMPTZ,
                Type::TEXT,
                Type::FLOAT8,
                Type::FLOAT8,
                Type::FLOAT8,
                Type::FLOAT8,
                Type::FLOAT8,
                Type::FLOAT8,
                Type::INT8,
                Type::FLOAT8,
                Type::INT8,
                Type::TIMESTAMPTZ,
                Type::TIMESTAMPTZ,
            ]
        ));
        for (feed, b) in &self.bars {
            let row: [&(dyn ToSql + Sync); 15] = [
                &b.symbol,
                &b.width_seconds,
                &b.time,
                feed,
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
            writer.as_mut().write(&row).await?;
        }
        writer.finish().await.map(drop)
    }
}

/// No parameters, in the type `execute_raw` wants.
const NONE: std::iter::Empty<&(dyn ToSql + Sync)> = std::iter::empty();

async fn store_bookkeeping(
    transaction: &Transaction<'_>,
    batches: &[Batch],
) -> Result<(), tokio_postgres::Error> {
    // Many frames of one stream are stored together: only its last position counts.
    let mut last = std::collections::BTreeMap::<(&str, &str, &str), (i64, Option<Timestamp>)>::new();
    for batch in batches {
        for c in &batch.cursors {
            let place =
                last.entry((&batch.feed, &c.channel, &c.symbol)).or_insert((c.sequence, c.event_time));
            *place = (place.0.max(c.sequence), place.1.max(c.event_time));
        }
    }
    for ((feed, channel, symbol), (sequence, event_time)) in last {
        let (channel, symbol) = (clean(channel), clean(symbol));
        transaction.execute(CURSOR, &[&feed, &channel, &symbol, &sequence, &event_time]).await?;
    }
    for batch in batches {
        for g in &batch.gaps {
            let (channel, symbol, note) = (clean(&g.channel), clean(&g.symbol), g.note.as_deref().map(clean));
            let row: [&(dyn ToSql + Sync); 13] = [
                &batch.feed,
                &channel,
                &symbol,
                &g.cause,
                &g.from_seq,
                &g.to_seq,
                &g.from_time,
                &g.to_time,
                &g.detected_at,
                &g.status.as_str(),
                &g.filled_at,
                &g.filled_rows,
                &note,
            ];
            transaction.execute(GAP, &row).await?;
        }
        for s in &batch.sessions {
            let (url, reason) = (clean(&s.url), s.close_reason.as_deref().map(clean));
            let row: [&(dyn ToSql + Sync); 9] = [
                &batch.feed,
                &url,
                &s.opened_at,
                &s.closed_at,
                &s.close_code,
                &reason,
                &s.frames,
                &s.bytes,
                &s.last_frame_at,
            ];
            transaction.execute(SESSION, &row).await?;
        }
    }
    Ok(())
}
