-- Events in the form of one row for each version of the schedule, and their surprises, as of any instant.
call market.require_not_newer('market/surprises.sql', 3);

create or replace function market_internal.event_rows(as_of timestamptz, kinds text[], symbols text[])
returns table (event_key text, kind text, symbol text, publisher text, scheduled_ts timestamptz, schedule_known_at timestamptz,
               next_ts timestamptz, next_known_at timestamptz, is_day_only boolean, is_cancelled boolean, source text,
               actual numeric, actual_known_at timestamptz, previous numeric, consensus numeric, consensus_asof timestamptz,
               due_ts timestamptz, n_before integer, sd_before double precision)
language sql stable set search_path = pg_catalog, pg_temp set work_mem = '64MB'
-- Nothing tells the planner how large its steps are: it takes them for single rows.
set enable_nestloop = off set jit = off
as $$
with facts as materialized (
  select * from market.event_facts(event_rows.as_of, event_rows.kinds, event_rows.symbols)
), sightings as (
  select f.*, (f.scheduled_ts, f.is_day_only, f.is_cancelled) is not distinct from
                lag((f.scheduled_ts, f.is_day_only, f.is_cancelled)) over (partition by f.event_key order by f.known_at, f.place, f.scheduled_ts) as is_repeated
  from facts f where f.fact = 'schedule'
), versions as materialized (
  select s.event_key, s.kind, s.symbol, s.publisher, s.scheduled_ts, s.known_at, s.is_day_only, s.is_cancelled, s.source,
         lead(s.scheduled_ts) over w as next_ts, lead(s.known_at) over w as next_known_at, row_number() over w as version
  from sightings s where not s.is_repeated
  window w as (partition by s.event_key order by s.known_at, s.place, s.scheduled_ts)
), releases as (
  -- The first value; of two at one time the one that was appended later.
  select distinct on (f.event_key) f.event_key, f.kind, f.symbol, f.publisher, f.value, f.previous, f.known_at, f.source
  from facts f where f.fact = 'release'
  order by f.event_key, f.known_at, f.place desc
), due as (
  -- The schedule that was in force at the release, else that in force now.
  select distinct on (v.event_key) v.event_key, v.scheduled_ts
  from versions v left join releases r using (event_key)
  where v.known_at <= coalesce(r.known_at, event_rows.as_of)
  order by v.event_key, v.version desc
), expected as (
  select distinct on (f.event_key) f.event_key, f.value, f.known_at
  from facts f join due d using (event_key)
  where f.fact = 'consensus' and f.known_at < d.scheduled_ts
  order by f.event_key, f.known_at desc, f.place desc
), usable as (
  select r.event_key, r.kind, concat_ws(':', r.publisher, r.symbol) as party, (r.value - e.value)::double precision as x,
         row_number() over (w order by r.known_at, d.scheduled_ts, r.event_key) as place,
         rank() over (w order by r.known_at) - 1 as n_earlier
  from releases r join expected e using (event_key) join due d using (event_key)
  -- What no economy has would overflow the deviations of all.
  where abs(r.value - e.value) < 1e12
  window w as (partition by r.kind, r.publisher, r.symbol)
), histories as (
  select u.kind, u.party, array_agg(u.x order by u.place) as xs
  from usable u group by u.kind, u.party
), spreads as (
  select u.event_key, p.n, p.sd
  from usable u join market.event_kinds k using (kind) join histories h using (kind, party)
  cross join lateral (
    select count(*)::integer as n, stddev_samp(x) as sd
    from unnest(h.xs[greatest(u.n_earlier - k.n_sigma + 1, 1):u.n_earlier]) x) p
), rows as (
  select v.*, v.next_known_at is null as is_in_force from versions v
  union all
  -- Nobody had scheduled them.
  select r.event_key, r.kind, r.symbol, r.publisher, null, null, false, false, r.source, null, null, null, true
  from releases r where not exists (select from versions v where v.event_key = r.event_key)
)
select v.event_key, v.kind, v.symbol, v.publisher, v.scheduled_ts, v.known_at, v.next_ts, v.next_known_at, v.is_day_only, v.is_cancelled, v.source,
       r.value, r.known_at, r.previous, e.value, e.known_at, d.scheduled_ts, s.n, s.sd
