-- Ratios of the last twelve months as a vendor computes them: of companies whose statements are not there.
call market.require_not_newer('market/trailing.sql', 1);

create index if not exists fmp_key_metrics_trailing on market.fmp_key_metrics (symbol, known_at) where period is null;
create index if not exists fmp_ratios_trailing on market.fmp_ratios (symbol, known_at) where period is null;

create or replace function market.trailing_ratios(as_of timestamptz default now())
returns table (symbol text, market_cap double precision, earnings_yield double precision, free_cash_flow_yield double precision,
               ev_to_ebitda double precision, roic double precision, net_debt_to_ebitda double precision, known_at timestamptz)
language sql stable set search_path = pg_catalog, pg_temp
as $$
with recursive
-- The index has a version for every day of every name: from one name to the next it is a step, not a scan.
with_metrics as (
  (select m.symbol from market.fmp_key_metrics m where m.period is null and m.symbol is not null order by m.symbol limit 1)
  union all
  select (select m.symbol from market.fmp_key_metrics m where m.period is null and m.symbol > w.symbol order by m.symbol limit 1)
  from with_metrics w where w.symbol is not null
), with_ratios as (
  (select r.symbol from market.fmp_ratios r where r.period is null and r.symbol is not null order by r.symbol limit 1)
  union all
  select (select r.symbol from market.fmp_ratios r where r.period is null and r.symbol > w.symbol order by r.symbol limit 1)
  from with_ratios w where w.symbol is not null
), names as (
  select w.symbol from with_metrics w where w.symbol is not null union select w.symbol from with_ratios w where w.symbol is not null
)
select n.symbol, m.market_cap, coalesce(m.earnings_yield, 1 / nullif(r.price_to_earnings, 0)), m.free_cash_flow_yield,
       case when m.ev_to_ebitda > 0 then m.ev_to_ebitda end, m.return_on_invested_capital,
       -- Of a loss before interest and tax the sign would say the opposite.
       case when m.ev_to_ebitda > 0 then m.net_debt_to_ebitda end, greatest(m.known_at, r.known_at)
from names n
-- What is older than a quarter is of another year.
left join lateral (
  select k.* from market.fmp_key_metrics k
  where k.symbol = n.symbol and k.period is null and k.known_at <= trailing_ratios.as_of and k.known_at > trailing_ratios.as_of - interval '100 days'
  order by k.known_at desc, k.source limit 1) m on true
left join lateral (
  select k.* from market.fmp_ratios k
  where k.symbol = n.symbol and k.period is null and k.known_at <= trailing_ratios.as_of and k.known_at > trailing_ratios.as_of - interval '100 days'
  order by k.known_at desc, k.source limit 1) r on true
where m.symbol is not null or r.symbol is not null
$$;
comment on function market.trailing_ratios(timestamptz) is
  'Ratios of the last twelve months as a vendor computed them (fmp_key_metrics and fmp_ratios without a period), as they were known at an instant, 100 days old at most.';

call market.record_file('market/trailing.sql', 1);
