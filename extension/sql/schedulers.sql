-- What runs jobs in this database.

create function kronos.scheduler() returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case
    when exists (select from pg_extension where extname = 'timescaledb')
         and current_setting('timescaledb.license', true) = 'timescale' then 'timescaledb'
    when exists (select from pg_extension where extname = 'pg_cron') then 'pg_cron'
    else 'none' end
$$;
comment on function kronos.scheduler is
  'What runs policies in this database: timescaledb (community edition), pg_cron, or none.';

create function _kronos.timescale_schema() returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select n.nspname::text from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'timescaledb'
$$;
comment on function _kronos.timescale_schema is 'Schema with the functions of TimescaleDB; NULL without it.';

create function _kronos.cron_timezone() returns text
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$ select coalesce(current_setting('cron.timezone', true), 'GMT') $$;
comment on function _kronos.cron_timezone is 'Time zone of pg_cron''s schedules, which newer versions show to few roles.';

create function _kronos.unschedule(job bigint, jobname text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  if job is not null and to_regclass('cron.job') is not null then
    if exists (select from cron.job j where j.jobid = job and j.jobname = unschedule.jobname) then
      perform cron.unschedule(job);
    end if;
  end if;
end
$$;
comment on function _kronos.unschedule is 'Removes a job of pg_cron, if it is still there and has that name.';

insert into _kronos.access (level, kind, object) values
  ('use', 'routine', 'scheduler'),
  ('operate', 'routine', 'cron_timezone'),
  ('operate', 'routine', 'timescale_schema'),
  ('operate', 'routine', 'unschedule');
