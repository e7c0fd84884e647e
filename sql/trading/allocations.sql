-- Every allocation that was run: inputs, status, figures, shadow prices, weights.
call market.require_not_newer('trading/allocations.sql', 5);

create table if not exists trading.allocation_runs (
  run_id         bigint generated always as identity primary key,
  account        text references trading.accounts,
  issued_at      timestamptz not null default now(),
  issued_by      text not null default current_user,
  regime         text not null,
  arguments      jsonb not null,
  signals        text not null,
  risk           text,
  inputs_sha256  text not null,
  status         text not null check (status in ('optimal', 'relaxed', 'held')),
  detail         text,
  equity_usd     double precision,
  figures        jsonb not null,
  rules          jsonb not null
);
comment on table trading.allocation_runs is 'Append-only: one row per run of trading.run_allocation().';
comment on column trading.allocation_runs.run_id is 'Identity of the run.';
comment on column trading.allocation_runs.account is 'Account whose book it is; NULL: a paper book.';
comment on column trading.allocation_runs.issued_at is 'Start of the transaction that ran it.';
comment on column trading.allocation_runs.issued_by is 'Role that ran it.';
comment on column trading.allocation_runs.regime is 'Regime whose knobs were used.';
comment on column trading.allocation_runs.arguments is 'Every argument as it was used, knobs filled in.';
comment on column trading.allocation_runs.signals is 'Query of the names.';
comment on column trading.allocation_runs.risk is 'Query of the returns or scenarios.';
comment on column trading.allocation_runs.inputs_sha256 is 'SHA-256 of names and returns as they were read: the same hash and arguments give the same weights.';
comment on column trading.allocation_runs.status is 'optimal, relaxed (some rules broken) or held (no book found, weights unchanged).';
comment on column trading.allocation_runs.detail is 'Which rules are broken or in conflict.';
comment on column trading.allocation_runs.equity_usd is 'Equity that weights are fractions of.';
comment on column trading.allocation_runs.figures is 'Figures of the book: return, volatility, cost, gross, net, turnover, ...';
comment on column trading.allocation_runs.rules is 'Every rule with value, slack, shadow price in basis points per unit, violation.';

create table if not exists trading.allocation_weights (
  run_id           bigint not null references trading.allocation_runs,
  symbol           text not null,
  weight           double precision not null,
  prev_weight      double precision not null,
  trade            double precision not null,
  side             text not null,
  expected_return  double precision not null,
  risk_share       double precision not null,
  cost             double precision not null,
  binding          text[] not null,
  status           text,
  price_usd        double precision,
  primary key (run_id, symbol)
);
comment on table trading.allocation_weights is 'Append-only: the rows of kronos.propose_weights of a run.';
comment on column trading.allocation_weights.run_id is 'Run.';
comment on column trading.allocation_weights.symbol is 'Name.';
comment on column trading.allocation_weights.weight is 'Proposed weight.';
comment on column trading.allocation_weights.prev_weight is 'Weight held before.';
comment on column trading.allocation_weights.trade is 'weight - prev_weight.';
comment on column trading.allocation_weights.side is 'long, short or flat.';
comment on column trading.allocation_weights.expected_return is 'Forecast used.';
comment on column trading.allocation_weights.risk_share is 'Share of the risk of the book.';
comment on column trading.allocation_weights.cost is 'Trading and borrowing cost, a fraction of equity.';
comment on column trading.allocation_weights.binding is 'Rules that hold with equality.';
comment on column trading.allocation_weights.status is 'What befell the name; NULL: nothing.';
comment on column trading.allocation_weights.price_usd is 'Price of the query signals, where it has that column.';

create or replace trigger append_only before update or delete or truncate on trading.allocation_runs
  for each statement execute function trading.refuse_change();
create or replace trigger append_only before update or delete or truncate on trading.allocation_weights
  for each statement execute function trading.refuse_change();

