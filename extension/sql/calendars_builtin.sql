-- The calendars that come with the extension.

insert into _kronos.calendar (name, timezone, description, builtin) values
  ('24x7', 'UTC', 'Never closes', true),
  ('XNYS', 'America/New_York', 'New York Stock Exchange, core session. Closures from 1970 on, early closes from 1993 on, both by rule to 2100; '
   'hours before 1985-09-30 were shorter than listed.', true),
  ('XNAS', 'America/New_York', 'Nasdaq: the days and hours of XNYS.', true),
  ('XLON', 'Europe/London', 'London Stock Exchange. Days from 2000 to 2030.', true),
  ('XETR', 'Europe/Berlin', 'Xetra, Frankfurt. Days from 2000 to 2030.', true),
  ('XPAR', 'Europe/Paris', 'Euronext Paris. Days from 2000 to 2030.', true),
  ('XTKS', 'Asia/Tokyo', 'Tokyo Stock Exchange, with lunch break; until 15:30 since 2024-11-05. Days from 2000 to 2030.', true),
  ('XHKG', 'Asia/Hong_Kong', 'Hong Kong Exchanges, with lunch break; from 09:30 since 2011-03-07. Days from 2000 to 2030.', true),
  ('XSHG', 'Asia/Shanghai', 'Shanghai Stock Exchange, with lunch break. Days from 2000 to 2026: later holidays are not published yet.', true),
  ('XASX', 'Australia/Sydney', 'Australian Securities Exchange. Days from 2000 to 2030.', true),
  ('GLBX', 'America/Chicago', 'CME Globex, equity index futures: 17:00 of the evening before to 16:00. Days from 2000 to 2030.', true),
  ('FX', 'America/New_York', 'Spot foreign exchange: from Sunday 17:00 to Friday 17:00, but for Christmas and New Year''s Day; a day begins at 17:00.', true);

insert into _kronos.calendar_session (calendar, weekday, opens, closes, builtin)
select '24x7', weekday, time '00:00', time '24:00', true from pg_catalog.generate_series(1, 7) weekday
union all
select 'XNYS', weekday, '09:30', '16:00', true from pg_catalog.generate_series(1, 5) weekday;

insert into _kronos.calendar_session (calendar, since, weekday, opens, closes, builtin)
select w.calendar, w.since, weekday, w.opens, w.closes, true
from (values
  ('XNAS', date '-infinity', 1, 5, time '09:30', time '16:00'),
  ('XLON', '-infinity', 1, 5, '08:00', '16:30'),
  ('XETR', '-infinity', 1, 5, '09:00', '17:30'),
  ('XPAR', '-infinity', 1, 5, '09:00', '17:30'),
  ('XTKS', '-infinity', 1, 5, '09:00', '11:30'),
  ('XTKS', '-infinity', 1, 5, '12:30', '15:00'),
  ('XTKS', '2024-11-05', 1, 5, '09:00', '11:30'),
  ('XTKS', '2024-11-05', 1, 5, '12:30', '15:30'),
  ('XHKG', '-infinity', 1, 5, '10:00', '12:00'),
  ('XHKG', '-infinity', 1, 5, '13:00', '16:00'),
  ('XHKG', '2011-03-07', 1, 5, '09:30', '12:00'),
  ('XHKG', '2011-03-07', 1, 5, '13:00', '16:00'),
  ('XSHG', '-infinity', 1, 5, '09:30', '11:30'),
  ('XSHG', '-infinity', 1, 5, '13:00', '15:00'),
  ('XASX', '-infinity', 1, 5, '10:00', '16:00'),
  ('GLBX', '-infinity', 1, 5, '00:00', '16:00'),
  ('GLBX', '-infinity', 1, 4, '17:00', '24:00'),
  ('GLBX', '-infinity', 7, 7, '17:00', '24:00'),
  ('FX', '-infinity', 1, 4, '00:00', '24:00'),
  ('FX', '-infinity', 5, 5, '00:00', '17:00'),
  ('FX', '-infinity', 7, 7, '17:00', '24:00')) w(calendar, since, first, last, opens, closes)
cross join lateral pg_catalog.generate_series(w.first, w.last) weekday;

