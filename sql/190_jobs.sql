-- One maintenance procedure, scheduled by whichever scheduler is there: TimescaleDB jobs (community edition), else
-- pg_cron. Without both, the worker runs it while it runs, or: call market.maintenance().
call market.require_not_newer('190_jobs.sql', 3);

create or replace procedure market.maintenance(job_id integer default null, config jsonb default null)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if market_internal.stores_trade_bars() then
    call market.refresh_trade_bars();
  end if;
  call market.apply_retention();
  call market.run_validation(now() - coalesce((config ->> 'validate')::interval, interval '7 days'));
  call market.refresh_liquidity();
end
$$;
comment on procedure market.maintenance(integer, jsonb) is
  'Stored bars, retention, validation and liquidity refresh, in the form both TimescaleDB jobs and pg_cron can call. config: {"validate": "7 days"}.';

do $$
declare
  ts constant name := market.timescale_schema();
begin
  if market.timescale_edition() = 'community' then
    if not exists (select from timescaledb_information.jobs where proc_schema = 'market' and proc_name = 'maintenance') then
      execute format('select %I.add_job(%L::regproc, interval ''1 hour'', config => ''{"validate": "7 days"}'')',
                     ts, 'market.maintenance');
    end if;
  elsif exists (select from pg_catalog.pg_extension where extname = 'pg_cron') then
    perform cron.schedule('market-maintenance', '7 * * * *', 'call market.maintenance()');
    perform cron.schedule('market-trade-bars', '* * * * *', 'call market.refresh_trade_bars()');
  end if;
end
$$;

call market.record_file('190_jobs.sql', 3);
