-- Turns the large tables into hypertables where TimescaleDB is there, with their rows, and compresses old chunks
-- where the edition can. Without TimescaleDB this file changes nothing.
call market.require_not_newer('140_timescale.sql', 1);

do $$
declare
  ts      constant name := market.timescale_schema();
  target  record;
begin
  if ts is null then
    return;
  end if;
  for target in
    select * from (values
      ('market.trades'::regclass, 'event_time', interval '1 day',    'symbol, feed',            'event_time, trade_id'),
      ('market.quotes'::regclass, 'event_time', interval '1 day',    'symbol, feed',            'event_time, sequence'),
      -- Daily bars of decades and minute bars share the table: a month keeps both at a sane number of chunks.
      ('market.bars'::regclass,   'time',       interval '1 month',  'symbol, bar_width, source', 'time')
    ) as t (relation, time_column, chunk_width, segment_by, order_by)
  loop
    execute format(
      'select %I.create_hypertable(%L::regclass, %L::name, chunk_time_interval => %L::interval,
                                   create_default_indexes => false, if_not_exists => true, migrate_data => true)',
      ts, target.relation, target.time_column, target.chunk_width);
    if market.timescale_edition() = 'community' then
      -- The older spelling of columnstore is understood by every version that has it.
      if not exists (select from timescaledb_information.hypertables h
                     where format('%I.%I', h.hypertable_schema, h.hypertable_name)::regclass = target.relation
                       and h.compression_enabled) then
        execute format(
          'alter table %s set (timescaledb.compress, timescaledb.compress_segmentby = %L, timescaledb.compress_orderby = %L)',
          target.relation, target.segment_by, target.order_by);
      end if;
      execute format('select %I.add_compression_policy(%L::regclass, compress_after => %L::interval, if_not_exists => true)',
                     ts, target.relation, greatest(interval '7 days', target.chunk_width * 2));
    end if;
  end loop;
end
$$;

call market.record_file('140_timescale.sql', 1);
