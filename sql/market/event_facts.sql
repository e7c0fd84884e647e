-- What was known of events at an instant: when they are due, what was expected, what came.
call market.require_not_newer('market/event_facts.sql', 1);

create or replace function market_internal.event_sightings(as_of timestamptz, kinds text[], symbols text[])
returns table (kind text, publisher text, symbol text, day date, slot text, source text, place bigint, known_at timestamptz,
               scheduled_ts timestamptz, is_day_only boolean, expected numeric, expected_at timestamptz, actual numeric,
               actual_at timestamptz, previous numeric)
language sql stable set search_path = pg_catalog, pg_temp
-- Whoever calls it may have it off.
set enable_nestloop = on set jit = off
as $$
with named as materialized (
  select n.source, n.country, n.name, n.reading, n.scale, coalesce(n.publisher, '') as publisher, k.*
  from market.event_names n join market.event_kinds k using (kind)
  where kinds is null or n.kind = any (kinds)
), calendar as (
  select n.kind, n.publisher, '' as symbol, n.name, n.delay, n.zone, n.due_time, d.source, d.known_at, d.received_at,
         -- Vendors have got zones wrong; where the publisher has an hour of its own, they say the day alone.
         case when d.due_at::time = '00:00' then d.due_at::date else (d.due_at at time zone 'UTC' at time zone n.zone)::date end as day,
         case when n.due_time is null and d.due_at::time <> '00:00' then d.due_at at time zone 'UTC' end as due_at,
         n.due_time is null and d.due_at::time = '00:00' as is_day_only,
         lower(substring(d.event from '\(([A-Za-z]{3}|[Qq][1-4])\)\s*$')) as period,
         n.scale * (d.estimate::numeric - case n.reading when 'change' then d.previous::numeric else 0 end) as expected,
         n.scale * (d.actual::numeric - case n.reading when 'change' then d.previous::numeric else 0 end) as actual,
         case n.reading when 'level' then n.scale * d.previous::numeric end as previous
  from named n
  join market.fmp_economic_calendar d
    on d.source = n.source and d.country = n.country and lower(regexp_replace(d.event, '\s*\([^)]*\)\s*$', '')) = n.name
  where d.known_at <= event_sightings.as_of and d.due_at is not null and n.reading <> 'day'
), reports as (
  select k.kind, '' as publisher, d.symbol, '' as name, k.delay, k.zone, case d.time_of_day when 'amc' then time '16:05' when 'bmo' then '07:00' end as due_time,
         d.source, d.known_at, d.received_at, d.report_on as day, null::timestamptz as due_at,
         coalesce(d.time_of_day not in ('amc', 'bmo'), true) as is_day_only, null as period,
         d.eps_estimated::numeric as expected, d.eps_actual::numeric as actual, null::numeric as previous
  from market.event_kinds k, market.fmp_earnings d
  where k.kind = 'EARNINGS' and (kinds is null or k.kind = any (kinds)) and (symbols is null or d.symbol = any (symbols))
    and d.known_at <= event_sightings.as_of and d.report_on is not null and d.symbol is not null
), listed as (
  select e.*, e.known_at < e.received_at as is_dated_back,
         coalesce(e.due_at, (e.day + coalesce(e.due_time, '09:30')) at time zone e.zone) as scheduled_ts,
         case when length(e.period) = 2 then 3 * right(e.period, 1)::integer
              else nullif(strpos('janfebmaraprmayjunjulaugsepoctnovdec', e.period) + 2, 2) / 3 end as month
  from (table calendar union all table reports) e
)
select l.kind, l.publisher, l.symbol, l.day,
       -- A period in the name tells one event from the others of its kind, whenever it is due.
       l.name || ' ' || extract(year from l.day)::integer - (l.month > extract(month from l.day))::integer || '-' || l.month,
       l.source, (extract(epoch from l.received_at) * 1e6)::bigint, l.known_at, l.scheduled_ts, l.is_day_only,
       l.expected, case when l.is_dated_back then l.day::timestamp at time zone l.zone else l.known_at end,
       l.actual,
       -- What is shown before it is due was not released.
       greatest(l.known_at, case when l.is_day_only then (l.day + l.is_dated_back::integer)::timestamp at time zone l.zone
                                 else l.scheduled_ts + l.is_dated_back::integer * l.delay end),
       l.previous
