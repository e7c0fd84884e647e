-- Training jobs: who asked for which model from which relation, how far it is, and what became of it.
-- kronos.train_model() adds a job with a copy of the rows that its caller may read, `kronos-train work` runs it; nothing is trained
-- inside the server.
call market.require_not_newer('training/jobs.sql', 3);

-- Functions and operators that are found by a conversion of their arguments have their schema, here and in what is kept: another's
-- of the very types would be nearer wherever the search path of whoever runs this file leads.
create schema if not exists training;
comment on schema training is 'Jobs that train models, what they say while they run, and the series that trained models forecast best.';

create table if not exists training.jobs (
  job_id            bigint      generated always as identity primary key,
  name              text        not null check (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'),
  family            text        not null,
  relation          regclass    not null,
  targets           text[]      not null check (pg_catalog.cardinality(targets) > 0),
  options           jsonb       not null default '{}' check (jsonb_typeof(options) = 'object'),
  requester         regrole     not null default pg_catalog.to_regrole(pg_catalog.quote_ident(current_user)),
  requested_at      timestamptz not null default clock_timestamp(),
  state             text        not null default 'queued'
                    check (state in ('queued', 'running', 'done', 'failed', 'cancelled')),
  attempts          integer     not null default 0,
  worker            regrole,
  worker_pid        integer,
  worker_started    timestamptz,
  folder            uuid        not null default gen_random_uuid(),
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
-- Before version 2 an owner was a name, a running job was an advisory lock, and the relation was read when the job ran.
alter table training.jobs add column if not exists requester regrole default pg_catalog.to_regrole(pg_catalog.quote_ident(current_user));
alter table training.jobs add column if not exists attempts integer not null default 0;
alter table training.jobs add column if not exists worker regrole;
alter table training.jobs add column if not exists worker_pid integer;
alter table training.jobs add column if not exists worker_started timestamptz;
alter table training.jobs add column if not exists folder uuid not null default gen_random_uuid();

create table if not exists training.series (
  job_id   bigint            not null references training.jobs,
  series   text collate "C"  not null check (pg_catalog.octet_length(series) <= 1024),
  part     integer           not null check (part >= 0),
  times    bigint[]          not null check (pg_catalog.cardinality(times) between 1 and 65536 and pg_catalog.array_ndims(times) = 1),
  numbers  float8[]          not null check (pg_catalog.cardinality(numbers) between 1 and 65536 and pg_catalog.array_ndims(numbers) = 1),
  primary key (job_id, series, part)
);

create table if not exists training.cancellations (
  job_id  bigint      primary key references training.jobs,
  at      timestamptz not null default clock_timestamp()
);

do $$
begin
  if not exists (select from pg_catalog.pg_attribute
                 where attrelid = 'training.jobs'::regclass and attname = 'requested_by' and not attisdropped) then
    return;
  end if;
  -- The default has just made the role that runs this the owner of all that was there.
  update training.jobs j set requester = coalesce(pg_catalog.to_regrole(pg_catalog.quote_ident(j.requested_by)), 0::regrole);
  update training.jobs j
  set state = 'failed', ended_at = clock_timestamp(), remaining = null,
      message = 'queued before kronos.train_model() copied the rows: ask for the model again'
  where j.state in ('queued', 'running');
end
$$;
alter table training.jobs alter column requester set not null;

comment on table training.jobs is 'One row per call of kronos.train_model().';
comment on column training.jobs.job_id is 'Identity of the job.';
comment on column training.jobs.name is 'Name of the model.';
comment on column training.jobs.family is 'Family of the model.';
comment on column training.jobs.relation is 'Where the rows came from.';
comment on column training.jobs.targets is 'Columns to learn from.';
comment on column training.jobs.options is 'Everything else that was asked for.';
comment on column training.jobs.requester is 'Role that asked, whose rows were copied with its own privileges.';
comment on column training.jobs.requested_at is 'When it asked.';
comment on column training.jobs.state is 'queued, running, done, failed or cancelled.';
comment on column training.jobs.attempts is 'How often a worker took it; a job whose workers end without a word is given up after three.';
comment on column training.jobs.worker is 'Role of the session that has it, or had it last.';
comment on column training.jobs.worker_pid is 'Server process of that session; with the start an identity that no other session has.';
comment on column training.jobs.worker_started is 'When that session began.';
comment on column training.jobs.folder is
  'Its files are below kronos.model_dir in trained/job_id-folder: databases that share the directory number their jobs alike.';
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

comment on table training.series is
  'The rows that jobs learn from, as those who asked could read them when they asked; removed when a job ends.';
comment on column training.series.job_id is 'The job.';
comment on column training.series.series is 'Name of the series.';
comment on column training.series.part is 'Number of the part: a long series has several.';
comment on column training.series.times is 'Times of the rows in microseconds since 1970, ascending.';
comment on column training.series.numbers is 'All times'' values of the first target, then of the second, and so on; NaN where there is none.';

-- Not a column of the job: who may change a row can keep its worker waiting for it.
comment on table training.cancellations is 'The jobs that are to stop; they do at the next step.';
comment on column training.cancellations.job_id is 'The job.';
comment on column training.cancellations.at is 'When that was asked for.';

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

create schema if not exists kronos;
do $$
begin
  if not pg_catalog.has_schema_privilege('kronos', 'CREATE') then
    raise warning 'views of training jobs are not made, since role "%" may not create objects in schema "kronos"', current_user
      using hint = pg_catalog.format('Have the owner of the schema run GRANT CREATE ON SCHEMA kronos TO %I, then run the set-up again.',
                                     current_user);
    return;
  end if;

  create or replace view kronos.training_jobs with (security_barrier, security_invoker) as
    select j.job_id, j.name, j.family, j.relation, j.targets, j.options, pg_catalog.pg_get_userbyid(j.requester)::text collate pg_catalog."default" as requested_by,
           j.requested_at, j.state,
           exists (select from training.cancellations c where c.job_id = j.job_id) as cancel_requested,
           j.started_at, j.updated_at, j.ended_at, j.step, j.steps, j.remaining, j.train_loss,
           j.validation_loss, j.model_version, j.sqlstate, j.message, j.attempts
    from training.jobs j;
  comment on view kronos.training_jobs is 'The caller''s training jobs: state, progress, and the version that came of them.';
  comment on column kronos.training_jobs.job_id is 'Identity of the job.';
  comment on column kronos.training_jobs.requested_by is 'What the role that asked is called now.';
  comment on column kronos.training_jobs.cancel_requested is 'Whether the job was asked to stop.';

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
                      where k.name = j.name and k.requester::oid = j.requester::oid and k.job_id > j.job_id and k.state = 'done'
                        and k.options ? 'rank');
  comment on view kronos.rank_best_fit is
    'The series that the caller''s newest version of each model forecasts best, with their scores over 30, 60 and 90 days.';
  comment on column kronos.rank_best_fit.ranked_at is 'When the job that ranked ended.';
end
$$;

-- A role sees and adds its own jobs; whoever may count attempts is a worker and sees all. Owners are compared by identity: a name can
-- be given to another role.
alter table training.jobs enable row level security;
drop policy if exists own_jobs on training.jobs;
create policy own_jobs on training.jobs
  using (requester::oid = pg_catalog.to_regrole(pg_catalog.quote_ident(current_user))::oid)
  with check (requester::oid = pg_catalog.to_regrole(pg_catalog.quote_ident(current_user))::oid);
drop policy if exists worker_jobs on training.jobs;
create policy worker_jobs on training.jobs
  using ((select pg_catalog.has_column_privilege('training.jobs'::regclass, 'attempts', 'UPDATE')));

alter table training.series enable row level security;
drop policy if exists own_series on training.series;
create policy own_series on training.series for insert
  with check (exists (select from training.jobs j where j.job_id = series.job_id and j.state = 'queued'));
drop policy if exists worker_series on training.series;
create policy worker_series on training.series
  using ((select pg_catalog.has_table_privilege('training.series'::regclass, 'DELETE')));

alter table training.cancellations enable row level security;
drop policy if exists own_cancellations on training.cancellations;
create policy own_cancellations on training.cancellations
  using (exists (select from training.jobs j where j.job_id = cancellations.job_id));

alter table training.messages enable row level security;
drop policy if exists own_messages on training.messages;
create policy own_messages on training.messages for select
  using (exists (select from training.jobs j where j.job_id = messages.job_id));
drop policy if exists worker_messages on training.messages;
create policy worker_messages on training.messages
  using ((select pg_catalog.has_table_privilege('training.messages'::regclass, 'INSERT')));

alter table training.best_fits enable row level security;
drop policy if exists own_best_fits on training.best_fits;
create policy own_best_fits on training.best_fits for select
  using (exists (select from training.jobs j where j.job_id = best_fits.job_id));
drop policy if exists worker_best_fits on training.best_fits;
create policy worker_best_fits on training.best_fits
  using ((select pg_catalog.has_table_privilege('training.best_fits'::regclass, 'INSERT')));

-- Nothing refers to them any more.
alter table training.jobs drop column if exists requested_by;
alter table training.jobs drop column if exists cancel_requested;

create or replace procedure training.grant_to(grantee text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  execute format('grant usage on schema training to %s', grantee::regrole);
  if exists (select from pg_namespace n where n.nspname = 'kronos' and pg_has_role(n.nspowner, 'USAGE')) then
    execute format('grant usage on schema kronos to %s', grantee::regrole);
  end if;
  -- No UPDATE of anything: what a job reports is the worker's to say, and who may change a row may lock it.
  execute format('grant insert (name, family, relation, targets, options), select on training.jobs to %s', grantee::regrole);
  execute format('grant insert on training.series to %s', grantee::regrole);
  execute format('grant insert (job_id), select on training.cancellations to %s', grantee::regrole);
  execute format('grant select on training.messages, training.best_fits to %s', grantee::regrole);
  if to_regclass('kronos.training_jobs') is not null then
    execute format('grant select on kronos.training_jobs, kronos.training_log, kronos.rank_best_fit to %s', grantee::regrole);
  end if;
end
$$;
comment on procedure training.grant_to(text) is 'Lets a role ask for training and see its own jobs.';
revoke all on procedure training.grant_to(text) from public;

-- What a version of this file has granted, brought up to date.
do $$
declare
  grantee oid;
begin
  for grantee in
    select distinct g.grantee
    from pg_catalog.pg_attribute a cross join lateral pg_catalog.aclexplode(a.attacl) g
    where a.attrelid = 'training.jobs'::regclass and a.attname = 'options' and g.privilege_type = 'INSERT' and g.grantee <> 0
  loop
    call training.grant_to(grantee::regrole::text);
  end loop;
end
$$;

call market.record_file('training/jobs.sql', 3);
