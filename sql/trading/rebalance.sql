-- The whole chain in one call: newest forecasts, expected returns, weights, share deltas.
call market.require_not_newer('trading/rebalance.sql', 4);

create or replace procedure trading.rebalance(
  relation regclass, step integer, account text default null, risk text default null, arguments jsonb default '{}',
  chain jsonb default '{}', regime text default 'any', inout run_id bigint default null)
language plpgsql
as $$
declare
  valid  constant text[] := '{as_of,bar_width,bars_per_year,kinds,model,price_col,series_col,target,time_col}';
  unknown text;
  breaker trading.effective_breakers;
  named   text := '';
  signals text;
  option  record;
begin
  select k into unknown from jsonb_object_keys(chain) k where k <> all (valid) limit 1;
  if unknown is not null then
    raise exception 'unrecognized key "%" of chain', unknown
      using errcode = 'invalid_parameter_value', hint = pg_catalog.format('Valid keys: %s.', pg_catalog.array_to_string(valid, ', '));
  end if;
  select * into breaker from trading.effective_breakers b where b.scope = 'global' and b.mode <> 'reduce_only';
  if found then
    raise exception 'trading is halted by circuit breaker %', breaker.breaker_id
      using errcode = 'object_not_in_prerequisite_state', detail = pg_catalog.format('It is %s because of %s.', breaker.mode, breaker.reason),
            hint = pg_catalog.format('When it is over: SELECT trading.clear_breaker(%s, ''...'').', breaker.breaker_id);
  end if;
  -- The instant is part of the query that is recorded, so it can be run again later.
  chain := pg_catalog.jsonb_build_object('as_of', now()) || chain;
  for option in select key, value from jsonb_each(chain) order by key loop
    named := named || pg_catalog.format(', %I => %L', option.key,
      case jsonb_typeof(option.value)
        when 'array' then (select pg_catalog.array_agg(e)::text from jsonb_array_elements_text(option.value) e)
        else option.value #>> '{}' end);
  end loop;
  signals := pg_catalog.format('select * from trading.signals(%L::regclass, %s, account => %L, regime => %L%s)', relation, step, account, regime, named);

  if not arguments ? 'group_limits' then
    arguments := arguments || pg_catalog.jsonb_build_object('group_limits', pg_catalog.jsonb_build_object('group_sector', pg_catalog.jsonb_build_object('*',
      pg_catalog.jsonb_build_object('net', pg_catalog.jsonb_build_array(-trading.knob('sector_net', regime), trading.knob('sector_net', regime)),
                         'gross', trading.knob('sector_gross', regime)))));
  end if;
  -- The history has returns of one bar each, the signals are over step of them.
  if risk is not null then
    arguments := arguments || pg_catalog.jsonb_build_object('options', pg_catalog.jsonb_build_object('horizon', step) || coalesce(arguments -> 'options', '{}'));
  end if;
  run_id := trading.run_allocation(signals, risk, account, arguments, regime);
end
$$;
comment on procedure trading.rebalance(regclass, integer, text, text, jsonb, jsonb, text, bigint) is
  'Runs trading.run_allocation on trading.signals of a relation and a step and gives the run; trading.order_proposals has its share deltas. '
  'risk: a query of returns of one bar each, of which step make the horizon unless arguments has the option horizon, or of scenarios over that horizon; NULL: names are uncorrelated, with the volatility of their intervals. chain: the other arguments of trading.signals. '
  'Sectors are limited by the knobs sector_net and sector_gross unless arguments has group_limits. Refused while a global breaker is frozen or flatten.';

call market.record_file('trading/rebalance.sql', 4);
