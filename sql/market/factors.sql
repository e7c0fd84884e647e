-- Factors of fundamentals, as of any instant.
call market.require_not_newer('market/factors.sql', 3);

-- Quarters are looked up by their end. What the factors read is in the index, so that the payloads are not.
create index if not exists fmp_income_statement_period on market.fmp_income_statement (period_end)
  include (symbol, period, known_at, currency, revenue, gross_profit, operating_income, income_before_tax, income_tax, ebitda,
           net_income, eps_diluted, shares_diluted);
create index if not exists fmp_cash_flow_period on market.fmp_cash_flow (period_end)
  include (symbol, period, known_at, operating_cash_flow, free_cash_flow);
create index if not exists fmp_balance_sheet_period on market.fmp_balance_sheet (period_end)
  include (symbol, period, known_at, total_assets, cash, total_debt, net_debt, equity);

create or replace function market.fundamentals(as_of timestamptz default now())
returns table (symbol text, sector text, period_end date, market_cap double precision, earnings_yield double precision,
               free_cash_flow_yield double precision, ev_to_ebitda double precision, roic double precision,
               gross_profit_to_assets double precision, accruals double precision, revenue_growth double precision,
               eps_growth double precision, net_debt_to_ebitda double precision)
language sql stable set search_path = pg_catalog, pg_temp set timezone = 'UTC' set work_mem = '64MB' set jit = off
as $$
with income as (
  -- Eight quarters and the time in which the newest may not be filed yet.
  select distinct on (i.symbol, i.period_end) i.symbol, i.period_end, i.currency, i.revenue, i.gross_profit, i.operating_income,
         i.income_before_tax, i.income_tax, i.ebitda, i.net_income, i.eps_diluted, i.shares_diluted
  from market.fmp_income_statement i
  where i.known_at <= fundamentals.as_of and i.period_end > fundamentals.as_of::date - 900 and i.period like 'Q_'
  order by i.symbol, i.period_end desc, i.known_at desc
), cash as (
  select distinct on (c.symbol, c.period_end) c.symbol, c.period_end, c.operating_cash_flow, c.free_cash_flow
  from market.fmp_cash_flow c
  where c.known_at <= fundamentals.as_of and c.period_end > fundamentals.as_of::date - 900 and c.period like 'Q_'
  order by c.symbol, c.period_end desc, c.known_at desc
), balance as (
  select distinct on (b.symbol, b.period_end) b.symbol, b.period_end, b.total_assets, b.cash, b.total_debt, b.net_debt, b.equity
  from market.fmp_balance_sheet b
  where b.known_at <= fundamentals.as_of and b.period_end > fundamentals.as_of::date - 200 and b.period like 'Q_'
  order by b.symbol, b.period_end desc, b.known_at desc
), quarters as (
  select i.*, c.operating_cash_flow, c.free_cash_flow,
         row_number() over (partition by i.symbol order by i.period_end desc) as n
  from income i left join cash c using (symbol, period_end)
), sums as (
  -- A quarter that is not known makes its sum NaN, not smaller. Years are whole where their quarters are a quarter apart.
  select q.symbol, max(q.period_end) as period_end,
         max(q.period_end) - min(q.period_end) filter (where q.n = 4) between 240 and 305 as has_year,
         min(q.period_end) filter (where q.n = 4) - min(q.period_end) filter (where q.n = 8) between 330 and 400 as has_year_before,
         max(q.currency) filter (where q.n = 1) as currency, max(q.shares_diluted) filter (where q.n = 1) as shares,
         sum(coalesce(q.revenue, 'NaN')) filter (where q.n <= 4) as revenue,
         sum(coalesce(q.revenue, 'NaN')) filter (where q.n between 5 and 8) as revenue_before,
         sum(coalesce(q.gross_profit, 'NaN')) filter (where q.n <= 4) as gross_profit,
         sum(coalesce(q.operating_income, 'NaN')) filter (where q.n <= 4) as operating_income,
         sum(coalesce(q.income_before_tax, 'NaN')) filter (where q.n <= 4) as income_before_tax,
         sum(coalesce(q.income_tax, 'NaN')) filter (where q.n <= 4) as income_tax,
         sum(coalesce(q.ebitda, 'NaN')) filter (where q.n <= 4) as ebitda,
         sum(coalesce(q.net_income, 'NaN')) filter (where q.n <= 4) as net_income,
         sum(coalesce(q.eps_diluted, 'NaN')) filter (where q.n <= 4) as eps,
         sum(coalesce(q.eps_diluted, 'NaN')) filter (where q.n between 5 and 8) as eps_before,
         sum(coalesce(q.operating_cash_flow, 'NaN')) filter (where q.n <= 4) as operating_cash_flow,
         sum(coalesce(q.free_cash_flow, 'NaN')) filter (where q.n <= 4) as free_cash_flow
  from quarters q
  where q.n <= 8
  group by q.symbol
  -- Older ones are of another company by now.
  having max(q.period_end) > fundamentals.as_of::date - 200
), years as (
  select s.symbol, s.period_end, s.currency, s.shares, s.has_year_before,
         nullif(s.revenue, 'NaN') as revenue, nullif(s.revenue_before, 'NaN') as revenue_before,
         nullif(s.gross_profit, 'NaN') as gross_profit, nullif(s.operating_income, 'NaN') as operating_income,
         nullif(s.income_before_tax, 'NaN') as income_before_tax, nullif(s.income_tax, 'NaN') as income_tax,
         nullif(s.ebitda, 'NaN') as ebitda, nullif(s.net_income, 'NaN') as net_income, nullif(s.eps, 'NaN') as eps,
         nullif(s.eps_before, 'NaN') as eps_before, nullif(s.operating_cash_flow, 'NaN') as operating_cash_flow,
         nullif(s.free_cash_flow, 'NaN') as free_cash_flow
  from sums s where s.has_year
), price as (
  -- Not of the view of daily bars: which source it shows may have been decided by a bar that came later.
  select distinct on (b.symbol) b.symbol, b.close
  from market.bars b left join market.sources s using (source) left join market.instruments i using (symbol)
  where (i.bar_source is null or i.bar_source = b.source) and b.bar_width = interval '1 day' and b.known_at <= fundamentals.as_of
    and b.time > fundamentals.as_of - interval '10 days' and b.time <= fundamentals.as_of
  order by b.symbol, b.time desc, s.rank, b.source
), sized as (
  select y.*, b.total_assets, b.cash, b.total_debt, b.net_debt, b.equity, p.sector,
         -- Whole companies are worth what was seen lately, else shares at the last close; other currencies are not converted.
         case when coalesce(p.currency = y.currency, true) then
           case when p.known_at > fundamentals.as_of - interval '10 days' and p.market_cap is not null then p.market_cap
                else r.close * y.shares end end as market_cap
  from years y
  left join balance b using (symbol, period_end)
  left join price r using (symbol)
  left join lateral (
    select d.known_at, d.sector, d.currency, d.market_cap
    from market.dim_company_profile d
    where d.symbol = y.symbol and d.kind = 'dim_company_profile' and d.known_at <= fundamentals.as_of
    order by d.known_at desc limit 1) p on true
)
select s.symbol, s.sector, s.period_end, s.market_cap,
       s.net_income / nullif(s.market_cap, 0), s.free_cash_flow / nullif(s.market_cap, 0),
       case when s.ebitda > 0 then (s.market_cap + s.net_debt) / s.ebitda end,
       case when s.total_debt + s.equity - s.cash > 0 then
         s.operating_income * (1 - case when s.income_before_tax <= 0 then 0
                                        when s.income_before_tax > 0 and s.income_tax is not null then least(greatest(s.income_tax / s.income_before_tax, 0), 0.5) end)
         / (s.total_debt + s.equity - s.cash) end,
       s.gross_profit / s.total_assets, (s.net_income - s.operating_cash_flow) / s.total_assets,
       case when s.has_year_before and s.revenue_before > 0 then s.revenue / s.revenue_before - 1 end,
       case when s.has_year_before then (s.eps - s.eps_before) / nullif(abs(s.eps_before), 0) end,
       case when s.ebitda > 0 then s.net_debt / s.ebitda end
