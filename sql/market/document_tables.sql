-- Documents of a kind with a table of its own: the values of their payloads as columns.
call market.require_not_newer('market/document_tables.sql', 2);

-- Vendors write numbers as texts, names in two spellings, and nothing as "" or "N/A": what cannot be read is NULL, and the payload
-- still has it.
create or replace function market.json_number(payload jsonb, variadic names text[]) returns double precision
language plpgsql immutable strict parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  value text;
begin
  for i in 1 .. cardinality(names) loop
    value := payload ->> names[i];
    if length(value) <= 400 and value ~ '^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?\s*$' then
      -- What a double cannot hold would be an error.
      if value::numeric = 0 or abs(value::numeric) between 1e-300 and 1e300 then
        return value::double precision;
      end if;
    end if;
  end loop;
  return null;
end
$$;
comment on function market.json_number(jsonb, text[]) is
  'The first of the named members that is a number, or a text that is one; NULL: there is none.';

create or replace function market.json_date(payload jsonb, variadic names text[]) returns date
language plpgsql immutable strict parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  parts text[];
  day date;
begin
  for i in 1 .. cardinality(names) loop
    parts := regexp_match(payload ->> names[i], '^\s*([12]\d{3})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])(?!\d)');
    if parts is not null then
      -- Beyond the end of a month it is one of the next.
      day := make_date(parts[1]::integer, parts[2]::integer, 1) + (parts[3]::integer - 1);
      if extract(month from day) = parts[2]::integer then
        return day;
      end if;
    end if;
  end loop;
  return null;
end
$$;
comment on function market.json_date(jsonb, text[]) is
  'The first of the named members that begins with a date (2026-11-20), whatever follows; NULL: there is none.';

create or replace function market.json_timestamp(payload jsonb, variadic names text[]) returns timestamp
language plpgsql immutable strict parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  day date;
  clock text[];
begin
  for i in 1 .. cardinality(names) loop
    day := market.json_date(payload, names[i]);
    if day is not null then
      clock := regexp_match(payload ->> names[i], '^\s*[-\d]{10}[T ]([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?');
      return day + make_time(coalesce(clock[1], '0')::integer, coalesce(clock[2], '0')::integer, coalesce(clock[3], '0')::integer);
    end if;
  end loop;
  return null;
end
$$;
comment on function market.json_timestamp(jsonb, text[]) is
  'The first of the named members that begins with a date, with the time behind it as it is written, of whatever zone; midnight: it has none. NULL: there is none.';

create or replace function market.json_text(payload jsonb, variadic names text[]) returns text
language plpgsql immutable strict parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  value text;
begin
  for i in 1 .. cardinality(names) loop
    value := nullif(btrim(payload ->> names[i]), '');
    exit when value is not null;
  end loop;
  return value;
end
$$;
comment on function market.json_text(jsonb, text[]) is 'The first of the named members that is not empty, as text; NULL: there is none.';

create or replace function market.json_boolean(payload jsonb, variadic names text[]) returns boolean
language plpgsql immutable strict parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  value text;
begin
  for i in 1 .. cardinality(names) loop
    value := lower(btrim(payload ->> names[i]));
    if value in ('true', 'false', '1', '0') then
      return value in ('true', '1');
    end if;
  end loop;
  return null;
end
$$;
comment on function market.json_boolean(jsonb, text[]) is
  'The first of the named members that is true or false, also as text or as 1 or 0; NULL: there is none.';