from listed l
union all
select n.kind, n.publisher, '', d.released_on, null, d.source, (extract(epoch from d.received_at) * 1e6)::bigint, d.known_at,
       (d.released_on + coalesce(n.due_time, '09:30')) at time zone n.zone, n.due_time is null, null, null, null, null, null
from named n join market.fred_release_date d on d.source = n.source and d.release_id = n.name
where n.reading = 'day' and d.known_at <= event_sightings.as_of and d.released_on is not null
union all
-- The first vintage of a value is its release, the others are revisions.
select v.kind, v.publisher, '', v.vintage_on, null, v.source, (extract(epoch from v.received_at) * 1e6)::bigint, v.known_at, null, false, null, null,
       v.scale * case v.reading when 'level' then v.value when 'change' then v.value - p.value
                                else round(100 * (v.value / nullif(p.value, 0) - 1), 1) end,
       v.known_at, null
from (
  select distinct on (n.kind, d.source, d.symbol, d.observed_on)
         n.kind, n.publisher, n.reading, n.scale, d.source, d.key, d.observed_on, d.vintage_on, d.known_at, d.received_at, d.value::numeric as value
  from named n
  join market.fred_observation d on d.source = n.source and d.symbol = n.name
  where n.reading <> 'day' and d.known_at <= event_sightings.as_of and d.value is not null
  order by n.kind, d.source, d.symbol, d.observed_on, d.known_at, d.vintage_on
) v
left join lateral (
  -- As the same vintage has it.
  select o.value::numeric as value
  from market.fred_observation o
  where o.source = v.source and o.kind = 'fred_observation'
    and o.key = left(v.key, -10) || to_char(v.observed_on - interval '1 month', 'YYYY-MM-DD') and o.known_at <= v.known_at
  order by o.known_at desc limit 1) p on v.reading <> 'level'
-- What was old when the records of vintages begin was released before.
where v.vintage_on - v.observed_on < 150
$$;
comment on function market_internal.event_sightings(timestamptz, text[], text[]) is
  'What documents of feeds say of events that was known at an instant: a row for each version.';

create or replace function market.event_facts(as_of timestamptz default now(), kinds text[] default null, symbols text[] default null)
returns table (event_key text, kind text, symbol text, publisher text, fact text, known_at timestamptz, scheduled_ts timestamptz,
               is_day_only boolean, is_cancelled boolean, value numeric, previous numeric, source text, place bigint)
