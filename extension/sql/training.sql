-- Asking for training. The jobs are rows of training.jobs (sql/training/jobs.sql), which is no member of the extension; a
-- separate process runs them.

-- Without SET: the relation is read as in a SELECT of the caller's own.
create function kronos.train_model(
  name text, family text, relation regclass, targets name[], options jsonb default '{}')
returns bigint
language c volatile parallel unsafe
as 'MODULE_PATHNAME', 'train_model_wrapper';
comment on function kronos.train_model is
  'Queues the training of a model, with a copy of the rows that the caller may read now, and returns its job_id; `kronos-train work` '
  'runs it. See kronos.training_jobs for how far it is and for the model_version. Options: adapter, data, device, from, licence, model, '
  'only_series, rank, residuals, series_col, split, time_col, train, until.';

create function kronos.cancel_training(job_id bigint) returns boolean
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  -- Superusers and others whom row security does not bind see the jobs of all: whose it is, is compared here.
  perform from training.jobs j
  where j.job_id = cancel_training.job_id and j.state in ('queued', 'running')
    and (j.requester = to_regrole(quote_ident(current_user))
         or (select r.rolsuper from pg_roles r where r.rolname = current_user));
  if not found then
    return false;
  end if;
  insert into training.cancellations (job_id) values (cancel_training.job_id) on conflict do nothing;
  return true;
end
$$;
comment on function kronos.cancel_training is
  'Asks a training job of the caller to stop; returns whether it was queued or running. A checkpoint is not kept.';

create function _kronos.model_directories() returns table (model_dir text, share_dir text)
language c stable parallel safe rows 1
as 'MODULE_PATHNAME', 'model_directories_wrapper';
comment on function _kronos.model_directories is
  'Where models are on the machine of the server: kronos.model_dir, and those that came with the extension. For those who train.';

create function kronos.grant_training_worker(role regrole) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
as $$
begin
  if role is null then
    raise exception 'role must not be null' using errcode = 'null_value_not_allowed';
  end if;
  -- Anybody else's GRANT would be ignored with a warning.
  if not exists (select from pg_extension e where e.extname = 'kronos' and pg_has_role(e.extowner, 'USAGE')) then
    raise exception 'permission denied to grant access to kronos' using errcode = 'insufficient_privilege',
      hint = 'Only the owner of the extension and superusers grant access to it.';
  end if;
  if exists (select from pg_roles r where (r.rolsuper or r.rolbypassrls) and pg_has_role(role, r.oid, 'MEMBER')) then
    raise exception 'role "%" is, or can become, one that may do everything', role using errcode = 'invalid_grant_operation',
      hint = 'Make a role for the worker alone: create role kronos_worker login.';
  end if;
  if to_regclass('training.series') is null then
    raise exception 'there is no table "training.series"' using errcode = 'object_not_in_prerequisite_state',
      hint = 'Set it up with CALL kronos.install().';
  end if;
  execute format('grant usage on schema kronos, _kronos, training to %s', role);
  -- What a worker tells; not who asked, for what, and when.
  execute format('grant select, update (state, attempts, worker, worker_pid, worker_started, started_at, updated_at, ended_at, step, '
                 'steps, remaining, train_loss, validation_loss, model_version, sqlstate, message) on training.jobs to %s', role);
  execute format('grant select, delete on training.series to %s', role);
  execute format('grant select on training.cancellations, kronos.models to %s', role);
  execute format('grant select, insert on training.messages, training.best_fits to %s', role);
  execute format('grant execute on function _kronos.model_directories(), '
                 'kronos.register_model(text, text, text, text, date, text, jsonb) to %s', role);
end
$$;
comment on function kronos.grant_training_worker is
  'Lets a role run training jobs: kronos-train work logs in as it. It sees all jobs and the rows that were copied for them.';

insert into _kronos.access (level, kind, object) values
  ('admin', 'routine', 'train_model'),
  ('admin', 'routine', 'cancel_training');
