-- Calibration: learning from the ledger, and the aggregates that do the same for any column of scores.

create function kronos.create_calibration(
  name text,
  actuals regclass,
  target name default 'close',
  series_col name default null,
  time_col name default null,
  model text default null,
  level float8 default 0.9,
  method text default 'pid',
  per text[] default '{series,step}',
  options jsonb default '{}',
  if_not_exists boolean default false)
returns void
language c volatile parallel unsafe
as 'MODULE_PATHNAME', 'create_calibration_wrapper';
comment on function kronos.create_calibration is
  'Makes a calibration of the intervals at level, learnt from forecasts of actuals in the ledger. model: a name (every version), an '
  'alias (the name behind it now) or one version; NULL: every model, each for itself. method: pid, quantile, aci, dtaci, trailing, '
  'online. Options: actual_col, asymmetric, bucket_width, burn_in, calendar, csat, earn, groups, ki, kind, known_at_col, lambda, lr, '
  'max_bias_bps, max_move, max_radius, max_scale, min_history, min_scale, online, outlier, patience, prior_sector, prior_series, '
  'relation, rescore, score, spread_lambda, unit, window.';

create function kronos.calibrate(name text, through timestamptz default null)
returns setof kronos.calibration_row
language c volatile parallel unsafe rows 100
as 'MODULE_PATHNAME', 'calibrate_wrapper';
comment on function kronos.calibrate is
  'Learns every forecast in the ledger that has matured and was not learnt yet, once, in the order in which outcomes became known up to '
  'through (now). Returns the states that changed; none when there was nothing new. With through in the past, step by step, past dates are '
  'replayed: what was known then serves what is asked as of then.';

create procedure kronos.run_calibration(job_id int default null, config jsonb default null)
language plpgsql
as $$
declare
  -- The procedure commits on its way and so has no settings of its own: names are spelt out.
  names   pg_catalog.text[];
  name    pg_catalog.text;
  failed  pg_catalog.int4 := 0;
begin
  for name in select k.key from pg_catalog.jsonb_object_keys(config) as k(key)
    where k.key operator(pg_catalog.<>) 'calibration' loop
    raise exception 'unrecognized key "%" of config', name
      using errcode = 'invalid_parameter_value', hint = 'The only key is calibration.';
  end loop;
  name := config operator(pg_catalog.->>) 'calibration';
  if name is not null then
    perform pg_catalog.count(*) from kronos.calibrate(name);
    return;
  end if;
  perform _kronos.require_ledger();
  names := array(select c.calibration from ledger.own_calibrations c order by c.calibration);
  foreach name in array names loop
    begin
      perform pg_catalog.count(*) from kronos.calibrate(name);
    exception when others then
      failed := failed operator(pg_catalog.+) 1;
      raise warning 'calibration "%" has learnt nothing: %', name, sqlerrm using errcode = sqlstate;
    end;
    commit;
  end loop;
  if failed operator(pg_catalog.>) 0 then
    raise exception '% of % calibrations have learnt nothing', failed, pg_catalog.cardinality(names)
      using errcode = 'triggered_action_exception', hint = 'The warnings before this say why; the others have learnt.';
  end if;
end
$$;
comment on procedure kronos.run_calibration is
  'Lets the calibration that config names learn what has matured; without one, every calibration of the current role. For TimescaleDB '
  'jobs, pg_cron, or any other clock. config: {"calibration": "name"}.';

create function kronos.reset_calibration(name text, series text default null) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
as $$
declare
  last record;
begin
  perform _kronos.require_calibration(name);
  select v.version, v.updated_through into last
  from ledger.readable_calibration_versions v where v.calibration = name order by v.version desc limit 1;
  if not found then
    return;
  end if;
  if series is not null and not exists (select from ledger.own_calibration_groups g
      where g.calibration = name and g.scope = 'series' and g.member = series) then
    raise exception 'calibration "%" has learnt nothing of series "%"', name, series
      using errcode = 'undefined_object', hint = 'See kronos.stat_calibration.';
  end if;
  insert into ledger.own_calibration_versions (calibration, version, through, updated_through, n_new)
  values (name, last.version + 1, now(), greatest(last.updated_through, now()), 0);
  insert into ledger.own_calibration_state (group_id, version, calibration, n, updated_through, bias, scale, drift, status, state)
  select g.group_id, last.version + 1, name, 0, greatest(last.updated_through, now()), 0, 1, false, 'burn_in', ''
  from ledger.own_calibration_groups g
  where g.calibration = name and (series is null or (g.scope = 'series' and g.member = series));
end
$$;
comment on function kronos.reset_calibration is
  'Lets a calibration forget what it has learnt, of one series or of all. What it has learnt once it does not learn again; older versions '
  'stay for forecasts as of then.';

create function kronos.drop_calibration(name text, if_exists boolean default false) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
as $$
begin
  if if_exists and not exists (select from kronos.calibrations c where c.name = drop_calibration.name) then
    raise notice 'calibration "%" does not exist, skipping', name;
    return;
  end if;
  -- The owner of the ledger may tidy up after a role that is gone. Nothing that the calibration holds is run for that.
  if has_table_privilege('ledger.calibrations', 'DELETE') then
    delete from ledger.calibrations c where c.calibration = name;
    if found then
      return;
    end if;
  end if;
  perform _kronos.require_calibration(name);
  delete from ledger.own_calibrations c where c.calibration = name;
end
$$;
comment on function kronos.drop_calibration is
  'Removes a calibration and all it has learnt. Forecasts that it served stay in the ledger and cannot be served again. For its owner, the '
  'owner of the ledger and superusers.';

create function _kronos.require_calibration(name text) returns void
language c volatile parallel unsafe
as 'MODULE_PATHNAME', 'require_calibration_wrapper';
comment on function _kronos.require_calibration is
  'Locks a calibration of the caller until the end of the transaction; raises 42704 where there is none, 42501 where it belongs to another.';

insert into _kronos.access (level, kind, object) values
  ('operate', 'routine', 'create_calibration'),
  ('operate', 'routine', 'calibrate'),
  ('operate', 'routine', 'run_calibration'),
  ('operate', 'routine', 'reset_calibration'),
  ('operate', 'routine', 'drop_calibration'),
  ('operate', 'routine', 'require_calibration'),
  ('use', 'view', 'calibrations'),
  ('use', 'view', 'stat_calibration');
