-- The ledger: every forecast that was issued, by which run, and what could not be forecast. Rows are never changed.
-- It uses nothing of the extension, so dropping the extension loses none of it.
call market.require_not_newer('ledger/forecasts.sql', 2);

create schema if not exists ledger;
comment on schema ledger is 'What was forecast, when, by whom and from what: append-only. Read it through the views of schema kronos.';

do $$
begin
  if to_regtype('ledger.bar') is null then
    create type ledger.bar as (ts timestamptz, open float8, high float8, low float8, close float8, volume float8, amount float8);
  end if;
end
$$;
comment on type ledger.bar is 'A forecast bar, labelled by its start; the shape of kronos.bar.';

create table if not exists ledger.runs (
  run_id          bigint generated always as identity primary key,
  kind            text             not null default 'live' check (kind in ('live', 'backtest', 'manual')),
  policy          text,
  request_id      bigint,
  issued_at       timestamptz      not null default clock_timestamp(),
  issued_by       text             not null default current_user,
  relation        regclass         not null,
  call            text             not null,
  model           text,
  model_version   text,
  horizon         integer,
  args            jsonb            not null default '{}',
  seed            bigint,
  scheduled_for   timestamptz,
  as_of           timestamptz,
  cutoff          timestamptz,
  n_series        integer          not null default 0,
  n_ok            integer          not null default 0,
  n_failed        integer          not null default 0,
  duration_ms     double precision,
  state           text             not null default 'running'
                  check (state in ('running', 'done', 'partial', 'failed', 'cancelled')),
  sqlstate        text,
  message         text,
  runner_pid      integer          not null default pg_backend_pid(),
  runner_started  timestamptz
);
comment on table ledger.runs is 'One row per run that wrote forecasts, or tried to; final once its state is no longer running.';
comment on column ledger.runs.run_id is 'Identity of the run.';
comment on column ledger.runs.kind is 'live (a policy), backtest (past cutoffs, made later) or manual (somebody recorded a call).';
comment on column ledger.runs.policy is 'Name of the policy that was run; NULL: none. The policy itself is policy_id.';
comment on column ledger.runs.request_id is 'Request of kronos.submit() that asked for it; NULL: none.';
comment on column ledger.runs.issued_at is 'When the run began.';
comment on column ledger.runs.issued_by is 'Name that the role that ran it had then; the role itself is issuer.';
comment on column ledger.runs.relation is 'The input.';
comment on column ledger.runs.call is 'Function that made the forecasts, for example kronos_predict.';
comment on column ledger.runs.model is 'Model as it was asked for: a name, an alias or a version; NULL: the default.';
comment on column ledger.runs.model_version is 'name@digest of the model that answered; NULL: none did.';
comment on column ledger.runs.horizon is 'Steps asked for.';
comment on column ledger.runs.args is 'The other arguments of the call.';
comment on column ledger.runs.seed is 'Seed of the call; NULL: the call takes none, or fresh randomness.';
comment on column ledger.runs.scheduled_for is 'The time of its policy''s schedule that the run serves.';
comment on column ledger.runs.as_of is 'Only what was known then was used; NULL: what was known when it ran.';
comment on column ledger.runs.cutoff is 'Newest cutoff among its forecasts.';
comment on column ledger.runs.n_series is 'Series that it has dealt with.';
comment on column ledger.runs.n_ok is 'Series with a forecast.';
comment on column ledger.runs.n_failed is 'Series without one: see ledger.failures.';
comment on column ledger.runs.duration_ms is 'Time from beginning to end, in milliseconds.';
comment on column ledger.runs.state is 'running, done, partial (some series failed), failed (all did, or the run broke off) or cancelled.';
comment on column ledger.runs.sqlstate is 'SQLSTATE of the last error, where there was one.';
comment on column ledger.runs.message is 'Its message and hint.';
comment on column ledger.runs.runner_pid is 'Process that runs it.';
comment on column ledger.runs.runner_started is 'When that process started; tells it from another that is given the same number.';

