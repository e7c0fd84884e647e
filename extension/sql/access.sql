-- Privileges. This file comes last, so that it sees every function and view of the script.

create function kronos.grant_access(role regrole, level text)
returns table (privilege text, kind text, object text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  levels constant text[] := '{use,operate,admin}';
  wanted constant int := array_position(levels, level);
  item record;
begin
  if role is null or level is null then
    raise exception 'role and level must not be null' using errcode = 'null_value_not_allowed';
  end if;
  if wanted is null then
    raise exception 'access level "%" does not exist', level using errcode = 'invalid_parameter_value',
      hint = 'Levels are use, operate and admin, each including those before.';
  end if;
  -- Anybody else's GRANT would be ignored with a warning.
  if not exists (select from pg_extension e where e.extname = 'kronos' and pg_has_role(e.extowner, 'USAGE')) then
    raise exception 'permission denied to grant access to kronos' using errcode = 'insufficient_privilege',
      hint = 'Only the owner of the extension and superusers grant access to it.';
  end if;
  for item in
    select 'USAGE' as privilege, 'schema' as kind, n as object, 0 as place from unnest('{kronos,_kronos}'::text[]) n
    union all
    select 'EXECUTE', case p.prokind when 'p' then 'procedure' else 'function' end, p.oid::regprocedure::text, 2
    from _kronos.access a
    join pg_proc p on a.kind = 'routine' and p.proname = a.object and p.pronamespace in ('kronos'::regnamespace, '_kronos'::regnamespace)
    where array_position(levels, a.level) <= wanted
    union all
    select 'SELECT', 'table', format('kronos.%I', a.object), 1
    from _kronos.access a
    -- Views of the ledger come with the ledger.
    where a.kind = 'view' and array_position(levels, a.level) <= wanted
      and to_regclass(format('kronos.%I', a.object)) is not null
    order by place, object
  loop
    execute format('grant %s on %s %s to %s', item.privilege, item.kind, item.object, role);
    privilege := item.privilege;
    kind := case item.kind when 'table' then 'view' else item.kind end;
    object := item.object;
    return next;
  end loop;
  if wanted = 3 and to_regprocedure('training.grant_to(text)') is not null then
    call training.grant_to(role::text);
  end if;
  if to_regprocedure('ledger.grant_to(text,text)') is not null then
    call ledger.grant_to(role::text, case when wanted = 1 then 'read' else 'write' end);
  end if;
end
$$;
comment on function kronos.grant_access is
  'Grants a role what a level needs: use (forecast and read), operate (also calendars and loading), admin (also the model catalogue).';

-- Functions are executable by everybody unless it is taken away.
revoke all on all routines in schema kronos, _kronos from public;
revoke all on all tables in schema kronos, _kronos from public;
revoke all on schema _kronos from public;
grant usage on schema kronos to public;
grant execute on function kronos.version(), kronos.diagnostics() to public;
