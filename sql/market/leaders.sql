-- Bars of the leaders of the markets, each from the best series that is alive.
call market.require_not_newer('market/leaders.sql', 1);

create table if not exists market.leaders (
  leader  text     not null,
  rank    integer  not null,
  symbol  text     not null,
  zone    text     not null,
  closes  interval not null,
  primary key (leader, rank)
);
comment on table market.leaders is 'Leaders of the markets, and the series that stand for them, the best first.';
comment on column market.leaders.leader is 'Leader: BTC-USD, SPY, DX-Y.NYB, ^VIX.';
comment on column market.leaders.rank is 'The lowest that is alive stands for the leader.';
comment on column market.leaders.symbol is 'Canonical symbol of its daily bars, or series at FRED.';
comment on column market.leaders.zone is 'Time zone of its session.';
comment on column market.leaders.closes is 'End of the session, from midnight of its day there; of half days as well, which errs on the late side.';

insert into market.leaders (leader, rank, symbol, zone, closes) values
  ('BTC-USD',  1, 'BTCUSD',    'UTC',              '24:00'),
  ('BTC-USD',  2, 'BTC-USD',   'UTC',              '24:00'),
  ('BTC-USD',  3, 'IBIT',      'America/New_York', '16:00'),
  ('SPY',      1, 'SPY',       'America/New_York', '16:00'),
  ('DX-Y.NYB', 1, 'DX-Y.NYB',  'America/New_York', '17:00'),
  ('DX-Y.NYB', 2, 'UUP',       'America/New_York', '16:00'),
  ('DX-Y.NYB', 3, 'DTWEXBGS',  'America/New_York', '17:00'),
  ('^VIX',     1, '^VIX',      'America/New_York', '16:15'),
  ('^VIX',     2, 'VIX',       'America/New_York', '16:15'),
  ('^VIX',     3, 'VIXCLS',    'America/New_York', '16:15')
on conflict do nothing;
-- Too few rows for what does that by itself; without it every bar is read.
analyze market.leaders;

create or replace function market.leader_bars(as_of timestamptz default now(), leaders text[] default null)
returns table (leader text, d date, o double precision, h double precision, l double precision, c double precision, v double precision,
               adj_close double precision, symbol text, source text, known_at timestamptz)
language sql stable set search_path = pg_catalog, pg_temp set jit = off
as $$
with series as (
  select * from market.leaders s where leader_bars.leaders is null or s.leader = any (leader_bars.leaders)
), bars as (
  select s.leader, s.rank, (b.time at time zone 'UTC')::date as d, b.open, b.high, b.low, b.close, b.volume, b.close_adj, b.symbol, b.source,
         coalesce(r.rank, 1000) as source_rank, k.known_at
  from series s
  join market.bars b on b.symbol = s.symbol and b.bar_width = interval '1 day'
  left join market.sources r on r.source = b.source
  left join market.instruments i on i.symbol = b.symbol
  cross join lateral (
    -- The end of the day is what sources write that do not know the session; a bar that came later than that is a restatement.
    select case when b.known_at > b.time + interval '1 day 20 minutes' then b.known_at
                else least(b.known_at, ((b.time at time zone 'UTC')::date + s.closes) at time zone s.zone + interval '20 minutes') end as known_at) k
  where (i.bar_source is null or i.bar_source = b.source) and k.known_at <= leader_bars.as_of
  union all
  (select distinct on (s.leader, s.rank, o.observed_on)
          s.leader, s.rank, o.observed_on, null, null, null, o.value, null, null, o.symbol, o.source, 1000, o.known_at
   from series s join market.fred_observation o on o.symbol = s.symbol
   where o.value is not null and o.observed_on is not null and o.known_at <= leader_bars.as_of
   order by s.leader, s.rank, o.observed_on, o.known_at desc)
), days as materialized (
  select distinct on (b.leader, b.rank, b.d) b.* from bars b order by b.leader, b.rank, b.d, b.source_rank, b.source
), newest as (
  select x.leader, x.rank, max(x.d) as d from days x group by x.leader, x.rank
), chosen as (
  -- One series throughout: from one to another the level jumps.
  select distinct on (n.leader) n.leader, n.rank
  from newest n
  where n.d > (select max(a.d) from newest a where a.leader = n.leader) - 10
  order by n.leader, n.rank
)
select x.leader, x.d, x.open, x.high, x.low, x.close, x.volume, x.close_adj, x.symbol, x.source, x.known_at
from days x join chosen using (leader, rank)
$$;
comment on function market.leader_bars(timestamptz, text[]) is
  'Daily bars of the leaders as they were known at an instant: each from the best of its series (market.leaders) that is no ten days behind the others. Known 20 minutes after the session closed, a restatement when it came; what FRED brings has a close alone. leaders: of these alone.';

create or replace view market.leader_ohlcv as
select b.leader, b.d, b.o, b.h, b.l, b.c, b.v, b.adj_close, b.source, b.known_at, b.symbol
from market.leader_bars(now()) b;
comment on view market.leader_ohlcv is 'market.leader_bars of now.';
comment on column market.leader_ohlcv.leader is 'Leader: BTC-USD, SPY, DX-Y.NYB, ^VIX.';
comment on column market.leader_ohlcv.d is 'Day of the session.';
comment on column market.leader_ohlcv.o is 'First price; NULL: the source has a close alone.';
comment on column market.leader_ohlcv.h is 'Highest price.';
comment on column market.leader_ohlcv.l is 'Lowest price.';
comment on column market.leader_ohlcv.c is 'Last price.';
comment on column market.leader_ohlcv.v is 'Volume.';
comment on column market.leader_ohlcv.adj_close is 'Last price, adjusted for dividends and splits as the source has it.';
comment on column market.leader_ohlcv.source is 'Whose bar it is.';
comment on column market.leader_ohlcv.known_at is '20 minutes after the session closed, or when a restatement came.';
comment on column market.leader_ohlcv.symbol is 'Series that stands for the leader.';

call market.record_file('market/leaders.sql', 1);