-- No column of this table may ever be dropped: the chunks of a hypertable would then differ from it in layout, and
-- TimescaleDB checks the rows that come through ledger.new_forecasts against the layout of the table.
create table if not exists ledger.forecasts (
  run_id               bigint           not null,
  kind                 text             not null default 'live' check (kind in ('live', 'backtest', 'manual')),
  relation             regclass         not null,
  series               text             not null,
  target               text             not null,
  ts                   timestamptz      not null,
  step                 integer          not null check (step > 0),
  issued_at            timestamptz      not null default clock_timestamp(),
  cutoff               timestamptz      not null,
  forecast             double precision,
  lower                double precision,
  upper                double precision,
  level                double precision check (level > 0 and level < 1),
  quantile_levels      double precision[],
  quantiles            double precision[],
  raw_forecast         double precision,
  raw_lower            double precision,
  raw_upper            double precision,
  open                 double precision,
  high                 double precision,
  low                  double precision,
  volume               double precision,
  amount               double precision,
  prob_up              double precision,
  model_version        text             not null,
  calibration          text             not null default '',
  calibration_version  bigint,
  status               text,
  event_context        jsonb,
  features             jsonb
);
comment on table ledger.forecasts is
  'Append-only: every forecast value that was issued. One row per input, series, target, model, calibration, kind, cutoff and time.';
comment on column ledger.forecasts.run_id is 'Run that issued it.';
comment on column ledger.forecasts.kind is 'As in runs: a backtest and a live forecast of the same cutoff stand beside each other.';
comment on column ledger.forecasts.relation is 'The input.';
comment on column ledger.forecasts.series is 'Key of the series as text; empty for the one series of a relation without keys.';
comment on column ledger.forecasts.target is 'Column that was forecast; close where whole bars were.';
comment on column ledger.forecasts.ts is 'Time that the forecast is for: the start of the bar, labelled like the input.';
comment on column ledger.forecasts.step is '1 for the first bar after the cutoff.';
comment on column ledger.forecasts.issued_at is 'When the row was written.';
comment on column ledger.forecasts.cutoff is 'End of the last bar that was used.';
comment on column ledger.forecasts.forecast is 'Point forecast, in units of the target; the close where whole bars were forecast.';
comment on column ledger.forecasts.lower is 'Lower end of the interval at level.';
comment on column ledger.forecasts.upper is 'Upper end of the interval at level.';
comment on column ledger.forecasts.level is 'Probability between lower and upper, a fraction.';
comment on column ledger.forecasts.quantile_levels is 'Levels of quantiles, ascending fractions; NULL: none were asked for.';
comment on column ledger.forecasts.quantiles is 'Quantiles in the order of quantile_levels.';
comment on column ledger.forecasts.raw_forecast is 'Point forecast of the model itself; NULL without a calibration, as are the next two.';
comment on column ledger.forecasts.raw_lower is 'Lower end of the model''s own interval.';
comment on column ledger.forecasts.raw_upper is 'Upper end of the model''s own interval.';
comment on column ledger.forecasts.open is 'Open of the forecast bar; NULL from models that forecast single columns, as are the next four.';
comment on column ledger.forecasts.high is 'High of the forecast bar.';
comment on column ledger.forecasts.low is 'Low of the forecast bar.';
comment on column ledger.forecasts.volume is 'Volume of the forecast bar.';
comment on column ledger.forecasts.amount is 'Money traded in the forecast bar.';
comment on column ledger.forecasts.prob_up is 'Probability that the close is above the last close before the cutoff.';
comment on column ledger.forecasts.model_version is 'name@digest of the model, or the name of a baseline.';
comment on column ledger.forecasts.calibration is 'Calibration that was applied; empty: none.';
comment on column ledger.forecasts.calibration_version is 'Version of its state; NULL: it had learnt nothing yet, or there is none.';
comment on column ledger.forecasts.status is 'What is to be known of the row; NULL: nothing.';
comment on column ledger.forecasts.event_context is 'What was going on, as the policy or the caller said; for people and later models.';
comment on column ledger.forecasts.features is 'What else went into the forecast, as the policy or the caller said.';

-- The key of a row, in an order that serves "newest cutoff per time of one series" without sorting. run_id is carried so
-- that this question, visibility included, is answered from the index alone.
create unique index if not exists forecasts_key on ledger.forecasts
  (series, relation, target, model_version, calibration, kind, ts, cutoff desc) include (run_id);
-- Rows arrive in the order of these, so a few pages tell where to look.
create index if not exists forecasts_brin on ledger.forecasts using brin (run_id, issued_at, ts);

