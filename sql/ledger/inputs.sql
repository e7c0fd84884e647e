-- What was forecast from, and what of it a role may read. A forecast is never more visible than its input: that is decided
-- when it is read, from the whole tree of relations beneath the input. What a view of the ledger cannot repeat (rows that
-- each role sees differently) is shown to the role that issued the forecasts, and to nobody else.
call market.require_not_newer('ledger/inputs.sql', 2);

create or replace function ledger.database() returns text
language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  return (select format('%s/%s', s.system_identifier, d.oid) from pg_control_system() s, pg_database d where d.datname = current_database());
end
$$;
comment on function ledger.database() is 'Identifier of the database, in which OIDs of relations are good.';

create table if not exists ledger.inputs (
  relation  regclass primary key,
  name      text    not null
);
-- Few rows, which every query of the ledger asks about: the planner must know how few.
alter table ledger.inputs set (autovacuum_analyze_threshold = 0, autovacuum_analyze_scale_factor = 0);
alter table ledger.inputs add column if not exists database text not null default '';
alter table ledger.inputs add column if not exists row_type oid  not null default 0;
do $$
begin
  -- An older version kept here what is asked anew now; views that ledger/views.sql replaces still name it.
  if exists (select from pg_catalog.pg_attribute a where a.attrelid = 'ledger.inputs'::regclass and a.attname = 'row_security') then
    alter table ledger.inputs alter column row_security drop not null;
  end if;
end
$$;
comment on table ledger.inputs is 'Every relation that a run, a policy or a calibration has named, and how to know it again.';
comment on column ledger.inputs.relation is
  'The table or view. A dump has its name; where it was dropped, its OID, which may be another relation where the dump is restored.';
comment on column ledger.inputs.name is 'Its name when it was last used, which outlives the relation.';
comment on column ledger.inputs.database is
  'Database in which OIDs are good. In another one, restored from it, a relation is known by its name.';
comment on column ledger.inputs.row_type is 'OID of its row type, which changes when a relation is made anew under an old OID.';

create or replace function ledger.is_same(i ledger.inputs, here text) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.oid = i.relation
      and case when i.database = here then c.reltype = i.row_type
               else i.name = format('%I.%I', n.nspname, c.relname) end)
$$;
comment on function ledger.is_same(ledger.inputs, text) is
  'Whether the relation of that OID is the one that was used, in the database that ledger.database() calls here.';

create or replace function ledger.use_input(relation regclass) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  here    constant text := ledger.database();
  called  text;
  shape   oid;
  known   ledger.inputs;
begin
  select format('%I.%I', n.nspname, c.relname), c.reltype into called, shape
  from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = use_input.relation;
  if called is null then
    return;  -- a policy whose input was dropped still has runs, which fail
  end if;
  insert into ledger.inputs (relation, name, database, row_type) values (use_input.relation, called, here, shape)
  on conflict do nothing;
  select * into known from ledger.inputs i where i.relation = use_input.relation;
  if not ledger.is_same(known, here) then
    raise exception 'relation "%" has the OID of another one in the ledger', called
      using errcode = 'object_not_in_prerequisite_state',
            detail = format('Under this OID the ledger has forecasts of "%s".', known.name),
            hint = format('If it is the same relation, the owner of the ledger says so: SELECT ledger.confirm_input(%L). '
                          'If it is not, make it anew, so that it gets another OID.', called);
  elsif (known.name, known.database, known.row_type) is distinct from (called, here, shape) then
    update ledger.inputs i set name = called, database = here, row_type = shape where i.relation = use_input.relation;
  end if;
end
$$;
comment on function ledger.use_input(regclass) is
  'Notes how to know a relation again; raises 55000 where the ledger has forecasts of another relation under its OID.';
revoke all on function ledger.use_input(regclass) from public;

create or replace function ledger.confirm_input(relation regclass) returns void
language sql set search_path = pg_catalog, pg_temp
as $$
  update ledger.inputs i set name = format('%I.%I', n.nspname, c.relname), database = ledger.database(), row_type = c.reltype
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where i.relation = confirm_input.relation and c.oid = i.relation
$$;
comment on function ledger.confirm_input(regclass) is
  'Says that a relation is the one whose forecasts the ledger has under its OID, as when it was renamed long before a dump. For the owner of the ledger.';
revoke all on function ledger.confirm_input(regclass) from public;

