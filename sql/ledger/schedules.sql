-- When a policy is due: times of a schedule, on the clock of its zone, and as pg_cron writes them.
call market.require_not_newer('ledger/schedules.sql', 1);

create or replace function ledger.slot_before(
  initial_start timestamptz, schedule_interval interval, timezone text, at timestamptz)
returns timestamptz
language plpgsql stable strict set search_path = pg_catalog, pg_temp
as $$
declare
  -- On the wall clock of the zone, where every day has 24 hours, intervals without months are all alike.
  start_local  constant timestamp := initial_start at time zone timezone;
  local_time   constant timestamp := at at time zone timezone;
  months       constant integer := extract(year from schedule_interval) * 12 + extract(month from schedule_interval);
  passed       constant interval := age(local_time, start_local);
  n            bigint;
  slot         timestamptz;
begin
  if at < initial_start then
    return null;
  end if;
  -- Clocks change by whole hours, so these come at the same minutes on every clock; an hour that comes twice has them twice.
  if schedule_interval <= interval '1 hour' then
    return initial_start + floor(extract(epoch from at - initial_start) / extract(epoch from schedule_interval)) * schedule_interval;
  end if;
  if months > 0 then
    n := (extract(year from passed) * 12 + extract(month from passed))::integer / months;
  else
    n := floor(extract(epoch from local_time - start_local) / extract(epoch from schedule_interval));
  end if;
  -- A month end or a changed clock can put the estimate one off.
  n := n + 1;
  loop
    slot := (start_local + n * schedule_interval) at time zone timezone;
    exit when slot <= at or n = 0;
    n := n - 1;
  end loop;
  return slot;
end
$$;
comment on function ledger.slot_before is
  'The newest time of a schedule that is not after at; NULL before initial_start. Days and months are those of the time zone.';

create or replace function ledger.leaves_its_day(initial_start timestamptz, schedule_interval interval, timezone text) returns boolean
language plpgsql stable strict set search_path = pg_catalog, pg_temp
as $$
declare
  start  constant timestamp := initial_start at time zone timezone;
begin
  -- Four years of months, and of years, meet every length that a month can have.
  return extract(day from start) > 28
     and schedule_interval = make_interval(months => (extract(year from schedule_interval) * 12 + extract(month from schedule_interval))::integer)
     and exists (select from generate_series(1, 48) n where extract(day from start + n * schedule_interval) <> extract(day from start));
end
$$;
comment on function ledger.leaves_its_day is
  'Whether a schedule of whole months comes to some that lack the day of its start: there its time is on the last day.';

create or replace function ledger.cron_expression(initial_start timestamptz, schedule_interval interval, timezone text default 'UTC') returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  start      constant timestamp := initial_start at time zone timezone;
  mi         constant integer := extract(minute from start);
  ho         constant integer := extract(hour from start);
  da         constant integer := extract(day from start);
  mo         constant integer := extract(month from start);
  months     constant integer := extract(year from schedule_interval) * 12 + extract(month from schedule_interval);
  seconds    constant numeric := extract(epoch from schedule_interval - make_interval(months => months));
  -- NULL where pg_cron, which counts in minutes, cannot tell.
  minutes    constant integer := case when seconds > 0 and mod(seconds, 60) = 0 and months = 0 then seconds / 60 end;
  -- That a day is the last of its month cron cannot say: it comes on each that may be, and kronos.run_policy() leaves out the others.
  days       constant text := case when ledger.leaves_its_day(initial_start, schedule_interval, timezone) then format('28-%s', da) else da::text end;
begin
  if minutes < 60 and 60 % minutes = 0 then
    return case minutes when 1 then '* * * * *' else format('%s-59/%s * * * *', mi % minutes, minutes) end;
  elsif minutes < 1440 and minutes % 60 = 0 and 1440 % minutes = 0 then
    return case minutes when 60 then format('%s * * * *', mi)
                        else format('%s %s-23/%s * * *', mi, ho % (minutes / 60), minutes / 60) end;
  elsif minutes = 1440 then
    return format('%s %s * * *', mi, ho);
  elsif minutes = 7 * 1440 then
    return format('%s %s * * %s', mi, ho, extract(dow from start));
  elsif months in (1, 2, 3, 4, 6, 12) and seconds = 0 then
    return case months when 1 then format('%s %s %s * *', mi, ho, days)
                       when 12 then format('%s %s %s %s *', mi, ho, days, mo)
                       else format('%s %s %s %s-12/%s *', mi, ho, days, (mo - 1) % months + 1, months) end;
  end if;
  raise exception 'schedule interval % cannot be written for pg_cron', schedule_interval
    using errcode = 'invalid_parameter_value',
          detail = 'It must divide an hour or a day, or be one day, one week, or months that divide a year.',
          hint = 'Choose such an interval, or schedule CALL kronos.run_policy() with an expression of your own.';
end
$$;
comment on function ledger.cron_expression is
  'A schedule as pg_cron writes it, to the minute of a time zone; 22023 where it cannot be written. Where ledger.leaves_its_day(), it names '
  'every day that can be the one: such a job calls kronos.run_policy() with "on_schedule": true.';

call market.record_file('ledger/schedules.sql', 1);
