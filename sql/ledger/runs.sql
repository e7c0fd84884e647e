-- The one way into the ledger: open a run, record queries of forecasts under it, close it.
-- Policies, backtests and people use the same three routines.
call market.require_not_newer('ledger/runs.sql', 2);

-- Routines of older versions whose arguments or results have changed.
do $$
declare
  routine text;
begin
  for routine in
    select p.oid::regprocedure from pg_catalog.pg_proc p
    where p.pronamespace = 'ledger'::regnamespace
      and (p.prorettype in ('ledger.runs'::regtype, 'ledger.policies'::regtype)
           or 'ledger.policies'::regtype = any (p.proargtypes)
           or p.proname = 'record' and not 'n_conflicts' = any (p.proargnames))
  loop
    execute format('drop function %s', routine);
  end loop;
end
$$;

create or replace function ledger.process_started() returns timestamptz
language sql stable set search_path = pg_catalog, pg_temp
as $$ select a.backend_start from pg_stat_activity a where a.pid = pg_backend_pid() $$;
comment on function ledger.process_started() is 'When the process of this session started.';
alter table ledger.runs alter column runner_started set default ledger.process_started();

-- The doors. A role writes through these views and has no privilege on the tables: what they do not show (who, when, which
-- process) is filled by the system, and a row that they would not show is refused. That costs a look into a hash table per row.
create or replace view ledger.new_runs with (security_barrier) as
  select r.run_id, r.kind, r.policy_id, r.policy, r.request_id, r.relation, r.call, r.horizon, r.model, r.args, r.seed, r.scheduled_for, r.as_of
  from ledger.runs r
  where case when r.policy_id is null and r.policy is null
          then r.request_id is null and pg_catalog.has_table_privilege(r.relation, 'SELECT')
          -- What becomes of a policy whose owner may no longer read the input is a run too.
          else (r.policy_id, r.policy, r.relation) in (select p.policy_id, p.policy, p.relation from ledger.own_policies p) end
  with check option;
comment on view ledger.new_runs is 'Where a role begins runs: of relations that it may read, or of policies of its own.';

create or replace view ledger.issued_runs with (security_barrier) as
  select r.run_id, r.kind, r.policy_id, r.policy, r.request_id, r.issued_at, r.relation, r.call, r.horizon, r.model, r.args, r.seed,
         r.scheduled_for, r.as_of, r.model_version, r.cutoff, r.n_series, r.n_ok, r.n_failed, r.duration_ms, r.state, r.sqlstate,
         r.message, r.runner_pid, r.runner_started
  from ledger.runs r
  where r.issuer in (select m.role_id from ledger.me m);
comment on view ledger.issued_runs is 'Runs of the current role, to read, to lock, and to note the outcome in while they run.';

create or replace view ledger.open_runs with (security_barrier) as
  select r.run_id, r.kind, r.relation
  from ledger.runs r
  where r.state = 'running' and r.issuer in (select m.role_id from ledger.me m) and pg_catalog.has_table_privilege(r.relation, 'SELECT');
comment on view ledger.open_runs is 'Runs of the current role that it may add to: they are running, and it may read their input.';

create or replace view ledger.new_forecasts with (security_barrier) as
  select f.run_id, f.kind, f.relation, f.series, f.target, f.ts, f.step, f.cutoff, f.forecast, f.lower, f.upper, f.level,
         f.quantile_levels, f.quantiles, f.raw_forecast, f.raw_lower, f.raw_upper, f.open, f.high, f.low, f.volume, f.amount, f.prob_up,
         f.model_version, f.calibration, f.calibration_version, f.status, f.event_context, f.features
  from ledger.forecasts f
  where (f.run_id, f.kind, f.relation) in (select o.run_id, o.kind, o.relation from ledger.open_runs o)
  with check option;
comment on view ledger.new_forecasts is 'Where a role adds forecasts to runs of its own, of the kind and the relation of the run.';

create or replace view ledger.new_contested_forecasts with (security_barrier) as
  select f.run_id, f.kind, f.relation, f.series, f.target, f.ts, f.step, f.cutoff, f.forecast, f.lower, f.upper, f.level,
         f.quantile_levels, f.quantiles, f.raw_forecast, f.raw_lower, f.raw_upper, f.open, f.high, f.low, f.volume, f.amount, f.prob_up,
         f.model_version, f.calibration, f.calibration_version, f.status, f.event_context, f.features
  from ledger.contested_forecasts f
  where (f.run_id, f.kind, f.relation) in (select o.run_id, o.kind, o.relation from ledger.open_runs o)
  with check option;
comment on view ledger.new_contested_forecasts is 'The same for forecasts whose key another role has taken.';