create or replace function ledger.note_input() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform ledger.use_input(new.relation);
  return null;
end
$$;
comment on function ledger.note_input() is 'Trigger that keeps ledger.inputs up to date with every run, policy and calibration.';
revoke all on function ledger.note_input() from public;
create or replace trigger note_input after insert on ledger.runs
  for each row execute function ledger.note_input();

-- What an older version, or the database that this one was restored from, has noted; what differs stays hidden.
do $$
declare
  here constant text := ledger.database();
  item ledger.inputs;
begin
  for item in select * from ledger.inputs i where ledger.is_same(i, here) loop
    perform ledger.use_input(item.relation);
  end loop;
  for item in select i.* from ledger.inputs i join pg_catalog.pg_class c on c.oid = i.relation where not ledger.is_same(i, here) loop
    raise warning 'forecasts of "%" are hidden: their OID is that of "%"', item.name, item.relation
      using errcode = '01000', hint = format('If it is the same relation: SELECT ledger.confirm_input(%L).', item.relation);
  end loop;
end
$$;

-- Part of the views, so it runs as whoever reads those, who need not have any right to this schema: it names nothing of it.
-- One function, in a language that keeps its plans: the views ask it about each view among the inputs, with every query.
create or replace function ledger.look(relation regclass, out sight text, out row_security boolean, out varies text)
language plpgsql stable parallel safe cost 200 set search_path = pg_catalog, pg_temp
as $$
declare
  me constant oid := (select r.oid from pg_roles r where r.rolname = current_user);
