-- Validators of facts: statements that are half filled, in other units or another currency, restated; companies
-- that have fallen silent; releases that sources tell apart. A source that is silent is a stale feed. market.validate runs them all.
call market.require_not_newer('market/validate_facts.sql', 1);

create or replace function market.check_statements(since timestamptz, until timestamptz, fill_share float8)
returns setof market.finding
language sql stable set search_path = pg_catalog, pg_temp set timezone = 'UTC' set datestyle = 'ISO' set work_mem = '64MB' set jit = off
as $$
with touched as materialized (
  -- Only companies of which something came; with all their statements, so that a change is seen.
  select i.symbol from market.fmp_income_statement i where i.known_at >= check_statements.since and i.known_at < check_statements.until
  union
  select b.symbol from market.fmp_balance_sheet b where b.known_at >= check_statements.since and b.known_at < check_statements.until
  union
  select c.symbol from market.fmp_cash_flow c where c.known_at >= check_statements.since and c.known_at < check_statements.until
), statements as materialized (
  select i.kind, i.source, symbol, i.key, i.period_end, i.period, i.known_at, i.currency,
         num_nonnulls(i.revenue, i.gross_profit, i.operating_income, i.income_before_tax, i.income_tax, i.ebitda, i.net_income, i.eps_diluted, i.shares_diluted) as filled,
         jsonb_build_object('revenue', i.revenue::numeric, 'net_income', i.net_income::numeric, 'shares_diluted', i.shares_diluted::numeric) as amounts
  from touched join market.fmp_income_statement i using (symbol) where i.known_at < check_statements.until and i.period_end is not null
  union all
  select b.kind, b.source, symbol, b.key, b.period_end, b.period, b.known_at, b.currency,
         num_nonnulls(b.total_assets, b.current_assets, b.current_liabilities, b.cash, b.total_debt, b.net_debt, b.equity),
         jsonb_build_object('total_assets', b.total_assets::numeric, 'equity', b.equity::numeric)
  from touched join market.fmp_balance_sheet b using (symbol) where b.known_at < check_statements.until and b.period_end is not null
  union all
  select c.kind, c.source, symbol, c.key, c.period_end, c.period, c.known_at, c.currency,
         num_nonnulls(c.operating_cash_flow, c.capital_expenditure, c.free_cash_flow),
         jsonb_build_object('operating_cash_flow', c.operating_cash_flow::numeric)
  from touched join market.fmp_cash_flow c using (symbol) where c.known_at < check_statements.until and c.period_end is not null
), versions as (
  select s.*, lag(s.known_at) over w as before_known_at, lag(s.amounts) over w as amounts_before_version,
         lead(s.known_at) over w is null as is_newest
  from statements s
  window w as (partition by s.kind, s.source, s.key order by s.known_at)
), newest as materialized (
  -- Quarters beside quarters, years beside years.
  select v.*, lag(v.amounts) over w as amounts_before, lag(v.currency) over w as currency_before, lag(v.period_end) over w as period_before
  from versions v where v.is_newest
  window w as (partition by v.kind, v.source, v.symbol, v.period = 'FY' order by v.period_end, v.key)
), usual as (
  select n.kind, n.source, n.symbol, percentile_disc(0.5) within group (order by n.filled) as filled
  from newest n group by n.kind, n.source, n.symbol
)
select 'half_filled_statement', 'market.' || n.kind, n.symbol, n.source, n.known_at,
       format('%s of %s: %s values, usually %s', n.period, n.period_end, n.filled, u.filled)
from newest n join usual u using (kind, source, symbol)
where n.filled < check_statements.fill_share * u.filled and n.known_at >= check_statements.since
union all
-- Five days are enough to fetch all three.
select 'missing_statement', 'market.' || k.kind, i.symbol, i.source, i.known_at,
       format('%s of %s has an income statement and none of this kind', i.period, i.period_end)
from newest i cross join (values ('fmp_balance_sheet'), ('fmp_cash_flow')) k (kind)
where i.kind = 'fmp_income_statement' and i.known_at >= check_statements.since and i.known_at < check_statements.until - interval '5 days'
  and not exists (select from newest o where o.kind = k.kind and o.source = i.source and o.symbol = i.symbol and o.period_end = i.period_end)
