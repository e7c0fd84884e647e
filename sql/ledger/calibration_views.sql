-- Calibrations as they are reached. Whoever may read the outcomes and the input may use what was learnt from them; only its
-- owner lets a calibration learn. Owners are compared here, and no role has a privilege on the tables.
call market.require_not_newer('ledger/calibration_views.sql', 4);

create or replace view ledger.readable_calibrations with (security_barrier) as
  select c.calibration, c.actuals, c.relation, c.target, c.series_col, c.time_col, c.model, c.level, c.method, c.per, c.options,
         c.bar_width, c.bar_zone, c.created_at, c.owner_id in (select m.role_id from ledger.me m) as mine
  from ledger.calibrations c
  where c.owner_id in (select m.role_id from ledger.me m)
     or (c.actuals in (select i.relation from ledger.readable_inputs i) and c.relation in (select i.relation from ledger.readable_inputs i));
comment on view ledger.readable_calibrations is
  'Calibrations that the current role may use: its own, and those of outcomes and inputs that it may read whole.';
comment on column ledger.readable_calibrations.mine is 'Whether it belongs to the current role.';

create or replace view ledger.own_calibrations with (security_barrier) as
  select c.calibration, c.actuals, c.relation, c.bar_width, c.bar_zone
  from ledger.calibrations c
  where c.owner_id in (select m.role_id from ledger.me m)
  with check option;
comment on view ledger.own_calibrations is 'Calibrations of the current role, to lock, to note the width of a bar in, and to drop.';

create or replace view ledger.new_calibrations with (security_barrier) as
  select c.calibration, c.actuals, c.relation, c.target, c.series_col, c.time_col, c.model, c.level, c.method, c.per, c.options
  from ledger.calibrations c
  where pg_catalog.has_table_privilege(c.actuals, 'SELECT') or pg_catalog.has_any_column_privilege(c.actuals, 'SELECT')
  with check option;
comment on view ledger.new_calibrations is 'Where a role makes calibrations of its own.';

create or replace view ledger.readable_calibration_versions with (security_barrier) as
  select v.calibration, v.version, v.made_at, v.through, v.updated_through, v.n_new
  from ledger.calibration_versions v
  where v.calibration in (select c.calibration from ledger.readable_calibrations c);
comment on view ledger.readable_calibration_versions is 'Versions of calibrations that the current role may use.';

create or replace view ledger.readable_calibration_groups with (security_barrier) as
  select g.group_id, g.calibration, g.scope, g.model, g.member, g.step, g.sector
  from ledger.calibration_groups g
  where g.calibration in (select c.calibration from ledger.readable_calibrations c);
comment on view ledger.readable_calibration_groups is 'Groups of calibrations that the current role may use.';

create or replace view ledger.readable_calibration_state with (security_barrier) as
  select s.group_id, s.version, s.calibration, s.n, s.updated_through, s.state
  from ledger.calibration_state s
  where s.calibration in (select c.calibration from ledger.readable_calibrations c);
comment on view ledger.readable_calibration_state is 'States of calibrations that the current role may use.';

create or replace view ledger.own_calibration_versions with (security_barrier) as
  select v.calibration, v.version, v.through, v.updated_through, v.n_new
  from ledger.calibration_versions v
  where v.calibration in (select c.calibration from ledger.own_calibrations c)
  with check option;
comment on view ledger.own_calibration_versions is 'Where a role adds versions to calibrations of its own.';

create or replace view ledger.own_calibration_groups with (security_barrier) as
  select g.group_id, g.calibration, g.scope, g.model, g.member, g.step, g.sector
  from ledger.calibration_groups g
  where g.calibration in (select c.calibration from ledger.own_calibrations c)
  with check option;
comment on view ledger.own_calibration_groups is 'Where a role adds groups to calibrations of its own.';

create or replace view ledger.own_calibration_state with (security_barrier) as
  select s.group_id, s.version, s.calibration, s.n, s.updated_through, s.coverage, s.recent_coverage, s.raw_coverage, s.bias, s.scale,
         s.q_lower, s.q_upper, s.mean_width, s.drift, s.status, s.state, s.layers, s.reason, s.score_first, s.score_all
  from ledger.calibration_state s
  where (s.group_id, s.calibration) in (select g.group_id, g.calibration from ledger.own_calibration_groups g)
  with check option;
