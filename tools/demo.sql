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
where age <= 2000;

-- Sessions are written to the minute, weeks and months have none, and a stray hole is not a closing time.
create temporary table plan as
select symbol, width, ceil(longest / width) as longest_gap,
       case when width < 60 or width >= 2 * 86400 or (gaps <= 0.01 * spacings and longest <= 12 * width) then '24x7' end
           as calendar
from (select symbol, min(width) as width, count(spacing) as spacings, count(*) filter (where spacing > width) as gaps,
             coalesce(max(spacing), 0) as longest
      from newest
           join (select symbol, mode() within group (order by spacing) filter (where spacing > 0) as width
                 from newest group by symbol) as common using (symbol)
      group by symbol) as spacing;

create temporary table slot as
select symbol, zone, width, day, extract(isodow from day)::int as weekday, time_of_day
from (select symbol, zone, width, local::date as day,
             case when width >= 86400 then 0 else extract(epoch from local::time)::int end as time_of_day
      from (select n.symbol, zone, p.width::int, n.ts at time zone zone as local
            from newest as n join plan as p using (symbol),
                 unnest(array['UTC', 'America/New_York', 'Europe/London', 'Australia/Sydney']) as zone
            where p.calendar is null) as bar) as local;

delete from slot
where (symbol, zone) not in (
    select distinct on (symbol) symbol, zone
    from (select symbol, zone, count(distinct time_of_day) as times from slot group by symbol, zone) as by_zone
    order by symbol, times, zone <> 'UTC', zone);

create temporary table range as
select symbol, min(width) as width, min(day) as first, max(day) as last, greatest(1, (max(day) - min(day)) / 7) as weeks
from slot group by symbol;

-- A weekday on which the market opens in half of the weeks, and the times at which a tenth of these have a bar.
create temporary table usual as
select symbol, weekday, time_of_day
from slot
     join (select symbol, weekday, count(distinct day) as days from slot group by symbol, weekday) as seen
          using (symbol, weekday)
     join range using (symbol)
where 2 * days >= weeks
group by symbol, weekday, time_of_day, days
having 10 * count(distinct day) >= days;

-- Within a date, up to 12 usual bars that are missing between others are missing; what else is missing is closed.
create temporary table open_slot as
select symbol, day, time_of_day
from (select *, count(*) over (partition by symbol, day, observed, island) as missing,
             min(time_of_day) filter (where observed) over (partition by symbol, day) as first_bar,
             max(time_of_day) filter (where observed) over (partition by symbol, day) as last_bar
      from (select *, row_number() over (partition by symbol, day order by time_of_day)
                      - row_number() over (partition by symbol, day, observed order by time_of_day) as island
            from (select symbol, day, time_of_day, bool_or(observed) as observed
                  from (select symbol, day, time_of_day, true as observed from slot
                        union all
                        select u.symbol, d::date, u.time_of_day, false
                        from range as r cross join generate_series(r.first, r.last, interval '1 day') as d
                             join usual as u on u.symbol = r.symbol and u.weekday = extract(isodow from d)) as both_kinds
                  group by symbol, day, time_of_day) as marked) as island) as run
where observed or (missing <= 12 and time_of_day between first_bar and last_bar);

-- Bars that follow one another without a pause are one session.
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
    select symbol, weekday, pg_temp.spans(array_agg(time_of_day), width) as spans
    from usual join range using (symbol) group by symbol, width, weekday
), daily as (
    select symbol, day, pg_temp.spans(array_agg(time_of_day), width) as spans
    from open_slot join range using (symbol) group by symbol, width, day
), exception as (
    -- The outermost dates may be cut off by the ends of the data.
    select r.symbol, d::date as day, daily.spans
    from range as r
         cross join generate_series(r.first + 1, r.last - 1, interval '1 day') as d
         left join daily on daily.symbol = r.symbol and daily.day = d::date
         left join weekly on weekly.symbol = r.symbol and weekly.weekday = extract(isodow from d)
    where daily.spans is distinct from weekly.spans
)
select symbol, zone, sessions,
       coalesce((select jsonb_object_agg(day, spans) from exception as e where e.symbol = w.symbol), '{}') as exceptions
from (select symbol, jsonb_object_agg(weekday, spans) as sessions from weekly group by symbol) as w
     join (select distinct symbol, zone from slot) as z using (symbol);

-- Symbols that keep the same hours share a calendar.
update plan as p set calendar = h.calendar
from (select symbol, 'demo-' || dense_rank() over (order by zone, sessions, exceptions) as calendar from hours) as h
where h.symbol = p.symbol;

\o /dev/null
select kronos.drop_calendar(name) from kronos.calendars where name like 'demo-%';
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
             jsonb_build_object(
                 'calendar', calendar, 'bucket_width', case when width < 86400 then width || ' seconds' end,
                 'max_gap', case when calendar = '24x7' then least(1000, greatest(12, max(longest_gap))) else 12 end)
             as options
      from plan group by calendar, width) as c
     cross join lateral kronos.kronos_predict('demo.bar', :horizon, series_col => 'symbol', time_col => 'ts',
                                              only_series => c.symbols, options => c.options) as f;