create or replace view ledger.new_failures with (security_barrier) as
  select f.run_id, f.series, f.status, f.ts, f.detail
  from ledger.failures f
  where f.run_id in (select o.run_id from ledger.open_runs o)
  with check option;
comment on view ledger.new_failures is 'Where a role notes what runs of its own could not forecast.';

create or replace function ledger.seed_of(call text, args jsonb) returns bigint
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case when args ? 'seed' then (args ->> 'seed')::bigint else (
    select substring(pg_get_function_arg_default(p.oid, array_position(p.proargnames, 'seed')) from '-?[0-9]+')::bigint
    from pg_proc p
    where p.pronamespace = to_regnamespace('kronos') and p.proname = call and 'seed' = any (p.proargnames)) end
$$;
comment on function ledger.seed_of is 'Seed of a call: the one given, else the default of the function; NULL where it takes none.';

create or replace function ledger.open_run(
  kind text, relation regclass, call text, horizon integer default null, model text default null, args jsonb default '{}',
  policy text default null, request_id bigint default null, scheduled_for timestamptz default null, as_of timestamptz default null)
returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  own  ledger.own_policies;
  id   bigint;
begin
  perform ledger.my_id();
  if policy is not null then
    own := ledger.own_policy(policy);
  elsif not has_table_privilege(relation, 'SELECT') then
    raise exception 'permission denied for relation %', relation
      using errcode = 'insufficient_privilege', hint = 'Who records forecasts of a relation must be allowed to read it.';
  end if;
  insert into ledger.new_runs (kind, policy_id, policy, request_id, relation, call, horizon, model, args, seed, scheduled_for, as_of)
  values (open_run.kind, own.policy_id, own.policy, open_run.request_id, open_run.relation, open_run.call, open_run.horizon, open_run.model,
          coalesce(open_run.args, '{}'), ledger.seed_of(open_run.call, coalesce(open_run.args, '{}')), open_run.scheduled_for, open_run.as_of)
  returning new_runs.run_id into id;
  return id;
end
$$;
comment on function ledger.open_run is
  'Begins a run (kind live, backtest or manual) of forecasts of a relation and returns its identity. call names what makes the '
  'forecasts, args are its arguments for those who read the ledger later.';

create or replace function ledger.running(run_id bigint) returns ledger.issued_runs
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  run ledger.issued_runs;
begin
  select * into run from ledger.issued_runs r where r.run_id = running.run_id and r.state = 'running' for update;
  if not found then
    raise exception 'run % is not running', run_id
      using errcode = 'object_not_in_prerequisite_state', hint = 'Begin one with ledger.open_run(). Only the role that began a run adds to it.';
  elsif not has_table_privilege(run.relation, 'SELECT') then
    raise exception 'permission denied for relation %', run.relation
      using errcode = 'insufficient_privilege', hint = 'Who records forecasts of a relation must be allowed to read it.';
  end if;
  return run;
end
$$;
comment on function ledger.running is 'The run of the current role of that identity, locked; raises 55000 unless it is running.';

create or replace function ledger.count_series(run_id bigint, n_ok integer, n_failed integer, cutoff timestamptz, model_version text)
returns void
language sql set search_path = pg_catalog, pg_temp
as $$
  update ledger.issued_runs r
  set n_series = r.n_series + count_series.n_ok + count_series.n_failed, n_ok = r.n_ok + count_series.n_ok,
      n_failed = r.n_failed + count_series.n_failed, cutoff = greatest(r.cutoff, count_series.cutoff),
      model_version = coalesce(r.model_version, count_series.model_version)
  where r.run_id = count_series.run_id
$$;
comment on function ledger.count_series is 'Adds to the counts of a running run.';

-- What others have issued is not for the caller to read, so it asks about forecasts of its own, one by one.
create or replace function ledger.is_contested(
  run_id bigint, series text, target text, ts timestamptz, cutoff timestamptz, model_version text, calibration text, said double precision[])
returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  author    integer;
  runner    integer;
  differs   boolean;
