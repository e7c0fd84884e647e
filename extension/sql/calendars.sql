-- Trading calendars: weekly sessions in the market's own time, and the days that differ.

create table _kronos.calendar (
  name text primary key check (name ~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$'),
  timezone text not null,
  description text,
  builtin boolean not null default false
);
comment on table _kronos.calendar is 'Trading calendars.';
comment on column _kronos.calendar.timezone is 'IANA name of the zone that sessions and days are written in.';
comment on column _kronos.calendar.builtin is 'True for rows that come with the extension; pg_dump leaves them out.';

create table _kronos.calendar_session (
  calendar text not null references _kronos.calendar on delete cascade,
  weekday smallint not null check (weekday between 1 and 7),
  opens time not null,
  closes time not null,
  builtin boolean not null default false,
  since date not null default '-infinity',
  primary key (calendar, since, weekday, opens),
  check (opens < closes)
);
comment on table _kronos.calendar_session is 'Regular sessions of a week. A weekday without a row has none; a session over midnight is two rows.';
comment on column _kronos.calendar_session.weekday is 'ISO day of the week in the calendar''s zone: Monday = 1 ... Sunday = 7.';
comment on column _kronos.calendar_session.opens is 'Start of the session, included, local time.';
comment on column _kronos.calendar_session.closes is 'End of the session, excluded, local time; 24:00 is midnight at the end of the day.';
comment on column _kronos.calendar_session.since is
  'First date of the week that the session belongs to; it holds until the next one that the calendar has.';

create table _kronos.calendar_exception (
  calendar text not null references _kronos.calendar on delete cascade,
  day date not null,
  opens time,
  closes time,
  note text,
  builtin boolean not null default false,
  check ((opens is null) = (closes is null)),
  check (opens < closes)
);
create unique index calendar_exception_key on _kronos.calendar_exception (calendar, day, builtin, coalesce(opens, '24:00'));
create index calendar_exception_own on _kronos.calendar_exception (calendar, day) where not builtin;
comment on table _kronos.calendar_exception is
  'Days whose sessions differ. The rows of a day replace its regular sessions; rows of users replace those of the extension.';
comment on column _kronos.calendar_exception.day is 'Local date.';
comment on column _kronos.calendar_exception.opens is 'Start of a session of that day; NULL: the market is closed all day.';
comment on column _kronos.calendar_exception.closes is 'End of that session, excluded.';
comment on column _kronos.calendar_exception.note is 'Why the day differs.';

select pg_catalog.pg_extension_config_dump('_kronos.calendar', 'where not builtin');
select pg_catalog.pg_extension_config_dump('_kronos.calendar_session', 'where not builtin');
select pg_catalog.pg_extension_config_dump('_kronos.calendar_exception', 'where not builtin');

create view kronos.calendar_sessions with (security_barrier) as
  select calendar, weekday, opens, closes, since from _kronos.calendar_session;
comment on view kronos.calendar_sessions is
  'Regular sessions of a week per calendar: weekday Monday = 1 ... Sunday = 7, times local to the calendar''s zone, end excluded. '
  'Where hours have changed, the week of the last since before a date holds.';
comment on column kronos.calendar_sessions.calendar is 'Name of the calendar.';

create view kronos.calendar_exceptions with (security_barrier) as
  select e.calendar, e.day, e.opens, e.closes, e.note, e.builtin
  from _kronos.calendar_exception e
  where not e.builtin
    or (e.calendar, e.day) not in (select own.calendar, own.day from _kronos.calendar_exception own where not own.builtin);
comment on view kronos.calendar_exceptions is
  'Days whose sessions replace the regular ones; opens and closes NULL mean closed all day.';
comment on column kronos.calendar_exceptions.calendar is 'Name of the calendar.';
comment on column kronos.calendar_exceptions.builtin is 'Whether it comes with the extension.';

create view kronos.calendars with (security_barrier) as
  select c.name, c.timezone, c.description,
         -- Subqueries, not joins: a reader of the zone alone does not pay for the rest.
         (select pg_catalog.jsonb_object_agg(d.weekday, d.spans order by d.weekday)
          from (select w.weekday,
                       pg_catalog.jsonb_agg(
                         pg_catalog.jsonb_build_array(pg_catalog.left(w.opens::text, 5), pg_catalog.left(w.closes::text, 5))
                         order by w.opens) as spans
                from _kronos.calendar_session w
                where w.calendar = c.name
                  and w.since = (select pg_catalog.max(n.since) from _kronos.calendar_session n where n.calendar = c.name)
                group by w.weekday) d) as sessions,
         (select pg_catalog.count(*) from kronos.calendar_exceptions x
          where x.calendar = c.name and x.opens is null) as closed_days,
         (select pg_catalog.count(distinct x.day) from kronos.calendar_exceptions x
          where x.calendar = c.name and x.opens is not null) as short_days,
         (select pg_catalog.min(x.day) from kronos.calendar_exceptions x where x.calendar = c.name) as first_day,
         (select pg_catalog.max(x.day) from kronos.calendar_exceptions x where x.calendar = c.name) as last_day,
         c.builtin
  from _kronos.calendar c;
comment on view kronos.calendars is 'Trading calendars that forecasts can step along.';
comment on column kronos.calendars.name is 'Name of the calendar, as options and instruments write it.';
comment on column kronos.calendars.description is 'What it is, for people; NULL: nobody said.';
comment on column kronos.calendars.sessions is 'Per ISO weekday the list of [opens, closes], local time, as they are now.';
comment on column kronos.calendars.closed_days is 'Number of listed dates without a session that a regular week would have.';
comment on column kronos.calendars.short_days is 'Number of listed dates with other hours, mostly early closes.';
comment on column kronos.calendars.first_day is 'First listed date; before it the regular week is assumed.';
comment on column kronos.calendars.last_day is 'Last listed date; after it the regular week is assumed.';

insert into _kronos.access (level, kind, object) values
  ('use', 'view', 'calendars'),
  ('use', 'view', 'calendar_sessions'),
  ('use', 'view', 'calendar_exceptions'),
  ('use', 'routine', 'calendar_days'),
  ('use', 'routine', 'infer_calendar'),
  ('operate', 'routine', 'add_calendar'),
  ('operate', 'routine', 'add_calendar_exception'),
  ('operate', 'routine', 'drop_calendar'),
  ('operate', 'routine', 'drop_calendar_exception');

create function kronos.calendar_days(calendar text, first date, last date)
returns table (day date, opens timestamptz, closes timestamptz)
language c stable parallel restricted cost 100 rows 300
as 'MODULE_PATHNAME', 'calendar_days_wrapper';
comment on function kronos.calendar_days is
  'Sessions of the trading days from first to last: one row per session, two where there is a lunch break. A market that opens in the evening trades for the next date.';

create function kronos.infer_calendar(
  relation regclass, only_series text[] default null, series_col name default null, time_col name default null,
  as_of timestamptz default null)
returns table (series text, calendar text, fits text[])
language c stable parallel restricted cost 1000 rows 100
as 'MODULE_PATHNAME', 'infer_calendar_wrapper';
comment on function kronos.infer_calendar is
  'The calendar that the newest bars of each series come from, by their days or hours; NULL where they do not decide, and the calendars that fit alike in fits.';

create function kronos.add_calendar(
  name text, timezone text, sessions jsonb, description text default null, if_not_exists boolean default false)
returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  bad text;
begin
  if name is null or timezone is null or sessions is null then
    raise exception 'name, timezone and sessions must not be null' using errcode = 'null_value_not_allowed';
  end if;
  if name !~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$' then
    raise exception 'calendar name "%" is not valid', name using errcode = 'invalid_parameter_value',
      hint = 'Use up to 63 letters, digits, "_", "." or "-", beginning with a letter or digit.';
  end if;
  -- The inference library reads IANA names only, not abbreviations or POSIX rules.
  if not exists (select from pg_timezone_names z where z.name = add_calendar.timezone and z.name ~ '^(UTC|[A-Z][A-Za-z_]+/.+)$') then
    raise exception 'time zone "%" does not exist', timezone using errcode = 'invalid_parameter_value',
      hint = 'Use an IANA name such as America/New_York; see pg_timezone_names.';
  end if;
  if exists (select from _kronos.calendar c where c.name = add_calendar.name) then
    if if_not_exists then
      raise notice 'calendar "%" already exists, skipping', name;
      return;
    end if;
    raise exception 'calendar "%" already exists', name using errcode = 'duplicate_object',
      hint = 'Use if_not_exists => true.';
  end if;
  if jsonb_typeof(sessions) <> 'object' or sessions = '{}' then
    raise exception 'sessions must be an object with a key per weekday' using errcode = 'invalid_parameter_value',
      hint = 'Write {"1":[["09:30","11:30"],["13:00","15:00"]], ...} with 1 = Monday to 7 = Sunday, or "1-5" for several days.';
  end if;
  select k into bad from jsonb_object_keys(sessions) k where k !~ '^[1-7](-[1-7])?$' limit 1;
  if bad is not null then
    raise exception 'unrecognized weekday "%" in sessions', bad using errcode = 'invalid_parameter_value',
      hint = 'Weekdays are 1 = Monday to 7 = Sunday, or a range such as "1-5".';
  end if;
  select k into bad from jsonb_each(sessions) as t(k, spans)
  where jsonb_typeof(spans) <> 'array'
     or exists (select from jsonb_array_elements(case jsonb_typeof(spans) when 'array' then spans else '[]' end) span
                where jsonb_typeof(span) <> 'array' or jsonb_array_length(span) <> 2
                   or span ->> 0 !~ '^([01][0-9]|2[0-3]):[0-5][0-9]$'
                   or span ->> 1 !~ '^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$'
                   or span ->> 0 >= span ->> 1)
  limit 1;
  if bad is not null then
    raise exception 'sessions of weekday "%" are not a list of [opens, closes]', bad using errcode = 'invalid_parameter_value',
      hint = 'Write times as "HH:MM" with opens before closes; a session over midnight is one up to "24:00" and one from "00:00".';
  end if;
  with span as (
    select weekday, s.span ->> 0 as opens, s.span ->> 1 as closes, row_number() over () as place
    from jsonb_each(sessions) as t(k, spans)
    cross join lateral generate_series(left(k, 1)::int, right(k, 1)::int) weekday
    cross join lateral jsonb_array_elements(spans) s(span))
  select a.weekday into bad from span a join span b using (weekday)
  where a.place < b.place and a.opens < b.closes and b.opens < a.closes limit 1;
  if bad is not null then
    raise exception 'sessions of weekday % overlap', bad using errcode = 'invalid_parameter_value';
  end if;
  insert into _kronos.calendar (name, timezone, description)
  values (add_calendar.name, add_calendar.timezone, add_calendar.description);
  insert into _kronos.calendar_session (calendar, weekday, opens, closes)
  select add_calendar.name, weekday, (s.span ->> 0)::time, (s.span ->> 1)::time
  from jsonb_each(sessions) as t(k, spans)
  cross join lateral generate_series(left(k, 1)::int, right(k, 1)::int) weekday
  cross join lateral jsonb_array_elements(spans) s(span);
end
$$;
comment on function kronos.add_calendar is
  'Defines a calendar from its weekly sessions, e.g. {"1-5":[["09:30","11:30"],["13:00","15:00"]]} with 1 = Monday.';

create function kronos.add_calendar_exception(
  calendar text, day date, opens time default null, closes time default null, note text default null)
returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if calendar is null or day is null then
    raise exception 'calendar and day must not be null' using errcode = 'null_value_not_allowed';
  end if;
  if (opens is null) <> (closes is null) or opens >= closes or not isfinite(day) then
    raise exception 'an exception needs a day and a session that opens before it closes' using errcode = 'invalid_parameter_value',
      hint = 'Pass opens and closes for a day with other hours, neither for a day without a session.';
  end if;
  perform from _kronos.calendar c where c.name = add_calendar_exception.calendar for share;
  if not found then
    raise exception 'calendar "%" does not exist', calendar using errcode = 'undefined_object', hint = 'See kronos.calendars.';
  end if;
  if exists (
    select from _kronos.calendar_exception e
    where e.calendar = add_calendar_exception.calendar and e.day = add_calendar_exception.day and not e.builtin
      and (e.opens, e.closes) is distinct from (add_calendar_exception.opens, add_calendar_exception.closes)
      and (e.opens is null or add_calendar_exception.opens is null
           or (e.opens < add_calendar_exception.closes and add_calendar_exception.opens < e.closes))
  ) then
    raise exception 'calendar "%" already has another exception on %', calendar, day using errcode = 'duplicate_object',
      hint = 'Remove it first with kronos.drop_calendar_exception().';
  end if;
  insert into _kronos.calendar_exception (calendar, day, opens, closes, note)
  values (add_calendar_exception.calendar, add_calendar_exception.day, add_calendar_exception.opens,
          add_calendar_exception.closes, add_calendar_exception.note)
  on conflict do nothing;
end
$$;
comment on function kronos.add_calendar_exception is
  'Lists a day with other hours, or without a session when opens and closes are NULL; several calls make several sessions.';

create function kronos.drop_calendar_exception(calendar text, day date, if_exists boolean default false)
returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  delete from _kronos.calendar_exception e
  where e.calendar = drop_calendar_exception.calendar and e.day = drop_calendar_exception.day and not e.builtin;
  if found then
    return;
  end if;
  if if_exists then
    raise notice 'calendar "%" has no exception of its own on %, skipping', calendar, day;
    return;
  end if;
  raise exception 'calendar "%" has no exception of its own on %', calendar, day using errcode = 'undefined_object',
    hint = 'Days that come with the extension stay; list the day''s sessions with kronos.add_calendar_exception() to replace them.';
end
$$;
comment on function kronos.drop_calendar_exception is 'Removes what kronos.add_calendar_exception() listed for a day.';

create function kronos.drop_calendar(name text, if_exists boolean default false)
returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  ours boolean;
begin
  select c.builtin into ours from _kronos.calendar c where c.name = drop_calendar.name;
  if not found then
    if if_exists then
      raise notice 'calendar "%" does not exist, skipping', name;
      return;
    end if;
    raise exception 'calendar "%" does not exist', name using errcode = 'undefined_object', hint = 'See kronos.calendars.';
  end if;
  if ours then
    raise exception 'cannot drop calendar "%" because the extension provides it', name using errcode = 'dependent_objects_still_exist';
  end if;
  delete from _kronos.calendar c where c.name = drop_calendar.name;
end
$$;
comment on function kronos.drop_calendar is 'Removes a calendar with its sessions and exceptions.';
