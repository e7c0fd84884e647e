-- Turns the large tables into hypertables where TimescaleDB is there, with their rows, and compresses old chunks
-- where the edition can. Without TimescaleDB this file changes nothing.
call market.require_not_newer('market/timescale.sql', 2);

create schema if not exists market_internal;
comment on schema market_internal is 'What the views of schema market are made of; read the views instead.';

create or replace procedure market_internal.make_hypertable(
  relation regclass, time_column name, chunk_width interval, segment_by text, order_by text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  ts constant name := market.timescale_schema();
begin
  if ts is null then
    return;
  end if;
  execute format(
    'select %I.create_hypertable($1, $2, chunk_time_interval => $3, create_default_indexes => false, if_not_exists => true,
                                 migrate_data => true)', ts)
  using relation, time_column, chunk_width;
  if market.timescale_edition() <> 'community' then
    return;
  end if;
  -- The older spelling of columnstore is understood by every version that has it.
  if not exists (select from timescaledb_information.hypertables h
                 where format('%I.%I', h.hypertable_schema, h.hypertable_name)::regclass = relation and h.compression_enabled) then
    execute format(
      'alter table %s set (timescaledb.compress, timescaledb.compress_segmentby = %L, timescaledb.compress_orderby = %L)',
      relation, segment_by, order_by);
  end if;
  execute format('select %I.add_compression_policy($1, compress_after => $2, if_not_exists => true)', ts)
  using relation, greatest(interval '7 days', chunk_width * 2);
end
$$;
revoke all on procedure market_internal.make_hypertable(regclass, name, interval, text, text) from public;
comment on procedure market_internal.make_hypertable(regclass, name, interval, text, text) is
  'Makes a table a hypertable with its rows, compressed where the edition can; nothing without TimescaleDB.';

-- A trigger with a transition table of deleted rows keeps a table from being compressed; market/stored_bars.sql makes one for
-- each row. Only where there is one: the lock keeps everybody from the trades until the set-up has ended.
do $$
begin
  if exists (select from pg_catalog.pg_trigger
             where tgrelid = 'market.trades'::regclass and tgname = 'note_deleted_hours' and tgoldtable is not null) then
    drop trigger note_deleted_hours on market.trades;
  end if;
  call market_internal.make_hypertable('market.trades', 'event_time', interval '1 day', 'symbol, feed', 'event_time, trade_id');
  call market_internal.make_hypertable('market.quotes', 'event_time', interval '1 day', 'symbol, feed', 'event_time, sequence');
  -- Daily bars of decades and minute bars share the table: a month keeps both at a sane number of chunks.
  call market_internal.make_hypertable('market.bars', 'time', interval '1 month', 'symbol, bar_width, source', 'time');
end
$$;

call market.record_file('market/timescale.sql', 2);