from sized s
union all
-- Companies whose statements are not there have what the vendor computed of them.
select t.symbol, p.sector, null, t.market_cap, t.earnings_yield, t.free_cash_flow_yield, t.ev_to_ebitda, t.roic, null, null, null, null,
       t.net_debt_to_ebitda
from market.trailing_ratios(fundamentals.as_of) t
left join lateral (
  select d.sector
  from market.dim_company_profile d
  where d.symbol = t.symbol and d.kind = 'dim_company_profile' and d.known_at <= fundamentals.as_of
  order by d.known_at desc limit 1) p on true
where not exists (select from sized s where s.symbol = t.symbol)
$$;
comment on function market.fundamentals(timestamptz) is
  'Ratios of companies from the statements of FMP that were known at an instant: sums of the newest four quarters, balances of the newest, growth against the four before; NULL: not known, or no number (EBITDA or capital that is not positive, another currency than the price''s). Without statements: the vendor''s ratios of the last twelve months, and no period_end.';

create or replace function market.fundamentals_factors(as_of timestamptz default now())
returns table (symbol text, sector text, period_end date, value double precision, quality double precision, leverage double precision,
               growth double precision, n_missing integer)
language sql stable set search_path = pg_catalog, pg_temp set work_mem = '64MB' set jit = off
as $$
-- A ratio among its peers is one number, place of the ratio and place of the sector: faster to sort than their names.
with companies as materialized (
  select f.*, row_number() over (order by f.symbol) as id, case when f.sector is not null then dense_rank() over (order by f.sector) end as peers
  from market.fundamentals(fundamentals_factors.as_of) f
), ratios as materialized (
  select c.id, r.place, r.place * 1000000 as whole, r.place * 1000000 + c.peers as peers, r.x
  from companies c
  cross join lateral (values
    (1, c.earnings_yield), (2, c.free_cash_flow_yield), (3, -c.ev_to_ebitda),
    (4, c.roic), (5, c.gross_profit_to_assets), (6, -c.accruals),
    (7, -c.net_debt_to_ebitda), (8, c.revenue_growth), (9, c.eps_growth)) r (place, x)
), members as materialized (
  -- Each is a member of its sector, and of all.
  select m.peers, r.x from ratios r cross join lateral (values (r.peers), (r.whole)) m (peers)
  where r.x is not null and m.peers is not null
), middles as materialized (
  select m.peers, count(*) as n, percentile_cont(0.5) within group (order by m.x) as middle
  from members m group by m.peers
), spreads as materialized (
  select m.peers, d.n, d.middle, percentile_cont(0.5) within group (order by abs(m.x - d.middle)) as spread
  from members m join middles d using (peers)
  group by m.peers, d.n, d.middle
), scores as (
  select r.id, r.place, r.x is null as is_missing,
         -- What is not known is the middle, and counted; where half of the peers are alike, all are.
         case when r.x is not null and d.spread > 0 then greatest(least((r.x - d.middle) / (1.4826 * d.spread), 3), -3) else 0 end as z
  from ratios r
  left join spreads own on own.peers = r.peers and own.n >= 8
  left join spreads d on d.peers = coalesce(own.peers, r.whole)
), factors as (
  -- Sums in one order, whatever the plan: another would change the last bit.
  select s.id, (sum(s.z) filter (where s.place = 1) + sum(s.z) filter (where s.place = 2) + sum(s.z) filter (where s.place = 3)) / 3 as value,
         (sum(s.z) filter (where s.place = 4) + sum(s.z) filter (where s.place = 5) + sum(s.z) filter (where s.place = 6)) / 3 as quality,
         sum(s.z) filter (where s.place = 7) as leverage,
         (sum(s.z) filter (where s.place = 8) + sum(s.z) filter (where s.place = 9)) / 2 as growth,
         count(*) filter (where s.is_missing)::integer as n_missing
  from scores s
  group by s.id
)
select c.symbol, c.sector, c.period_end, f.value, f.quality, f.leverage, f.growth, f.n_missing
from companies c join factors f using (id)
$$;
comment on function market.fundamentals_factors(timestamptz) is
  'Factors of companies as of an instant: means of robust z-scores among the sector (fewer than eight names: among all), (x - median) / (1.4826 MAD) within 3; value: earnings and free cash flow over market capitalisation, EBITDA over enterprise value turned round; quality: ROIC, gross profit over assets, low accruals; leverage: low net debt over EBITDA; growth: sales, earnings per share over a year. A ratio that is not known scores 0 and is counted in n_missing, of nine.';