create or replace function market.json_texts(payload jsonb, path jsonpath) returns text[]
language sql immutable strict parallel safe set search_path = pg_catalog, pg_temp
as $$
  select array_agg(found.item #>> '{}' order by found.place)
  from jsonb_path_query(json_texts.payload, json_texts.path) with ordinality found (item, place)
  where jsonb_typeof(found.item) = 'string'
$$;
comment on function market.json_texts(jsonb, jsonpath) is 'The texts that a path finds, in their order; NULL: there is none.';

-- The table inherits from market.documents, so that whoever asks for all documents, or for those of a symbol, finds these too.
-- The worker asks the catalog which kinds have one: this call is the only place that says so.
create or replace procedure market.define_document_table(kind text, about text, members text[])
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  target text := format('market.%I', define_document_table.kind);
  reader regprocedure;
  reading text;
  item record;
begin
  if define_document_table.kind !~ '^[a-z][a-z0-9_]{0,55}$' then
    raise exception 'kind "%" is no name of a table', define_document_table.kind
      using errcode = 'invalid_parameter_value', hint = 'Names have letters, digits and underscores, 56 at most.';
  end if;
  execute format('create table if not exists %s (constraint %I check (kind = %L)) inherits (market.documents)',
                 target, define_document_table.kind || '_kind_check', define_document_table.kind);
  execute format('create unique index if not exists %I on %s (source, kind, key, known_at, digest)',
                 define_document_table.kind || '_key', target);
  execute format('create index if not exists %I on %s (symbol, kind, known_at) where symbol is not null',
                 define_document_table.kind || '_symbol', target);
  execute format('comment on table %s is %L', target, about);
  for item in
    select a.attname as name, d.description
    from pg_attribute a
    join pg_description d on d.classoid = 'pg_class'::regclass and d.objoid = a.attrelid and d.objsubid = a.attnum
    where a.attrelid = 'market.documents'::regclass
  loop
    execute format('comment on column %s.%I is %L', target, item.name, item.description);
  end loop;
  for i in 1 .. array_length(members, 1) loop
    -- market.json_number and its like are the only list of readings.
    reader := to_regprocedure(format('market.json_%s(jsonb,%s)', replace(members[i][2], 'positive', 'number'),
                                     case when members[i][2] = 'texts' then 'jsonpath' else 'text[]' end));
    if reader is null then
      raise exception 'column "%" of "%" is read as "%"', members[i][1], define_document_table.kind, members[i][2]
        using errcode = 'invalid_parameter_value', hint = (
          select format('Columns are positive, %s.', string_agg(distinct substr(p.proname, 6), ', ' order by substr(p.proname, 6)))
          from pg_proc p where p.pronamespace = 'market'::regnamespace and p.proname like 'json\_%');
    end if;
    if members[i][2] = 'texts' then
      select format('%s(payload, %L)', reader::regproc, '$.' || string_agg(format('"%s"', step), '.' order by place) || '[*]') into reading
      from regexp_split_to_table(members[i][3], '\.') with ordinality as s (step, place);
    elsif members[i][3] like '%.%' then
      -- a.b is member b of a; each name is looked for where it says.
      select format('coalesce(%s)', string_agg(format('%s(payload #> %L, %L)', reader::regproc, steps[:cardinality(steps) - 1],
                                                      steps[cardinality(steps)]), ', ' order by place)) into reading
      from regexp_split_to_table(members[i][3], '\s+') with ordinality as s (name, place), string_to_array(name, '.') as steps;
    else
      select format('%s(payload%s)', reader::regproc, string_agg(format(', %L', name), '' order by place)) into reading
      from regexp_split_to_table(members[i][3], '\s+') with ordinality as s (name, place);
    end if;
    if members[i][2] = 'positive' then
      reading := format('nullif(%s, 0)', reading);
    end if;
    execute format('alter table %s add column if not exists %I %s generated always as (%s) stored',
                   target, members[i][1], (select p.prorettype::regtype from pg_proc p where p.oid = reader), reading);
    execute format('comment on column %s.%I is %L', target, members[i][1], members[i][4]);
  end loop;
  -- Those that came before the table.
  execute format('
    with moved as (delete from only market.documents where kind = %L returning *)
    insert into %s (source, kind, key, symbol, event_time, known_at, received_at, ingested_at, payload, digest)
    select source, kind, key, symbol, event_time, known_at, received_at, ingested_at, payload, digest from moved',
    define_document_table.kind, target);
end
$$;
revoke execute on procedure market.define_document_table(text, text, text[]) from public;
comment on procedure market.define_document_table(text, text, text[]) is
  'Gives a kind of documents a table of its own, called as the kind, or adds columns to it: rows of name, reading (number, positive: a number for which 0 means that nothing is known, texts: those of a list, or another market.json_*: date, text, boolean, …), members of the payload (the first that is there counts; a.b is member b of a), comment.';

create or replace view market.document_tables as
select c.relname::text as kind, c.oid::regclass as relation
from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid
where i.inhparent = 'market.documents'::regclass and c.relnamespace = 'market'::regnamespace;
comment on view market.document_tables is 'Kinds of documents that have a table of their own, where the worker stores them.';
comment on column market.document_tables.kind is 'Kind, as in market.documents.kind.';
comment on column market.document_tables.relation is 'Its table.';

call market.record_file('market/document_tables.sql', 2);