language sql stable set search_path = pg_catalog, pg_temp set work_mem = '64MB'
-- Nothing tells the planner how large its steps are: it takes them for single rows.
set enable_nestloop = off set jit = off
as $$
with seen as materialized (
  select * from market_internal.event_sightings(event_facts.as_of, event_facts.kinds, event_facts.symbols)
), entered as materialized (
  select e.event_key, e.kind, coalesce(e.publisher, '') as publisher, coalesce(e.symbol, '') as symbol, k.zone
  from market.event_keys e join market.event_kinds k using (kind)
  where (event_facts.kinds is null or e.kind = any (event_facts.kinds))
    and (event_facts.symbols is null or e.symbol is null or e.symbol = any (event_facts.symbols))
), days as (
  select d.kind, d.publisher, d.symbol, d.day, max(d.own_key) as own_key, coalesce(max(d.own_key), max(d.slot)) as slot,
         min(d.known_at) as known_at, min(d.released_at) as released_at
  from (
    select s.kind, s.publisher, s.symbol, s.day, null as own_key, s.slot, s.known_at,
           case when s.actual is not null then s.actual_at end as released_at
    from seen s
    union all
    select e.kind, e.publisher, e.symbol, (s.scheduled_ts at time zone e.zone)::date, e.event_key, null, s.known_at, null
    from entered e join market.event_schedules s using (event_key)
    where s.known_at <= event_facts.as_of
    union all
    -- That nobody had scheduled.
    select e.kind, e.publisher, e.symbol, (min(r.known_at) at time zone e.zone)::date, e.event_key, null, min(r.known_at), min(r.known_at)
    from entered e join market.event_releases r using (event_key)
    where r.known_at <= event_facts.as_of and r.value is not null
      and not exists (select from market.event_schedules s where s.event_key = e.event_key and s.known_at <= event_facts.as_of)
    group by e.kind, e.publisher, e.symbol, e.zone, e.event_key) d
  group by d.kind, d.publisher, d.symbol, d.day
), marked as (
  -- Two days near each other are of one event that was moved, unless one was over before the other was heard of, or both came true.
  select d.*, coalesce(
           d.slot is null and lag(d.slot) over w is null and d.day - lag(d.day) over w <= k.moves_by
             and (lag(d.released_at) over w is null or d.released_at is null and d.known_at <= lag(d.released_at) over w), false) as is_moved
  from days d join market.event_kinds k using (kind)
  window w as (partition by d.kind, d.publisher, d.symbol order by d.day)
), grouped as (
  select m.*, coalesce(m.slot, (sum((not m.is_moved)::integer) over (partition by m.kind, m.publisher, m.symbol order by m.day))::text) as part
  from marked m
), keyed as materialized (
  select g.kind, g.publisher, g.symbol, g.day,
         coalesce(g.own_key, concat_ws(':', g.kind, nullif(g.publisher, ''), nullif(g.symbol, ''),
           to_char(first_value(g.day) over (partition by g.kind, g.publisher, g.symbol, g.part order by g.known_at, g.day), 'YYYY-MM-DD'))) as event_key
  from grouped g
), facts as (
  select k.event_key, s.kind, s.symbol, s.publisher, f.*, s.source, s.place
  from seen s join keyed k using (kind, publisher, symbol, day)
  cross join lateral (values
    ('schedule', s.known_at, s.scheduled_ts, s.is_day_only, false, null::numeric, null::numeric),
    ('consensus', s.expected_at, null, null, null, s.expected, null),
    ('release', s.actual_at, null, null, null, s.actual, s.previous)) f (fact, known_at, scheduled_ts, is_day_only, is_cancelled, value, previous)
  where case f.fact when 'schedule' then f.scheduled_ts is not null else f.value is not null end
  union all
  select e.event_key, e.kind, e.symbol, e.publisher, 'schedule', s.known_at, s.scheduled_ts, s.is_day_only, s.is_cancelled, null, null, s.source, s.entry
  from entered e join market.event_schedules s using (event_key)
  union all
  select e.event_key, e.kind, e.symbol, e.publisher, 'consensus', c.known_at, null, null, null, c.value, null, c.source, c.entry
  from entered e join market.event_consensus c using (event_key)
  union all
  select e.event_key, e.kind, e.symbol, e.publisher, 'release', r.known_at, null, null, null, r.value, r.previous, r.source, r.entry
  from entered e join market.event_releases r using (event_key)
  where r.value is not null
)
select f.event_key, f.kind, nullif(f.symbol, ''), nullif(f.publisher, ''), f.fact, f.known_at, f.scheduled_ts, f.is_day_only, f.is_cancelled,
       f.value, f.previous, f.source, f.place
from facts f
where f.known_at <= event_facts.as_of
$$;
comment on function market.event_facts(timestamptz, text[], text[]) is
  'What was known of events at an instant, in three lists: schedule (when they are due, each time that changed), consensus (snapshots of what was expected) and release (what came, the first value first); from the tables of events and from the documents of feeds. kinds, symbols: of these alone; events of the economy have no symbol.';

call market.record_file('market/event_facts.sql', 1);
