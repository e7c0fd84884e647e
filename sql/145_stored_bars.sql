-- Bars built from trades, kept: what stands behind market.trade_bars_* where there are no continuous aggregates.
--
-- A statement that changes trades notes the hours it touched, in its own transaction. The views show the stored bars of
-- the other hours and compute those of touched ones, so they are exact at every instant; market.refresh_trade_bars()
-- stores them. Days are made of hours.
call market.require_not_newer('145_stored_bars.sql', 3);

create schema if not exists market_internal;
comment on schema market_internal is 'What the views of schema market are made of; read the views instead.';

create table if not exists market_internal.stored_trade_bars (
  symbol       text        not null,
  bar_width    interval    not null,
  source       text        not null,
  time         timestamptz not null,
  open         numeric[],
  high         numeric,
  low          numeric,
  close        numeric[],
  volume       numeric     not null,
  amount       numeric     not null,
  trade_count  bigint      not null,
  known_at     timestamptz not null,
  primary key (symbol, bar_width, source, time)
);
comment on table market_internal.stored_trade_bars is 'Bars of hours that no statement has touched since the last refresh.';
comment on column market_internal.stored_trade_bars.symbol is 'Canonical symbol.';
comment on column market_internal.stored_trade_bars.bar_width is '1 minute, 5 minutes or 1 hour.';
comment on column market_internal.stored_trade_bars.source is 'Feed of the trades.';
comment on column market_internal.stored_trade_bars.time is 'Start of the bar.';
comment on column market_internal.stored_trade_bars.open is 'Second since 2000, sequence and price of the first trade; NULL: no trade sets a price.';
comment on column market_internal.stored_trade_bars.high is 'Highest price.';
comment on column market_internal.stored_trade_bars.low is 'Lowest price.';
comment on column market_internal.stored_trade_bars.close is 'Second since 2000, sequence and price of the last trade.';
comment on column market_internal.stored_trade_bars.volume is 'Sum of sizes.';
comment on column market_internal.stored_trade_bars.amount is 'Sum of price times size.';
comment on column market_internal.stored_trade_bars.trade_count is 'Number of trades.';
comment on column market_internal.stored_trade_bars.known_at is 'Latest known_at of its trades.';

-- No key: two transactions that touch one hour must not wait for each other, and a refresh takes away no note but those
-- whose trades it sees.
create table if not exists market_internal.touched_hours (
  symbol  text        not null,
  feed    text        not null,
  hour    timestamptz not null
);
comment on table market_internal.touched_hours is 'Hours whose bars are computed when read, until the next refresh.';
comment on column market_internal.touched_hours.symbol is 'Canonical symbol.';
comment on column market_internal.touched_hours.feed is 'Feed of the trades.';
comment on column market_internal.touched_hours.hour is 'Start of the hour.';
create index if not exists touched_hours_symbol_idx on market_internal.touched_hours (symbol, feed, hour);

create table if not exists market_internal.kept_trades (
  since  timestamptz not null
);
comment on table market_internal.kept_trades is
  'One row: older trades are dropped by retention, and one that comes late all the same leaves the bars as they are.';
comment on column market_internal.kept_trades.since is 'First instant of which all trades are kept.';
insert into market_internal.kept_trades select '-infinity' where not exists (select from market_internal.kept_trades);

create or replace function market_internal.note_touched_hours() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op in ('INSERT', 'UPDATE') then
    insert into market_internal.touched_hours
    select distinct symbol, feed, date_trunc('hour', event_time, 'UTC') from added
    where event_time >= (select since from market_internal.kept_trades);
  end if;
  if tg_op in ('DELETE', 'UPDATE') then
    insert into market_internal.touched_hours
    select distinct symbol, feed, date_trunc('hour', event_time, 'UTC') from removed
    where event_time >= (select since from market_internal.kept_trades);
  end if;
  return null;
end
$$;
comment on function market_internal.note_touched_hours() is 'Notes the hours of the trades that a statement changed.';
-- On a table of somebody's own it would run the casts of that table's types with the rights of its owner.
revoke all on function market_internal.note_touched_hours() from public;

create or replace function market_internal.stores_trade_bars() returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select exists (select from pg_catalog.pg_trigger
                 where tgrelid = 'market.trades'::regclass and tgname = 'note_inserted_hours')
$$;
comment on function market_internal.stores_trade_bars() is 'Whether bars built from trades are stored by this database''s triggers.';

do $$
begin
  if market.timescale_edition() = 'community' then
    drop trigger if exists note_inserted_hours on market.trades;
    drop trigger if exists note_updated_hours on market.trades;
    drop trigger if exists note_deleted_hours on market.trades;
    truncate market_internal.touched_hours, market_internal.stored_trade_bars;
  elsif not market_internal.stores_trade_bars() then
    begin
      create trigger note_inserted_hours after insert on market.trades
        referencing new table as added for each statement execute function market_internal.note_touched_hours();
      create trigger note_updated_hours after update on market.trades
        referencing old table as removed new table as added
        for each statement execute function market_internal.note_touched_hours();
      create trigger note_deleted_hours after delete on market.trades
        referencing old table as removed for each statement execute function market_internal.note_touched_hours();
      truncate market_internal.touched_hours, market_internal.stored_trade_bars;
      insert into market_internal.touched_hours
      select distinct symbol, feed, date_trunc('hour', event_time, 'UTC') from market.trades;
    exception when feature_not_supported then
      -- TimescaleDB before 2.18 has no such triggers on hypertables.
      raise warning 'bars built from trades are computed when read: %', sqlerrm;
    end;
  end if;
end
$$;

call market.record_file('145_stored_bars.sql', 3);
