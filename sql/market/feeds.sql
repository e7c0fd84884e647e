-- Bookkeeping of the feeds: connections, gaps, resume positions, refused rows.
call market.require_not_newer('market/feeds.sql', 5);

create table if not exists market.feed_sessions (
  session_id     bigint generated always as identity primary key,
  feed           text        not null,
  url            text        not null,
  opened_at      timestamptz not null,
  closed_at      timestamptz,
  close_code     integer,
  close_reason   text,
  frames         bigint      not null default 0,
  bytes          bigint      not null default 0,
  last_frame_at  timestamptz,
  unique (feed, opened_at)
);
comment on table market.feed_sessions is 'One row per connection to a feed.';
comment on column market.feed_sessions.session_id is 'Identity of the connection.';
comment on column market.feed_sessions.feed is 'Feed.';
comment on column market.feed_sessions.url is 'Endpoint, without credentials.';
comment on column market.feed_sessions.opened_at is 'When the handshake completed.';
comment on column market.feed_sessions.closed_at is 'When the connection ended; NULL: open, or the worker was killed.';
comment on column market.feed_sessions.close_code is 'Websocket close code, where there was one.';
comment on column market.feed_sessions.close_reason is 'Why it ended: reason of the peer, timer of ours, or error.';
comment on column market.feed_sessions.frames is 'Frames received.';
comment on column market.feed_sessions.bytes is 'Payload bytes received.';
comment on column market.feed_sessions.last_frame_at is 'When the last frame arrived.';

create table if not exists market.feed_gaps (
  feed         text        not null,
  channel      text        not null,
  symbol       text        not null,
  cause        text        not null check (cause in ('seq', 'id', 'reconnect', 'idle', 'clock')),
  from_seq     bigint      not null,
  to_seq       bigint      not null,
  from_time    timestamptz,
  to_time      timestamptz,
  detected_at  timestamptz not null,
  status       text        not null default 'open' check (status in ('open', 'filled', 'unfillable')),
  filled_at    timestamptz,
  filled_rows  bigint,
  note         text,
  primary key (feed, channel, symbol, cause, from_seq, to_seq),
  check (to_seq >= from_seq),
  check ((status = 'open') = (filled_at is null))
);
comment on table market.feed_gaps is 'What a feed skipped: one row per run of missing messages, until it is repaired or declared lost.';
comment on column market.feed_gaps.feed is 'Feed.';
comment on column market.feed_gaps.channel is 'Channel of the feed, for example trades.';
comment on column market.feed_gaps.symbol is 'Canonical symbol; * where the gap concerns the whole connection.';
comment on column market.feed_gaps.cause is 'seq (connection sequence), id (trade ids), reconnect, idle (silence), clock.';
comment on column market.feed_gaps.from_seq is 'First missing number; microseconds of from_time where the feed numbers nothing.';
comment on column market.feed_gaps.to_seq is 'Last missing number; microseconds of to_time where the feed numbers nothing.';
comment on column market.feed_gaps.from_time is 'Event time before the gap.';
comment on column market.feed_gaps.to_time is 'Event time after the gap.';
comment on column market.feed_gaps.detected_at is 'When the worker saw the gap.';
comment on column market.feed_gaps.status is 'open, filled, or unfillable.';
comment on column market.feed_gaps.filled_at is 'When it was repaired or declared unfillable.';
comment on column market.feed_gaps.filled_rows is 'Rows of the range that are stored.';
comment on column market.feed_gaps.note is 'Why it is unfillable, or how it was filled.';
create index if not exists feed_gaps_open_idx on market.feed_gaps (feed, detected_at) where status = 'open';

create table if not exists market.feed_cursors (
  feed        text        not null,
  channel     text        not null,
  symbol      text        not null,
  sequence    bigint      not null,
  event_time  timestamptz,
  updated_at  timestamptz not null,
  primary key (feed, channel, symbol)
);
alter table market.feed_cursors add column if not exists position jsonb;
comment on table market.feed_cursors is
  'Resume position per stream: the only state a worker needs, written in the same transaction as the rows.';
comment on column market.feed_cursors.feed is 'Feed, or the file being replayed.';
comment on column market.feed_cursors.channel is 'Channel of the feed, or endpoint that is polled.';
comment on column market.feed_cursors.symbol is 'Canonical symbol; * for a whole file, or an endpoint that is asked for all at once.';
comment on column market.feed_cursors.sequence is 'Highest stored trade id, microseconds, frames of the file done, or answers stored.';
comment on column market.feed_cursors.event_time is 'Event time of the newest stored row.';
comment on column market.feed_cursors.position is 'Of an endpoint that is polled: where the next question begins, in a form of the feed''s own.';
comment on column market.feed_cursors.updated_at is 'When it moved last.';

