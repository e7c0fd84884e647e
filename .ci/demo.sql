-- Forecasts every symbol of demo.bar into demo.forecast. psql variable: horizon.
--
-- A forecast steps along a trading calendar, and a file of bars does not name one. Bars without recurring gaps get
-- 24x7. For others the hours are read off the newest bars themselves: the times of the week at which bars start, in
-- the zone in which these are fewest, with every date that differs as an exception. A market with a known calendar is
-- better served by its name: options => '{"calendar":"XNYS"}'.
set client_min_messages = warning;

create temporary table newest as
select symbol, ts, extract(epoch from ts - lag(ts) over (partition by symbol order by ts)) as spacing
from (select symbol, ts, row_number() over (partition by symbol order by ts desc) as age from demo.bar) as bar
where age <= 600;

create temporary table plan as
select symbol, width, gaps, longest,
       -- Weeks and months have no hours; a stray hole in a market that never closes is not a closing time.
       case when width >= 2 * 86400 or gaps = 0 or (gaps <= 0.01 * spacings and longest < 12 * width) then '24x7' end
           as calendar
from (select symbol, min(width) as width, count(spacing) as spacings, count(*) filter (where spacing > width) as gaps,
             coalesce(max(spacing), 0) as longest
      from newest join (select symbol, mode() within group (order by spacing) as width from newest group by symbol)
                       as common using (symbol)
      group by symbol) as spacing;

create temporary table slot as
select symbol, zone, width, day, extract(isodow from day)::int as weekday, time_of_day
from (select symbol, zone, p.width, n.ts at time zone zone as local,
             case when p.width >= 86400 then 0 else extract(epoch from (n.ts at time zone zone)::time)::int end as time_of_day,
             (n.ts at time zone zone)::date as day
      from newest as n join plan as p using (symbol),
           unnest(array['UTC', 'America/New_York', 'Europe/London', 'Australia/Sydney']) as zone
      where p.calendar is null) as local;

delete from slot
where (symbol, zone) not in (
    select distinct on (symbol) symbol, zone
    from (select symbol, zone, count(distinct time_of_day) as times from slot group by symbol, zone) as by_zone
    order by symbol, times, zone <> 'UTC', zone);

create temporary table usual as
select symbol, zone, width, weekday, time_of_day
from slot join (select symbol, weekday, count(distinct day) as days from slot group by symbol, weekday) as seen
         using (symbol, weekday)
group by symbol, zone, width, weekday, time_of_day, days
having 2 * count(*) >= days;

-- Runs of bars that follow one another without a pause are sessions.
create function pg_temp.spans(starts int[], width int) returns jsonb language sql as $$
    select jsonb_agg(jsonb_build_array(to_char(make_interval(secs => first), 'HH24:MI'),
                                       to_char(make_interval(secs => least(last + width, 86400)), 'HH24:MI'))
                     order by first)
    from (select min(s) as first, max(s) as last
          from (select s, s - width * row_number() over (order by s) as run from unnest(starts) as s) as start
          group by run) as session
$$;

create temporary table hours as
with weekly as (
    select symbol, zone, width, weekday, array_agg(time_of_day order by time_of_day) as starts
    from usual group by symbol, zone, width, weekday
), daily as (
    select symbol, day, array_agg(time_of_day order by time_of_day) as starts from slot group by symbol, day
), range as (
    select symbol, min(day) as first, max(day) as last from slot group by symbol
), exception as (
    -- The outermost dates may be cut off by the ends of the data.
    select r.symbol, d::date as day, pg_temp.spans(daily.starts, w.width::int) as spans
    from range as r
         cross join generate_series(r.first + 1, r.last - 1, interval '1 day') as d
         join (select distinct symbol, width from weekly) as w using (symbol)
         left join daily on daily.symbol = r.symbol and daily.day = d::date
         left join weekly on weekly.symbol = r.symbol and weekly.weekday = extract(isodow from d)
    where daily.starts is distinct from weekly.starts
)
select symbol, zone, sessions,
       coalesce((select jsonb_object_agg(day, spans) from exception as e where e.symbol = w.symbol), '{}') as exceptions
from (select symbol, zone, jsonb_object_agg(weekday, pg_temp.spans(starts, width::int)) as sessions
      from weekly group by symbol, zone) as w;

\o /dev/null
select kronos.drop_calendar(name) from kronos.calendars where name like 'demo-%';

update plan as p set calendar = h.calendar
from (select symbol, 'demo-' || dense_rank() over (order by zone, sessions, exceptions) as calendar from hours) as h
where h.symbol = p.symbol;

select kronos.add_calendar(calendar, zone, sessions, 'read off the bars of make demo')
from (select distinct on (calendar) calendar, zone, sessions from plan join hours using (symbol)) as c;
select kronos.add_calendar_exception(calendar, day::date, (span ->> 0)::time, (span ->> 1)::time)
from (select distinct on (calendar) calendar, exceptions from plan join hours using (symbol)) as c,
     jsonb_each(exceptions) as e(day, spans),
     jsonb_array_elements(case jsonb_typeof(spans) when 'array' then spans else '[null]' end) as span;

\o

drop table if exists demo.forecast;
create table demo.forecast as
select f.*
from (select calendar, array_agg(symbol order by symbol) as symbols,
             jsonb_build_object('calendar', calendar)
             || case when calendar = '24x7' and max(gaps) > 0 then jsonb_build_object('max_gap', 12) else '{}' end as options
      from plan group by calendar) as c
     cross join lateral kronos.kronos_predict('demo.bar', :horizon, series_col => 'symbol', time_col => 'ts',
                                              only_series => c.symbols, options => c.options) as f;
