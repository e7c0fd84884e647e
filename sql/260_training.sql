-- Training jobs: who asked for which model from which relation, how far it is, and what became of it.
-- kronos.train_model() adds a job, `kronos-train work` runs it; nothing is trained inside the server.
call market.require_not_newer('260_training.sql', 1);

create schema if not exists training;
comment on schema training is 'Jobs that train models, what they say while they run, and the series that trained models forecast best.';

create table if not exists training.jobs (
  job_id            bigint      generated always as identity primary key,
  name              text        not null check (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'),
  family            text        not null,
  relation          regclass    not null,
  targets           text[]      not null check (cardinality(targets) > 0),
  options           jsonb       not null default '{}' check (jsonb_typeof(options) = 'object'),
  requested_by      text        not null default current_user,
  requested_at      timestamptz not null default clock_timestamp(),
  state             text        not null default 'queued'
                    check (state in ('queued', 'running', 'done', 'failed', 'cancelled')),
  cancel_requested  boolean     not null default false,
  started_at        timestamptz,
  updated_at        timestamptz,
  ended_at          timestamptz,
  step              bigint,
  steps             bigint,
  remaining         interval,
  train_loss        float8,
  validation_loss   float8,
  model_version     text,
  sqlstate          text,
  message           text
);
comment on table training.jobs is 'One row per call of kronos.train_model().';
comment on column training.jobs.job_id is 'Identity of the job.';
comment on column training.jobs.name is 'Name of the model.';
comment on column training.jobs.family is 'Family of the model.';
comment on column training.jobs.relation is 'Where the rows come from.';
comment on column training.jobs.targets is 'Columns to learn from.';
comment on column training.jobs.options is 'Everything else that was asked for.';
comment on column training.jobs.requested_by is 'Role that asked; the relation is read with its privileges.';
comment on column training.jobs.requested_at is 'When it asked.';
comment on column training.jobs.state is 'queued, running, done, failed or cancelled.';
comment on column training.jobs.cancel_requested is 'Whether the job is to stop; it does at the next step.';
comment on column training.jobs.started_at is 'When a worker took it first.';
comment on column training.jobs.updated_at is 'When the worker last told how far it is.';
comment on column training.jobs.ended_at is 'When it was done, failed or cancelled.';
comment on column training.jobs.step is 'Optimiser steps done.';
comment on column training.jobs.steps is 'Optimiser steps at most; early stopping may end it before.';
comment on column training.jobs.remaining is 'Estimate of the time that is left.';
comment on column training.jobs.train_loss is 'Training loss of the last step.';
comment on column training.jobs.validation_loss is 'Best loss on the validation rows so far.';
comment on column training.jobs.model_version is 'Version in kronos.models that came of it.';
comment on column training.jobs.sqlstate is 'SQLSTATE of what the server refused, for a failed job.';
comment on column training.jobs.message is 'Why it failed.';
create index if not exists jobs_open_idx on training.jobs (job_id) where state in ('queued', 'running');

create table if not exists training.messages (
  job_id  bigint      not null references training.jobs,
  line    integer     not null,
  at      timestamptz not null default clock_timestamp(),
  message text        not null,
  primary key (job_id, line)
);
comment on table training.messages is 'What a job said while it ran.';
comment on column training.messages.job_id is 'The job.';
comment on column training.messages.line is 'Number of the line within the job.';
comment on column training.messages.at is 'When it was said.';
comment on column training.messages.message is 'The line.';

create table if not exists training.best_fits (
  job_id               bigint  not null references training.jobs,
  rank                 integer not null,
  series               text    not null,
  days                 integer not null,
  n                    integer not null,
  mae                  float8  not null,
  mae_over_naive       float8,
  directional_accuracy float8  not null,
  primary key (job_id, rank, days)
);
comment on table training.best_fits is 'The series that a trained model forecast best in the last 30, 60 and 90 days of its data.';
comment on column training.best_fits.job_id is 'The job that trained the model.';
comment on column training.best_fits.rank is 'Place in the list, by error relative to the last value and by direction, over all three spans.';
comment on column training.best_fits.series is 'Name of the series.';
comment on column training.best_fits.days is 'Length of the span in days: 30, 60 or 90.';
comment on column training.best_fits.n is 'Forecasts judged.';
comment on column training.best_fits.mae is 'Mean absolute error of the median, in log returns.';
comment on column training.best_fits.mae_over_naive is 'The same over the error of the last value; below 1 is skill.';
comment on column training.best_fits.directional_accuracy is 'Share of forecasts on the right side of the last value.';

-- A job reads as the role that asked, so nobody may ask in the name of another. Only the owner of the tables, as whom the
-- worker logs in, sees all jobs.
alter table training.jobs enable row level security;
drop policy if exists own_jobs on training.jobs;
create policy own_jobs on training.jobs using (requested_by = current_user) with check (requested_by = current_user);
alter table training.messages enable row level security;
drop policy if exists own_messages on training.messages;
create policy own_messages on training.messages for select
  using (exists (select from training.jobs j where j.job_id = messages.job_id));
alter table training.best_fits enable row level security;
drop policy if exists own_best_fits on training.best_fits;
create policy own_best_fits on training.best_fits for select
  using (exists (select from training.jobs j where j.job_id = best_fits.job_id));

create schema if not exists kronos;
create or replace view kronos.training_jobs with (security_barrier, security_invoker) as
  select j.job_id, j.name, j.family, j.relation, j.targets, j.options, j.requested_by, j.requested_at, j.state,
         j.cancel_requested, j.started_at, j.updated_at, j.ended_at, j.step, j.steps, j.remaining, j.train_loss,
         j.validation_loss, j.model_version, j.sqlstate, j.message
  from training.jobs j;
comment on view kronos.training_jobs is 'The caller''s training jobs: state, progress, and the version that came of them.';

create or replace view kronos.training_log with (security_barrier, security_invoker) as
  select m.job_id, m.line, m.at, m.message from training.messages m;
comment on view kronos.training_log is 'What the caller''s training jobs said, line by line.';

create or replace view kronos.rank_best_fit with (security_barrier, security_invoker) as
  select j.name, j.model_version, j.ended_at as ranked_at, f.rank, f.series, f.days, f.n, f.mae, f.mae_over_naive,
         f.directional_accuracy
  from training.best_fits f
  join training.jobs j using (job_id)
  where j.state = 'done'
    and not exists (select from training.jobs k
                    where k.name = j.name and k.requested_by = j.requested_by and k.job_id > j.job_id and k.state = 'done'
                      and k.options ? 'rank');
comment on view kronos.rank_best_fit is
  'The series that the caller''s newest version of each model forecasts best, with their scores over 30, 60 and 90 days.';

create or replace procedure training.grant_to(grantee text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  execute format('grant usage on schema training, kronos to %s', grantee::regrole);
  -- Not UPDATE of anything but the request to cancel: what a job reports is the worker's to say.
  execute format('grant insert (name, family, relation, targets, options), select, update (cancel_requested) '
                 'on training.jobs to %s', grantee::regrole);
  execute format('grant select on training.messages, training.best_fits, kronos.training_jobs, kronos.training_log, '
                 'kronos.rank_best_fit to %s', grantee::regrole);
end
$$;
comment on procedure training.grant_to(text) is 'Lets a role ask for training and see its own jobs.';
revoke all on procedure training.grant_to(text) from public;

call market.record_file('260_training.sql', 1);
