-- The ledger as people read it: views of schema kronos that show a forecast to whoever may read its input.
-- They belong to the user, not to the extension, and stay when it is dropped.
--
-- Each asks CASE WHEN the whole input may be read THEN true ELSE the run is one's own: the second question, over every run
-- of the caller, is not even prepared where the first is answered by yes.
call market.require_not_newer('225_ledger_views.sql', 1);

create or replace view ledger.readable_inputs as
  select i.relation
  from ledger.inputs i
  where pg_catalog.has_table_privilege(i.relation, 'SELECT')
    and not pg_catalog.row_security_active(i.relation) and not i.row_security;
comment on view ledger.readable_inputs is 'Inputs that the current role may read whole, and so all their forecasts.';

create or replace view ledger.own_runs as
  select r.run_id
  from ledger.runs r
  where r.issued_by = current_user and pg_catalog.has_table_privilege(r.relation, 'SELECT');
comment on view ledger.own_runs is 'Runs of the current role whose input it may read: its forecasts too where the input has row security.';

create or replace function ledger.may_add_views() returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if to_regnamespace('kronos') is null then
    create schema kronos;
    grant usage on schema kronos to public;  -- as the extension has it
    return true;
  elsif has_schema_privilege('kronos', 'CREATE') then
    return true;
  end if;
  raise warning 'views of the ledger are not made, since role "%" may not create objects in schema "kronos"', current_user
    using hint = format('Have the owner of the schema run GRANT CREATE ON SCHEMA kronos TO %I, then run the set-up again.', current_user);
  return false;
end
$$;
comment on function ledger.may_add_views() is 'Whether views can be made in schema kronos, which is made where it is missing; warns where they cannot.';
revoke all on function ledger.may_add_views() from public;

