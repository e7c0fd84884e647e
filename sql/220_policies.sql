-- Forecast policies: what to forecast, how often, as whom; and requests to run one at once.
-- The functions that work on them are the extension's: kronos.add_forecast_policy() and those beside it.
call market.require_not_newer('220_policies.sql', 1);

create table if not exists ledger.policies (
  policy_id          integer generated always as identity primary key,
  policy             text        not null unique check (policy <> ''),
  owner              text        not null default current_user,
  relation           regclass    not null,
  horizon            integer     not null check (horizon > 0),
  call               text        not null,
  model              text,
  args               jsonb       not null default '{}' check (jsonb_typeof(args) = 'object'),
  schedule_interval  interval    not null check (schedule_interval > interval '0'),
  initial_start      timestamptz not null,
  timezone           text        not null default 'UTC',
  scheduler          text        not null default 'none' check (scheduler in ('none', 'timescaledb', 'pg_cron')),
  job_id             bigint,
  created_at         timestamptz not null default now(),
  check ((scheduler = 'none') = (job_id is null))
);
comment on table ledger.policies is 'One row per forecast policy. Its rows are written by kronos.add_forecast_policy() and kronos.remove_forecast_policy().';
comment on column ledger.policies.policy_id is 'Identity of the policy.';
comment on column ledger.policies.policy is 'Name of the policy.';
comment on column ledger.policies.owner is 'Role that it runs as.';
comment on column ledger.policies.relation is 'The input.';
comment on column ledger.policies.horizon is 'Steps to forecast.';
comment on column ledger.policies.call is 'Forecast function, for example kronos_predict.';
comment on column ledger.policies.model is 'Model as it is asked for; NULL: the default of the function.';
comment on column ledger.policies.args is 'Other arguments of the function, and what the policy itself reads.';
comment on column ledger.policies.schedule_interval is 'Time from one run to the next.';
comment on column ledger.policies.initial_start is 'A time of the schedule; the others are whole intervals from it.';
comment on column ledger.policies.timezone is 'Whose days and months the intervals are.';
comment on column ledger.policies.scheduler is 'What runs it: timescaledb, pg_cron, or none (somebody calls kronos.run_policy).';
comment on column ledger.policies.job_id is 'Its job of that scheduler.';
comment on column ledger.policies.created_at is 'When it was added.';

create table if not exists ledger.requests (
  request_id    bigint generated always as identity primary key,
  policy        text        not null,
  requested_by  text        not null default current_user,
  requested_at  timestamptz not null default clock_timestamp(),
  state         text        not null default 'queued'
                check (state in ('queued', 'running', 'done', 'failed', 'cancelled')),
  run_id        bigint references ledger.runs,
  job_id        bigint,
  ended_at      timestamptz
);
comment on table ledger.requests is 'Requests of kronos.submit() to run a policy at once.';
comment on column ledger.requests.request_id is 'Identity of the request.';
comment on column ledger.requests.policy is 'Policy to run.';
comment on column ledger.requests.requested_by is 'Role that asked.';
comment on column ledger.requests.requested_at is 'When it asked.';
comment on column ledger.requests.state is 'queued, running, done, failed or cancelled.';
comment on column ledger.requests.run_id is 'Run that serves it; one run serves all requests that wait when it begins.';
comment on column ledger.requests.job_id is 'Job of pg_cron that was made for the request, gone when the request is served.';
comment on column ledger.requests.ended_at is 'When it was done, failed or cancelled.';
create index if not exists requests_open_idx on ledger.requests (policy) where state in ('queued', 'running');

-- A policy runs as its owner, so nobody else may say what it runs.
alter table ledger.policies enable row level security;
drop policy if exists own_policies on ledger.policies;
create policy own_policies on ledger.policies using (owner = current_user) with check (owner = current_user);
alter table ledger.requests enable row level security;
drop policy if exists own_requests on ledger.requests;
create policy own_requests on ledger.requests using (requested_by = current_user) with check (requested_by = current_user);

call market.record_file('220_policies.sql', 1);
