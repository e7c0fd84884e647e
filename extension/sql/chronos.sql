-- Forecasts of any columns. They read as the caller and never write.

create function kronos.chronos_predict(
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
as 'MODULE_PATHNAME', 'chronos_predict_wrapper';
comment on function kronos.chronos_predict is
  'Forecasts columns of every series of a relation with a Chronos model. Rows after the last target, with NULL targets, '
  'hold the known future of future_covariates. forecast is the median. NULL model: the alias chronos-default, or the only '
  'Chronos model. Options: those of kronos_predict, and samples and seed.';

create function kronos.forecast(
  model text,
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
  calibration text default null,
  options anycompatible default '{}'::jsonb)
returns setof kronos.forecast_point
language c stable parallel restricted cost 100000 rows 1000
as 'MODULE_PATHNAME', 'forecast_wrapper';
comment on function kronos.forecast is
  'Forecasts with any model: a registered one (Kronos models forecast the target close of bars), or one of the baselines '
  'naive, seasonal_naive, drift and hist_vol, which need no weights. Options: those of kronos_predict, and samples and seed: the same '
  'for every model.';

insert into _kronos.access (level, kind, object) values
  ('use', 'routine', 'chronos_predict'),
  ('use', 'routine', 'forecast');