comment on view ledger.own_calibration_state is 'Where a role adds states to groups of calibrations of its own.';

create or replace view ledger.own_calibration_runs with (security_barrier) as
  select r.calibration, r.run_id
  from ledger.calibration_runs r
  where r.calibration in (select c.calibration from ledger.own_calibrations c)
  with check option;
comment on view ledger.own_calibration_runs is 'Runs that calibrations of the current role have taken up.';

create or replace view ledger.own_calibration_queue with (security_barrier) as
  select q.queue_id, q.calibration, q.series, q.step, q.ts, q.cutoff, q.model_version, q.forecast, q.lower, q.upper, q.queued_at
  from ledger.calibration_queue q
  where q.calibration in (select c.calibration from ledger.own_calibrations c)
  with check option;
comment on view ledger.own_calibration_queue is 'Forecasts that wait for their outcome, of calibrations of the current role.';

do $$
begin
  if not ledger.may_add_views() then
    return;
  end if;

  create or replace view kronos.calibrations with (security_barrier) as
    select c.calibration as name, n.name as owner, c.actuals, c.relation, c.target, c.series_col, c.time_col, c.model, c.level, c.method,
           c.per, c.options, c.bar_width, c.created_at, v.version, v.made_at as updated_at, v.updated_through,
           (select pg_catalog.count(*) from ledger.calibration_queue q where q.calibration = c.calibration) as waiting
    from ledger.calibrations c
    left join ledger.role_names n on n.role_id = c.owner_id
    left join lateral (
      select * from ledger.calibration_versions v where v.calibration = c.calibration order by v.version desc limit 1) v on true
    where c.calibration in (select r.calibration from ledger.readable_calibrations r);
  comment on view kronos.calibrations is 'Calibrations of outcomes that the caller may read, and how far each has come.';
  comment on column kronos.calibrations.owner is 'What the role whose calibration it is is called now.';
  comment on column kronos.calibrations.version is 'Newest version of what it has learnt; NULL: nothing yet.';
  comment on column kronos.calibrations.updated_at is 'When that version was made.';
  comment on column kronos.calibrations.updated_through is 'When the newest outcome in it became known.';
  comment on column kronos.calibrations.waiting is 'Forecasts that wait for their outcome.';

  create or replace view kronos.stat_calibration with (security_barrier) as
    select g.calibration as name, g.model, g.member as series, g.step, s.n, s.coverage, c.level as target_coverage,
           s.recent_coverage, s.raw_coverage, s.bias, s.scale, s.q_lower, s.q_upper, s.mean_width, s.drift, s.status,
           s.version, s.updated_through, g.sector, s.layers, s.reason, s.score_first, s.score_all
    from ledger.calibrations c
    join ledger.calibration_groups g on g.calibration = c.calibration and g.scope = 'series'
    cross join lateral (
      select * from ledger.calibration_state s where s.group_id = g.group_id order by s.version desc limit 1) s
    where c.calibration in (select r.calibration from ledger.readable_calibrations r);
  comment on view kronos.stat_calibration is
    'How the newest state of every series and step fares: coverage of what was served beside that of the model itself, and drift.';
  comment on column kronos.stat_calibration.name is 'Name of the calibration.';
  comment on column kronos.stat_calibration.target_coverage is 'Coverage that it aims at.';
  comment on column kronos.stat_calibration.series is
    'Series; empty for the one series of a relation without keys, or where series share a state.';
  comment on column kronos.stat_calibration.step is 'Step; 0 where steps share a state.';
  comment on column kronos.stat_calibration.n is 'Outcomes learnt.';
  comment on column kronos.stat_calibration.coverage is
    'Share of outcomes within the interval that would have been served at the cutoff; NULL during burn-in.';
  comment on column kronos.stat_calibration.recent_coverage is 'The same over the last 60.';
  comment on column kronos.stat_calibration.raw_coverage is 'Share of outcomes within the model''s own interval.';
  comment on column kronos.stat_calibration.drift is 'Whether somebody should look; status says why.';
end
$$;

do $$
begin
  alter table ledger.calibrations drop column if exists owner;
exception when dependent_objects_still_exist then
  raise warning 'views of an older ledger are still there, and show calibrations by the names of their owners'
    using errcode = '01000', hint = 'Let the role that runs the set-up create objects in schema kronos, then run it again.';
end
$$;

call market.record_file('ledger/calibration_views.sql', 4);
