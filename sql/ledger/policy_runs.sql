-- How a policy runs: what it asks the forecast functions, who is kept out meanwhile.
-- kronos.run_policy() is the door; schedulers call that.
call market.require_not_newer('ledger/policy_runs.sql', 5);

create or replace function ledger.argument(value jsonb, type oid) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  written  constant text := format_type(type, null);
  kind     constant text := jsonb_typeof(value);
  is_array constant boolean := (select t.typcategory = 'A' from pg_type t where t.oid = type);
  raw      text;
begin
  -- Options are declared as any type that JSON comes in.
  if type in ('jsonb'::regtype, 'anycompatible'::regtype) then
    return format('%L::jsonb', value);
  elsif kind = 'null' then
    return format('null::%s', written);
  elsif is_array <> (kind = 'array') or kind = 'object' then
    raise exception 'a JSON % does not serve', kind using errcode = 'invalid_parameter_value';
  end if;
  raw := case when is_array then array(select jsonb_array_elements_text(value))::text else value #>> '{}' end;
  execute format('select %L::%s', raw, written);
  return format('%L::%s', raw, written);
end
$$;
comment on function ledger.argument is 'A JSON value as the SQL literal of a type; fails where it is none.';

create or replace function ledger.policy_query(
  call text, relation regclass, horizon integer, model text default null, args jsonb default '{}',
  only_series text[] default null, as_of timestamptz default null)
returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  ours       constant text[] := '{batch_series,catch_up,max_catch_up,event_context,features}';
  fixed      constant text[] := '{relation,horizon,until,model,as_of}';
  functions  text[];
  fn         pg_proc;
  name       text;
  written    text;
  list       text[];
  level      text := 'null';
  quantiles  text := 'null';
