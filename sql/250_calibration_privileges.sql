-- reader: the views, and calibrated forecasts. operator: also calibrations of its own.
call market.require_not_newer('250_calibration_privileges.sql', 1);

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
  -- Row security decides which rows.
  execute format('grant select on ledger.calibrations, ledger.calibration_versions, ledger.calibration_groups,
                                  ledger.calibration_state, ledger.calibration_queue to %s', grantee::regrole);
  if level <> 'read' then
    execute format('grant insert, update, delete on ledger.calibrations to %s', grantee::regrole);
    execute format('grant insert on ledger.calibration_versions, ledger.calibration_groups, ledger.calibration_state to %s', grantee::regrole);
    execute format('grant select, insert, delete on ledger.calibration_runs, ledger.calibration_queue to %s', grantee::regrole);
  end if;
end
$$;
comment on procedure ledger.grant_calibrations_to(text, text) is
  'Lets a role read calibrations and use them (level read), or also make its own (level write). Called by ledger.grant_to().';
revoke all on procedure ledger.grant_calibrations_to(text, text) from public;

do $$
begin
  if (select count(*) from pg_catalog.pg_roles
      where rolname in ('market_reader', 'market_ingestor', 'market_operator')) < 3 then
    return;  -- 010_roles.sql has warned
  end if;
  call ledger.grant_calibrations_to('market_reader', 'read');
  call ledger.grant_calibrations_to('market_ingestor', 'read');
  call ledger.grant_calibrations_to('market_operator', 'write');
end
$$;

call market.record_file('250_calibration_privileges.sql', 1);