begin
  select r.issuer, r.runner_pid, o.issuer <> r.issuer and is_contested.said is distinct from
         array[f.forecast, f.lower, f.upper, f.level, f.raw_forecast, f.raw_lower, f.raw_upper, f.open, f.high, f.low, f.volume, f.amount,
               f.prob_up] || f.quantile_levels || f.quantiles
  into author, runner, differs
  from ledger.runs r
  join ledger.forecasts f on f.relation = r.relation and f.kind = r.kind
  join ledger.runs o on o.run_id = f.run_id
  where r.run_id = is_contested.run_id and r.state = 'running' and f.series = is_contested.series and f.target = is_contested.target
    and f.model_version = is_contested.model_version and f.calibration = is_contested.calibration
    and f.ts = is_contested.ts and f.cutoff = is_contested.cutoff;
  return coalesce(differs, false)
    -- Runs of others are none of the caller's business, whose name is not to be seen from here: a run of this session may be its
    -- own by way of a function with the rights of another role.
    and (runner = pg_backend_pid()
         or exists (select from ledger.roles i where i.role_id = author and pg_has_role(session_user, i.role, 'MEMBER')))
    and not exists (
      select from ledger.runs r
      join ledger.contested_forecasts f on f.relation = r.relation and f.kind = r.kind
      join ledger.runs o on o.run_id = f.run_id
      where r.run_id = is_contested.run_id and f.series = is_contested.series and f.target = is_contested.target
        and f.model_version = is_contested.model_version and f.calibration = is_contested.calibration
        and f.ts = is_contested.ts and f.cutoff = is_contested.cutoff
        and (o.issuer = author
             or is_contested.said is not distinct from
                array[f.forecast, f.lower, f.upper, f.level, f.raw_forecast, f.raw_lower, f.raw_upper, f.open, f.high, f.low, f.volume, f.amount,
                      f.prob_up] || f.quantile_levels || f.quantiles));
end
$$;
comment on function ledger.is_contested is
  'Whether another role has issued the forecast of that key in the input of a running run with other numbers, and nobody has said these numbers nor the issuer others.';
revoke all on function ledger.is_contested from public;

-- The query is the caller's, with the caller's search path; all else is spelt out, so that no search path can turn it.
create or replace function ledger.record(
  run_id bigint, query text, out n_series integer, out n_ok integer, out n_failed integer, out n_new bigint,
  out n_conflicts bigint)
language plpgsql set extra_float_digits = 1
as $$
declare
  run     ledger.issued_runs;
  newest  timestamp with time zone;
  version pg_catalog.text;
begin
  run := ledger.running(record.run_id);
  -- Through jsonb columns are taken by their names, so every result type of the extension serves, later ones too; a
  -- double keeps its value in the shortest decimal that reads back as itself.
  execute pg_catalog.format($query$
    with answer as materialized (
      select coalesce(x.series, '') as series, coalesce(x.target, 'close') as target, x.ts, x.step, x.cutoff,
             coalesce(x.forecast, x.close) as forecast, x.lower, x.upper, x.level, x.quantile_levels, x.quantiles,
             x.raw_forecast, x.raw_lower, x.raw_upper, x.open, x.high, x.low, x.volume, x.amount, x.prob_up,
             x.model_version, coalesce(x.calibration, '') as calibration, x.calibration_version, x.status,
             x.event_context, x.features
      from (%s
      ) q cross join lateral pg_catalog.jsonb_to_record(pg_catalog.to_jsonb(q)) as x (
        series pg_catalog.text, target pg_catalog.text, ts timestamp with time zone, step integer,
        cutoff timestamp with time zone, forecast double precision, close double precision, lower double precision,
        upper double precision, level double precision, quantile_levels double precision[], quantiles double precision[],
        raw_forecast double precision, raw_lower double precision, raw_upper double precision, open double precision,
        high double precision, low double precision, volume double precision, amount double precision,
        prob_up double precision, model_version pg_catalog.text, calibration pg_catalog.text, calibration_version bigint,
        status pg_catalog.text, event_context pg_catalog.jsonb, features pg_catalog.jsonb)
    ), kept as (
      insert into ledger.new_forecasts (run_id, kind, relation, series, target, ts, step, cutoff, forecast, lower, upper, level,
        quantile_levels, quantiles, raw_forecast, raw_lower, raw_upper, open, high, low, volume, amount, prob_up,
        model_version, calibration, calibration_version, status, event_context, features)
      select $1, $2, $3, a.series, a.target, a.ts, a.step, a.cutoff, a.forecast, a.lower, a.upper, a.level,
        a.quantile_levels, a.quantiles, a.raw_forecast, a.raw_lower, a.raw_upper, a.open, a.high, a.low, a.volume, a.amount,
        a.prob_up, a.model_version, a.calibration, a.calibration_version, a.status, a.event_context, a.features
      from answer a where a.step is not null
      on conflict do nothing
      returning 1
    ), contested as (
      insert into ledger.new_contested_forecasts (run_id, kind, relation, series, target, ts, step, cutoff, forecast, lower, upper, level,
        quantile_levels, quantiles, raw_forecast, raw_lower, raw_upper, open, high, low, volume, amount, prob_up,
        model_version, calibration, calibration_version, status, event_context, features)
      select $1, $2, $3, a.series, a.target, a.ts, a.step, a.cutoff, a.forecast, a.lower, a.upper, a.level,
        a.quantile_levels, a.quantiles, a.raw_forecast, a.raw_lower, a.raw_upper, a.open, a.high, a.low, a.volume, a.amount,
        a.prob_up, a.model_version, a.calibration, a.calibration_version, a.status, a.event_context, a.features
      from answer a
      where a.step is not null
        and (select pg_catalog.count(*) from kept) operator(pg_catalog.<) (select pg_catalog.count(b.step) from answer b)
        and ledger.is_contested($1, a.series, a.target, a.ts, a.cutoff, a.model_version, a.calibration,
              array[a.forecast, a.lower, a.upper, a.level, a.raw_forecast, a.raw_lower, a.raw_upper, a.open, a.high, a.low, a.volume, a.amount,
                    a.prob_up] operator(pg_catalog.||) a.quantile_levels operator(pg_catalog.||) a.quantiles)
      on conflict do nothing
      returning 1
    ), refused as (
      insert into ledger.new_failures (run_id, series, status, ts)
      select distinct on (a.series) $1, a.series, coalesce(a.status, 'no_forecast'), a.ts
      from answer a where a.step is null order by a.series, a.ts
      on conflict do nothing
    )
    select pg_catalog.count(distinct a.series) filter (where a.step is not null), pg_catalog.count(distinct a.series),
           pg_catalog.max(a.cutoff) filter (where a.step is not null), pg_catalog.max(a.model_version),
           (select pg_catalog.count(*) from kept), (select pg_catalog.count(*) from contested)
    from answer a
  $query$, pg_catalog.rtrim(query, E'; \t\r\n'))
  into n_ok, n_series, newest, version, n_new, n_conflicts using run.run_id, run.kind, run.relation;
  n_failed := n_series operator(pg_catalog.-) n_ok;
  perform ledger.count_series(run.run_id, n_ok, n_failed, newest, version);
  if n_conflicts operator(pg_catalog.>) 0 then
    raise warning '% forecasts of run % contradict those of another role', n_conflicts, run.run_id
      using errcode = '01000',
            detail = 'The ledger has forecasts of the same model, cutoff and time with other numbers. Both are kept.',
            hint = 'See kronos.forecasts: run_id leads to the role in kronos.runs.';
  end if;
