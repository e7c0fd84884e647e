-- Forecasts of any columns with networks trained by kronos-train. They read as the caller and never write.

create function kronos.nbeats_predict(
  relation regclass,
  targets name[],
  horizon bigint default null,
  series_col name default null,
  time_col name default null,
  only_series text[] default null,
  past_covariates name[] default null,
  future_covariates name[] default null,
  as_of timestamptz default null,
  until timestamptz default null,
  level float8 default 0.9,
  quantile_levels float8[] default null,
  model text default null,
  calibration text default null,
  options anycompatible default '{}'::jsonb)
returns setof kronos.forecast_point
language c stable parallel restricted cost 100000 rows 1000
as 'MODULE_PATHNAME', 'nbeats_predict_wrapper';
comment on function kronos.nbeats_predict is
  'Forecasts columns of every series of a relation with an N-BEATS model, each column by itself, up to the horizon the model '
  'was trained for. forecast is the median. NULL model: the alias nbeats-default, or the only N-BEATS model. Covariates are '
  'refused. Options: those of chronos_predict.';

insert into _kronos.access (level, kind, object) values
  ('use', 'routine', 'nbeats_predict');
