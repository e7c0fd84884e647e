-- Forecast policies: forecasts into the ledger on a schedule. The tables and the runner are those of sql/ledger; here is what
-- people call.

create function kronos.add_forecast_policy(
  relation regclass,
  horizon int,
  schedule_interval interval default '1 hour',
  policy text default null,
  call text default 'kronos_predict',
  model text default null,
  args jsonb default '{}',
  if_not_exists boolean default false,
  initial_start timestamptz default null,
  timezone text default null)
returns integer
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  messages constant text := current_setting('client_min_messages');
  name      text := policy;
  zone      text := coalesce(timezone, 'UTC');
  start     timestamptz := initial_start;
  chosen    text := kronos.scheduler();
  cron_zone text;
  job       bigint;
  short     boolean;
  problem   text;
begin
  perform _kronos.require_ledger();
  if relation is null or horizon is null or schedule_interval is null or args is null or call is null then
    raise exception 'relation, horizon, schedule_interval, call and args must not be null' using errcode = 'null_value_not_allowed';
  elsif horizon < 1 then
    raise exception 'horizon must be at least 1, got %', horizon using errcode = 'invalid_parameter_value';
  elsif schedule_interval < interval '1 minute' then
    raise exception 'schedule_interval must be at least 1 minute, got %', schedule_interval using errcode = 'invalid_parameter_value';
  elsif extract(month from schedule_interval) + extract(year from schedule_interval) > 0
        and schedule_interval <> make_interval(years => extract(year from schedule_interval)::int, months => extract(month from schedule_interval)::int) then
    raise exception 'schedule_interval must be whole months, or days and time, got %', schedule_interval
      using errcode = 'invalid_parameter_value';
  elsif jsonb_typeof(args) <> 'object' then
    raise exception 'args must be a JSON object, got %', jsonb_typeof(args)
      using errcode = 'invalid_parameter_value', hint = 'Pass args => ''{"only_series": ["A", "B"]}''.';
  elsif not exists (select from pg_timezone_names t where t.name = zone) then
    raise exception 'time zone "%" does not exist', zone using errcode = 'invalid_parameter_value', hint = 'See pg_timezone_names.';
  elsif coalesce(args ->> 'catch_up', 'latest') not in ('none', 'latest', 'all') then
    raise exception 'catch_up must be none, latest or all, got "%"', args ->> 'catch_up' using errcode = 'invalid_parameter_value';
  end if;
  foreach problem in array array['max_catch_up', 'batch_series'] loop
    if args ? problem and (jsonb_typeof(args -> problem) <> 'number' or not (args ->> problem)::numeric between 1 and 10000
                           or (args ->> problem)::numeric <> floor((args ->> problem)::numeric)) then
      raise exception '% must be a whole number from 1 to 10000, got %', problem, args -> problem using errcode = 'invalid_parameter_value';
    end if;
  end loop;
  if not has_table_privilege(relation, 'SELECT') then
    raise exception 'permission denied for relation %', relation using errcode = 'insufficient_privilege',
      hint = 'A policy reads its input as its owner.';
  end if;
  if name is null then
    name := (select c.relname from pg_class c where c.oid = relation) || format('_%s_%s', call, horizon);
  elsif name = '' then
    raise exception 'policy must not be empty' using errcode = 'invalid_parameter_value';
  end if;
  if exists (select from ledger.own_policies p where p.policy = name) then
    if if_not_exists then
      raise notice 'policy "%" already exists, skipping', name;
      return (select p.job_id from ledger.own_policies p where p.policy = name);
    end if;
    raise exception 'policy "%" already exists', name using errcode = 'duplicate_object', hint = 'Use if_not_exists => true.';
  end if;

  -- Forecasts of a time without data: the function itself says what is wrong with model, columns and options.
  -- Nothing is known in the year 1, which is no news.
  perform set_config('client_min_messages', case messages when 'error' then messages else 'warning' end, true);
  execute format('select count(*) from (%s) q',
                 ledger.policy_query(call, relation, horizon, model, args, null, '0001-01-01 00:00:00+00'));
  perform set_config('client_min_messages', messages, true);

  if start is null then
    -- The next whole interval of the day, and a little later: the bar must have arrived.
    start := date_trunc('day', now() at time zone zone) at time zone zone + least(interval '5 minutes', schedule_interval / 12);
    start := coalesce(ledger.slot_before(start, schedule_interval, zone, now()) + least(schedule_interval, interval '1 day'), start);
  end if;
  if chosen = 'pg_cron' then
    -- Called by the minute, a run would come before a time with seconds and serve the one before it.
    start := date_trunc('minute', start);
  end if;
  short := ledger.leaves_its_day(start, schedule_interval, zone);
  if short then
    raise notice 'policy "%" runs on day % of a month, and on the last day of a month that has fewer', name, extract(day from start at time zone zone);
  end if;

  if ledger.has_row_security(relation) then
    raise warning 'relation % has row security, only "%" will see the forecasts of policy "%"', relation, current_user, name
      using errcode = '01000', hint = 'A view of the ledger cannot repeat the rows that each role may see.';
  else
    problem := (ledger.look(relation)).varies;
    if problem is not null then
      raise warning 'relation % may show each role other rows, only "%" will see the forecasts of policy "%"', relation, current_user, name
        using errcode = '01000', detail = format('It depends on %s.', problem),
              hint = 'A view of the ledger cannot repeat the rows that each role may see.';
    end if;
  end if;
  begin
    insert into ledger.new_policies (policy, relation, horizon, call, model, args, schedule_interval, initial_start, timezone)
    values (name, relation, horizon, call, model, args, schedule_interval, start, zone);
  exception when unique_violation then
    raise exception 'policy "%" already exists', name using errcode = 'duplicate_object',
      hint = 'It belongs to another role: choose another name.';
  end;

  if chosen = 'timescaledb' then
    execute format(
      'select %I.add_job(''kronos.run_policy''::regproc, $1, config => $2, initial_start => $3, fixed_schedule => true, timezone => $4%s)',
      _kronos.timescale_schema(),
      -- Releases before 2.20 know no names of jobs.
      case when exists (select from pg_proc p join pg_namespace n on n.oid = p.pronamespace
                        where p.proname = 'add_job' and n.nspname = _kronos.timescale_schema() and 'job_name' = any (p.proargnames))
           then ', job_name => $5' else '' end)
    into job using schedule_interval, jsonb_build_object('policy', name), start, zone, 'kronos policy ' || name;
  elsif chosen = 'pg_cron' then
    cron_zone := _kronos.cron_timezone();
    if zone <> cron_zone and not (zone in ('UTC', 'GMT') and cron_zone in ('UTC', 'GMT')) then
      raise exception 'pg_cron runs by time zone %, not by %', cron_zone, zone
        using errcode = 'feature_not_supported', hint = format('Pass timezone => %L; initial_start may be written in any zone.', cron_zone);
    elsif not has_schema_privilege('cron', 'USAGE') then
      raise exception 'permission denied for schema cron' using errcode = 'insufficient_privilege',
        hint = format('GRANT USAGE ON SCHEMA cron TO %I;', current_user);
    end if;
    job := cron.schedule('kronos policy ' || name, ledger.cron_expression(start, schedule_interval, zone),
                         format('call kronos.run_policy(config => %L)', jsonb_build_object('policy', name)
                                || case when short then jsonb_build_object('on_schedule', true) else '{}' end));
  else
    raise notice 'there is no scheduler in this database, so policy "%" runs when it is called', name
      using hint = format('CALL kronos.run_policy(config => ''{"policy": %s}''), from any clock; CALL kronos.run_policy() runs every policy of yours that is due.', to_json(name));
  end if;
  update ledger.own_policies p set scheduler = chosen, job_id = job where p.policy = name;
  return job;
