-- Calibrations: what they are, what they have learnt in which version, and which forecasts wait for their outcome.
-- Nothing here uses the extension. Versions are never changed, so a past forecast can be served again as it was.
call market.require_not_newer('ledger/calibrations.sql', 3);

create table if not exists ledger.calibrations (
  calibration  text primary key,
  owner_id     integer          not null default ledger.my_id() references ledger.roles,
  actuals      regclass         not null,
  relation     regclass         not null,
  target       text             not null,
  series_col   name,
  time_col     name,
  model        text,
  level        double precision not null check (level > 0 and level < 1),
  method       text             not null,
  per          text[]           not null,
  options      jsonb            not null check (jsonb_typeof(options) = 'object'),
  bar_width    text,
  bar_zone     text,
  created_at   timestamptz      not null default now()
);
-- Older tables have the name of the owner.
alter table ledger.calibrations add column if not exists owner_id integer references ledger.roles;
do $$
begin
  if exists (select from ledger.calibrations c where c.owner_id is null) then
    update ledger.calibrations c set owner_id = n.role_id
    from (select d.owner, ledger.role_named(d.owner) as role_id
          from (select distinct o.owner from ledger.calibrations o where o.owner_id is null) d) n
    where c.owner_id is null and c.owner = n.owner;
  end if;
end
$$;
alter table ledger.calibrations alter column owner_id set default ledger.my_id(), alter column owner_id set not null;
comment on table ledger.calibrations is 'One row per calibration. Its rows are written by kronos.create_calibration() and kronos.drop_calibration().';
comment on column ledger.calibrations.calibration is 'Name of the calibration.';
comment on column ledger.calibrations.owner_id is 'Role that made it, as in ledger.roles: the only one that may let it learn.';
comment on column ledger.calibrations.actuals is 'Relation that holds what came.';
comment on column ledger.calibrations.relation is 'Input of the forecasts it learns from.';
comment on column ledger.calibrations.target is 'Column that was forecast.';
comment on column ledger.calibrations.series_col is 'Key of a series in actuals; NULL: found as by the forecast functions.';
comment on column ledger.calibrations.time_col is 'Start of a bar in actuals; NULL: found as by the forecast functions.';
comment on column ledger.calibrations.model is 'Name of a model (every version of it) or one version; NULL: every model, each by its name for itself.';
comment on column ledger.calibrations.level is 'Probability that its intervals shall cover, a fraction.';
comment on column ledger.calibrations.method is 'pid, quantile, aci, dtaci, trailing, or online (first layer only).';
comment on column ledger.calibrations.per is 'What has a state of its own: series, step, both or nothing.';
comment on column ledger.calibrations.options is 'The options, defaults filled in.';
comment on column ledger.calibrations.bar_width is 'Width of a bar of actuals, as an interval; NULL until the first outcome is looked for.';
comment on column ledger.calibrations.bar_zone is 'Time zone whose days and months the width counts.';
comment on column ledger.calibrations.created_at is 'When it was made.';

create table if not exists ledger.calibration_versions (
  calibration      text        not null references ledger.calibrations on delete cascade,
  version          bigint      not null,
  made_at          timestamptz not null default clock_timestamp(),
  through          timestamptz not null,
  updated_through  timestamptz not null,
  n_new            bigint      not null,
  primary key (calibration, version)
);
comment on table ledger.calibration_versions is
  'Append-only: one row per time that a calibration learnt something, was reset, or had nothing to learn in a replay of past dates.';
comment on column ledger.calibration_versions.calibration is 'Calibration.';
comment on column ledger.calibration_versions.version is 'Counts from 1; forecasts name the version that served them.';
comment on column ledger.calibration_versions.made_at is 'When it was made, by the clock of the server: it serves what is asked as of then or later.';
comment on column ledger.calibration_versions.through is
  'Only what was known then was used. What is asked as of then or before is settled: no later version serves it.';