from rows v
-- Values stand beside the schedule in force.
left join releases r on r.event_key = v.event_key and v.is_in_force
left join expected e on e.event_key = v.event_key and v.is_in_force
left join due d on d.event_key = v.event_key and v.is_in_force
left join spreads s on s.event_key = v.event_key and v.is_in_force
$$;
comment on function market_internal.event_rows(timestamptz, text[], text[]) is
  'Events at an instant, a row for each version of the schedule, with the surprises before each: their number and their standard deviation.';

create or replace function market_internal.surprise_sigma(kind market.event_kinds, n integer, sd double precision, price double precision)
returns double precision
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  -- What is NULL counts in none of them.
  select greatest(case when n >= kind.min_sigma then greatest(sd, kind.floor) else kind.prior_sigma end, price * kind.floor_of_price)
$$;
comment on function market_internal.surprise_sigma(market.event_kinds, integer, double precision, double precision) is
  'What a surprise is divided by: the standard deviation of those before it, not below the floors of its kind; with too few of them the prior; NULL: unknown.';

create or replace function market_internal.surprise_z(surprise numeric, sigma double precision) returns double precision
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  select case when sigma = 0 then 0 * surprise::double precision
              when surprise is not null and sigma is not null then greatest(least(surprise::double precision / sigma, 5), -5) end
$$;
comment on function market_internal.surprise_z(numeric, double precision) is
  'A surprise in standard deviations, within 5; 0 where nothing ever varies; NULL: not known.';

create or replace function market_internal.price_at(symbol text, at timestamptz) returns double precision
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select b.close
  from market.bars b left join market.sources s using (source) left join market.instruments i using (symbol)
  where b.symbol = price_at.symbol and b.bar_width = interval '1 day' and b.known_at <= price_at.at
    and b.time > price_at.at - interval '10 days' and b.time <= price_at.at and b.close > 0 and b.close < 'Infinity'
    and (i.bar_source is null or i.bar_source = b.source)
  order by b.time desc, s.rank, b.source
  limit 1
$$;
comment on function market_internal.price_at(text, timestamptz) is 'The last daily close that was known at an instant, of ten days.';

create or replace function market.events(as_of timestamptz default now(), kinds text[] default null, symbols text[] default null)
returns table (event_id bigint, kind text, symbol text, scheduled_ts timestamptz, schedule_known_at timestamptz, actual numeric,
               consensus numeric, previous numeric, unit text, consensus_asof timestamptz, actual_known_at timestamptz, surprise numeric,
               surprise_z double precision, hawkish double precision, superseded_by bigint, source text, event_key text, publisher text,
               is_day_only boolean, is_cancelled boolean)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select i.own, e.kind, e.symbol, e.scheduled_ts, e.schedule_known_at, e.actual, e.consensus, e.previous, k.unit, e.consensus_asof,
         e.actual_known_at, x.surprise,
         market_internal.surprise_z(x.surprise, market_internal.surprise_sigma(k, e.n_before, e.sd_before,
           case when k.floor_of_price > 0 and x.surprise is not null then market_internal.price_at(e.symbol, e.actual_known_at) end)),
         case when e.kind = 'FOMC' and e.actual is not null then greatest(least(e.actual::double precision / 50, 1), -1) end,
         i.next, e.source, e.event_key, e.publisher, e.is_day_only, e.is_cancelled
  from market_internal.event_rows(events.as_of, events.kinds, events.symbols) e
  join market.event_kinds k using (kind)
  cross join lateral (select case when e.consensus_asof < e.due_ts then e.actual - e.consensus end as surprise) x
  cross join lateral (
    select ('x' || left(md5(concat_ws(' ', e.event_key, extract(epoch from e.scheduled_ts), extract(epoch from e.schedule_known_at))), 15))::bit(60)::bigint as own,
           case when e.next_known_at is not null then
             ('x' || left(md5(concat_ws(' ', e.event_key, extract(epoch from e.next_ts), extract(epoch from e.next_known_at))), 15))::bit(60)::bigint end as next) i