create table if not exists market.feed_refusals (
  feed        text        not null,
  channel     text        not null,
  symbol      text        not null,
  refused_at  timestamptz not null,
  until       timestamptz,
  reason      text        not null,
  lifted_at   timestamptz,
  primary key (feed, channel, symbol)
);
comment on table market.feed_refusals is
  'What vendors refuse: endpoints that are not in the plan of the account, and accounts that they do not know. One row until it is refused again.';
comment on column market.feed_refusals.feed is 'Feed.';
comment on column market.feed_refusals.channel is 'Endpoint; * for all of the feed.';
comment on column market.feed_refusals.symbol is 'Canonical symbol; * for all.';
comment on column market.feed_refusals.refused_at is 'When it was refused last.';
comment on column market.feed_refusals.until is 'Until when the worker does not ask again; NULL: until it is started again, or, of a feed that stays blocked (truthsocial), until this row is deleted.';
comment on column market.feed_refusals.reason is 'What the vendor said.';
comment on column market.feed_refusals.lifted_at is 'When it was answered again; NULL: it is refused.';

create table if not exists market.feed_usage (
  feed           text   not null,
  day            date   not null,
  requests       bigint not null,
  bytes          bigint not null,
  allowed_bytes  bigint,
  primary key (feed, day)
);
comment on table market.feed_usage is 'What feeds that are polled have taken of their vendors, by day (UTC): a worker that starts goes on counting from there.';
comment on column market.feed_usage.feed is 'Feed.';
comment on column market.feed_usage.day is 'Day (UTC).';
comment on column market.feed_usage.requests is 'Questions put, those that failed included.';
comment on column market.feed_usage.bytes is 'Bytes of the answers.';
comment on column market.feed_usage.allowed_bytes is 'Bytes that the plan allows in 30 days; NULL: the vendor counts none.';

create table if not exists market.rejected_rows (
  rejected_id  bigint generated always as identity primary key,
  feed         text        not null,
  received_at  timestamptz not null,
  reason       text        not null,
  payload      text        not null,
  digest       bytea       not null,
  ingested_at  timestamptz not null default now(),
  unique (feed, digest)
);
comment on table market.rejected_rows is 'Quarantine: what a feed sent and no parser could read, with the reason.';
comment on column market.rejected_rows.rejected_id is 'Identity of the row.';
comment on column market.rejected_rows.feed is 'Feed or file source.';
comment on column market.rejected_rows.received_at is 'Our clock when it first arrived.';
comment on column market.rejected_rows.reason is 'What is wrong with it, for people.';
comment on column market.rejected_rows.payload is 'The message as text, cut after 8192 bytes, bytes that are not UTF-8 replaced.';
comment on column market.rejected_rows.digest is 'SHA-256 of the whole message, so that a repeated message is stored once.';
comment on column market.rejected_rows.ingested_at is 'Start of the transaction that stored the row.';

create or replace view market.feed_health as
select c.feed, c.channel, c.symbol, c.event_time as newest_event_time, c.updated_at,
       now() - c.updated_at as silence,
       coalesce(now() - c.updated_at > s.stale_after, false) as stale,
       (select count(*) from market.feed_gaps g
        where g.feed = c.feed and g.channel = c.channel and g.symbol = c.symbol and g.status = 'open') as open_gaps
from market.feed_cursors c left join market.sources s on s.source = c.feed
-- The place in a replayed file is no stream.
where c.channel <> 'replay';
comment on view market.feed_health is 'One row per stream: how fresh it is and what it still lacks.';
comment on column market.feed_health.feed is 'Feed.';
comment on column market.feed_health.channel is 'Stream of the feed: trades, quotes, bars, documents.';
comment on column market.feed_health.symbol is 'Symbol as we write it.';
comment on column market.feed_health.newest_event_time is 'Newest event that was stored.';
comment on column market.feed_health.silence is 'Time since anything was stored.';
comment on column market.feed_health.stale is 'Whether that is longer than market.sources.stale_after allows.';
comment on column market.feed_health.open_gaps is 'Gaps that are known and not yet closed.';

call market.record_file('market/feeds.sql', 5);