comment on column ledger.calibration_versions.updated_through is
  'When the newest outcome in it became known: a replay of past dates uses it from then on.';
comment on column ledger.calibration_versions.n_new is 'Outcomes learnt since the version before.';

create table if not exists ledger.calibration_groups (
  group_id     bigint generated always as identity primary key,
  calibration  text    not null references ledger.calibrations on delete cascade,
  scope        text    not null check (scope in ('series', 'sector', 'global')),
  model        text    not null,
  member       text    not null,
  step         integer not null,
  sector       text,
  unique (calibration, model, scope, member, step)
);
comment on table ledger.calibration_groups is 'What a calibration keeps states of: each series, each sector, and all series together, by model and step.';
comment on column ledger.calibration_groups.group_id is 'Identity of the group.';
comment on column ledger.calibration_groups.calibration is 'Calibration.';
comment on column ledger.calibration_groups.scope is 'series, sector or global.';
comment on column ledger.calibration_groups.model is 'Name of the model, or one version of it where the calibration is of that version.';
comment on column ledger.calibration_groups.member is 'Series or sector; empty where there is only one.';
comment on column ledger.calibration_groups.step is 'Step of the forecasts; 0: of all steps.';
comment on column ledger.calibration_groups.sector is 'Sector that the series borrows from; NULL: none known when it was first seen.';

create table if not exists ledger.calibration_state (
  group_id         bigint           not null references ledger.calibration_groups on delete cascade,
  version          bigint           not null,
  calibration      text             not null,
  n                bigint           not null,
  updated_through  timestamptz      not null,
  coverage         double precision,
  recent_coverage  double precision,
  raw_coverage     double precision,
  bias             double precision not null,
  scale            double precision not null,
  q_lower          double precision,
  q_upper          double precision,
  mean_width       double precision,
  drift            boolean          not null,
  status           text,
  state            bytea            not null,
  primary key (group_id, version)
);
alter table ledger.calibration_state
  add column if not exists layers text, add column if not exists reason text,
  add column if not exists score_first double precision, add column if not exists score_all double precision;
comment on table ledger.calibration_state is 'Append-only: what a group has learnt, in each version that changed it.';
comment on column ledger.calibration_state.group_id is 'Group.';
comment on column ledger.calibration_state.version is 'Version of the calibration that the state belongs to.';
comment on column ledger.calibration_state.calibration is 'Calibration.';
comment on column ledger.calibration_state.n is 'Outcomes learnt.';
comment on column ledger.calibration_state.updated_through is 'When the newest of them became known.';
comment on column ledger.calibration_state.coverage is
  'Share of outcomes within the interval that would have been served at the cutoff; NULL before the first.';
comment on column ledger.calibration_state.recent_coverage is 'The same over the last 60.';
comment on column ledger.calibration_state.raw_coverage is 'Share of outcomes within the model''s own interval.';
comment on column ledger.calibration_state.bias is 'Mean error of the model: a return (logarithm), or in units of the target under the option unit linear.';
comment on column ledger.calibration_state.scale is 'Factor that gives the model''s band the spread of its errors, before clamping.';
comment on column ledger.calibration_state.q_lower is 'Distance of the lower end from the point in the last forecast learnt, in the unit of bias.';
comment on column ledger.calibration_state.q_upper is 'Distance of the upper end from it.';
comment on column ledger.calibration_state.mean_width is 'Mean width of the intervals served, over about 50 outcomes, in the unit of bias.';
comment on column ledger.calibration_state.drift is 'Whether somebody should look: see status.';
comment on column ledger.calibration_state.status is
  'NULL, burn_in (the model''s own interval is served), max_radius (a radius is at its limit), undercoverage (recent intervals miss '
  'more often than luck explains), model_drift (the model''s own intervals miss more often than they used to).';
comment on column ledger.calibration_state.layers is
  'How much of the calibration is served: all layers, the first one, or none (model: the forecast is the model''s own).';