end
$$;
comment on function kronos.add_forecast_policy is
  'Forecasts a relation into the ledger every schedule_interval, as the current role; returns the job of TimescaleDB or pg_cron, NULL '
  'without a scheduler. call names the forecast function, args its other arguments as JSON, and batch_series, catch_up (none, latest, '
  'all), max_catch_up, event_context and features.';

create function kronos.remove_forecast_policy(policy text, if_exists boolean default false) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  -- Its type would be looked for before the ledger is.
  p       record;
  request record;
  own     boolean;
begin
  perform _kronos.require_ledger();
  own := exists (select from ledger.own_policies v where v.policy = remove_forecast_policy.policy);
  if not own and has_table_privilege('ledger.policies', 'DELETE') then
    select * into p from ledger.policies v where v.policy = remove_forecast_policy.policy;
  else
    select * into p from ledger.own_policies v where v.policy = remove_forecast_policy.policy;
  end if;
  if not found then
    if if_exists and not exists (select from kronos.policies v where v.policy = remove_forecast_policy.policy) then
      raise notice 'policy "%" does not exist, skipping', policy;
      return false;
    end if;
    perform ledger.own_policy(policy);
  end if;
  -- The number of a job is what the owner of the policy has written: another job of that number is left alone.
  if p.scheduler = 'timescaledb' and _kronos.timescale_schema() is not null then
    if exists (select from timescaledb_information.jobs j
               where j.job_id = p.job_id and j.proc_schema = 'kronos' and j.proc_name = 'run_policy' and j.config ->> 'policy' = p.policy) then
      execute format('select %I.delete_job($1::int)', _kronos.timescale_schema()) using p.job_id;
    end if;
  elsif p.scheduler = 'pg_cron' then
    perform _kronos.unschedule(p.job_id, 'kronos policy ' || p.policy);
  end if;
  if own then
    for request in select q.request_id from ledger.own_requests q where q.policy_id = p.policy_id and q.state = 'queued' loop
      perform kronos.cancel(request.request_id);
    end loop;
    delete from ledger.own_policies v where v.policy_id = p.policy_id;
  else
    for request in
      update ledger.requests q set state = 'cancelled', ended_at = clock_timestamp()
      where q.policy_id = p.policy_id and q.state = 'queued' returning q.request_id, q.job_id
    loop
      perform _kronos.unschedule(request.job_id, 'kronos request ' || request.request_id);
    end loop;
    delete from ledger.policies v where v.policy_id = p.policy_id;
  end if;
  return true;
