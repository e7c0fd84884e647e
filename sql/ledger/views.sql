-- The ledger as people read it: views of schema kronos that show a forecast to whoever may read its input.
-- They belong to the user, not to the extension, and stay when it is dropped.
--
-- Each asks CASE WHEN the whole input may be read THEN true ELSE the run is one's own: the second question, over every run
-- of the caller, is not even prepared where the first is answered by yes.
call market.require_not_newer('ledger/views.sql', 3);

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
comment on function ledger.may_add_views() is
  'Whether views can be made in schema kronos, which is made where it is missing; warns where they cannot.';
revoke all on function ledger.may_add_views() from public;

create or replace view ledger.all_forecasts as
  select f.run_id, f.kind, f.relation, f.series, f.target, f.ts, f.step, f.issued_at, f.cutoff, f.forecast, f.lower, f.upper, f.level,
         f.quantile_levels, f.quantiles, f.raw_forecast, f.raw_lower, f.raw_upper, f.open, f.high, f.low, f.volume, f.amount, f.prob_up,
         f.model_version, f.calibration, f.calibration_version, f.status, f.event_context, f.features
  from ledger.forecasts f
  union all
  select f.run_id, f.kind, f.relation, f.series, f.target, f.ts, f.step, f.issued_at, f.cutoff, f.forecast, f.lower, f.upper, f.level,
         f.quantile_levels, f.quantiles, f.raw_forecast, f.raw_lower, f.raw_upper, f.open, f.high, f.low, f.volume, f.amount, f.prob_up,
         f.model_version, f.calibration, f.calibration_version, f.status, f.event_context, f.features
  from ledger.contested_forecasts f;
