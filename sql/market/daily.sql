-- Daily returns and liquidity, derived from bars_1d.
call market.require_not_newer('market/daily.sql', 5);

-- A return needs two prices of one kind, both positive: an adjusted close beside a raw one would show a split as a loss,
-- and the return of a price below zero (oil, April 2020) has no meaning.
create or replace view market.daily_returns as
select symbol, time, (time at time zone 'UTC')::date as d, close_adj,
       case when is_comparable then close_adj / previous - 1 end as ret,
       case when is_comparable then ln(close_adj) - ln(previous) end as log_ret,
       known_at
from (
  select *, is_adjusted = was_adjusted and close_adj > 0 and close_adj < 'Infinity' and previous > 0 and previous < 'Infinity'
              as is_comparable
  from (
    select *, lag(close_adj) over w as previous, lag(is_adjusted) over w as was_adjusted
    from (
      select b.symbol, b.time, coalesce(a.close_adj, b.close) as close_adj, a.close_adj is not null as is_adjusted,
             coalesce(a.known_at, b.time + interval '1 day') as known_at
      from market.bars_1d b
      left join lateral (
        select r.close_adj, r.known_at
        from market.bars r left join market.sources s on s.source = r.source
        where r.symbol = b.symbol and r.bar_width = interval '1 day' and r.time = b.time and r.close_adj is not null
        order by s.rank, r.source
        limit 1) a on true
    ) as adjusted
    where close_adj <> 0
    window w as (partition by symbol order by time)
  ) as pairs
) as compared;
comment on view market.daily_returns is 'Close-to-close returns per session, on adjusted closes where a source gives them.';
comment on column market.daily_returns.symbol is 'Canonical symbol.';
comment on column market.daily_returns.time is 'Start of the daily bar, 00:00 UTC of d.';
comment on column market.daily_returns.d is 'Session date.';
comment on column market.daily_returns.close_adj is 'Adjusted close, else the raw close.';
comment on column market.daily_returns.ret is 'Simple return against the session before; NULL for the first, where one price is adjusted and the other is not, and where one is not positive.';
comment on column market.daily_returns.log_ret is 'Logarithmic return against the session before; NULL where ret is.';
comment on column market.daily_returns.known_at is 'From when the return may be used.';

create or replace function market.liquidity(as_of timestamptz default now(), sessions integer default 60)
returns table (symbol text, sessions_used integer, avg_volume_60d float8, avg_dollar_vol_60d float8, last_session date)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select symbol, count(*)::integer, avg(volume), avg(coalesce(amount, close * volume)),
         max((time at time zone 'UTC')::date)
  from (
    select k.*, row_number() over (partition by k.symbol order by k.time desc) as age
    from (
      -- Not of the view of daily bars: which source it shows may have been decided by a bar that came later.
      select distinct on (b.symbol, b.time) b.symbol, b.time, b.close, b.volume, b.amount
      from market.source_bars_1d b
      left join market.instruments i on i.symbol = b.symbol
      left join market.sources s on s.source = b.source
      where (i.bar_source is null or i.bar_source = b.source) and b.known_at <= liquidity.as_of
        -- Strictly before the date of as_of: the running session is not known yet.
        and b.time < date_trunc('day', liquidity.as_of, 'UTC')
      order by b.symbol, b.time, s.rank, b.source) k
    where k.volume between 0 and 1e60
      -- What no market has would overflow the averages of all.
      and coalesce(k.amount, 0) between 0 and 1e120 and k.close between 0 and 1e60) as recent
  where age <= liquidity.sessions
  group by symbol
$$;
comment on function market.liquidity(timestamptz, integer) is
  'Average volume and traded money over the last sessions strictly before the date of as_of, by the bars that were known.';

create materialized view if not exists market.mv_liquidity_60d as
select symbol, sessions_used, avg_volume_60d, avg_dollar_vol_60d, last_session, now() as refreshed_at
from market.liquidity()
with no data;
comment on materialized view market.mv_liquidity_60d is
  'market.liquidity() as of the last refresh (market.refresh_liquidity, run by the maintenance job).';
comment on column market.mv_liquidity_60d.symbol is 'Symbol as we write it.';
comment on column market.mv_liquidity_60d.sessions_used is 'Sessions with bars among the last 60.';
comment on column market.mv_liquidity_60d.avg_volume_60d is 'Mean volume of those sessions, in units.';
comment on column market.mv_liquidity_60d.avg_dollar_vol_60d is 'Mean of close times volume, in quote currency.';
comment on column market.mv_liquidity_60d.last_session is 'Newest session counted.';
comment on column market.mv_liquidity_60d.refreshed_at is 'When this was computed.';
create unique index if not exists mv_liquidity_60d_symbol_idx on market.mv_liquidity_60d (symbol);

-- Only the owner of a materialized view may refresh it, and the job may run as another role.
create or replace procedure market.refresh_liquidity()
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if (select relispopulated from pg_catalog.pg_class where oid = 'market.mv_liquidity_60d'::regclass) then
    refresh materialized view concurrently market.mv_liquidity_60d;
  else
    refresh materialized view market.mv_liquidity_60d;
  end if;
end
$$;
revoke execute on procedure market.refresh_liquidity() from public;
comment on procedure market.refresh_liquidity() is 'Recomputes market.mv_liquidity_60d without blocking its readers.';

-- A first, cheap filling, so that the relation can be read at once after the set-up.
do $$
begin
  if not (select relispopulated from pg_catalog.pg_class where oid = 'market.mv_liquidity_60d'::regclass) then
    call market.refresh_liquidity();
  end if;
end
$$;

call market.record_file('market/daily.sql', 5);