begin
  with recursive node (oid, reads_as, may_read) as (
    select look.relation::oid, me, has_table_privilege(look.relation, 'SELECT')
    union
    select k.oid, a.role, coalesce(
             has_table_privilege(a.role, k.oid, 'SELECT') or (
               select bool_and(d.refobjsubid > 0 and has_column_privilege(a.role, k.oid, d.refobjsubid::smallint, 'SELECT'))
               from pg_depend d
               where d.classid = 'pg_rewrite'::regclass and d.objid = w.oid and d.refclassid = 'pg_class'::regclass and d.refobjid = k.oid
             ), false)
    from node t
    -- A materialized view is what its owner saw: there is nothing beneath it.
    join pg_class c on c.oid = t.oid and c.relkind = 'v'
    join pg_rewrite w on w.ev_class = c.oid and w.ev_type = '1'
    -- A rule is stored as the text of its tree. Names in it are escaped, so none can pass for a field.
    cross join lateral (select m[1]::oid as oid from regexp_matches(w.ev_action::text, ':relid (\d+)', 'g') m) k
    -- A view reads as its owner, or with security_invoker as whoever reads the view.
    cross join lateral (select case when exists (select from pg_options_to_table(c.reloptions) o
                                                 where o.option_name = 'security_invoker' and o.option_value::boolean)
                                    then t.reads_as else c.relowner end as role) a
    where k.oid <> c.oid and k.oid <> 0
  ), tree as (
    select t.*, c.relrowsecurity, c.relkind, c.relhassubclass
    from node t join pg_class c on c.oid = t.oid and c.relkind in ('r', 'p', 'v', 'm', 'f')
  ), rule as materialized (
    select w.ev_action::text as text
    from pg_rewrite w
    where w.ev_type = '1' and w.ev_class in (select t.oid from tree t where t.relkind = 'v')
  ), called as (
    select m[1]::oid as oid from rule, regexp_matches(rule.text, ':(?:funcid|aggfnoid|winfnoid) (\d+)', 'g') m
    union
    select o.oprcode from rule, regexp_matches(rule.text, ':opno (\d+)', 'g') m join pg_operator o on o.oid = m[1]::oid
    union
    select s.oid from rule, regexp_matches(rule.text, ':(?:aggfnoid|winfnoid) (\d+)', 'g') m join pg_aggregate a on a.aggfnoid = m[1]::oid
    cross join lateral unnest(array[a.aggtransfn, a.aggfinalfn]::oid[]) s (oid)
  ), foreign_part (oid, server) as (
    select f.ftrelid, f.ftserver from pg_foreign_table f
    where exists (select from pg_user_mappings u where u.srvid = f.ftserver and u.umuser <> 0)
    union
    select h.inhparent, p.server from foreign_part p join pg_inherits h on h.inhrelid = p.oid
  )
  select bool_or(t.relrowsecurity),
         coalesce(
           (select 'the current role or schema' from rule where rule.text ~ '\{SQLVALUEFUNCTION :op (9|1[0-4]) ' limit 1),
           (select 'function ' || p.oid::regprocedure
            from called f join pg_proc p on p.oid = f.oid
            where p.provolatile <> 'i'
              -- The server's own that depend on nothing but the clock, its zone, and how values are written.
              and not (p.oid < 16384 and p.pronamespace = 'pg_catalog'::regnamespace and p.proname !~ '^pg_' and (
                array[p.prorettype] || p.proargtypes::oid[] && '{timestamptz,timestamp,date,time,timetz,interval}'::regtype[]::oid[]
                or p.proname = any ('{anytextcat,textanycat,concat,concat_ws,format,to_char,to_number,array_to_string,quote_literal,
                     quote_nullable,to_json,to_jsonb,row_to_json,array_to_json,json_build_object,json_build_array,jsonb_build_object,
                     jsonb_build_array,jsonb_to_record,jsonb_to_recordset,json_to_record,json_to_recordset,length}')))
              -- Continuous aggregates ask how far they are.
              and not exists (select from pg_depend d join pg_extension e on e.oid = d.refobjid and e.extname = 'timescaledb'
                              where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'
                                and d.refclassid = 'pg_extension'::regclass)
            order by 1 limit 1),
           (select 'user mappings of server ' || quote_ident(s.srvname)
            from tree f join foreign_part p on p.oid = f.oid join pg_foreign_server s on s.oid = p.server limit 1)),
         case when not bool_and(t.may_read) then 'none'
              when bool_or(t.relrowsecurity and (t.reads_as <> me or row_security_active(t.oid))) then 'own'
              else 'all' end
  into row_security, varies, sight
  from tree t;
  if sight = 'all' and varies is not null then
    sight := 'own';
  end if;
end
$$;
comment on function ledger.look(regclass) is
  'What the current role may see of the forecasts of a relation: none, its own (where each role may see other rows of it), or all; by the privileges and '
  'rules of all that a query of the relation reads. Also whether any of it has row security, and what else makes its rows vary by role or session.';

create or replace function ledger.has_row_security(relation regclass, beneath_only boolean default false) returns boolean
language sql stable parallel safe set search_path = pg_catalog, pg_temp
as $$
  select l.row_security and not (beneath_only and (select c.relrowsecurity from pg_class c where c.oid = relation))
  from ledger.look(relation) l
$$;
comment on function ledger.has_row_security is
  'Whether a relation, or one beneath a view, has row security; with beneath_only that of the relation itself does not count.';

create or replace view ledger.seen_inputs with (security_barrier) as
  select i.relation,
         -- Not a join: nobody knows how few inputs there are, and pg_class may be large.
         (select case when not pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE') then 'none'
                      when c.relkind in ('r', 'm') and not c.relhassubclass then
                        case when not pg_catalog.has_table_privilege(c.oid, 'SELECT') then 'none'
                             when pg_catalog.row_security_active(c.oid) then 'own' else 'all' end
                      else (ledger.look(i.relation)).sight end
          from pg_catalog.pg_class c
          where c.oid = i.relation
            and case when i.database = (select ledger.database())
                  then c.reltype = i.row_type
                  else i.name = (select pg_catalog.format('%I.%I', n.nspname, c.relname) from pg_catalog.pg_namespace n
                                 where n.oid = c.relnamespace) end) as sight
  from ledger.inputs i;
comment on view ledger.seen_inputs is
  'Inputs, and what the current role may see of their forecasts: none, own or all; NULL where the relation is no more.';
comment on column ledger.seen_inputs.sight is 'all: the current role reads every row; own: each role may see other rows; none: it may not read.';

create or replace view ledger.readable_inputs as
  select s.relation from ledger.seen_inputs s where s.sight = 'all';
comment on view ledger.readable_inputs is 'Inputs of which the current role may see every forecast.';

create or replace view ledger.own_runs as
  select r.run_id
  from ledger.runs r join ledger.seen_inputs s on s.relation = r.relation
  where r.issuer in (select m.role_id from ledger.me m) and s.sight in ('own', 'all');
comment on view ledger.own_runs is
  'Runs of the current role whose input it may read: their forecasts are shown to it where others see other rows of the input.';

call market.record_file('ledger/inputs.sql', 2);
