-- Revisions of estimates, as of any instant.
call market.require_not_newer('market/revisions.sql', 2);

-- The newest version of a fiscal year is found without reading the others.
create index if not exists fmp_analyst_estimates_year on market.fmp_analyst_estimates (symbol, period_end, known_at)
  include (eps_avg) where key like '%/annual/%' and eps_avg is not null;

create or replace function market.revisions(as_of timestamptz default now())
returns table (symbol text, sector text, period_end date, eps double precision, eps_before double precision, price double precision,
               rev_eps_chg double precision, z_rev_eps double precision, known_at timestamptz)
language sql stable set search_path = pg_catalog, pg_temp set timezone = 'UTC' set work_mem = '64MB' set jit = off
as $$
with recursive symbols as (
  -- Each symbol once, by jumping along the index.
  select (select min(e.symbol) from market.fmp_analyst_estimates e where e.key like '%/annual/%' and e.eps_avg is not null) as symbol
  union all
  select (select min(e.symbol) from market.fmp_analyst_estimates e
          where e.key like '%/annual/%' and e.eps_avg is not null and e.symbol > s.symbol)
  from symbols s where s.symbol is not null
), estimates as (
  select s.symbol, y.period_end, n.eps_avg as eps, b.eps_avg as eps_before, n.known_at
  from symbols s
  -- The fiscal year that is running; both estimates are of that.
  cross join lateral (
    select e.period_end from market.fmp_analyst_estimates e
    where e.symbol = s.symbol and e.key like '%/annual/%' and e.eps_avg is not null
      and e.period_end >= revisions.as_of::date and e.known_at <= revisions.as_of
    order by e.period_end limit 1) y
  cross join lateral (
    select e.eps_avg, e.known_at from market.fmp_analyst_estimates e
    where e.symbol = s.symbol and e.key like '%/annual/%' and e.eps_avg is not null
      and e.period_end = y.period_end and e.known_at <= revisions.as_of
    order by e.known_at desc limit 1) n
  left join lateral (
    select e.eps_avg from market.fmp_analyst_estimates e
    where e.symbol = s.symbol and e.key like '%/annual/%' and e.eps_avg is not null
      and e.period_end = y.period_end and e.known_at <= revisions.as_of - interval '30 days'
    order by e.known_at desc limit 1) b on true
), changes as materialized (
  select e.*, p.sector, coalesce(market_internal.price_at(e.symbol, revisions.as_of), p.price) as price
  from estimates e
  left join lateral (
    select d.sector, case when d.known_at > revisions.as_of - interval '10 days' then d.price end as price
    from market.dim_company_profile d
    where d.symbol = e.symbol and d.kind = 'dim_company_profile' and d.known_at <= revisions.as_of
    order by d.known_at desc limit 1) p on true
), revised as materialized (
  -- By an unknown price nothing is measured.
  select c.*, case when c.price between 1e-6 and 1e12 and greatest(abs(c.eps), abs(c.eps_before)) < 1e12 then
                (c.eps - c.eps_before) / greatest(abs(c.eps_before), 0.01 * c.price) end as change
  from changes c
), members as (
  -- Each is a member of its sector, and of all.
  select r.change, g.peers from revised r cross join lateral (values (r.sector), ('')) g (peers)
  where r.change is not null and g.peers is not null
), middles as (
  select m.peers, count(*) as n, percentile_cont(0.5) within group (order by m.change) as middle
  from members m group by m.peers
), spreads as (
  select m.peers, percentile_cont(0.5) within group (order by abs(m.change - d.middle)) as spread
  from members m join middles d using (peers) group by m.peers
)
select r.symbol, r.sector, r.period_end, r.eps, r.eps_before, r.price, r.change,
       -- What is not known is the middle; where half of the peers are alike, all are.
       case when r.change is not null and p.spread > 0 then greatest(least((r.change - d.middle) / (1.4826 * p.spread), 3), -3) else 0 end,
       r.known_at
from revised r
left join middles own on own.peers = r.sector and own.n >= 8
left join middles d on d.peers = coalesce(own.peers, '')
left join spreads p on p.peers = d.peers
$$;
comment on function market.revisions(timestamptz) is
  'Revisions of the mean estimate of earnings per share of the fiscal year that is running, over 30 days, as they were known at an instant: rev_eps_chg is the difference of the two versions over the former, or over 1 % of the price if that is more; z_rev_eps its robust z-score among the sector (fewer than eight names: among all), within 3. NULL and 0: no estimate of 30 days before, or no price of ten days.';

create or replace view market.fmp_revisions_cs as
select r.symbol, r.sector, r.period_end, r.eps, r.eps_before, r.price, r.rev_eps_chg, r.z_rev_eps, r.known_at
from market.revisions(now()) r;
comment on view market.fmp_revisions_cs is 'market.revisions of now.';
comment on column market.fmp_revisions_cs.symbol is 'Canonical symbol.';
comment on column market.fmp_revisions_cs.sector is 'Sector, as the newest profile says; NULL: unknown, compared with all.';
comment on column market.fmp_revisions_cs.period_end is 'End of the fiscal year that is running, which both estimates are of.';
comment on column market.fmp_revisions_cs.eps is 'Mean estimate of earnings per share.';
comment on column market.fmp_revisions_cs.eps_before is 'The same 30 days before; NULL: not known then.';
comment on column market.fmp_revisions_cs.price is 'Last close, else the price of the profile, of ten days.';
comment on column market.fmp_revisions_cs.rev_eps_chg is '(eps - eps_before) over the larger of |eps_before| and 1 % of the price.';
comment on column market.fmp_revisions_cs.z_rev_eps is 'Robust z-score of rev_eps_chg among the sector, within 3; 0: unknown, or in the middle.';
comment on column market.fmp_revisions_cs.known_at is 'From when eps was known.';

call market.record_file('market/revisions.sql', 2);
