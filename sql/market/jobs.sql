-- One maintenance procedure, scheduled by whichever scheduler is there: TimescaleDB jobs (community edition), else
-- pg_cron. Without both, the worker runs it while it runs, or: call market.maintenance().
call market.require_not_newer('market/jobs.sql', 4);

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

create or replace procedure market.refresh_trade_bars_job(job_id integer, config jsonb)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  call market.refresh_trade_bars();
end
$$;
comment on procedure market.refresh_trade_bars_job(integer, jsonb) is 'market.refresh_trade_bars() in the form that TimescaleDB jobs call.';

create or replace procedure market_internal.add_job(job_name text, procedure name, every interval, config jsonb)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  ts constant name := market.timescale_schema();
begin
  execute format(
    'select %I.add_job($1, $2, config => $3 %s)', ts,
    case when exists (select from pg_catalog.pg_proc
                      where proname = 'add_job' and pronamespace = (select oid from pg_catalog.pg_namespace where nspname = ts)
                        and 'job_name' = any (proargnames))
         then ', job_name => $4' else '' end)
  using format('market.%I', procedure)::regproc, every, config, job_name;
end
$$;
revoke all on procedure market_internal.add_job(text, name, interval, jsonb) from public;
comment on procedure market_internal.add_job(text, name, interval, jsonb) is
  'Adds a TimescaleDB job that calls a procedure of schema market, under its name where the release has names of jobs.';

do $$
declare
  job  record;
begin
  if market.timescale_edition() = 'community' then
    for job in
      select * from (values
        ('market-maintenance', name 'maintenance', interval '1 hour', '{"validate": "7 days"}'::jsonb),
        ('market-trade-bars', 'refresh_trade_bars_job', '1 minute', null)
      ) as j (name, procedure, every, config)
    loop
      if not exists (select from timescaledb_information.jobs
                     where proc_schema = 'market' and proc_name = job.procedure) then
        call market_internal.add_job(job.name, job.procedure, job.every, job.config);
      end if;
    end loop;
  end if;
  if exists (select from pg_catalog.pg_extension where extname = 'pg_cron') then
    if market.timescale_edition() = 'community' then
      -- From before the conversion: they would do the work of the jobs twice.
      perform cron.unschedule(j.jobid) from cron.job j
      where j.jobname in ('market-maintenance', 'market-trade-bars') and j.database = current_database();
    else
      perform cron.schedule('market-maintenance', '7 * * * *', 'call market.maintenance()');
      perform cron.schedule('market-trade-bars', '* * * * *', 'call market.refresh_trade_bars()');
    end if;
  end if;
end
$$;

call market.record_file('market/jobs.sql', 4);
