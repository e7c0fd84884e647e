-- The one way into the ledger: open a run, record queries of forecasts under it, close it.
-- Policies, backtests and people use the same three routines.
call market.require_not_newer('222_ledger_runs.sql', 1);

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
language sql set search_path = pg_catalog, pg_temp
as $$
  insert into ledger.runs (kind, relation, call, horizon, model, args, seed, policy, request_id, scheduled_for, as_of, runner_started)
  select open_run.kind, open_run.relation, open_run.call, open_run.horizon, open_run.model, coalesce(open_run.args, '{}'),
         ledger.seed_of(open_run.call, coalesce(open_run.args, '{}')), open_run.policy, open_run.request_id, open_run.scheduled_for, open_run.as_of,
         (select a.backend_start from pg_stat_activity a where a.pid = pg_backend_pid())
  returning run_id
$$;
comment on function ledger.open_run is
  'Begins a run (kind live, backtest or manual) of forecasts of a relation and returns its identity. call names what makes the '
  'forecasts, args are its arguments for those who read the ledger later.';

create or replace function ledger.running(run_id bigint) returns ledger.runs
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  run ledger.runs;
begin
  select * into run from ledger.runs r where r.run_id = running.run_id and r.state = 'running' for update;
  if not found then
    raise exception 'run % is not running', run_id
      using errcode = 'object_not_in_prerequisite_state', hint = 'Begin one with ledger.open_run().';
  end if;
  return run;
end
$$;
comment on function ledger.running is 'The run of that identity, locked; raises 55000 unless it is running.';

create or replace function ledger.count_series(run_id bigint, n_ok integer, n_failed integer, cutoff timestamptz, model_version text)
returns void
language sql set search_path = pg_catalog, pg_temp
as $$
  update ledger.runs r
  set n_series = r.n_series + count_series.n_ok + count_series.n_failed, n_ok = r.n_ok + count_series.n_ok,
      n_failed = r.n_failed + count_series.n_failed, cutoff = greatest(r.cutoff, count_series.cutoff),
      model_version = coalesce(r.model_version, count_series.model_version)
  where r.run_id = count_series.run_id
$$;
comment on function ledger.count_series is 'Adds to the counts of a running run.';

-- The query is the caller's, with the caller's search path; all else is spelt out, so that no search path can turn it.
create or replace function ledger.record(
  run_id bigint, query text, out n_series integer, out n_ok integer, out n_failed integer, out n_new bigint)
language plpgsql set extra_float_digits = 1
as $$
declare
  run     ledger.runs;
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
      insert into ledger.forecasts (run_id, kind, relation, series, target, ts, step, cutoff, forecast, lower, upper, level,
        quantile_levels, quantiles, raw_forecast, raw_lower, raw_upper, open, high, low, volume, amount, prob_up,
        model_version, calibration, calibration_version, status, event_context, features)
      select $1, $2, $3, a.series, a.target, a.ts, a.step, a.cutoff, a.forecast, a.lower, a.upper, a.level,
        a.quantile_levels, a.quantiles, a.raw_forecast, a.raw_lower, a.raw_upper, a.open, a.high, a.low, a.volume, a.amount,
        a.prob_up, a.model_version, a.calibration, a.calibration_version, a.status, a.event_context, a.features
      from answer a where a.step is not null
      on conflict do nothing
      returning 1
    ), refused as (
      insert into ledger.failures (run_id, series, status, ts)
      select distinct on (a.series) $1, a.series, coalesce(a.status, 'no_forecast'), a.ts
      from answer a where a.step is null order by a.series, a.ts
      on conflict do nothing
    )
    select pg_catalog.count(distinct a.series) filter (where a.step is not null), pg_catalog.count(distinct a.series),
           pg_catalog.max(a.cutoff) filter (where a.step is not null), pg_catalog.max(a.model_version),
           (select pg_catalog.count(*) from kept)
    from answer a
  $query$, pg_catalog.rtrim(query, E'; \t\r\n'))
  into n_ok, n_series, newest, version, n_new using run.run_id, run.kind, run.relation;
  n_failed := n_series operator(pg_catalog.-) n_ok;
  perform ledger.count_series(run.run_id, n_ok, n_failed, newest, version);
end
$$;
comment on function ledger.record is
  'Writes the rows of a query of forecasts under a run that is running, and counts its series. Columns are taken by their names, as in '
  'kronos.bar_forecast, kronos.forecast_point and ledger.forecasts; those missing are NULL. Rows without a step are series that could '
  'not be forecast. A row whose key is in the ledger already is left alone: n_new counts the others.';

create or replace function ledger.record_failure(run_id bigint, series text, status text, detail text default null) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  insert into ledger.failures (run_id, series, status, detail)
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
  update ledger.runs r
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
  update ledger.requests q
  set state = case outcome when 'partial' then 'done' else outcome end, ended_at = clock_timestamp()
  where q.run_id = close_run.run_id and q.state = 'running' and outcome is not null;
  return outcome;
end
$$;
comment on function ledger.close_run is
  'Ends a run and returns its state: failed where it broke off or no series could be forecast, else partial or done by how its series '
  'fared. sqlstate and message are those of the last error.';

call market.record_file('222_ledger_runs.sql', 1);