comment on column ledger.calibration_state.reason is
  'Why: trial (too little to compare), score (the least running interval score), coverage (fewer layers score less, and cover too little).';
comment on column ledger.calibration_state.score_first is
  'Running interval score with the first layer, relative to that of the model''s own intervals: above 1 it is worse. Of all series together.';
comment on column ledger.calibration_state.score_all is 'The same with all layers.';
comment on column ledger.calibration_state.state is 'The whole state, in the library''s format, exact to the bit.';

create table if not exists ledger.calibration_runs (
  calibration  text   not null references ledger.calibrations on delete cascade,
  run_id       bigint not null,
  primary key (calibration, run_id)
);
comment on table ledger.calibration_runs is 'Runs whose forecasts a calibration has taken up: learnt, or put on its queue.';
comment on column ledger.calibration_runs.calibration is 'Calibration.';
comment on column ledger.calibration_runs.run_id is 'Run.';

create table if not exists ledger.calibration_queue (
  queue_id       bigint generated always as identity primary key,
  calibration    text             not null references ledger.calibrations on delete cascade,
  series         text             not null,
  step           integer          not null,
  ts             timestamptz      not null,
  cutoff         timestamptz      not null,
  model_version  text             not null,
  forecast       double precision not null,
  lower          double precision not null,
  upper          double precision not null,
  queued_at      timestamptz      not null default now()
);
comment on table ledger.calibration_queue is 'Forecasts that wait for their outcome, each to be learnt once.';
comment on column ledger.calibration_queue.queue_id is 'Identity of the row.';
comment on column ledger.calibration_queue.calibration is 'Calibration.';
comment on column ledger.calibration_queue.series is 'Series.';
comment on column ledger.calibration_queue.step is 'Step.';
comment on column ledger.calibration_queue.ts is 'Start of the bar that was forecast.';
comment on column ledger.calibration_queue.cutoff is 'End of the last bar that was used.';
comment on column ledger.calibration_queue.model_version is 'Model.';
comment on column ledger.calibration_queue.forecast is 'Point forecast of the model itself.';
comment on column ledger.calibration_queue.lower is 'Lower end of its own interval.';
comment on column ledger.calibration_queue.upper is 'Upper end of its own interval.';
comment on column ledger.calibration_queue.queued_at is 'When it was put on the queue; given up after the option patience.';
create index if not exists calibration_queue_ts_idx on ledger.calibration_queue (calibration, ts);

create or replace trigger append_only before update or delete or truncate on ledger.calibration_versions
  for each statement execute function ledger.refuse_change('cascade');
create or replace trigger append_only before update or delete or truncate on ledger.calibration_state
  for each statement execute function ledger.refuse_change('cascade');

create or replace function ledger.note_actuals() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform ledger.use_input(new.actuals);
  perform ledger.use_input(new.relation);
  return null;
end
$$;
comment on function ledger.note_actuals() is 'Trigger that keeps ledger.inputs up to date with every calibration.';
revoke all on function ledger.note_actuals() from public;
create or replace trigger note_actuals after insert on ledger.calibrations
  for each row execute function ledger.note_actuals();
do $$
begin
  perform ledger.use_input(r.relation)
  from (select c.actuals as relation from ledger.calibrations c union select c.relation from ledger.calibrations c) r
  join pg_catalog.pg_class k on k.oid = r.relation
  where not exists (select from ledger.inputs i where i.relation = r.relation);
end
$$;

-- Row security let through whoever bypasses it. Roles reach the tables through the views of the next file.
do $$
declare
  item text;
begin
  foreach item in array array['calibrations', 'calibration_versions', 'calibration_groups', 'calibration_state', 'calibration_runs',
                              'calibration_queue'] loop
    execute format('drop policy if exists readers on ledger.%I', item);
    execute format('drop policy if exists owners on ledger.%I', item);
    execute format('alter table ledger.%I disable row level security', item);
  end loop;
end
$$;

call market.record_file('ledger/calibrations.sql', 3);