create table if not exists ledger.failures (
  run_id  bigint not null references ledger.runs,
  series  text   not null,
  status  text   not null,
  ts      timestamptz,
  detail  text,
  primary key (run_id, series)
);
comment on table ledger.failures is 'Append-only: the series that a run could not forecast.';
comment on column ledger.failures.run_id is 'Run.';
comment on column ledger.failures.series is 'Key of the series; empty for the one series of a relation without keys.';
comment on column ledger.failures.status is
  'Status as the forecast functions give it (short_history, gap, ...), or the SQLSTATE of an error.';
comment on column ledger.failures.ts is 'Start of the first bar at fault, where there is one.';
comment on column ledger.failures.detail is 'Message and hint of an error.';

-- What was forecast by several roles at once, and differently. The table of forecasts has room for one of them.
create table if not exists ledger.contested_forecasts (like ledger.forecasts including defaults including constraints including comments);
comment on table ledger.contested_forecasts is
  'Append-only: forecasts whose key another role had taken in ledger.forecasts, with other numbers. The views show them beside those.';
create unique index if not exists contested_forecasts_key on ledger.contested_forecasts
  (series, relation, target, model_version, calibration, kind, ts, cutoff desc, run_id);

create table if not exists ledger.removals (
  xact  xid8 primary key default pg_catalog.pg_current_xact_id()
);
comment on table ledger.removals is
  'Transactions that may remove rows of append-only tables. A row is the right itself: only the owner of the tables can write one.';
comment on column ledger.removals.xact is 'The transaction.';

create or replace function ledger.refuse_change() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'DELETE' and tg_nargs > 0 and pg_trigger_depth() > 1 then
    return null;  -- the rows go with what they belong to, by the cascade of their foreign key
  elsif tg_op <> 'UPDATE' and exists (select from ledger.removals r where r.xact = pg_current_xact_id_if_assigned()) then
    return null;
  end if;
  raise exception 'table "%.%" is append-only', tg_table_schema, tg_table_name
    using errcode = 'object_not_in_prerequisite_state',
          hint = 'What was issued stays as it was; ledger.drop_forecasts() is there for retention.';
end
$$;
comment on function ledger.refuse_change() is
  'Trigger that refuses UPDATE, DELETE and TRUNCATE with 55000, but in transactions of ledger.removals. With an argument it lets a cascade pass.';

create or replace function ledger.guard_run() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  -- What a run comes to know on its way.
  later constant text[] := '{model_version,cutoff,n_series,n_ok,n_failed,duration_ms,state,sqlstate,message}';
begin
  if old.state <> 'running' or (to_jsonb(old) - later) is distinct from (to_jsonb(new) - later) then
    raise exception 'run % cannot be changed', old.run_id
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'Only the outcome of a run that is running may be written.';
  end if;
  return new;
end
$$;
comment on function ledger.guard_run() is 'Trigger that lets a running run note its outcome, and refuses every other change with 55000.';

create or replace trigger append_only before update or delete or truncate on ledger.forecasts
  for each statement execute function ledger.refuse_change();
create or replace trigger append_only before update or delete or truncate on ledger.contested_forecasts
  for each statement execute function ledger.refuse_change();
create or replace trigger append_only before update or delete or truncate on ledger.failures
  for each statement execute function ledger.refuse_change();
create or replace trigger append_only before delete or truncate on ledger.runs
  for each statement execute function ledger.refuse_change();
create or replace trigger final before update on ledger.runs
  for each row execute function ledger.guard_run();

create or replace function ledger.drop_forecasts(older_than timestamptz) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  ts       constant name := market.timescale_schema();
  dropped  bigint;
begin
  if older_than is null then
    raise exception 'older_than must not be null' using errcode = 'null_value_not_allowed';
  end if;
  insert into ledger.removals default values on conflict do nothing;
  delete from ledger.contested_forecasts f where f.ts < older_than;
  if ts is not null then
    execute format('select count(*) from %I.drop_chunks(''ledger.forecasts''::regclass, older_than => $1)', ts)
      into dropped using older_than;
  else
    delete from ledger.forecasts f where f.ts < older_than;
    get diagnostics dropped = row_count;
  end if;
  delete from ledger.removals r where r.xact = pg_current_xact_id();
  return dropped;
end
$$;
comment on function ledger.drop_forecasts(timestamptz) is
  'Retention: removes forecasts for times before older_than and returns how many rows, or where TimescaleDB is there how many chunks. '
  'Runs stay. For the owner of the ledger.';
revoke all on function ledger.drop_forecasts(timestamptz) from public;

call market.record_file('ledger/forecasts.sql', 2);