end
$$;
comment on function kronos.remove_forecast_policy is
  'Ends a policy and its job; returns whether there was one. Its forecasts and runs stay. For its owner, the owner of the ledger and superusers.';

create procedure kronos.run_policy(job_id int default null, config jsonb default null)
language plpgsql
as $$
declare
  -- The procedure commits on its way and so has no settings of its own: names are spelt out.
  names   pg_catalog.text[];
  name    pg_catalog.text;
  request pg_catalog.int8;
begin
  perform _kronos.require_ledger();
  for name in select k.key from pg_catalog.jsonb_object_keys(config) as k(key)
    where k.key operator(pg_catalog.<>) all (array['policy', 'on_schedule', 'request_id']) loop
    raise exception 'unrecognized key "%" of config', name
      using errcode = 'invalid_parameter_value', hint = 'Valid keys: policy, on_schedule.';
  end loop;
  request := (config operator(pg_catalog.->>) 'request_id')::pg_catalog.int8;
  -- Its job fires every minute until one of these took the request up.
  if request is not null and _kronos.end_request_job(request) then
    commit;
    return;
  end if;
  name := config operator(pg_catalog.->>) 'policy';
  if name is not null then
    if (config operator(pg_catalog.->>) 'on_schedule')::pg_catalog.bool and _kronos.is_off_schedule(name) then
      return;
    end if;
    call ledger.run_policy(name);
    -- Last of all: pg_cron ends the command of a job that is removed.
    if request is not null then
      perform _kronos.end_request_job(request);
      commit;
    end if;
    return;
  end if;
  names := _kronos.due_policies(job_id);
  foreach name in array names loop
    call ledger.run_policy(name, true);
  end loop;
end
$$;
comment on procedure kronos.run_policy is
  'Runs the policy that config names; without one, every policy of the current role that is due or requested. For TimescaleDB jobs, '
  'pg_cron, or any other clock. config: {"policy": "name"}, and "on_schedule": true for a clock that also comes on days that are not the '
  'policy''s: it then runs only within half a day of a time of its schedule.';

create function _kronos.is_off_schedule(policy text, at timestamptz default now()) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  -- A policy that is not there, or not one's own, is for ledger.run_policy() to complain about.
  return exists (
    select from ledger.own_policies p
    where p.policy = is_off_schedule.policy
      and coalesce(at - ledger.slot_before(p.initial_start, p.schedule_interval, p.timezone, at) > interval '12 hours', true));