create function _kronos.easter(year int) returns date
language sql immutable strict parallel safe set search_path = pg_catalog, pg_temp
as $$
  -- Gregorian computus in the form of Meeus, Astronomical Algorithms, chapter 8.
  with a as (select year % 19 as a, year / 100 as b, year % 100 as c),
       h as (select a, b, c, (19 * a + b - b / 4 - (b - (b + 8) / 25 + 1) / 3 + 15) % 30 as h from a),
       l as (select a, h, (32 + 2 * (b % 4) + 2 * (c / 4) - h - c % 4) % 7 as l from h),
       p as (select h + l - 7 * ((a + 11 * h + 22 * l) / 451) + 114 as p from l)
  select make_date(year, p / 31, p % 31 + 1) from p
$$;
comment on function _kronos.easter is 'Easter Sunday of a year in the Gregorian calendar.';

create function _kronos.nth_weekday(year int, month int, weekday int, nth int) returns date
language sql immutable strict parallel safe set search_path = pg_catalog, pg_temp
as $$
  select first + (weekday - extract(isodow from first)::int + 7) % 7 + 7 * (nth - 1)
  from (select make_date(year, month, 1) as first) m
$$;
comment on function _kronos.nth_weekday is 'The nth given ISO weekday of a month.';

create function _kronos.nyse_days(first_year int, last_year int)
returns table (day date, opens time, closes time, note text)
language sql immutable strict parallel safe set search_path = pg_catalog, pg_temp
as $$
  with years as (select y from generate_series(first_year, last_year) y),
  -- Rule 7.2 of the exchange: a holiday on a Sunday is kept on Monday, one on a Saturday on Friday, unless Friday ends
  -- an accounting period, as it does before New Year's Day and did before the Memorial Day of 1970.
  fixed (holiday, friday, name) as (
    select make_date(y, 1, 1), false, 'New Year''s Day' from years
    union all select make_date(y, 2, 22), true, 'Washington''s Birthday' from years where y < 1971
    union all select make_date(y, 5, 30), false, 'Memorial Day' from years where y < 1971
    union all select make_date(y, 6, 19), true, 'Juneteenth' from years where y >= 2022
    union all select make_date(y, 7, 4), true, 'Independence Day' from years
    union all select make_date(y, 12, 25), true, 'Christmas Day' from years
  ),
  closed (day, note) as (
    select case extract(isodow from holiday) when 7 then holiday + 1 when 6 then holiday - 1 else holiday end, name
    from fixed where friday or extract(isodow from holiday) <> 6
    union all select _kronos.nth_weekday(y, 1, 1, 3), 'Martin Luther King Jr. Day' from years where y >= 1998
    union all select _kronos.nth_weekday(y, 2, 1, 3), 'Washington''s Birthday' from years where y >= 1971
    union all select _kronos.easter(y) - 2, 'Good Friday' from years
    union all select _kronos.nth_weekday(y, 6, 1, 1) - 7, 'Memorial Day' from years where y >= 1971
    union all select _kronos.nth_weekday(y, 9, 1, 1), 'Labor Day' from years
    union all select _kronos.nth_weekday(y, 11, 4, 4), 'Thanksgiving Day' from years
    -- Election Day stayed a holiday in presidential years until 1980.
    union all select _kronos.nth_weekday(y, 11, 1, 1) + 1, 'Election Day' from years where y in (1972, 1976, 1980)
    union all
    select d, n from (values
      (date '1972-12-28', 'Mourning for Harry S. Truman'),
      ('1973-01-25', 'Mourning for Lyndon B. Johnson'),
      ('1977-07-14', 'New York City blackout'),
      ('1985-09-27', 'Hurricane Gloria'),
      ('1994-04-27', 'Mourning for Richard M. Nixon'),
      ('2001-09-11', 'Attacks of September 11'),
      ('2001-09-12', 'Attacks of September 11'),
      ('2001-09-13', 'Attacks of September 11'),
      ('2001-09-14', 'Attacks of September 11'),
      ('2004-06-11', 'Mourning for Ronald Reagan'),
      ('2007-01-02', 'Mourning for Gerald R. Ford'),
      ('2012-10-29', 'Hurricane Sandy'),
      ('2012-10-30', 'Hurricane Sandy'),
      ('2018-12-05', 'Mourning for George H. W. Bush'),
      ('2025-01-09', 'Mourning for Jimmy Carter')) once(d, n)
    where extract(year from d) between first_year and last_year
  ),
  early (day, note) as (
    select _kronos.nth_weekday(y, 11, 4, 4) + 1, 'Day after Thanksgiving' from years where y >= 1993
    -- A Christmas Eve on a Friday is the holiday itself, kept early.
    union all select make_date(y, 12, 24), 'Christmas Eve' from years
      where y >= 1993 and extract(isodow from make_date(y, 12, 24)) <= 4
    -- July 3 before a holiday on a weekday other than Monday; a Wednesday only since 2013. Before, the Friday after was short.
    union all select make_date(y, 7, 3), 'Day before Independence Day' from years
      where y >= 1995 and (extract(isodow from make_date(y, 7, 3)) in (1, 2, 4)
                           or (y >= 2013 and extract(isodow from make_date(y, 7, 3)) = 3))
    union all select make_date(y, 7, 5), 'Day after Independence Day' from years
      where y between 1995 and 2012 and extract(isodow from make_date(y, 7, 5)) = 5
    union all
    select d, n from (values
      (date '1997-12-26', 'Day after Christmas'),
      ('1999-12-31', 'Eve of the year 2000'),
      ('2003-12-26', 'Day after Christmas')) once(d, n)
    where extract(year from d) between first_year and last_year
  ),
  weather (day, opens, closes, note) as (
    select * from (values
      (date '1994-02-11', time '09:30', time '14:30', 'Snowstorm'),
      ('1996-01-08', '11:00', '14:00', 'Blizzard')) once(d, o, c, n)
    where extract(year from d) between first_year and last_year
  )
  select day, null::time, null::time, note from closed
  union all select day, time '09:30', time '13:00', note from early
  union all select day, opens, closes, note from weather
  order by 1