do $$
begin
  if not ledger.may_add_views() then
    return;
  end if;

  create or replace view kronos.forecasts with (security_barrier) as
    select f.run_id, f.kind, f.relation, f.series, f.target, f.ts, f.step, f.issued_at, f.cutoff,
           f.forecast, f.lower, f.upper, f.level, f.quantile_levels, f.quantiles,
           f.raw_forecast, f.raw_lower, f.raw_upper,
           case when f.open is not null
             then row(f.ts, f.open, f.high, f.low, f.forecast, f.volume, f.amount)::ledger.bar end as bar,
           f.prob_up, f.model_version, f.calibration, f.calibration_version, f.status, f.event_context, f.features
    from ledger.forecasts f
    where case when f.relation in (select i.relation from ledger.readable_inputs i) then true
               else f.run_id in (select r.run_id from ledger.own_runs r) end;
  comment on view kronos.forecasts is
    'Every forecast in the ledger that the caller may see: those of inputs it may SELECT from. Columns as in ledger.forecasts.';
  comment on column kronos.forecasts.bar is 'The forecast bar; NULL from models that forecast single columns.';

  -- Which rows are the latest is read from the index alone; only those are then fetched from the table. Both conditions are
  -- CASEs because the planner takes each to hold for half of the rows. It cannot know that most rows of a series forecast the
  -- same times, and would start its just-in-time compiler, which takes longer than the query, for fetches that never come.
  create or replace view kronos.latest_forecasts with (security_barrier) as
    select f.run_id, k.kind, k.relation, k.series, k.target, k.ts, f.step, f.issued_at, k.cutoff,
           f.forecast, f.lower, f.upper, f.level, f.quantile_levels, f.quantiles,
           f.raw_forecast, f.raw_lower, f.raw_upper,
           case when f.open is not null
             then row(k.ts, f.open, f.high, f.low, f.forecast, f.volume, f.amount)::ledger.bar end as bar,
           f.prob_up, k.model_version, k.calibration, f.calibration_version, f.status, f.event_context, f.features
    from (
      select distinct on (n.series, n.relation, n.target, n.model_version, n.calibration, n.kind, n.ts)
             n.series, n.relation, n.target, n.model_version, n.calibration, n.kind, n.ts, n.cutoff
      from ledger.forecasts n
      where case when n.kind = 'backtest' then false else true end
        and case when n.relation in (select i.relation from ledger.readable_inputs i) then true
                 else n.run_id in (select r.run_id from ledger.own_runs r) end
      order by n.series, n.relation, n.target, n.model_version, n.calibration, n.kind, n.ts, n.cutoff desc
    ) k
    cross join lateral (
      select * from ledger.forecasts f
      where f.series = k.series and f.relation = k.relation and f.target = k.target and f.model_version = k.model_version
        and f.calibration = k.calibration and f.kind = k.kind and f.ts = k.ts and f.cutoff = k.cutoff
      limit 1
    ) f;
  comment on view kronos.latest_forecasts is
    'For each input, series, target, model, calibration and time the forecast with the newest cutoff; backtests are left out.';

  create or replace view kronos.kronos_forecasts with (security_barrier) as
    select f.run_id, f.kind, f.relation, f.series, f.ts, f.step, f.issued_at, f.cutoff,
           (f.bar).open, (f.bar).high, (f.bar).low, (f.bar).close, (f.bar).volume, (f.bar).amount,
           f.lower, f.upper, f.level, f.quantile_levels, f.quantiles, f.prob_up, f.model_version, f.calibration,
           f.calibration_version, f.status, f.event_context, f.features
    from kronos.forecasts f
    where (f.bar).open is not null;
  comment on view kronos.kronos_forecasts is 'Forecasts of whole bars, one column per price.';

  create or replace view kronos.ml_predictions with (security_barrier) as
    select pg_catalog.split_part(f.model_version, '@', 1) as model_name, f.*
    from kronos.forecasts f;
  comment on view kronos.ml_predictions is 'Every forecast in the ledger with the name of its model.';
  comment on column kronos.ml_predictions.model_name is 'The part of model_version before the @.';

  create or replace view kronos.runs with (security_barrier) as
    select r.run_id, r.kind, r.policy, r.request_id, r.issued_at, r.issued_by, r.relation, r.call, r.model, r.model_version,
           r.horizon, r.args, r.seed, r.scheduled_for, r.as_of, r.cutoff, r.n_series, r.n_ok, r.n_failed, r.duration_ms,
           r.state, r.sqlstate, r.message, r.runner_pid
    from ledger.runs r
    where case when r.relation in (select i.relation from ledger.readable_inputs i) then true
               else r.run_id in (select o.run_id from ledger.own_runs o) end;
  comment on view kronos.runs is 'Runs of inputs that the caller may read. Columns as in ledger.runs.';

  create or replace view kronos.failures with (security_barrier) as
    select f.run_id, r.policy, r.issued_at, r.relation, f.series, f.status, f.ts, f.detail
    from ledger.failures f join kronos.runs r using (run_id);
  comment on view kronos.failures is 'Series that could not be forecast, of runs that the caller may see.';

  create or replace view kronos.policies with (security_barrier) as
    select p.policy, p.owner, p.relation, p.horizon, p.call, p.model, p.args, p.schedule_interval, p.initial_start, p.timezone,
           p.scheduler, p.job_id, p.created_at
    from ledger.policies p
    where p.owner = current_user or pg_catalog.has_table_privilege(p.relation, 'SELECT');
  comment on view kronos.policies is 'Forecast policies of the caller, and those of inputs it may read.';

  create or replace view kronos.stat_policies with (security_barrier) as
    select p.policy, p.scheduler, p.job_id, l.run_id as last_run_id, l.issued_at as last_run, l.state as last_status,
           l.sqlstate as last_sqlstate, l.message as last_message, l.n_ok, l.n_failed, l.duration_ms,
           c.cutoff, pg_catalog.now() - c.cutoff as lag,
           (select pg_catalog.count(*) from ledger.requests q where q.policy = p.policy and q.state = 'queued') as queued
    from kronos.policies p
    left join lateral (
      select * from ledger.runs r where r.policy = p.policy and r.issued_at >= p.created_at
      order by r.run_id desc limit 1) l on true
    left join lateral (
      select pg_catalog.max(r.cutoff) as cutoff from ledger.runs r
      where r.policy = p.policy and r.issued_at >= p.created_at) c on true;
  comment on view kronos.stat_policies is 'How forecast policies fare: their last run, and how far behind their forecasts are.';
  comment on column kronos.stat_policies.last_status is 'State of the last run: running, done, partial, failed or cancelled.';
  comment on column kronos.stat_policies.last_sqlstate is 'SQLSTATE of its last error; NULL: none.';
  comment on column kronos.stat_policies.n_ok is 'Series that it forecast.';
  comment on column kronos.stat_policies.n_failed is 'Series that it could not forecast: see kronos.failures.';
  comment on column kronos.stat_policies.duration_ms is 'How long it took, in milliseconds; NULL: it is running.';
  comment on column kronos.stat_policies.cutoff is 'Newest cutoff of any forecast of the policy.';
  comment on column kronos.stat_policies.lag is 'Time since that cutoff; more than a bar and an interval says that data or runs are late.';
  comment on column kronos.stat_policies.queued is 'Requests of kronos.submit() that wait.';
end
$$;

call market.record_file('225_ledger_views.sql', 1);
