-- Forecast policies: what to forecast, how often, as whom; and requests to run one at once.
-- The functions that work on them are the extension's: kronos.add_forecast_policy() and those beside it.
call market.require_not_newer('ledger/policies.sql', 2);

create table if not exists ledger.policies (
  policy_id          integer generated always as identity primary key,
  policy             text        not null unique check (policy <> ''),
  owner_id           integer     not null default ledger.my_id() references ledger.roles,
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
create table if not exists ledger.requests (
  request_id    bigint generated always as identity primary key,
  policy        text        not null,
  requested_by  text        not null default current_user,
  requested_at  timestamptz not null default clock_timestamp(),
  state         text        not null default 'queued'
                check (state in ('queued', 'running', 'done', 'failed', 'cancelled')),
  run_id        bigint references ledger.runs,
  job_id        bigint,
  ended_at      timestamptz,
  policy_id     integer,
  requester     integer     not null default ledger.my_id() references ledger.roles
);

-- Older tables know the owner of a policy by its name, and the policy of a run or a request too. Runs and requests of
-- policies that were removed, or of others' policies, belong to none.
alter table ledger.policies add column if not exists owner_id integer references ledger.roles;
alter table ledger.requests add column if not exists policy_id integer;
alter table ledger.requests add column if not exists requester integer references ledger.roles;
do $$
begin
  if exists (select from ledger.policies p where p.owner_id is null) then
    update ledger.policies p set owner_id = n.role_id
    from (select d.owner, ledger.role_named(d.owner) as role_id
          from (select distinct o.owner from ledger.policies o where o.owner_id is null) d) n
    where p.owner_id is null and p.owner = n.owner;
    alter table ledger.runs disable trigger final;
    update ledger.runs r set policy_id = p.policy_id
    from ledger.policies p
    where r.policy_id is null and r.policy = p.policy and r.issuer = p.owner_id and r.issued_at >= p.created_at;
    alter table ledger.runs enable trigger final;
  end if;
  if exists (select from ledger.requests q where q.requester is null) then
    update ledger.requests q set requester = n.role_id
    from (select d.requested_by, ledger.role_named(d.requested_by) as role_id
          from (select distinct o.requested_by from ledger.requests o where o.requester is null) d) n
    where q.requester is null and q.requested_by = n.requested_by;
    update ledger.requests q set policy_id = p.policy_id
    from ledger.policies p
    where q.policy = p.policy and q.requester = p.owner_id and q.requested_at >= p.created_at;
    update ledger.requests q set state = 'cancelled', ended_at = clock_timestamp()
    where q.policy_id is null and q.state in ('queued', 'running');
  end if;
end
$$;
alter table ledger.policies alter column owner_id set default ledger.my_id(), alter column owner_id set not null;
alter table ledger.requests alter column requester set default ledger.my_id(), alter column requester set not null;

comment on table ledger.policies is 'One row per forecast policy. Its rows are written by kronos.add_forecast_policy() and kronos.remove_forecast_policy().';
comment on column ledger.policies.policy_id is 'Identity of the policy: its name may be another one''s later.';
comment on column ledger.policies.policy is 'Name of the policy.';
comment on column ledger.policies.owner_id is 'Role that it runs as, as in ledger.roles.';
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

comment on table ledger.requests is 'Requests of kronos.submit() to run a policy at once.';
comment on column ledger.requests.request_id is 'Identity of the request.';
comment on column ledger.requests.policy is 'Name of the policy to run.';
comment on column ledger.requests.requested_by is 'Name that the role that asked had then.';
comment on column ledger.requests.requested_at is 'When it asked.';
comment on column ledger.requests.state is 'queued, running, done, failed or cancelled.';
comment on column ledger.requests.run_id is 'Run that serves it; one run serves all requests that wait when it begins.';
comment on column ledger.requests.job_id is 'Job of pg_cron that was made for the request, gone when the request is served.';
comment on column ledger.requests.ended_at is 'When it was done, failed or cancelled.';
comment on column ledger.requests.policy_id is 'Policy to run, as in ledger.policies; NULL: one that is no more.';
comment on column ledger.requests.requester is 'Role that asked, as in ledger.roles: the owner of the policy.';
drop index if exists ledger.requests_open_idx;
create index if not exists requests_waiting_idx on ledger.requests (policy_id) where state in ('queued', 'running');

create or replace trigger note_input after insert on ledger.policies
  for each row execute function ledger.note_input();
do $$
begin
  perform ledger.use_input(r.relation)
  from (select distinct p.relation from ledger.policies p join pg_catalog.pg_class c on c.oid = p.relation) r
  where not exists (select from ledger.inputs i where i.relation = r.relation);
end
$$;

-- A policy runs as its owner, so nobody else may say what it runs. Roles reach the tables through these views, which compare
-- owners: row security would let through whoever bypasses it.
create or replace view ledger.own_policies with (security_barrier) as
  select p.policy_id, p.policy, p.owner_id, p.relation, p.horizon, p.call, p.model, p.args, p.schedule_interval, p.initial_start,
         p.timezone, p.scheduler, p.job_id, p.created_at
  from ledger.policies p
  where p.owner_id in (select m.role_id from ledger.me m)
  with check option;
comment on view ledger.own_policies is 'Policies of the current role, to read, to note their jobs in, to lock and to remove.';

create or replace view ledger.new_policies with (security_barrier) as
  select p.policy, p.relation, p.horizon, p.call, p.model, p.args, p.schedule_interval, p.initial_start, p.timezone
  from ledger.policies p
  where pg_catalog.has_table_privilege(p.relation, 'SELECT')
  with check option;
comment on view ledger.new_policies is 'Where a role adds policies of its own, over relations that it may read.';

create or replace view ledger.own_requests with (security_barrier) as
  select q.request_id, q.policy, q.requested_at, q.state, q.run_id, q.job_id, q.ended_at, q.policy_id
  from ledger.requests q
  where q.requester in (select m.role_id from ledger.me m)
  with check option;
comment on view ledger.own_requests is 'Requests of the current role, to read and to note in what became of them.';

create or replace view ledger.new_requests with (security_barrier) as
  select q.request_id, q.policy_id, q.policy
  from ledger.requests q
  where (q.policy_id, q.policy) in (select p.policy_id, p.policy from ledger.own_policies p)
  with check option;
comment on view ledger.new_requests is 'Where a role asks for runs of policies of its own.';

drop policy if exists own_policies on ledger.policies;
alter table ledger.policies disable row level security;
drop policy if exists own_requests on ledger.requests;
alter table ledger.requests disable row level security;

call market.record_file('ledger/policies.sql', 2);