end
$$;
comment on function _kronos.is_off_schedule is
  'Whether no time of a policy''s schedule came in the half day before at: how late a clock may call and still be on time.';

create function _kronos.due_policies(job_id int default null) returns text[]
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return array(
    select p.policy
    from ledger.own_policies p
    where case when due_policies.job_id is not null then p.scheduler = 'timescaledb' and p.job_id = due_policies.job_id
               else exists (select from ledger.own_requests q where q.policy_id = p.policy_id and q.state = 'queued')
                 or ledger.slot_before(p.initial_start, p.schedule_interval, p.timezone, now()) >
                    (select coalesce(max(r.scheduled_for), p.created_at) from ledger.issued_runs r
                     where r.policy_id = p.policy_id and r.state in ('done', 'partial')) end
    order by p.policy_id);
end
$$;
comment on function _kronos.due_policies is 'Policies of the current role that a call of kronos.run_policy() without a name would run.';

create function kronos.submit(policy text) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  p        record;
  request  bigint;
  job      bigint;
begin
  perform _kronos.require_ledger();
  p := ledger.own_policy(policy);
  insert into ledger.new_requests (policy_id, policy) values (p.policy_id, p.policy) returning request_id into request;
  if p.scheduler = 'timescaledb' then
    execute format('select %I.alter_job($1::int, next_start => now())', _kronos.timescale_schema()) using p.job_id;
  elsif p.scheduler = 'pg_cron' then
    -- It runs at the next minute and removes itself at its end.
    job := cron.schedule('kronos request ' || request, '* * * * *', format('call kronos.run_policy(config => %L)',
      jsonb_build_object('policy', p.policy, 'request_id', request)));
    update ledger.own_requests q set job_id = job where q.request_id = request;
  else
    raise notice 'there is no scheduler in this database, so request % waits for the next call', request
      using hint = 'CALL kronos.run_policy();';
  end if;
  return request;
end
$$;
comment on function kronos.submit is
  'Asks for a run of a policy at once and returns the identity of the request without waiting: a TimescaleDB job starts now, pg_cron at '
  'the next minute, else the next call of kronos.run_policy() serves it.';

create function _kronos.end_request_job(request_id bigint) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  job bigint;
begin
  select q.job_id into job from ledger.own_requests q where q.request_id = end_request_job.request_id and q.state <> 'queued';
  if not found then
    return false;
  end if;
  perform _kronos.unschedule(job, 'kronos request ' || request_id);
  return true;
end
$$;
comment on function _kronos.end_request_job is
  'Removes the job of pg_cron that was made for a request once the request no longer waits; returns whether it does not.';

create function kronos.cancel(request_id bigint) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  request  record;
  run      record;
begin
  perform _kronos.require_ledger();
  select * into request from ledger.own_requests q where q.request_id = cancel.request_id;
  if not found then
    raise exception 'request % does not exist', request_id using errcode = 'undefined_object',
      hint = 'Requests of others are cancelled by those who made them.';
  end if;
  -- Nobody takes the request up, and its run does not end, while this looks.
  perform ledger.lock_policy(request.policy_id);
  update ledger.own_requests q set state = 'cancelled', ended_at = clock_timestamp()
  where q.request_id = cancel.request_id and q.state = 'queued';
  if found then
    perform _kronos.unschedule(request.job_id, 'kronos request ' || request_id);
    return true;
  end if;
  select r.* into run
  from ledger.own_requests q join ledger.issued_runs r on r.run_id = q.run_id
  where q.request_id = cancel.request_id and q.state = 'running' and r.state = 'running';
  return run.run_id is not null and ledger.is_running(run.runner_pid, run.runner_started) and pg_cancel_backend(run.runner_pid);
end
$$;
comment on function kronos.cancel is
  'Takes back a request that waits, or cancels the run that serves it; returns whether there was anything to cancel.';

insert into _kronos.access (level, kind, object) values
  ('operate', 'routine', 'add_forecast_policy'),
  ('operate', 'routine', 'remove_forecast_policy'),
  ('operate', 'routine', 'run_policy'),
  ('operate', 'routine', 'is_off_schedule'),
  ('operate', 'routine', 'due_policies'),
  ('operate', 'routine', 'submit'),
  ('operate', 'routine', 'end_request_job'),
  ('operate', 'routine', 'cancel');