end
$$;
comment on function ledger.record is
  'Writes the rows of a query of forecasts under a run that is running, and counts its series. Columns are taken by their names, as in '
  'kronos.bar_forecast, kronos.forecast_point and ledger.forecasts; those missing are NULL. Rows without a step are series that could '
  'not be forecast. A row whose key is in the ledger already is left alone: n_new counts the others. Where another role has said otherwise '
  'under the same key, both are kept: n_conflicts counts those, and a WARNING says so.';

create or replace function ledger.record_failure(run_id bigint, series text, status text, detail text default null) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  insert into ledger.new_failures (run_id, series, status, detail)
  values (record_failure.run_id, coalesce(record_failure.series, ''), record_failure.status, record_failure.detail)
  on conflict do nothing;
  perform ledger.count_series(record_failure.run_id, 0, 1, null, null);
end
$$;
comment on function ledger.record_failure is 'Notes a series that a running run could not forecast.';

create or replace function ledger.close_run(
  run_id bigint, sqlstate text default null, message text default null, broke_off boolean default false,
  cancelled boolean default false)
returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  outcome text;
begin
  update ledger.issued_runs r
  set state = case
        when cancelled then 'cancelled'
        when broke_off or (r.n_ok = 0 and r.n_failed > 0) then 'failed'
        when r.n_failed > 0 then 'partial'
        else 'done' end,
      sqlstate = coalesce(close_run.sqlstate, case when r.n_ok = 0 and r.n_failed > 0 then '02000' end),
      message = coalesce(close_run.message, case when r.n_ok = 0 and r.n_failed > 0 then 'no series could be forecast' end),
      duration_ms = extract(epoch from clock_timestamp() - r.issued_at) * 1000
  where r.run_id = close_run.run_id and r.state = 'running'
  returning r.state into outcome;
  update ledger.own_requests q
  set state = case outcome when 'partial' then 'done' else outcome end, ended_at = clock_timestamp()
  where q.run_id = close_run.run_id and q.state = 'running' and outcome is not null;
  return outcome;
end
$$;
comment on function ledger.close_run is
  'Ends a run and returns its state: failed where it broke off or no series could be forecast, else partial or done by how its series '
  'fared. sqlstate and message are those of the last error.';

call market.record_file('ledger/runs.sql', 2);