union all
-- Thousands for units, or millions: no business grows by a power of a thousand in a quarter.
select 'changed_unit', 'market.' || n.kind, n.symbol, n.source, n.known_at,
       format('%s of %s: %s %s after %s of %s', n.period, n.period_end, a.name, a.amount, b.amount, n.period_before)
from newest n
cross join lateral jsonb_each_text(n.amounts) a (name, amount)
cross join lateral (select n.amounts_before ->> a.name as amount) b
cross join lateral (select abs(log(abs(a.amount::numeric) / nullif(abs(b.amount::numeric), 0))) as decades where a.amount::numeric <> 0) r
where n.known_at >= check_statements.since and (r.decades between 2.85 and 3.15 or r.decades between 5.85 and 6.15)
union all
select 'changed_currency', 'market.' || n.kind, n.symbol, n.source, n.known_at,
       format('%s of %s in %s, %s in %s', n.period, n.period_end, n.currency, n.period_before, n.currency_before)
from newest n
where n.currency <> n.currency_before and n.known_at >= check_statements.since
union all
select 'restatement', 'market.' || v.kind, v.symbol, v.source, v.known_at,
       format('%s of %s: %s %s, %s before', v.period, v.period_end, a.name, a.amount, v.amounts_before_version ->> a.name)
from versions v
cross join lateral jsonb_each_text(v.amounts) a (name, amount)
where v.known_at >= check_statements.since and v.before_known_at is not null
  and abs(a.amount::numeric - (v.amounts_before_version ->> a.name)::numeric) > 0.01 * abs((v.amounts_before_version ->> a.name)::numeric)
$$;
comment on function market.check_statements(timestamptz, timestamptz, float8) is
  'Validators of the statements that became known in [since, until), beside those known before: half_filled_statement, missing_statement, changed_unit, changed_currency, restatement; call market.validate.';

create or replace function market.check_facts(since timestamptz, until timestamptz) returns setof market.finding
language sql stable set search_path = pg_catalog, pg_temp set timezone = 'UTC' set datestyle = 'ISO' set jit = off
as $$
with firsts as materialized (
  select distinct on (f.event_key, f.source) f.event_key, f.kind, f.source, f.value, f.known_at, f.place
  from market.event_facts(least(check_facts.until, now()), (select array_agg(k.kind) from market.event_kinds k where k.floor is not null)) f
  where f.fact = 'release'
  order by f.event_key, f.source, f.known_at, f.place desc
)
-- A company that is traded reports four times a year.
select 'stale_fundamentals', 'market.fmp_income_statement', n.symbol, n.source, n.known_at,
       format('the newest quarter ended on %s', n.period_end)
from (
  select i.source, i.symbol, max(i.period_end) as period_end, max(i.known_at) as known_at
  from market.fmp_income_statement i
  where i.known_at < check_facts.until and i.symbol is not null and i.period like 'Q_'
  group by i.source, i.symbol) n
join lateral (
  select d.is_trading from market.dim_company_profile d
  where d.symbol = n.symbol and d.kind = 'dim_company_profile' and d.known_at < check_facts.until
  order by d.known_at desc limit 1) p on p.is_trading
where n.period_end < least(check_facts.until, now())::date - 200
union all
-- Figures of one event by two sources, each as it gave it first.
select 'release_differs', 'market.event_facts', b.event_key, b.source, b.known_at, format('%s by %s, %s by %s', a.value, a.source, b.value, b.source)
from (
  select distinct on (f.event_key) f.* from firsts f order by f.event_key, f.known_at, f.place desc, f.source) a
join firsts b using (event_key, kind)
join market.event_kinds k using (kind)
where b.source <> a.source and abs(b.value - a.value) >= k.floor::numeric and b.known_at >= check_facts.since
$$;
comment on function market.check_facts(timestamptz, timestamptz) is
  'Validators of facts in [since, until): stale_fundamentals (at the end of it), release_differs; call market.validate.';

call market.record_file('market/validate_facts.sql', 1);
