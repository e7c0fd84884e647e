//! Cursors, gaps, sessions, marks, refusals, usage: stored in the transaction of the rows that prove them.

use tokio_postgres::{Transaction, types::ToSql};

use super::batch::Batch;
use crate::{
    kinds::{Timestamp, canonical},
    text::clean,
};

/// Cursors only move forward: a batch that is stored again cannot take one back.
const CURSOR: &str = "
insert into market.feed_cursors as c (feed, channel, symbol, sequence, event_time, updated_at)
values ($1, $2, $3, $4, $5, now())
on conflict (feed, channel, symbol) do update
  set sequence = greatest(c.sequence, excluded.sequence), event_time = greatest(c.event_time, excluded.event_time),
      updated_at = excluded.updated_at";

/// As with cursors, the furthest counts.
const MARK: &str = "
insert into market.feed_cursors as c (feed, channel, symbol, sequence, event_time, position, updated_at)
values ($1, $2, $3, $4, $5, $6::text::jsonb, now())
on conflict (feed, channel, symbol) do update
  set sequence = excluded.sequence, event_time = greatest(c.event_time, excluded.event_time),
      position = excluded.position, updated_at = excluded.updated_at
  where excluded.sequence > c.sequence";

const REFUSAL: &str = "
insert into market.feed_refusals as r (feed, channel, symbol, refused_at, until, reason)
values ($1, $2, $3, $4, $5, $6)
on conflict (feed, channel, symbol) do update
  set refused_at = excluded.refused_at, until = excluded.until, reason = excluded.reason, lifted_at = null
  where excluded.refused_at > r.refused_at";

const LIFTED: &str = "
update market.feed_refusals set lifted_at = $4
where feed = $1 and channel = $2 and symbol = $3 and lifted_at is null and refused_at <= $4";

/// Totals of a day only grow.
const USAGE: &str = "
insert into market.feed_usage as u (feed, day, requests, bytes, allowed_bytes)
values ($1, $2, $3, $4, $5)
on conflict (feed, day) do update
  set requests = greatest(u.requests, excluded.requests), bytes = greatest(u.bytes, excluded.bytes), allowed_bytes = excluded.allowed_bytes";

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

/// Stores the bookkeeping of `batches`.
///
/// # Errors
/// The server's error.
pub(super) async fn store(
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
    let mut days = std::collections::BTreeMap::new();
    for batch in batches {
        for u in &batch.usage {
            let day = days.entry((&batch.feed, u.day)).or_insert(u);
            *day = if u.bytes >= day.bytes { u } else { *day };
        }
    }
    for ((feed, day), u) in days {
        transaction.execute(USAGE, &[feed, &day, &u.requests, &u.bytes, &u.allowed]).await?;
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
        for m in &batch.marks {
            let (endpoint, symbol) = (clean(&m.endpoint), clean(&m.symbol));
            // A token of a vendor's may hold what jsonb cannot.
            let position = canonical(&m.position.to_string()).unwrap_or_else(|_| "null".to_owned());
            let row: [&(dyn ToSql + Sync); 6] =
                [&batch.feed, &endpoint, &symbol, &m.sequence, &m.event_time, &position];
            transaction.execute(MARK, &row).await?;
        }
        for r in &batch.refusals {
            let (channel, symbol, reason) =
                (clean(&r.channel), clean(&r.symbol), r.reason.as_deref().map(clean));
            let row: [&(dyn ToSql + Sync); 6] = [&batch.feed, &channel, &symbol, &r.at, &r.until, &reason];
            match reason {
                Some(_) => transaction.execute(REFUSAL, &row).await?,
                None => transaction.execute(LIFTED, &row[..4]).await?,
            };
        }
    }
    Ok(())
}
