-- reader: the views. operator: also policies, and the writing of runs under its own name.
call market.require_not_newer('230_ledger_privileges.sql', 1);

create or replace procedure ledger.grant_to(grantee text, level text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  item text;
begin
  -- kronos.calibrations and others come from later files and get their privileges there.
  foreach item in array array['forecasts', 'latest_forecasts', 'kronos_forecasts', 'ml_predictions', 'runs', 'failures',
                              'policies', 'stat_policies'] loop
    if to_regclass(format('kronos.%I', item)) is not null then
      execute format('grant select on kronos.%I to %s', item, grantee::regrole);
    end if;
  end loop;
  -- What uses the views' types needs their schema.
  execute format('grant usage on schema ledger to %s', grantee::regrole);
  if level <> 'read' then
    execute format('grant select, insert, update, delete on ledger.policies to %s', grantee::regrole);
    execute format('grant select, insert, update on ledger.requests, ledger.runs to %s', grantee::regrole);
    -- Rows of others are read through the views, which know who may.
    execute format('grant insert on ledger.forecasts, ledger.failures to %s', grantee::regrole);
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

do $$
begin
  if (select count(*) from pg_catalog.pg_roles
      where rolname in ('market_reader', 'market_ingestor', 'market_operator')) < 3 then
    return;  -- 010_roles.sql has warned
  end if;
  call ledger.grant_to('market_reader', 'read');
  call ledger.grant_to('market_ingestor', 'read');
  call ledger.grant_to('market_operator', 'write');
end
$$;

call market.record_file('230_ledger_privileges.sql', 1);
