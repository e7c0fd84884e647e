-- reader: the views. operator: also policies, and the writing of runs under its own name, through the doors of
-- ledger/policies.sql and ledger/runs.sql: no role but the owner has a privilege on the tables.
call market.require_not_newer('ledger/privileges.sql', 2);

create or replace procedure ledger.grant_to(grantee text, level text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  who   constant regrole := grantee::regrole;
  item  text;
begin
  -- kronos.calibrations and others come from later files and get their privileges there.
  foreach item in array array['forecasts', 'latest_forecasts', 'kronos_forecasts', 'ml_predictions', 'runs', 'failures',
                              'policies', 'stat_policies'] loop
    if to_regclass(format('kronos.%I', item)) is not null then
      execute format('grant select on kronos.%I to %s', item, who);
    end if;
  end loop;
  -- What uses the views' types needs their schema.
  execute format('grant usage on schema ledger to %s', who);
  if level <> 'read' then
    if to_regclass('kronos.requests') is not null then
      execute format('grant select on kronos.requests to %s', who);
    end if;
    execute format('grant select, delete, update (scheduler, job_id) on ledger.own_policies to %s', who);
    execute format('grant insert on ledger.new_policies to %s', who);
    execute format('grant select, update (state, run_id, job_id, ended_at) on ledger.own_requests to %s', who);
    execute format('grant insert (policy_id, policy), select (request_id) on ledger.new_requests to %s', who);
    execute format('grant insert (kind, policy_id, policy, request_id, relation, call, horizon, model, args, seed, scheduled_for, as_of), '
                   'select (run_id) on ledger.new_runs to %s', who);
    execute format('grant select, update (model_version, cutoff, n_series, n_ok, n_failed, duration_ms, state, sqlstate, message) '
                   'on ledger.issued_runs to %s', who);
    execute format('grant insert on ledger.new_forecasts, ledger.new_contested_forecasts, ledger.new_failures to %s', who);
    execute format('grant execute on function ledger.my_id(), ledger.note_role(oid), '
                   'ledger.is_contested(bigint, text, text, timestamptz, timestamptz, text, text, double precision[]) to %s', who);
  end if;
  -- A later file of the set-up makes it.
  if to_regprocedure('ledger.grant_calibrations_to(text,text)') is not null then
    call ledger.grant_calibrations_to(grantee, level);
  end if;
end
$$;
comment on procedure ledger.grant_to(text, text) is
  'Lets a role read the views of the ledger (level read), or also run policies and record forecasts (level write).';
revoke all on procedure ledger.grant_to(text, text) from public;

-- Whom the ledger was granted to by an older version: they get the doors instead of the tables.
do $$
declare
  item record;
begin
  for item in
    select g.grantee, g.grantee::regrole as role, bool_or(g.privilege_type = 'INSERT') as writes
    from pg_catalog.pg_class c cross join lateral aclexplode(c.relacl) g
    where c.relnamespace = 'ledger'::regnamespace and c.relname in ('forecasts', 'failures', 'runs', 'policies', 'requests')
      and g.grantee <> c.relowner and g.privilege_type in ('INSERT', 'UPDATE', 'DELETE')
    group by g.grantee
  loop
    execute format('revoke insert, update, delete, truncate on ledger.forecasts, ledger.failures, ledger.runs, ledger.policies, '
                   'ledger.requests from %1$s; revoke select on ledger.runs, ledger.policies, ledger.requests from %1$s',
                   case item.grantee when 0 then 'public' else item.role::text end);
    if item.grantee <> 0 then
      call ledger.grant_to(item.role::text, case when item.writes then 'write' else 'read' end);
    end if;
  end loop;
  if (select count(*) from pg_catalog.pg_roles
      where rolname in ('market_reader', 'market_ingestor', 'market_operator')) < 3 then
    return;  -- installation/roles.sql has warned
  end if;
  call ledger.grant_to('market_reader', 'read');
  call ledger.grant_to('market_ingestor', 'read');
  call ledger.grant_to('market_operator', 'write');
end
$$;

call market.record_file('ledger/privileges.sql', 2);
