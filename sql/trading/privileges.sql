-- reader: SELECT. operator: also records positions, knobs, breakers, terms, scores and allocation runs. Who did so and when
-- is filled by the system: nobody is granted those columns, nor the identities of rows.
call market.require_not_newer('trading/privileges.sql', 3);

do $$
declare
  columns constant jsonb := '{
    "policy_knobs": "knob, regime, valid_from, value, note",
    "circuit_breakers": "scope, key, mode, reason, expires_at, clears, metrics",
    "allocation_runs": "account, regime, arguments, signals, risk, inputs_sha256, status, detail, equity_usd, figures, rules"}';
  item    record;
begin
  -- Older versions granted whole rows.
  for item in
    select c.relname::text as name, g.grantee, case g.grantee when 0 then 'public' else g.grantee::regrole::text end as role
    from pg_catalog.pg_class c cross join lateral aclexplode(c.relacl) g
    where c.relnamespace = 'trading'::regnamespace and columns ? c.relname and g.grantee <> c.relowner and g.privilege_type = 'INSERT'
  loop
    execute format('revoke insert on trading.%1$I from %2$s; grant insert (%3$s) on trading.%1$I to %2$s',
                   item.name, item.role, columns ->> item.name);
  end loop;
  if (select count(*) from pg_catalog.pg_roles where rolname in ('market_reader', 'market_operator')) < 2 then
    return;  -- installation/roles.sql has warned
  end if;
  grant usage on schema trading to market_reader, market_operator;
  grant select on all tables in schema trading to market_reader, market_operator;
  for item in select key, value from jsonb_each_text(columns) loop
    execute format('grant insert (%s) on trading.%I to market_operator', item.value, item.key);
  end loop;
  grant insert on trading.allocation_weights, trading.terms, trading.scores to market_operator;
  grant insert, update, delete on trading.accounts, trading.positions to market_operator;
end
$$;

call market.record_file('trading/privileges.sql', 3);
