-- Who wrote what, by a number of its own. A name would pass to whoever takes it after a rename; an OID means another role
-- after a restore, or none; so each role has a row here that holds both and says where the OID is good.
call market.require_not_newer('ledger/roles.sql', 1);

-- Volatile by itself, which would keep the planner from merging the views that ask for it into the queries of people.
create or replace function ledger.cluster() returns bigint
language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
as $$ begin return (select system_identifier from pg_control_system()); end $$;
comment on function ledger.cluster() is 'Identifier of the cluster, in which OIDs of roles are good.';

create table if not exists ledger.roles (
  role_id  integer generated always as identity primary key,
  role     oid     not null,
  name     text    not null,
  cluster  bigint  not null,
  gone     boolean not null default false
);
comment on table ledger.roles is
  'Roles that own something in the ledger or wrote into it. They are told by their OID; in a restored database, as everything in a dump, by their name.';
comment on column ledger.roles.role_id is 'Number of the role in the other tables.';
comment on column ledger.roles.role is 'Its OID; 0 where it was known by its name alone and that name is nobody''s.';
comment on column ledger.roles.name is 'Its name when anybody last wrote into the ledger.';
comment on column ledger.roles.cluster is 'Cluster in which the OID is good.';
comment on column ledger.roles.gone is 'Whether the role was dropped: then nobody owns what it owned, whoever takes its name.';
alter table ledger.roles set (autovacuum_analyze_threshold = 0, autovacuum_analyze_scale_factor = 0);
create unique index if not exists roles_key on ledger.roles (cluster, role) where not gone;

create or replace view ledger.me with (security_barrier) as
  select r.role_id
  from ledger.roles r
  where not r.gone
    and case when r.cluster = (select ledger.cluster())
          then r.role = (select a.oid from pg_catalog.pg_roles a where a.rolname = current_user)
          else r.name = current_user::text end;
comment on view ledger.me is 'The current role, under the number that it has in the ledger; no row where it never wrote.';

create or replace view ledger.role_names as
  select r.role_id,
         coalesce(a.rolname::text, r.name || ' (no such role)') collate "default" as name
  from ledger.roles r
  left join pg_catalog.pg_roles a on not r.gone
    and case when r.cluster = (select ledger.cluster()) then a.oid = r.role
             else a.rolname::text = r.name end;
comment on view ledger.role_names is 'What the roles of the ledger are called now.';

create or replace function ledger.note_names() returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$
  update ledger.roles r
  set name = coalesce(a.rolname::text, r.name), gone = a.oid is null
  from ledger.roles o left join pg_roles a on a.oid = o.role
  where r.role_id = o.role_id and o.cluster = ledger.cluster() and not o.gone and (a.oid is null or a.rolname::text <> o.name)
$$;
comment on function ledger.note_names() is
  'Notes which roles have other names or are gone. Whoever writes into the ledger does it first, so that a dump has the names of its day.';
revoke all on function ledger.note_names() from public;

create or replace function ledger.note_role(role oid) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  here   constant bigint := ledger.cluster();
  called constant text := (select a.rolname from pg_roles a where a.oid = note_role.role);
  id     integer;
begin
  if called is null then
    raise exception 'role with OID % does not exist', role using errcode = 'undefined_object';
  end if;
  perform ledger.note_names();
  loop
    select r.role_id into id from ledger.roles r where r.cluster = here and r.role = note_role.role and not r.gone;
    exit when found;
    -- What was restored belongs to the role of that name, and is from now on known by its OID again.
    update ledger.roles r set cluster = here, role = note_role.role
    where not r.gone and r.cluster <> here and r.name = called
      and not exists (select from ledger.roles o where o.role_id <> r.role_id and not o.gone and o.cluster <> here and o.name = called)
    returning r.role_id into id;
    exit when found;
    insert into ledger.roles (role, name, cluster) values (note_role.role, called, here)
    on conflict do nothing returning role_id into id;
    exit when found;
  end loop;
  return id;
end
$$;
comment on function ledger.note_role(oid) is 'Number of a role in the ledger, which it is given where it has none.';
revoke all on function ledger.note_role(oid) from public;

create or replace function ledger.my_id() returns integer
language sql set search_path = pg_catalog, pg_temp
as $$ select ledger.note_role(a.oid) from pg_roles a where a.rolname = current_user $$;
comment on function ledger.my_id() is 'Number of the current role in the ledger: the default of every column that says who wrote a row.';
revoke all on function ledger.my_id() from public;

-- Tables of older versions have names.
create or replace function ledger.role_named(name text) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  id integer := (select ledger.note_role(a.oid) from pg_roles a where a.rolname = role_named.name);
begin
  if id is null then
    select r.role_id into id from ledger.roles r where r.gone and r.role = 0 and r.name = role_named.name;
  end if;
  if id is null then
    insert into ledger.roles (role, name, cluster, gone) values (0, role_named.name, ledger.cluster(), true)
    returning role_id into id;
    raise warning 'role "%" does not exist: what it owned in the ledger belongs to nobody', name
      using errcode = '01000', hint = 'Superusers can remove policies and calibrations of nobody; forecasts stay as they are.';
  end if;
  return id;
end
$$;
comment on function ledger.role_named(text) is 'Number of the role of a name; where there is none, of one that is gone, with a warning.';
revoke all on function ledger.role_named(text) from public;

do $$ begin perform ledger.note_names(); end $$;

alter table ledger.runs add column if not exists issuer integer references ledger.roles;
alter table ledger.runs add column if not exists policy_id integer;
do $$
begin
  if exists (select from ledger.runs r where r.issuer is null) then
    alter table ledger.runs disable trigger final;
    update ledger.runs r set issuer = n.role_id
    from (select d.issued_by, ledger.role_named(d.issued_by) as role_id
          from (select distinct o.issued_by from ledger.runs o where o.issuer is null) d) n
    where r.issuer is null and r.issued_by = n.issued_by;
    alter table ledger.runs enable trigger final;
  end if;
end
$$;
alter table ledger.runs alter column issuer set default ledger.my_id();
alter table ledger.runs alter column issuer set not null;
comment on column ledger.runs.issuer is 'Role that ran it, as in ledger.roles.';
comment on column ledger.runs.policy_id is 'Policy that was run, as in ledger.policies; NULL: none, or one of before this column.';
create index if not exists runs_issuer_idx on ledger.runs (issuer);

drop index if exists ledger.runs_policy_idx;
drop index if exists ledger.runs_running_idx;
create index if not exists runs_policy_id_idx on ledger.runs (policy_id, run_id desc) where policy_id is not null;
create index if not exists runs_open_idx on ledger.runs (policy_id) where state = 'running';

-- No role but the owner reaches the table; others come through the views of ledger/runs.sql.
drop policy if exists own_runs on ledger.runs;
alter table ledger.runs disable row level security;

call market.record_file('ledger/roles.sql', 1);
