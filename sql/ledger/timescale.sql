-- Turns the forecasts into a hypertable where TimescaleDB is there, with their rows, and compresses old chunks where the
-- edition can. Without TimescaleDB this file changes nothing.
call market.require_not_newer('ledger/timescale.sql', 2);

do $$
declare
  ts  constant name := market.timescale_schema();
begin
  if ts is null then
    return;
  end if;
  -- The rows of a plain table move into chunks, which empties the table.
  insert into ledger.removals default values on conflict do nothing;
  -- By the time that is forecast: joins with what came, and dashboards, ask for that. A month suits daily and hourly policies.
  execute format(
    'select %I.create_hypertable(''ledger.forecasts''::regclass, ''ts''::name, chunk_time_interval => interval ''1 month'',
                                 create_default_indexes => false, if_not_exists => true, migrate_data => true)', ts);
  delete from ledger.removals r where r.xact = pg_current_xact_id();
  if market.timescale_edition() <> 'community' then
    return;
  end if;
  if not exists (select from timescaledb_information.hypertables h
                 where h.hypertable_schema = 'ledger' and h.hypertable_name = 'forecasts' and h.compression_enabled) then
    -- Every column of the key takes part, so that a repeated row is found without unpacking more than its segment.
    alter table ledger.forecasts set (
      timescaledb.compress,
      timescaledb.compress_segmentby = 'series, relation, target, model_version, calibration, kind',
      timescaledb.compress_orderby = 'ts, cutoff desc');
  end if;
  execute format('select %I.add_compression_policy(''ledger.forecasts''::regclass, compress_after => interval ''2 months'',
                                                   if_not_exists => true)', ts);
end
$$;

call market.record_file('ledger/timescale.sql', 2);
