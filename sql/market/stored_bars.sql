-- Bars built from trades, kept: what stands behind market.trade_bars_*, whatever TimescaleDB there is.
--
-- A statement that changes trades notes the hours it touched, in its own transaction. The views show the stored bars of
-- the other hours and compute those of touched ones, so they are exact at every instant; market.refresh_trade_bars()
-- stores them. Days are made of hours. Bars of hours whose trades retention has dropped are closed: nothing changes them.
-- Continuous aggregates are not used: a refresh of dropped time empties their bars (docs/adr/0014).
call market.require_not_newer('market/stored_bars.sql', 4);

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

call market_internal.make_hypertable('market_internal.stored_trade_bars', 'time', interval '1 month', 'symbol, bar_width, source', 'time');

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

create table if not exists market_internal.reopened_hours (
  symbol  text        not null,
  feed    text        not null,
  hour    timestamptz not null,
  primary key (symbol, feed, hour)
);
comment on table market_internal.reopened_hours is
  'Hours before kept_trades.since that had no bars when trades of them came: all of their trades are kept, until retention drops them.';
comment on column market_internal.reopened_hours.symbol is 'Canonical symbol.';
comment on column market_internal.reopened_hours.feed is 'Feed of the trades.';
comment on column market_internal.reopened_hours.hour is 'Start of the hour.';

-- Every hour that had trades has a bar of one hour, so one without has lost none. A note may also be committed after
-- retention has closed its hour: what it says then comes too late.
create or replace view market_internal.open_hours as
select distinct h.symbol, h.feed, h.hour
from market_internal.touched_hours h
where h.hour >= (select since from market_internal.kept_trades)
   or exists (select from market_internal.reopened_hours r
              where r.symbol = h.symbol and r.feed = h.feed and r.hour = h.hour)
   or not exists (select from market_internal.stored_trade_bars b
                  where b.symbol = h.symbol and b.source = h.feed and b.bar_width = interval '1 hour' and b.time = h.hour);
comment on view market_internal.open_hours is 'Touched hours, once each, without those that retention has closed.';

-- On a table of somebody's own the functions of the triggers would run the casts of that table's types with the rights
-- of their owner: nobody else may make a trigger of them.
create or replace function market_internal.note_touched_hours() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  insert into market_internal.touched_hours
  select distinct symbol, feed, date_trunc('hour', event_time, 'UTC') from added;
  if tg_op = 'UPDATE' then
    insert into market_internal.touched_hours
    select distinct symbol, feed, date_trunc('hour', event_time, 'UTC') from removed;
  end if;
  return null;
end
$$;
comment on function market_internal.note_touched_hours() is 'Notes the hours of the trades that a statement added or changed.';
revoke all on function market_internal.note_touched_hours() from public;

-- For each row, because compressed hypertables have no transition tables of deleted rows.
create or replace function market_internal.note_deleted_hour() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- A note of another transaction may be taken away by a refresh that does not see this deletion.
  insert into market_internal.touched_hours
  select old.symbol, old.feed, date_trunc('hour', old.event_time, 'UTC')
  where not exists (select from market_internal.touched_hours h
                    where h.symbol = old.symbol and h.feed = old.feed and h.hour = date_trunc('hour', old.event_time, 'UTC')
                      and h.xmin = pg_current_xact_id()::xid);
  return null;
end
$$;
comment on function market_internal.note_deleted_hour() is 'Notes the hour of a trade that was deleted.';
revoke all on function market_internal.note_deleted_hour() from public;

create or replace function market_internal.stores_trade_bars() returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select exists (select from pg_catalog.pg_trigger
                 where tgrelid = 'market.trades'::regclass and tgname = 'note_inserted_hours')
$$;
comment on function market_internal.stores_trade_bars() is 'Whether bars built from trades are stored by this database''s triggers.';

do $$
declare
  had_triggers constant boolean := market_internal.stores_trade_bars();
begin
  if (select count(*) from pg_catalog.pg_trigger
      where tgrelid = 'market.trades'::regclass and tgname in ('note_inserted_hours', 'note_updated_hours', 'note_deleted_hours')) = 3 then
    return;
  end if;
  create or replace trigger note_inserted_hours after insert on market.trades
    referencing new table as added for each statement execute function market_internal.note_touched_hours();
  create or replace trigger note_updated_hours after update on market.trades
    referencing old table as removed new table as added
    for each statement execute function market_internal.note_touched_hours();
  drop trigger if exists note_deleted_hours on market.trades;
  create trigger note_deleted_hours after delete on market.trades
    for each row execute function market_internal.note_deleted_hour();
  if not had_triggers then
    truncate market_internal.touched_hours, market_internal.stored_trade_bars;
    insert into market_internal.touched_hours
    select distinct symbol, feed, date_trunc('hour', event_time, 'UTC') from market.trades;
  end if;
exception when feature_not_supported then
  -- TimescaleDB before 2.18 has no such triggers on hypertables.
  raise warning 'bars built from trades are computed when read: %', sqlerrm;
end
$$;

-- Earlier releases kept bars in continuous aggregates where the edition has them. Of trades that were dropped these bars
-- are all that is left; where in their hour the first and last trade stood is not, and only the order of hours matters.
do $$
declare
  width  record;
begin
  for width in
    select * from (values ('1m', interval '1 minute'), ('5m', interval '5 minutes'), ('1h', interval '1 hour')) as w (suffix, bar_width)
  loop
    if to_regclass('market_internal.trade_bars_' || width.suffix) is not null then
      execute format($copy$
        insert into market_internal.stored_trade_bars
          (bar_width, symbol, source, time, open, high, low, close, volume, amount, trade_count, known_at)
        select %1$L::interval, b.symbol, b.source, b.time,
               array[extract(epoch from b.time - timestamptz '2000-01-01 00:00+00'), 0, b.open], b.high, b.low,
               array[extract(epoch from b.time + %1$L::interval - timestamptz '2000-01-01 00:00+00'), 0, b.close],
               b.volume, b.amount, b.trade_count, b.known_at
        from market_internal.trade_bars_%2$s b
        where b.time < (select since from market_internal.kept_trades) and b.open is not null
        on conflict do nothing$copy$, width.bar_width, width.suffix);
    end if;
  end loop;
end
$$;

call market.record_file('market/stored_bars.sql', 4);
