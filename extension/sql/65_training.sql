-- Asking for training. The jobs are rows of training.jobs (sql/260_training.sql), which is no member of the extension; a
-- separate process runs them.

create function kronos.train_model(
  name text, family text, relation regclass, targets name[], options jsonb default '{}')
returns bigint
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  allowed constant text[] := array['data', 'device', 'from', 'licence', 'model', 'only_series', 'rank', 'residuals', 'series_col',
                                   'split', 'time_col', 'train', 'until'];
  families constant text[] := array['kronos', 'chronos2', 'nbeats'];
  target text;
  unknown text;
  found_type regtype;
  job bigint;
begin
  if train_model.name is null or train_model.family is null or train_model.relation is null
     or train_model.targets is null or train_model.options is null then
    raise exception 'name, family, relation, targets and options must not be null' using errcode = 'null_value_not_allowed';
  end if;
  if to_regclass('training.jobs') is null then
    raise exception 'there is no table "training.jobs"' using errcode = 'object_not_in_prerequisite_state',
      hint = 'Set it up with CALL kronos.install().';
  end if;
  if train_model.name !~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$' then
    raise exception 'name must be up to 63 letters, digits, "_", "." or "-", got "%"', train_model.name
      using errcode = 'invalid_parameter_value';
  end if;
  if train_model.family <> all (families) then
    raise exception 'family "%" cannot be trained from a relation', train_model.family
      using errcode = 'feature_not_supported',
      hint = format('Families that can: %s.', array_to_string(families, ', '));
  end if;
  if jsonb_typeof(train_model.options) <> 'object' then
    raise exception 'options must be a JSON object' using errcode = 'invalid_parameter_value';
  end if;
  select k into unknown from jsonb_object_keys(train_model.options) k where k <> all (allowed) order by k limit 1;
  if unknown is not null then
    raise exception 'unrecognized option "%"', unknown using errcode = 'invalid_parameter_value',
      hint = format('Valid options are: %s.', array_to_string(allowed, ', '));
  end if;
  if train_model.options ? 'rank' and train_model.family <> 'nbeats' then
    raise exception 'option "rank" is for family "nbeats"' using errcode = 'feature_not_supported';
  end if;
  if train_model.options ? 'from' then
    if train_model.family = 'nbeats' then
      raise exception 'option "from" is not for family "nbeats"' using errcode = 'feature_not_supported';
    elsif not exists (select from kronos.models m
                      where train_model.options ->> 'from' in (m.version, m.name) or train_model.options ->> 'from' = any (m.aliases)) then
      raise exception 'model "%" does not exist', train_model.options ->> 'from' using errcode = 'undefined_object',
        hint = 'See kronos.models for the registered ones.';
    end if;
  end if;
  if cardinality(train_model.targets) = 0 then
    raise exception 'targets must name at least one column' using errcode = 'invalid_parameter_value';
  end if;
  foreach target in array train_model.targets::text[] loop
    select a.atttypid into found_type from pg_attribute a
    where a.attrelid = train_model.relation and a.attname = target and a.attnum > 0 and not a.attisdropped;
    if found_type is null then
      raise exception 'column "%" of "%" does not exist', target, train_model.relation using errcode = 'undefined_column';
    end if;
    if found_type <> all (array['float8', 'float4', 'numeric', 'int2', 'int4', 'int8']::regtype[]) then
      raise exception 'column "%" of "%" has type %, a target must be a number', target, train_model.relation, found_type
        using errcode = 'datatype_mismatch';
    end if;
    if not has_column_privilege(train_model.relation, target, 'SELECT') then
      raise exception 'permission denied for column "%" of "%"', target, train_model.relation
        using errcode = 'insufficient_privilege';
    end if;
  end loop;
  insert into training.jobs (name, family, relation, targets, options)
  values (train_model.name, train_model.family, train_model.relation, train_model.targets::text[], train_model.options)
  returning job_id into job;
  return job;
end
$$;
comment on function kronos.train_model is
  'Queues the training of a model and returns its job_id; `kronos-train work` runs it, reading the relation as the caller. '
  'See kronos.training_jobs for how far it is and for the model_version. Options: data, device, from, licence, model, only_series, '
  'rank, residuals, series_col, split, time_col, train, until.';

create function kronos.cancel_training(job_id bigint) returns boolean
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  update training.jobs j set cancel_requested = true
  where j.job_id = cancel_training.job_id and j.state in ('queued', 'running');
  return found;
end
$$;
comment on function kronos.cancel_training is
  'Asks a training job of the caller to stop; returns whether it was queued or running. A checkpoint is not kept.';

insert into _kronos.access (level, kind, object) values
  ('admin', 'routine', 'train_model'),
  ('admin', 'routine', 'cancel_training');
