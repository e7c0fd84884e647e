-- The tables of people's data, which are no members of the extension: made by files that it carries.

create function _kronos.setup_files() returns table (file text, script text)
language c immutable parallel safe rows 40
as 'MODULE_PATHNAME', 'setup_files_wrapper';
comment on function _kronos.setup_files is 'The files of sql/ in the order of sql/install.sql, as the library carries them.';

create function _kronos.require_ledger() returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if to_regclass('ledger.runs') is null then
    raise exception 'the ledger is not installed'
      using errcode = 'object_not_in_prerequisite_state', hint = 'CALL kronos.install();';
  elsif to_regclass('ledger.issued_runs') is null then
    raise exception 'the ledger is of an older version'
      using errcode = 'object_not_in_prerequisite_state', hint = 'CALL kronos.install();';
  end if;
end
$$;
comment on function _kronos.require_ledger is 'Raises 55000 where the tables of the ledger are missing, or of an older version.';

create procedure kronos.install(parts text[] default '{market,ledger,trading}')
language plpgsql set search_path = pg_catalog, pg_temp set client_min_messages = warning
as $$
declare
  known    constant text[] := '{market,ledger,trading}';
  chosen   text;
  setup    record;
  problem  text;
  more     text;
  advice   text;
begin
  if parts is null or array_position(parts, null) is not null then
    raise exception 'parts must not be null' using errcode = 'null_value_not_allowed';
  end if;
  select p into chosen from unnest(parts) p where p <> all (known) limit 1;
  if found then
    raise exception 'unrecognized part "%"', chosen using errcode = 'invalid_parameter_value',
      hint = format('Valid parts: %s.', array_to_string(known, ', '));
  end if;
  -- The same lock as that of kronos-ingest migrate.
  perform pg_advisory_xact_lock(118139239952243);
  for setup in
    select f.file, f.script
    from _kronos.setup_files() with ordinality f (file, script, place)
    where case split_part(f.file, '/', 1)
            when 'installation' then true
            when 'training' then 'ledger' = any (parts)
            else split_part(f.file, '/', 1) = any (parts) end
    order by f.place
  loop
    begin
      execute setup.script;
    exception when others then
      get stacked diagnostics problem = message_text, more = pg_exception_detail, advice = pg_exception_hint;
      raise exception 'set-up file "%" failed: %', setup.file, problem
        using errcode = sqlstate, detail = more, hint = advice;
    end;
  end loop;
end
$$;
comment on procedure kronos.install is
  'Makes, or brings up to date, the tables and views that hold your data, from the same files as sql/install.sql and kronos-ingest migrate. '
  'Parts: market (instruments, ticks, bars), ledger (forecasts, policies, training jobs), trading (positions, allocations). Safe to repeat; do so after '
  'adding TimescaleDB.';

insert into _kronos.access (level, kind, object) values
  ('use', 'routine', 'require_ledger'),
  ('admin', 'routine', 'setup_files'),
  ('admin', 'routine', 'install');
