-- reader: SELECT. operator: also records positions, knobs, breakers, terms, scores and allocation runs.
call market.require_not_newer('380_trading_privileges.sql', 2);

do $$
begin
  if (select count(*) from pg_catalog.pg_roles where rolname in ('market_reader', 'market_operator')) < 2 then
    return;  -- 010_roles.sql has warned
  end if;
  grant usage on schema trading to market_reader, market_operator;
  grant select on all tables in schema trading to market_reader, market_operator;
  grant insert on trading.policy_knobs, trading.circuit_breakers, trading.allocation_runs, trading.allocation_weights,
    trading.terms, trading.scores to market_operator;
  grant insert, update, delete on trading.accounts, trading.positions to market_operator;
end
$$;

call market.record_file('380_trading_privileges.sql', 2);