begin
  select array_agg(p.proname::text order by p.proname) into functions
  from pg_proc p
  where p.pronamespace = to_regnamespace('kronos') and p.prokind = 'f' and p.proretset
    and p.prorettype in (to_regtype('kronos.bar_forecast'), to_regtype('kronos.forecast_point'))
    and p.proargnames @> '{relation,horizon}';
  if functions is null then
    raise exception 'the extension kronos is not there' using errcode = 'undefined_object', hint = 'CREATE EXTENSION kronos;';
  elsif call <> all (functions) or call is null then
    raise exception 'call "%" is not a forecast function', call
      using errcode = 'invalid_parameter_value', hint = format('Forecast functions: %s.', array_to_string(functions, ', '));
  end if;
  select p.* into fn from pg_proc p where p.pronamespace = 'kronos'::regnamespace and p.proname = call;
  select k into name from jsonb_object_keys(args) k
  where k <> all (ours) and (k <> all (fn.proargnames[1:fn.pronargs]) or k = any (fixed))
  order by 1 limit 1;
  if found then
    raise exception 'unrecognized argument "%" of %', name, call
      using errcode = 'invalid_parameter_value',
            hint = format('Valid arguments: %s.', array_to_string(ours || array(
              select a from unnest(fn.proargnames[1:fn.pronargs]) a where a <> all (fixed)), ', '));
  end if;
  for i in 1 .. fn.pronargs loop
    name := fn.proargnames[i];
    begin
      written := case
        when name = 'relation' then format('%L::regclass', relation::oid)
        when name = 'horizon' then horizon::text
        when name = 'model' and model is not null then format('%L::text', model)
        -- In one form whatever the session's: abbreviations of zones are ambiguous, and another hour would be look-ahead.
        when name = 'as_of' and as_of is not null
          then format('%L::timestamptz', to_char(as_of at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US"+00"'))
        when name = 'only_series' and only_series is not null then format('%L::text[]', only_series)
        when args ? name and name <> all (fixed) then ledger.argument(args -> name, fn.proargtypes[i - 1]) end;
    exception when data_exception then
      raise exception 'argument "%" of % must be of type %, got %', name, call, format_type(fn.proargtypes[i - 1], null), args -> name
        using errcode = 'invalid_parameter_value', detail = sqlerrm || '.';
    end;
    if written is not null then
      list := list || format('%I => %s', name, written);
    elsif i <= fn.pronargs - fn.pronargdefaults then
      raise exception 'argument "%" of % must be given', name, call
        using errcode = 'invalid_parameter_value',
              hint = case name when 'model' then 'Pass model => ''...''.'
                               else format('Pass args => ''{"%s": ...}''.', name) end;
    end if;
    if name = 'level' then
      level := coalesce(written, pg_get_function_arg_default(fn.oid, i));
    elsif name = 'quantile_levels' then
      quantiles := coalesce(written, 'null');
    end if;
  end loop;
  if model is not null and not 'model' = any (fn.proargnames) then
    raise exception '% takes no model', call using errcode = 'invalid_parameter_value';
  end if;
  return format('select f.*, %s as level, %s::double precision[] as quantile_levels, %L::jsonb as event_context, %L::jsonb as features '
                'from kronos.%I(%s) f',
                level, quantiles, args ->> 'event_context', args ->> 'features', call, array_to_string(list, ', '));
end
$$;
comment on function ledger.policy_query is
  'The query that a policy runs: a call of a forecast function with its arguments from JSON. An argument that the function does not '
  'have, lacks, or cannot read raises 22023.';

create or replace function ledger.policy_series(p ledger.own_policies) returns text[]
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  options constant jsonb := coalesce(p.args -> 'options', '{}');
begin
  if jsonb_typeof(p.args -> 'only_series') = 'array' then
    return array(select distinct v from jsonb_array_elements_text(p.args -> 'only_series') v order by v);
  end if;
  -- Columns with values are no keys.
  return array(
    select k.series
    from kronos.list_series(p.relation, (p.args ->> 'series_col')::name, (p.args ->> 'time_col')::name, array(
      select v::name from unnest('{open,high,low,close,volume,amount}'::text[]) v
      union all
      select jsonb_array_elements_text(l) from (values (p.args -> 'targets'), (p.args -> 'past_covariates'),
        (p.args -> 'future_covariates'), (options -> 'static'), (options -> 'categorical')) as lists (l)
      where jsonb_typeof(l) = 'array'
      union all
      select c.value from jsonb_each_text(options -> 'columns') c where jsonb_typeof(options -> 'columns') = 'object' and c.value is not null
    )) k (series));
end
$$;
comment on function ledger.policy_series is 'Keys of the series that a policy forecasts; one NULL where its input has no key.';

create or replace function ledger.is_running(pid integer, started timestamptz) returns boolean
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select pid <> pg_backend_pid() and exists (
    select from pg_stat_activity a
    where a.pid = is_running.pid and coalesce(a.backend_start = started, true)
      -- A session in which the run broke off lives on, idle.
      and not (a.backend_type = 'client backend' and coalesce(a.state, 'active') like 'idle%'))
$$;
comment on function ledger.is_running is
  'Whether a process that began at started is still at work. What other roles'' processes do cannot be seen; they count as working.';

-- The row itself: a number of an advisory lock would be anybody's to hold.
create or replace function ledger.lock_policy(policy_id integer) returns void
language sql set search_path = pg_catalog, pg_temp
as $$ select from ledger.own_policies p where p.policy_id = lock_policy.policy_id for no key update $$;
comment on function ledger.lock_policy is 'Keeps others from beginning or ending a run of a policy of the current role until the transaction ends.';

create or replace function ledger.own_policy(policy text) returns ledger.own_policies
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  p ledger.own_policies;
begin
  select * into p from ledger.own_policies v where v.policy = own_policy.policy;
  if found then
    return p;
  elsif exists (select from kronos.policies v where v.policy = own_policy.policy) then
    raise exception 'must be owner of policy "%"', policy
      using errcode = 'insufficient_privilege', hint = 'A policy runs as its owner: see kronos.policies, and SET ROLE.';
  end if;
  raise exception 'policy "%" does not exist', policy
    using errcode = 'undefined_object', hint = 'See kronos.policies.';
end
$$;
comment on function ledger.own_policy is 'The policy of that name, which must belong to the current role, superuser or not: 42704, 42501.';

create or replace function ledger.begin_run(p ledger.own_policies, request_id bigint, slot timestamptz, as_of timestamptz) returns bigint
language sql set search_path = pg_catalog, pg_temp
as $$
  select ledger.open_run('live', p.relation, p.call, p.horizon, p.model, p.args, p.policy, request_id, slot, as_of)
$$;
comment on function ledger.begin_run is 'Opens a run of a policy for a time of its schedule.';

-- The plan of one call: the run that is open now, and the times that are to be served, in order; the last one is now.
create or replace function ledger.claim_policy(p ledger.own_policies, out run_id bigint, out slots timestamptz[])
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  rule      constant text := coalesce(p.args ->> 'catch_up', 'latest');
  bound     constant integer := coalesce((p.args ->> 'max_catch_up')::integer, 24);
  due       constant timestamptz := ledger.slot_before(p.initial_start, p.schedule_interval, p.timezone, clock_timestamp());
  served    timestamptz;
  request   bigint;
  slot      timestamptz;
  left_over ledger.issued_runs;
begin
  perform ledger.lock_policy(p.policy_id);
  for left_over in select * from ledger.issued_runs r where r.policy_id = p.policy_id and r.state = 'running' loop
    if ledger.is_running(left_over.runner_pid, left_over.runner_started) then
      raise notice 'policy "%" is being run by process %, this call is skipped', p.policy, left_over.runner_pid;
      return;
    end if;
    perform ledger.close_run(left_over.run_id, null, format('process %s ended before the run did', left_over.runner_pid), true);
  end loop;

  select min(q.request_id) into request from ledger.own_requests q where q.policy_id = p.policy_id and q.state = 'queued';
  select coalesce(max(r.scheduled_for), p.created_at) into served
  from ledger.issued_runs r
  where r.policy_id = p.policy_id and r.state in ('done', 'partial');
  -- Half an interval after its time a run is late.
  if rule = 'none' and request is null and due > served and clock_timestamp() - due > p.schedule_interval / 2 then
    raise notice 'policy "%" missed its time %, and its catch_up is none; this call is skipped', p.policy, due;
    return;
  end if;
  slots := array[due];
  if rule = 'all' then
    slot := ledger.slot_before(p.initial_start, p.schedule_interval, p.timezone, due - interval '1 microsecond');
    while slot > served and cardinality(slots) <= bound loop
      slots := slot || slots;
      slot := ledger.slot_before(p.initial_start, p.schedule_interval, p.timezone, slot - interval '1 microsecond');
    end loop;
  end if;
  run_id := ledger.begin_run(p, request, slots[1], case when cardinality(slots) > 1 then slots[1] end);
  update ledger.own_requests q set state = 'running', run_id = claim_policy.run_id where q.policy_id = p.policy_id and q.state = 'queued';
end
$$;
comment on function ledger.claim_policy is
  'Opens a run of a policy unless another process runs it; ends the runs of processes that are gone; NULL where the call is to be skipped.';

create or replace function ledger.next_run(
  p ledger.own_policies, before bigint, slot timestamptz, as_of timestamptz, sqlstate text, message text)
returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  following constant bigint := ledger.begin_run(p, (select r.request_id from ledger.issued_runs r where r.run_id = before), slot, as_of);
begin
  -- A request is served by the run for now, which is the last.
  update ledger.own_requests q set run_id = following where q.run_id = before and q.state = 'running';
  perform ledger.close_run(before, next_run.sqlstate, next_run.message);
  return following;
end
$$;
comment on function ledger.next_run is 'Closes a run and opens that of the next time in one step, so that nobody comes between.';

-- Commits as it goes, so it can have no settings of its own: each transaction begins by fixing its search path.
create or replace procedure ledger.run_policy(policy pg_catalog.text, warn_only boolean default false)
language plpgsql
as $$
declare
  -- Classes of errors that more tries cannot mend: privileges, names, resources, the service, the system.
  hopeless constant pg_catalog.text[] := '{08,0A,28,42,53,54,55,57,58,F0,XX001}';
  p        ledger.own_policies;
  run      bigint;
  slots    timestamp with time zone[];
  as_of    timestamp with time zone;
  keys     pg_catalog.text[];
  -- Parts of keys that are still to be forecast, by their first and last place; the last part comes first.
  first    integer[];
  last     integer[];
  top      integer;
  portion  pg_catalog.text[];
  size     integer;
  middle   integer;
  in_a_row integer;
  outcome  pg_catalog.text;
  cancel   boolean := false;
  -- The error that counts for the run, and the parts of one.
  fault    pg_catalog.text;
  message  pg_catalog.text;
  code     pg_catalog.text;
  problem  pg_catalog.text;
  more     pg_catalog.text;
  advice   pg_catalog.text;
begin
  perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  p := ledger.own_policy(run_policy.policy);
  size := greatest(coalesce((p.args ->> 'batch_series')::integer, 256), 1);
  select c.run_id, c.slots into run, slots from ledger.claim_policy(p) c;
  if run is null then
    return;
  end if;
  commit;

  for slot in 1 .. cardinality(slots) loop
    perform set_config('search_path', 'pg_catalog, pg_temp', true);
    as_of := case when slot < cardinality(slots) then slots[slot] end;
    if slot > 1 then
      run := ledger.next_run(p, run, slots[slot], as_of, fault, message);
      commit;
      perform set_config('search_path', 'pg_catalog, pg_temp', true);
    end if;
    fault := null; message := null; keys := null; first := '{}'; last := '{}'; in_a_row := 0;

    begin
      keys := ledger.policy_series(p);
    exception when query_canceled or others then
      get stacked diagnostics fault = returned_sqlstate, message = message_text;
      cancel := fault = '57014';
    end;
    for n in reverse coalesce((cardinality(keys) - 1) / size, -1) .. 0 loop
      exit when cardinality(keys) = 0;
      first := first || (n * size + 1);
      last := last || least((n + 1) * size, cardinality(keys));
    end loop;

    loop
      top := cardinality(first);
      exit when top = 0;
      portion := keys[first[top] : last[top]];
      code := null;
      begin
        perform ledger.record(run, ledger.policy_query(
          p.call, p.relation, p.horizon, p.model, p.args, case when portion[1] is not null then portion end, as_of));
      exception when query_canceled or others then
        get stacked diagnostics code = returned_sqlstate, problem = message_text, more = pg_exception_detail,
          advice = pg_exception_hint;
        problem := concat_ws(E'\n', problem, nullif(more, ''), nullif(advice, ''));
      end;
      if code is null then
        in_a_row := 0;
        first := trim_array(first, 1);
        last := trim_array(last, 1);
      else
        in_a_row := in_a_row + 1;
        cancel := code = '57014';
        if cancel or left(code, 2) = any (hopeless) or code = any (hopeless) or in_a_row > 20 then
          fault := code;
          message := problem;
          exit;
        elsif cardinality(portion) = 1 then
          fault := code;
          message := problem;
          perform ledger.record_failure(run, portion[1], code, problem);
          first := trim_array(first, 1);
          last := trim_array(last, 1);
        else
          -- One series must not cost the others: halves are tried until it stands alone.
          middle := (first[top] + last[top]) / 2;
          first := first || first[top];
          last := last || middle;
          first[top] := middle + 1;
        end if;
      end if;
      commit;
      perform set_config('search_path', 'pg_catalog, pg_temp', true);
    end loop;
    -- What broke off stays for the next call.
    exit when keys is null or cardinality(first) > 0;
  end loop;

  begin
    perform ledger.lock_policy(p.policy_id);
    outcome := ledger.close_run(run, fault, message, keys is null or cardinality(first) > 0, cancel);
  exception when query_canceled then
    outcome := ledger.close_run(run, '57014', 'the run was cancelled at its end', cancelled => true);
  end;
  select r.sqlstate, r.message into code, problem from ledger.issued_runs r where r.run_id = run;
  commit;
  perform set_config('search_path', 'pg_catalog, pg_temp', true);
  if outcome in ('failed', 'cancelled') then
    -- Schedulers keep the error of a job that has failed.
    if not warn_only then
      raise exception 'policy "%" %', p.policy, outcome using errcode = code, detail = problem;
    end if;
    raise warning 'policy "%" %', p.policy, outcome using errcode = code, detail = problem;
  elsif exists (select from ledger.own_requests q where q.policy_id = p.policy_id and q.state = 'queued') then
    call ledger.run_policy(p.policy, warn_only);
  end if;
end
$$;
comment on procedure ledger.run_policy is
  'Runs a policy of the current role: series in batches, each committed; a batch that fails is halved until the series at fault stands alone.';

call market.record_file('ledger/policy_runs.sql', 5);
