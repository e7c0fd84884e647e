-- Run by CREATE EXTENSION only; tables change afterwards through upgrade scripts.
\echo Use "CREATE EXTENSION kronos" to load this file. \quit

-- Names and texts pass through libraries that know UTF-8 alone; in another encoding they would be stored as something else.
do $$
begin
  if pg_catalog.getdatabaseencoding() operator(pg_catalog.<>) 'UTF8' then
    raise exception 'database "%" has encoding %, kronos needs UTF8', pg_catalog.current_database(), pg_catalog.getdatabaseencoding()
      using errcode = 'feature_not_supported',
            hint = 'CREATE DATABASE ... ENCODING ''UTF8'' TEMPLATE template0 makes one.';
  end if;
end
$$;

-- CREATE EXTENSION uses an existing schema whoever owns it. An owner who is no superuser could replace what is put
-- into the schema, and with it what superusers run.
do $$
begin
  if not exists (
    select from pg_catalog.pg_namespace n
    join pg_catalog.pg_roles r on r.oid = n.nspowner
    where n.nspname = 'kronos' and r.rolsuper
  ) then
    raise exception 'schema "kronos" belongs to a role that is not a superuser'
      using errcode = 'insufficient_privilege', hint = 'Drop it, or give it to a superuser with ALTER SCHEMA ... OWNER TO.';
  end if;
end
$$;

comment on schema kronos is 'Market forecasts: functions, types and views.';

create schema _kronos;
comment on schema _kronos is 'What the functions and views of schema kronos are made of; not for people, and may change in any version.';

create table _kronos.access (
  level text not null check (level in ('use', 'operate', 'admin')),
  kind text not null check (kind in ('routine', 'view')),
  object text not null,
  primary key (kind, object)
);
comment on table _kronos.access is 'Which level of kronos.grant_access() first allows an object of schema kronos or _kronos.';
comment on column _kronos.access.level is 'Lowest level that may use the object: use, operate or admin, each including those before.';
comment on column _kronos.access.kind is 'Routines get EXECUTE, views get SELECT.';
comment on column _kronos.access.object is 'Name within its schema; a routine''s name stands for all its signatures.';