-- Weights are the second half of their run: they come in its transaction, from the role that the system has noted as its issuer.
create or replace function trading.check_weights() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from trading.allocation_runs r
                 where r.run_id = new.run_id and r.issued_by = current_user and r.issued_at = now())
     -- A restore is the owner's doing, who could drop this trigger as well.
     and not pg_has_role((select c.relowner from pg_class c where c.oid = tg_relid), 'USAGE') then
    raise exception 'allocation run % was not begun by "%" in this transaction', new.run_id, current_user
      using errcode = 'insufficient_privilege', hint = 'trading.run_allocation() writes runs and their weights.';
  end if;
  return new;
end
$$;
comment on function trading.check_weights() is 'Trigger that refuses weights of runs of others, or of earlier ones, with 42501.';
create or replace trigger check_weights before insert on trading.allocation_weights
  for each row execute function trading.check_weights();

create or replace function trading.run_allocation(
  signals text, risk text default null, account text default null, arguments jsonb default '{}', regime text default 'any')
returns bigint
language plpgsql
as $$
-- The caller's texts run under the caller's path, so this has no path of its own: where others may make functions on that path, one of
-- theirs would match better than the server's of any type, so those are spelt out.
declare
  valid constant text[] := '{method,gross,net,weight_bounds,max_turnover,max_names,target_vol,risk_aversion,group_limits,factor_limits,on_infeasible,options}';
  unknown text;
  equity double precision;
  reserve double precision;
  used jsonb;
  result jsonb;
  state text;
  run bigint;
begin
  select k into unknown from jsonb_object_keys(arguments) k where k <> all (valid) limit 1;
  if unknown is not null then
    raise exception 'unrecognized argument "%"', unknown
      using errcode = 'invalid_parameter_value', hint = pg_catalog.format('Valid arguments: %s.', pg_catalog.array_to_string(valid, ', '));
  end if;
  if account is not null then
    select a.equity_usd into equity from trading.accounts a where a.account = run_allocation.account;
    if equity is null then
      raise exception 'account "%" does not exist', account using errcode = 'undefined_object', hint = 'See trading.accounts.';
    end if;
  end if;
  -- A knob gives way to what the caller has said: without buying power left over, no reserve of it can be kept.
  if arguments ? 'net' and not coalesce(arguments -> 'options', '{}') ? 'cash_reserve' then
    reserve := trading.knob('cash_reserve', regime);
    if pg_catalog.lower((arguments ->> 'net')::numrange)::double precision > 1::double precision - reserve then
      raise notice 'the knob cash_reserve, %, is left out: net % leaves no room for it', reserve, arguments ->> 'net'
        using hint = 'Pass the option cash_reserve to keep buying power.';
      reserve := null;
    end if;
  else
    reserve := trading.knob('cash_reserve', regime);
  end if;
  equity := coalesce((arguments -> 'options' ->> 'equity')::double precision, equity);
  -- What the caller leaves open is policy.
  used := pg_catalog.jsonb_build_object(
      'method', 'mean_variance',
      'gross', trading.knob('gross', regime),
      'net', pg_catalog.format('[%s,%s]', trading.knob('net_min', regime), trading.knob('net_max', regime)),
      'weight_bounds', pg_catalog.format('[%s,%s]', -trading.knob('max_short_weight', regime), trading.knob('max_long_weight', regime)),
      'max_turnover', trading.knob('max_turnover', regime),
      'risk_aversion', trading.knob('risk_aversion', regime),
      'on_infeasible', 'relax')
    || arguments
    || pg_catalog.jsonb_build_object('options', jsonb_strip_nulls(pg_catalog.jsonb_build_object(
      'cash_reserve', reserve,
      'short_margin', trading.knob('short_margin', regime),
      'participation', trading.knob('participation', regime),
      'equity', equity,
      'min_notional', case when equity is not null then trading.knob('min_notional', regime) end))
    || coalesce(arguments -> 'options', '{}'));

  result := _kronos.allocate(
    signals, risk, used ->> 'method', (used ->> 'gross')::double precision, (used ->> 'net')::numrange,
    (used ->> 'weight_bounds')::numrange, (used ->> 'max_turnover')::double precision, (used ->> 'max_names')::integer,
    (used ->> 'target_vol')::double precision, (used ->> 'risk_aversion')::double precision,
    coalesce(used -> 'group_limits', '{}'), coalesce(used -> 'factor_limits', '{}'), used ->> 'on_infeasible', used -> 'options');
  state := result ->> 'state';

  insert into trading.allocation_runs (account, regime, arguments, signals, risk, inputs_sha256, status, detail, equity_usd, figures, rules)
  values (account, regime, used, signals, risk, result ->> 'inputs_sha256', coalesce(split_part(state, ':', 1), 'optimal'),
          nullif(split_part(state, ': ', 2), ''), equity, result -> 'book', result -> 'rules')
  returning run_id into run;

  insert into trading.allocation_weights
  select run, w.*
  from jsonb_to_recordset(result -> 'weights') as w(
    symbol text, weight double precision, prev_weight double precision, trade double precision, side text, expected_return double precision,
    risk_share double precision, cost double precision, binding text[], status text, price_usd double precision);

  if state like 'relaxed:%' then
    raise warning 'allocation run % broke limits that contradict each other', run
      using detail = state, hint = pg_catalog.format('select * from trading.allocation_runs where run_id = %s shows each rule.', run);
  end if;
  -- Without a book there is nothing to trade into; entries stay closed until a person looks.
  if state like 'held:%' then
    insert into trading.circuit_breakers (scope, key, mode, reason, expires_at, metrics)
    values ('global', '*', 'reduce_only', 'allocator_failed', now() + interval '1 day',
            pg_catalog.jsonb_build_object('rule', 'trading.run_allocation', 'run_id', run, 'detail', state));
  end if;
  return run;
