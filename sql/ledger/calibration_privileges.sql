-- reader: the views, and calibrated forecasts. operator: also calibrations of its own.
call market.require_not_newer('ledger/calibration_privileges.sql', 2);

create or replace procedure ledger.grant_calibrations_to(grantee text, level text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  item text;
begin
  foreach item in array array['calibrations', 'stat_calibration'] loop
    if to_regclass(format('kronos.%I', item)) is not null then
      execute format('grant select on kronos.%I to %s', item, grantee::regrole);
    end if;
  end loop;
  execute format('grant select on ledger.readable_calibrations, ledger.readable_calibration_versions, ledger.readable_calibration_groups, '
                 'ledger.readable_calibration_state to %s', grantee::regrole);
  if level <> 'read' then
    execute format('grant select, delete, update (bar_width, bar_zone) on ledger.own_calibrations to %s', grantee::regrole);
    execute format('grant insert on ledger.new_calibrations, ledger.own_calibration_versions, ledger.own_calibration_state to %s', grantee::regrole);
    execute format('grant select, insert (calibration, scope, model, member, step, sector) on ledger.own_calibration_groups to %s', grantee::regrole);
    execute format('grant select, insert, delete on ledger.own_calibration_runs to %s', grantee::regrole);
    execute format('grant select, delete, insert (calibration, series, step, ts, cutoff, model_version, forecast, lower, upper) '
                   'on ledger.own_calibration_queue to %s', grantee::regrole);
  end if;
end
$$;
comment on procedure ledger.grant_calibrations_to(text, text) is
  'Lets a role read calibrations and use them (level read), or also make its own (level write). Called by ledger.grant_to().';
revoke all on procedure ledger.grant_calibrations_to(text, text) from public;

-- Whom calibrations were granted to by an older version: they get the views instead of the tables.
do $$
declare
  item record;
begin
  for item in
    select g.grantee, g.grantee::regrole as role, bool_or(g.privilege_type = 'INSERT') as writes
    from pg_catalog.pg_class c cross join lateral aclexplode(c.relacl) g
    where c.relnamespace = 'ledger'::regnamespace and g.grantee <> c.relowner
      and c.relname in ('calibrations', 'calibration_versions', 'calibration_groups', 'calibration_state', 'calibration_runs', 'calibration_queue')
    group by g.grantee
  loop
    execute format('revoke all on ledger.calibrations, ledger.calibration_versions, ledger.calibration_groups, ledger.calibration_state, '
                   'ledger.calibration_runs, ledger.calibration_queue from %s', case item.grantee when 0 then 'public' else item.role::text end);
    if item.grantee <> 0 then
      call ledger.grant_calibrations_to(item.role::text, case when item.writes then 'write' else 'read' end);
    end if;
  end loop;
  if (select count(*) from pg_catalog.pg_roles
      where rolname in ('market_reader', 'market_ingestor', 'market_operator')) < 3 then
    return;  -- installation/roles.sql has warned
  end if;
  call ledger.grant_calibrations_to('market_reader', 'read');
  call ledger.grant_calibrations_to('market_ingestor', 'read');
  call ledger.grant_calibrations_to('market_operator', 'write');
end
$$;

call market.record_file('ledger/calibration_privileges.sql', 2);
