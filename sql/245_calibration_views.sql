-- Calibrations as people read them: views of schema kronos, for those who may read the outcomes.
call market.require_not_newer('245_calibration_views.sql', 1);

do $$
begin
  if not ledger.may_add_views() then
    return;
  end if;

  create or replace view kronos.calibrations with (security_invoker = true) as
    select c.calibration as name, c.owner, c.actuals, c.relation, c.target, c.series_col, c.time_col, c.model, c.level, c.method,
           c.per, c.options, c.bar_width, c.created_at, v.version, v.made_at as updated_at, v.updated_through,
           (select pg_catalog.count(*) from ledger.calibration_queue q where q.calibration = c.calibration) as waiting
    from ledger.calibrations c
    left join lateral (
      select * from ledger.calibration_versions v where v.calibration = c.calibration order by v.version desc limit 1) v on true;
  comment on view kronos.calibrations is 'Calibrations of outcomes that the caller may read, and how far each has come.';
  comment on column kronos.calibrations.version is 'Newest version of what it has learnt; NULL: nothing yet.';
  comment on column kronos.calibrations.updated_at is 'When that version was made.';
  comment on column kronos.calibrations.updated_through is 'When the newest outcome in it became known.';
  comment on column kronos.calibrations.waiting is 'Forecasts that wait for their outcome.';

  create or replace view kronos.stat_calibration with (security_invoker = true) as
    select g.calibration as name, g.model, g.member as series, g.step, s.n, s.coverage, c.level as target_coverage,
           s.recent_coverage, s.raw_coverage, s.bias, s.scale, s.q_lower, s.q_upper, s.mean_width, s.drift, s.status,
           s.version, s.updated_through, g.sector
    from ledger.calibrations c
    join ledger.calibration_groups g on g.calibration = c.calibration and g.scope = 'series'
    cross join lateral (
      select * from ledger.calibration_state s where s.group_id = g.group_id order by s.version desc limit 1) s;
  comment on view kronos.stat_calibration is
    'How the newest state of every series and step fares: coverage of what was served beside that of the model itself, and drift.';
  comment on column kronos.stat_calibration.series is 'Series; empty for the one series of a relation without keys, or where series share a state.';
  comment on column kronos.stat_calibration.step is 'Step; 0 where steps share a state.';
  comment on column kronos.stat_calibration.n is 'Outcomes learnt.';
  comment on column kronos.stat_calibration.coverage is 'Share of outcomes within the calibrated interval of just before; NULL during burn-in.';
  comment on column kronos.stat_calibration.recent_coverage is 'The same over the last 60.';
  comment on column kronos.stat_calibration.raw_coverage is 'Share of outcomes within the model''s own interval.';
  comment on column kronos.stat_calibration.drift is 'Whether somebody should look; status says why.';
end
$$;

call market.record_file('245_calibration_views.sql', 1);
