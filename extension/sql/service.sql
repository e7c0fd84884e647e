-- What the engines do. The views are the contract; the functions below them ask the engine and may change.

create function _kronos.stat_get_models()
returns table (model_version text, device text, state text, calls bigint, series bigint, rows bigint, errors bigint,
               last_error text, last_error_at timestamptz, total_time float8, mean_time float8, queue_time float8,
               avg_batch float8, mem_bytes bigint, stats_reset timestamptz)
language c volatile parallel restricted rows 10
as 'MODULE_PATHNAME', 'stat_get_models_wrapper';
comment on function _kronos.stat_get_models is 'Asks the engine about its models; read the view kronos.stat_models.';

create function _kronos.stat_get_requests()
returns table (request_id bigint, pid int, model_version text, series bigint, state text, queued_at timestamptz,
               started_at timestamptz, steps_done bigint, steps_total bigint)
language c volatile parallel restricted rows 10
as 'MODULE_PATHNAME', 'stat_get_requests_wrapper';
comment on function _kronos.stat_get_requests is 'Asks the engine about its requests; read the view kronos.stat_activity.';

create function _kronos.stat_get_devices()
returns table (device text, name text, mem_used bigint, mem_limit bigint, utilization float8, models bigint)
language c volatile parallel restricted rows 1
as 'MODULE_PATHNAME', 'stat_get_devices_wrapper';
comment on function _kronos.stat_get_devices is 'Asks the engine about its devices; read the view kronos.stat_devices.';

create function _kronos.stat_get_engines()
returns table (pid int, started timestamptz, restarts bigint, mem_bytes bigint, connections bigint, queued bigint,
               running bigint)
language c volatile parallel restricted rows 1
as 'MODULE_PATHNAME', 'stat_get_engines_wrapper';
comment on function _kronos.stat_get_engines is 'Asks the engine about itself; read the view kronos.stat_engine.';

create function kronos.stat_reset() returns void
language c volatile parallel restricted
as 'MODULE_PATHNAME', 'stat_reset_wrapper';
comment on function kronos.stat_reset is 'Sets the counters of kronos.stat_models to zero.';

create view kronos.stat_models as
  select m.version as model_version, coalesce(s.device, 'cpu') as device, coalesce(s.state, 'idle') as state,
         coalesce(s.calls, 0) as calls, coalesce(s.series, 0) as series, coalesce(s.rows, 0) as rows,
         coalesce(s.errors, 0) as errors, s.last_error, s.last_error_at, coalesce(s.total_time, 0) as total_time,
         s.mean_time, coalesce(s.queue_time, 0) as queue_time, s.avg_batch, coalesce(s.mem_bytes, 0) as mem_bytes,
         s.stats_reset
  from _kronos.model m left join _kronos.stat_get_models() s on s.model_version = m.version;
comment on view kronos.stat_models is
  'Registered models and what the engine has done with them since stats_reset; counters end with the engine.';
comment on column kronos.stat_models.model_version is 'name@digest.';
comment on column kronos.stat_models.device is 'Where it is loaded.';
comment on column kronos.stat_models.last_error is 'What its last failure said; NULL: none.';
comment on column kronos.stat_models.last_error_at is 'When that was.';
comment on column kronos.stat_models.state is 'loaded, loading, failed (the last attempt to load it), or idle (not in memory).';
comment on column kronos.stat_models.calls is 'Requests answered or refused; one call of a function may send several.';
comment on column kronos.stat_models.series is 'Series in those requests.';
comment on column kronos.stat_models.rows is 'Bars forecast, whatever the number of sample paths.';
comment on column kronos.stat_models.errors is 'Requests refused and series without paths.';
comment on column kronos.stat_models.total_time is 'Milliseconds from the arrival of requests to their last reply.';
comment on column kronos.stat_models.mean_time is 'total_time per call, in milliseconds.';
comment on column kronos.stat_models.queue_time is 'Milliseconds of total_time before the first series of a request was admitted.';
comment on column kronos.stat_models.avg_batch is 'Sample paths decoded together per step.';
comment on column kronos.stat_models.mem_bytes is 'Bytes of the weights in memory.';
comment on column kronos.stat_models.stats_reset is 'When counting began: the start of the engine or kronos.stat_reset().';

create view kronos.stat_activity as
  select r.request_id, r.pid, a.usename, r.model_version, r.series, r.state, r.queued_at, r.started_at, r.steps_done,
         r.steps_total
  from _kronos.stat_get_requests() r left join pg_catalog.pg_stat_activity a on a.pid = r.pid;
comment on view kronos.stat_activity is 'Requests that wait or run in the engine.';
comment on column kronos.stat_activity.request_id is 'Identity of the request.';
comment on column kronos.stat_activity.usename is 'Role that asks.';
comment on column kronos.stat_activity.model_version is 'Version that is asked.';
comment on column kronos.stat_activity.queued_at is 'When the request came.';
comment on column kronos.stat_activity.started_at is 'When its first step began; NULL: it waits.';
comment on column kronos.stat_activity.pid is 'The session that asked; pg_cancel_backend(pid) ends the request.';
comment on column kronos.stat_activity.series is 'Number of series in the request.';
comment on column kronos.stat_activity.state is 'queued until its first series is admitted, then running.';
comment on column kronos.stat_activity.steps_done is 'Decode steps done, each series'' context counted as one.';
comment on column kronos.stat_activity.steps_total is 'Decode steps in all.';

create view kronos.stat_devices as select * from _kronos.stat_get_devices();
comment on view kronos.stat_devices is 'Devices that models run on.';
comment on column kronos.stat_devices.device is 'cpu, or cuda:N.';
comment on column kronos.stat_devices.name is 'What the device calls itself.';
comment on column kronos.stat_devices.mem_used is 'Bytes reserved for weights, caches and results on their way out.';
comment on column kronos.stat_devices.mem_limit is 'Bytes that may be reserved, by kronos.max_cpu_memory.';
comment on column kronos.stat_devices.utilization is 'Share of the last second in which the device computed, 0 to 1.';
comment on column kronos.stat_devices.models is 'Models loaded on it.';

create view kronos.stat_engine as select * from _kronos.stat_get_engines();
comment on view kronos.stat_engine is 'The engine process; with kronos.service off, the engine inside this session.';
comment on column kronos.stat_engine.pid is 'Process of the engine.';
comment on column kronos.stat_engine.started is 'When it started.';
comment on column kronos.stat_engine.queued is 'Requests that wait.';
comment on column kronos.stat_engine.running is 'Requests at work.';
comment on column kronos.stat_engine.restarts is 'Engines of the same supervisor that ended before this one.';
comment on column kronos.stat_engine.mem_bytes is 'Resident memory of the process.';
comment on column kronos.stat_engine.connections is 'Sessions connected to it.';

insert into _kronos.access (level, kind, object) values
  ('use', 'view', 'stat_models'),
  ('use', 'view', 'stat_activity'),
  ('use', 'view', 'stat_devices'),
  ('use', 'view', 'stat_engine'),
  ('use', 'routine', 'stat_get_models'),
  ('use', 'routine', 'stat_get_requests'),
  ('use', 'routine', 'stat_get_devices'),
  ('use', 'routine', 'stat_get_engines'),
  ('operate', 'routine', 'stat_reset');