create or replace view market.fundamentals_factors_v1 as
select f.symbol, f.sector, f.period_end, f.value, f.quality, f.leverage, f.growth, f.n_missing
from market.fundamentals_factors(now()) f;
comment on view market.fundamentals_factors_v1 is 'market.fundamentals_factors of now.';
comment on column market.fundamentals_factors_v1.symbol is 'Canonical symbol.';
comment on column market.fundamentals_factors_v1.sector is 'Sector, as the newest profile says; NULL: unknown, compared with all.';
comment on column market.fundamentals_factors_v1.period_end is 'End of the newest quarter that is known; NULL: the vendor''s ratios of the last twelve months.';
comment on column market.fundamentals_factors_v1.value is 'Cheapness: mean z of earnings yield, free cash flow yield, -EV/EBITDA.';
comment on column market.fundamentals_factors_v1.quality is 'Mean z of ROIC, gross profit over assets, -accruals.';
comment on column market.fundamentals_factors_v1.leverage is 'z of -net debt over EBITDA: higher is less debt.';
comment on column market.fundamentals_factors_v1.growth is 'Mean z of the growth of sales and of earnings per share over a year.';
comment on column market.fundamentals_factors_v1.n_missing is 'Ratios of nine that are not known.';

call market.record_file('market/factors.sql', 3);