comment on view ledger.all_forecasts is 'Every forecast, with those that contradict another role''s.';

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
    from ledger.all_forecasts f
    where case when f.relation in (select i.relation from ledger.readable_inputs i) then true
               else f.run_id in (select r.run_id from ledger.own_runs r) end;
  comment on view kronos.forecasts is
    'Every forecast in the ledger that the caller may see: those of inputs it may SELECT from, where that shows everybody the same rows, and its own. Columns as in ledger.forecasts.';
  comment on column kronos.forecasts.run_id is 'Run that gave it.';
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
    ) f
    union all
    -- What contradicts another role's latest forecast is as late.
    select c.run_id, c.kind, c.relation, c.series, c.target, c.ts, c.step, c.issued_at, c.cutoff,
           c.forecast, c.lower, c.upper, c.level, c.quantile_levels, c.quantiles,
           c.raw_forecast, c.raw_lower, c.raw_upper,
           case when c.open is not null
             then row(c.ts, c.open, c.high, c.low, c.forecast, c.volume, c.amount)::ledger.bar end as bar,
           c.prob_up, c.model_version, c.calibration, c.calibration_version, c.status, c.event_context, c.features
    from ledger.contested_forecasts c
    where c.kind <> 'backtest'
      and case when c.relation in (select i.relation from ledger.readable_inputs i) then true
               else c.run_id in (select r.run_id from ledger.own_runs r) end
      and not exists (
        select from ledger.forecasts f
        where f.series = c.series and f.relation = c.relation and f.target = c.target and f.model_version = c.model_version
          and f.calibration = c.calibration and f.kind = c.kind and f.ts = c.ts and f.cutoff > c.cutoff);
  comment on view kronos.latest_forecasts is
    'For each input, series, target, model, calibration and time the forecast with the newest cutoff, and those of other roles that contradict it; backtests are left out.';
  comment on column kronos.latest_forecasts.bar is 'The whole bar as open, high, low, close, volume and amount; NULL for forecasts of single columns.';

  create or replace view kronos.kronos_forecasts with (security_barrier) as
    select f.run_id, f.kind, f.relation, f.series, f.ts, f.step, f.issued_at, f.cutoff,
           (f.bar).open, (f.bar).high, (f.bar).low, (f.bar).close, (f.bar).volume, (f.bar).amount,
           f.lower, f.upper, f.level, f.quantile_levels, f.quantiles, f.prob_up, f.model_version, f.calibration,
           f.calibration_version, f.status, f.event_context, f.features
    from kronos.forecasts f
    where (f.bar).open is not null;
  comment on view kronos.kronos_forecasts is 'Forecasts of whole bars, one column per price.';
  comment on column kronos.kronos_forecasts.run_id is 'Run that gave it.';
  comment on column kronos.kronos_forecasts.open is 'Open of the mean bar.';
  comment on column kronos.kronos_forecasts.high is 'High of the mean bar.';
  comment on column kronos.kronos_forecasts.low is 'Low of the mean bar.';
  comment on column kronos.kronos_forecasts.close is 'Close of the mean bar: the forecast.';
  comment on column kronos.kronos_forecasts.volume is 'Volume of the mean bar.';
  comment on column kronos.kronos_forecasts.amount is 'Amount of the mean bar.';

  create or replace view kronos.ml_predictions with (security_barrier) as
    select pg_catalog.split_part(f.model_version, '@', 1) as model_name, f.*
    from kronos.forecasts f;
  comment on view kronos.ml_predictions is 'Every forecast in the ledger with the name of its model.';
  comment on column kronos.ml_predictions.run_id is 'Run that gave it.';
  comment on column kronos.ml_predictions.model_name is 'The part of model_version before the @.';

  create or replace view kronos.runs with (security_barrier) as
    select r.run_id, r.kind, r.policy, r.request_id, r.issued_at, n.name as issued_by, r.relation, r.call, r.model, r.model_version,
           r.horizon, r.args, r.seed, r.scheduled_for, r.as_of, r.cutoff, r.n_series, r.n_ok, r.n_failed, r.duration_ms,
           r.state, r.sqlstate, r.message, r.runner_pid
    from ledger.runs r left join ledger.role_names n on n.role_id = r.issuer
    where case when r.relation in (select i.relation from ledger.readable_inputs i) then true
               else r.run_id in (select o.run_id from ledger.own_runs o) end;
  comment on view kronos.runs is
    'Runs of inputs that the caller may read. Columns as in ledger.runs; issued_by is what the role is called now.';
  comment on column kronos.runs.issued_by is 'What the role that began it is called now.';

  create or replace view kronos.failures with (security_barrier) as
    select f.run_id, r.policy, r.issued_at, r.relation, f.series, f.status, f.ts, f.detail
    from ledger.failures f join kronos.runs r using (run_id);
  comment on view kronos.failures is 'Series that could not be forecast, of runs that the caller may see.';

  create or replace view kronos.policies with (security_barrier) as
    select p.policy, n.name as owner, p.relation, p.horizon, p.call, p.model,
           case when x.mine or x.sight = 'all' then p.args else p.args - '{only_series,event_context,features}'::text[] end as args,
           p.schedule_interval, p.initial_start, p.timezone, p.scheduler, p.job_id, p.created_at
    from ledger.policies p
    cross join lateral (select p.owner_id in (select m.role_id from ledger.me m) as mine,
                               (select s.sight from ledger.seen_inputs s where s.relation = p.relation) as sight) x
    left join ledger.role_names n on n.role_id = p.owner_id
    where x.mine or x.sight in ('own', 'all');
  comment on view kronos.policies is
    'Forecast policies of the caller, and those of inputs it may read; what they say of series is left out where each role may see other '
    'rows.';
  comment on column kronos.policies.owner is 'What the role whose policy it is is called now.';

  create or replace view kronos.stat_policies with (security_barrier) as
    select p.policy, p.scheduler, p.job_id, l.run_id as last_run_id, l.issued_at as last_run, l.state as last_status,
           l.sqlstate as last_sqlstate, l.message as last_message, l.n_ok, l.n_failed, l.duration_ms,
           c.cutoff, pg_catalog.now() - c.cutoff as lag,
           (select pg_catalog.count(*) from ledger.requests q where q.policy_id = i.policy_id and q.state = 'queued') as queued
    from kronos.policies p
    join ledger.policies i on i.policy = p.policy
    left join lateral (
      select * from ledger.runs r where r.policy_id = i.policy_id order by r.run_id desc limit 1) l on true
    left join lateral (
      select pg_catalog.max(r.cutoff) as cutoff from ledger.runs r where r.policy_id = i.policy_id) c on true;
  comment on view kronos.stat_policies is 'How forecast policies fare: their last run, and how far behind their forecasts are.';
  comment on column kronos.stat_policies.policy is 'Name of the policy.';
  comment on column kronos.stat_policies.last_run_id is 'Its newest run; NULL: none yet.';
  comment on column kronos.stat_policies.last_run is 'When that began.';
  comment on column kronos.stat_policies.last_message is 'What its last error said; NULL: none.';
  comment on column kronos.stat_policies.last_status is 'State of the last run: running, done, partial, failed or cancelled.';
  comment on column kronos.stat_policies.last_sqlstate is 'SQLSTATE of its last error; NULL: none.';
  comment on column kronos.stat_policies.n_ok is 'Series that it forecast.';
  comment on column kronos.stat_policies.n_failed is 'Series that it could not forecast: see kronos.failures.';
  comment on column kronos.stat_policies.duration_ms is 'How long it took, in milliseconds; NULL: it is running.';
  comment on column kronos.stat_policies.cutoff is 'Newest cutoff of any forecast of the policy.';
  comment on column kronos.stat_policies.lag is 'Time since that cutoff; more than a bar and an interval says that data or runs are late.';
  comment on column kronos.stat_policies.queued is 'Requests of kronos.submit() that wait.';

  create or replace view kronos.requests with (security_barrier) as
    select q.request_id, q.policy, q.requested_at, q.state, q.run_id, q.ended_at
    from ledger.own_requests q;
  comment on view kronos.requests is 'Requests of kronos.submit() that the caller has made, and what became of them.';
end
$$;

-- Names that older tables knew roles by. Where the views above could not be made, older ones still need them.
do $$
begin
  alter table ledger.policies drop column if exists owner;
  alter table ledger.inputs drop column if exists row_security;
exception when dependent_objects_still_exist then
  raise warning 'views of an older ledger are still there, and show policies by the names of their owners'
    using errcode = '01000', hint = 'Let the role that runs the set-up create objects in schema kronos, then run it again.';
end
$$;

call market.record_file('ledger/views.sql', 3);
