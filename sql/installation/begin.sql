-- Whether it is safe to go on, the schema, the record of what was installed, and the one place that knows which
-- TimescaleDB there is.

do $$
begin
  if pg_catalog.getdatabaseencoding() operator(pg_catalog.<>) 'UTF8' then
    raise exception 'database "%" has encoding %, kronos needs UTF8', pg_catalog.current_database(), pg_catalog.getdatabaseencoding()
      using errcode = 'feature_not_supported',
            hint = 'CREATE DATABASE ... ENCODING ''UTF8'' TEMPLATE template0 makes one.';
  end if;
end
$$;

-- What lies ready in these schemas is replaced, called and fired by whoever sets up, so it must be their own or a
-- superuser's, who could do worse without it. There is no exception for the owner of the database: what they left
-- would run with the rights of a superuser who comes later. Every name in full, since nothing is known yet of the
-- search path; `operator()` because an operator of a schema on it could match better than that of pg_catalog.
do $$
declare
  stranger record;
begin
  with trusted as (
    select r.oid from pg_catalog.pg_roles r
    where r.rolsuper or r.rolname operator(pg_catalog.=) current_user
  ), schemas as (
    select n.oid, n.nspname, n.nspowner from pg_catalog.pg_namespace n
    where n.nspname operator(pg_catalog.=) any
      (array['market', 'market_internal', 'ledger', 'training', 'trading', 'kronos', '_kronos']::pg_catalog.name[])
  ), found (kind, name, owner) as (
    select 'schema', s.nspname::pg_catalog.text, s.nspowner from schemas s
    union all
    select 'relation', s.nspname operator(pg_catalog.||) '.' operator(pg_catalog.||) c.relname, c.relowner
    from pg_catalog.pg_class c join schemas s on s.oid operator(pg_catalog.=) c.relnamespace
    union all
    select 'function', p.oid::pg_catalog.regprocedure::pg_catalog.text, p.proowner
    from pg_catalog.pg_proc p join schemas s on s.oid operator(pg_catalog.=) p.pronamespace
    union all
    select 'type', s.nspname operator(pg_catalog.||) '.' operator(pg_catalog.||) t.typname, t.typowner
    from pg_catalog.pg_type t join schemas s on s.oid operator(pg_catalog.=) t.typnamespace
    union all
    select 'operator', o.oid::pg_catalog.regoperator::pg_catalog.text, o.oprowner
    from pg_catalog.pg_operator o join schemas s on s.oid operator(pg_catalog.=) o.oprnamespace
    union all
    -- The privilege TRIGGER suffices to put one on a table of somebody else.
    select 'trigger', t.tgname operator(pg_catalog.||) ' on ' operator(pg_catalog.||) c.oid::pg_catalog.regclass, p.proowner
    from pg_catalog.pg_trigger t
    join pg_catalog.pg_class c on c.oid operator(pg_catalog.=) t.tgrelid
    join schemas s on s.oid operator(pg_catalog.=) c.relnamespace
    join pg_catalog.pg_proc p on p.oid operator(pg_catalog.=) t.tgfoid
  )
  select f.kind, f.name, pg_catalog.pg_get_userbyid(f.owner) as owner into stranger
  from found f
  where not exists (select from trusted t where t.oid operator(pg_catalog.=) f.owner)
  limit 1;
  if found then
    raise exception '% "%" belongs to role "%", who is neither a superuser nor "%"',
      stranger.kind, stranger.name, stranger.owner, current_user
      using errcode = 'insufficient_privilege',
            detail = 'The set-up runs what lies ready in its schemas with the rights of whoever calls it.',
            hint = pg_catalog.format('Set up as "%s" if that is whose data it is; else drop it.', stranger.owner);
  end if;
end
$$;

-- Unqualified names below, and in every file after this one, mean pg_catalog's whatever the caller's path is.
set local search_path = pg_catalog, pg_temp;

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
comment on column market.installed_files.file is 'Path below sql/, for example market/ticks.sql.';
comment on column market.installed_files.version is 'Version of the file; rises with every change of its meaning.';
comment on column market.installed_files.timescale is 'none, apache or community: the TimescaleDB the file found.';
comment on column market.installed_files.installed_at is 'When the file was last applied.';
comment on column market.installed_files.installed_by is 'Role that applied it.';

create or replace function market.timescale_edition() returns text
language sql stable set search_path = pg_catalog, pg_temp
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
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select n.nspname
  from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace
  where e.extname = 'timescaledb'
$$;
comment on function market.timescale_schema() is 'Schema that holds the functions of TimescaleDB; NULL without it.';

create or replace procedure market.record_file(file text, version integer)
language sql set search_path = pg_catalog, pg_temp
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
language plpgsql set search_path = pg_catalog, pg_temp
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

-- Before the files lay in folders they had numbers.
delete from market.installed_files f where f.file ~ '^\d{3}_';

call market.record_file('installation/begin.sql', 4);
