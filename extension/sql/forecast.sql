-- Forecasts of bars. They read as the caller and never write, so they serve read-only transactions and hot standbys.

create function kronos.kronos_predict(
  relation regclass,
  horizon bigint default null,
  series_col name default null,
  time_col name default null,
  only_series text[] default null,
  as_of timestamptz default null,
  until timestamptz default null,
  level float8 default 0.9,
  quantile_levels float8[] default null,
  model text default null,
  samples bigint default null,
  seed bigint default 0,
  calibration text default null,
  options anycompatible default '{}'::jsonb)
returns setof kronos.bar_forecast
language c stable parallel restricted cost 100000 rows 1000
as 'MODULE_PATHNAME', 'kronos_predict_wrapper';
comment on function kronos.kronos_predict is
  'Forecasts the bars of every series of a relation: horizon bars ahead, or all that start up to until. '
  'seed NULL asks for fresh randomness, which cannot be repeated; samples NULL takes kronos.default_samples. '
  'Options are the same for every model, an object as jsonb, json or text: bucket_width, calendar, categorical, columns, context, cross_learning, '
  'include_partial, known_at_col, max_gap, on_error, point_level, season, slide, static, temperature, top_k, top_p.';

create function kronos.kronos_predict_bars(
  bars kronos.bar[],
  horizon bigint,
  level float8 default 0.9,
  quantile_levels float8[] default null,
  model text default null,
  samples bigint default null,
  seed bigint default 0,
  calibration text default null,
  options anycompatible default '{}'::jsonb)
returns setof kronos.bar_forecast
language c stable parallel restricted cost 100000 rows 100
as 'MODULE_PATHNAME', 'kronos_predict_bars_wrapper';
comment on function kronos.kronos_predict_bars is
  'Forecasts the one series of bars given as an array, for LATERAL and common table expressions; series is NULL. '
  'Options: those of kronos_predict but the ones that name columns.';

create function kronos.kronos_paths(
  relation regclass,
  horizon bigint,
  paths bigint default 100,
  series_col name default null,
  time_col name default null,
  only_series text[] default null,
  as_of timestamptz default null,
  model text default null,
  seed bigint default 0,
  options anycompatible default '{}'::jsonb)
returns setof kronos.bar_path
language c stable parallel restricted cost 100000 rows 10000
as 'MODULE_PATHNAME', 'kronos_paths_wrapper';
comment on function kronos.kronos_paths is
  'Sample paths behind kronos_predict with as many samples and the same seed. Series that cannot be forecast have no rows and are named in a warning.';

insert into _kronos.access (level, kind, object) values
  ('use', 'routine', 'kronos_predict'),
  ('use', 'routine', 'kronos_predict_bars'),
  ('use', 'routine', 'kronos_paths');
