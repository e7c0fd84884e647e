-- The calendars that come with the extension.

insert into _kronos.calendar (name, timezone, description, builtin) values
  ('24x7', 'UTC', 'Never closes', true),
  ('XNYS', 'America/New_York', 'New York Stock Exchange, core session. Closures from 1970 on, early closes from 1993 on, both by rule to 2100; '
   'hours before 1985-09-30 were shorter than listed.', true);

insert into _kronos.calendar_session (calendar, weekday, opens, closes, builtin)
select '24x7', weekday, time '00:00', time '24:00', true from pg_catalog.generate_series(1, 7) weekday
union all
select 'XNYS', weekday, '09:30', '16:00', true from pg_catalog.generate_series(1, 5) weekday;

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