$$;
comment on function _kronos.nyse_days is
  'Closures and short days of the New York Stock Exchange, by its Rule 7.2, its trading-hours notices and its list of special closings.';

insert into _kronos.calendar_exception (calendar, day, opens, closes, note, builtin)
select 'XNYS', day, opens, closes, note, true from _kronos.nyse_days(1970, 2100);
insert into _kronos.calendar_exception (calendar, day, opens, closes, note, builtin)
select 'XNAS', day, opens, closes, note, true from _kronos.calendar_exception where calendar = 'XNYS';

create function _kronos.dates(year int, days text) returns setof date
language sql immutable strict parallel safe rows 10 set search_path = pg_catalog, pg_temp
as $$ select make_date(year, left(d, 2)::int, right(d, 2)::int) from string_to_table(days, ' ') d $$;
comment on function _kronos.dates is 'Dates of a year from a list of months and days such as 0101 1225.';

create function _kronos.early_hours() returns table (calendar text, since date, until date, opens time, closes time)
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  values ('XLON', date '-infinity', date 'infinity', time '08:00', time '12:30'),
         ('XETR', '-infinity', 'infinity', '09:00', '14:00'),
         ('XPAR', '-infinity', 'infinity', '09:00', '14:05'),
         ('XHKG', '-infinity', '2011-03-07', '10:00', '12:30'),
         ('XHKG', '2011-03-07', 'infinity', '09:30', '12:00'),
         ('XASX', '-infinity', 'infinity', '10:00', '14:10')
$$;
comment on function _kronos.early_hours is 'Sessions of days with an early close.';

create function _kronos.evening_days(evening time, closes time, early_close time, closed date[], early date[])
returns table (day date, opens time, closes time)
language sql immutable strict parallel safe set search_path = pg_catalog, pg_temp
as $$
  -- A day that is closed has no morning, and the date before it no evening.
  with affected as (select unnest(closed) as d union select unnest(closed) - 1 union select unnest(early)),
  session as (
    select d, time '00:00' as opens, case when d = any (early) then early_close else closes end as closes
    from affected where extract(isodow from d) < 6 and d <> all (closed)
    union all
    select d, evening, '24:00' from affected where extract(isodow from d + 1) < 6 and d + 1 <> all (closed)
  )
  select a.d, s.opens, s.closes from affected a left join session s on s.d = a.d
$$;
comment on function _kronos.evening_days is
  'Sessions of the dates on which a market that trades from evening to evening differs from its week: trading days that are closed or close early.';

insert into _kronos.calendar_exception (calendar, day, opens, closes, builtin)
select 'FX', x.day, x.opens, x.closes, true
from _kronos.evening_days('17:00', '17:00', '17:00', array(
  select d from pg_catalog.generate_series(1970, 2100) year cross join lateral (values (pg_catalog.make_date(year, 1, 1)), (pg_catalog.make_date(year, 12, 25))) holiday(d)
  where extract(isodow from d) < 6), '{}') x;

