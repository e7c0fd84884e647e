-- The schema, the record of what was installed, and the one place that knows which TimescaleDB there is.
create schema if not exists market;
comment on schema market is
  'Market data: instruments, trades, quotes, bars, and the bookkeeping that says how complete they are.';

create table if not exists market.installed_files (
  file          text primary key,
  version       integer     not null check (version > 0),
  timescale     text        not null,
  installed_at  timestamptz not null default now(),
  installed_by  text        not null default current_user
);
comment on table market.installed_files is 'Which set-up file was last applied, in which version and on which TimescaleDB.';
comment on column market.installed_files.file is 'File name under sql/, for example 110_ticks.sql.';
comment on column market.installed_files.version is 'Version of the file; rises with every change of its meaning.';
comment on column market.installed_files.timescale is 'none, apache or community: the TimescaleDB the file found.';
comment on column market.installed_files.installed_at is 'When the file was last applied.';
comment on column market.installed_files.installed_by is 'Role that applied it.';

create or replace function market.timescale_edition() returns text
language sql stable
as $$
  select case
    when not exists (select from pg_catalog.pg_extension where extname = 'timescaledb') then 'none'
    when pg_catalog.current_setting('timescaledb.license', true) = 'timescale' then 'community'
    else 'apache'
  end
$$;
comment on function market.timescale_edition() is
  'none, apache (hypertables only) or community (also continuous aggregates, columnstore, retention, jobs).';

create or replace function market.timescale_schema() returns name
language sql stable
as $$
  select n.nspname
  from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace
  where e.extname = 'timescaledb'
$$;
comment on function market.timescale_schema() is 'Schema that holds the functions of TimescaleDB; NULL without it.';

create or replace procedure market.record_file(file text, version integer)
language sql
as $$
  insert into market.installed_files as f (file, version, timescale)
  values (record_file.file, record_file.version, market.timescale_edition())
  on conflict on constraint installed_files_pkey do update
    set version = excluded.version, timescale = excluded.timescale,
        installed_at = excluded.installed_at, installed_by = excluded.installed_by
$$;
comment on procedure market.record_file(text, integer) is 'Notes that a set-up file was applied; the last statement of each file.';

-- An older set of files must not be laid over a newer one: views would lose columns that people already use.
create or replace procedure market.require_not_newer(file text, version integer)
language plpgsql
as $$
declare
  installed integer;
begin
  select f.version into installed from market.installed_files f where f.file = require_not_newer.file;
  if installed > version then
    raise exception 'set-up file "%" has version % but version % is installed', file, version, installed
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'Use the set-up files of the newer release.';
  end if;
end
$$;
comment on procedure market.require_not_newer(text, integer) is
  'Raises 55000 when a newer version of the file is installed; the first statement of each file.';

call market.record_file('000_installation.sql', 1);