$$;
comment on function market.events(timestamptz, text[], text[]) is
  'Events as they were known at an instant: a row for each version of the schedule, values beside the one in force. actual is the first that was released, consensus the last that was taken before the event was due, surprise_z their difference in standard deviations of the surprises before it (market.event_kinds), within 5. kinds, symbols: of these alone; events of the economy have no symbol.';

-- A kind that is asked for is looked up before the function is called, for that kind alone.
create or replace view market.econ_events as
select e.event_id, k.kind, e.symbol, e.scheduled_ts, e.schedule_known_at, e.actual, e.consensus, e.previous, e.unit, e.consensus_asof,
       e.actual_known_at, e.surprise, e.surprise_z, e.hawkish, e.superseded_by, e.source, e.event_key, e.publisher, e.is_day_only, e.is_cancelled
from market.event_kinds k cross join lateral market.events(now(), array[k.kind]) e;
comment on view market.econ_events is 'market.events of now.';
comment on column market.econ_events.event_id is 'Identity of the version of the schedule.';
comment on column market.econ_events.kind is 'FOMC, CPI, CPI_CORE, NFP, UNRATE, GDP, PCE, RATE_DECISION, EARNINGS, or one that was added to market.event_kinds.';
comment on column market.econ_events.symbol is 'Canonical symbol of the company; NULL: an event of the economy.';
comment on column market.econ_events.scheduled_ts is 'When it is due; NULL: nobody had scheduled it.';
comment on column market.econ_events.schedule_known_at is 'From when that was known.';
comment on column market.econ_events.actual is 'What was released first; NULL: nothing yet.';
comment on column market.econ_events.consensus is 'What was expected, as it was last said before the event was due.';
comment on column market.econ_events.previous is 'The figure before, as it was shown with this one.';
comment on column market.econ_events.unit is 'Unit of actual, consensus and surprise.';
comment on column market.econ_events.consensus_asof is 'When the consensus was taken.';
comment on column market.econ_events.actual_known_at is 'From when actual was public.';
comment on column market.econ_events.surprise is 'actual - consensus.';
comment on column market.econ_events.surprise_z is 'surprise in standard deviations of those before it, within 5; of earnings SUE; NULL: too few.';
comment on column market.econ_events.hawkish is 'FOMC: change of the target over 50 basis points, within 1.';
comment on column market.econ_events.superseded_by is 'event_id of the next version of the schedule; NULL: in force.';
comment on column market.econ_events.source is 'Whose schedule it is.';
comment on column market.econ_events.event_key is 'Identity of the event, whatever day it is moved to.';
comment on column market.econ_events.publisher is 'Who decides, where several do under one kind.';
comment on column market.econ_events.is_day_only is 'Whether the hour is unknown.';
comment on column market.econ_events.is_cancelled is 'Called off.';

create or replace function market.surprises(as_of timestamptz default now(), kinds text[] default null, symbols text[] default null)
returns table (kind text, symbol text, publisher text, event_key text, released_at timestamptz, surprise numeric, n_before integer,
               sigma double precision, z double precision)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  with newest as materialized (
    select distinct on (e.kind, e.symbol, e.publisher) e.*
    from market_internal.event_rows(surprises.as_of, surprises.kinds, surprises.symbols) e
    where e.n_before is not null
    order by e.kind, e.symbol, e.publisher, e.actual_known_at desc, e.due_ts desc, e.event_key desc
  )
  select e.kind, e.symbol, e.publisher, e.event_key, e.actual_known_at, e.actual - e.consensus, e.n_before, s.sigma,
         market_internal.surprise_z(e.actual - e.consensus, s.sigma)
  from newest e
  join market.event_kinds k using (kind)
  cross join lateral (
    select market_internal.surprise_sigma(k, e.n_before, e.sd_before,
      case when k.floor_of_price > 0 then market_internal.price_at(e.symbol, e.actual_known_at) end) as sigma) s
$$;
comment on function market.surprises(timestamptz, text[], text[]) is
  'The newest surprise of each kind of event and of each company that was known at an instant, and what it was divided by. A release that nobody expected a number of counts in no way.';

call market.record_file('market/surprises.sql', 3);