end
$$;
comment on function trading.run_allocation(text, text, text, jsonb, text) is
  'Runs kronos.propose_weights with the policy''s knobs where arguments are silent, and records inputs, figures, rules and weights; returns the run. '
  'arguments: the named arguments of propose_weights as JSON; on_infeasible is relax unless said otherwise.';

create or replace view trading.order_proposals with (security_invoker = true) as
with shares as (
  select w.run_id, r.account, w.symbol, w.price_usd,
         w.prev_weight * r.equity_usd / w.price_usd as held, w.weight * r.equity_usd / w.price_usd as wanted
  from trading.allocation_weights w join trading.allocation_runs r using (run_id)
  where w.trade <> 0 and w.price_usd is not null and r.equity_usd is not null
), legs as (
  -- Through zero takes two orders, the second only after the first has filled.
  select s.*, 1 as sequence, case when held > 0 then 'sell' else 'buy_to_cover' end as action,
         case when sign(held) * sign(wanted) < 0 then -held else wanted - held end as quantity
  from shares s where abs(wanted) < abs(held) or sign(held) * sign(wanted) < 0
  union all
  select s.*, 2, case when wanted > 0 then 'buy' else 'sell_short' end,
         case when sign(held) * sign(wanted) < 0 then wanted else wanted - held end
  from shares s where abs(wanted) > abs(held) or sign(held) * sign(wanted) < 0
)
select run_id, account, symbol, sequence, action, quantity, quantity * price_usd as notional_usd
from legs;
comment on view trading.order_proposals is
  'Share deltas of each run: exits (sequence 1) before entries (sequence 2). Quantities are signed and unrounded, except shorts where the run rounded them.';
comment on column trading.order_proposals.run_id is 'Run of the allocation.';
comment on column trading.order_proposals.sequence is '1 reduces or closes, 2 opens or adds, after 1 has filled.';
comment on column trading.order_proposals.action is 'buy, sell, sell_short or buy_to_cover.';
comment on column trading.order_proposals.quantity is 'Shares to trade, negative to sell; unrounded, except shorts where the run rounded them.';
comment on column trading.order_proposals.notional_usd is 'Quantity times price.';

call market.record_file('trading/allocations.sql', 5);
