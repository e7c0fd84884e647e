-- The types of bars, forecasts and what is derived from them. Adding an attribute to one breaks no caller.

create type kronos.bar as (ts timestamptz, open float8, high float8, low float8, close float8, volume float8, amount float8);
comment on type kronos.bar is 'A market interval, labelled by its start.';
comment on column kronos.bar.ts is 'Start of the bar.';
comment on column kronos.bar.amount is 'Volume in units of money; NULL: volume times the mean of the four prices.';

create type kronos.bar_forecast as (
  series text, ts timestamptz, step int,
  open float8, high float8, low float8, close float8, volume float8, amount float8,
  lower float8, upper float8, quantiles float8[], prob_up float8,
  cutoff timestamptz, model_version text, status text,
  raw_forecast float8, raw_lower float8, raw_upper float8, calibration text, calibration_version bigint);
comment on type kronos.bar_forecast is
  'One step of a forecast of bars. status NULL is a good row; otherwise the series could not be forecast and the row has no numbers.';
comment on column kronos.bar_forecast.ts is 'Start of the forecast bar; in a row with a status, the start of the first bar at fault.';
comment on column kronos.bar_forecast.step is '1 for the first bar after the cutoff; NULL in a row with a status.';
comment on column kronos.bar_forecast.open is 'Mean over the sample paths, as are high, low, close, volume and amount: low <= open, close <= high.';
comment on column kronos.bar_forecast.lower is 'Quantile of the close at (1 - level) / 2; NULL with a single path.';
comment on column kronos.bar_forecast.upper is 'Quantile of the close at (1 + level) / 2; NULL with a single path.';
comment on column kronos.bar_forecast.quantiles is
  'Quantiles of the close in the order of quantile_levels, interpolated as by percentile_cont; NULL when not asked for.';
comment on column kronos.bar_forecast.prob_up is 'Share of paths whose close is above the last close; NULL with a single path.';
comment on column kronos.bar_forecast.cutoff is 'End of the last bar used.';
comment on column kronos.bar_forecast.model_version is 'name@digest of the model.';
comment on column kronos.bar_forecast.status is
  'NULL, burn_in (a calibration has learnt too little) or no_version (it has none of what was known as of then): a good row. Else why there is no forecast: short_history, nan, gap, duplicate_ts, irregular, no_rows, null_series, past_until, horizon_limit, no_session, non_finite.';
comment on column kronos.bar_forecast.raw_forecast is 'Close of the model itself; NULL without a calibration, as are the columns after it.';
comment on column kronos.bar_forecast.raw_lower is 'Lower end of the model''s own interval.';
comment on column kronos.bar_forecast.raw_upper is 'Upper end of the model''s own interval.';
comment on column kronos.bar_forecast.calibration is 'Calibration that made the row what it is.';
comment on column kronos.bar_forecast.calibration_version is 'Version of its state that was used; NULL where it had learnt nothing yet.';

create type kronos.forecast_point as (
  series text, target text, ts timestamptz, step int,
  forecast float8, lower float8, upper float8, quantiles float8[],
  cutoff timestamptz, model_version text, status text,
  raw_forecast float8, raw_lower float8, raw_upper float8, calibration text, calibration_version bigint);
comment on type kronos.forecast_point is 'One step of a forecast of one value.';
comment on column kronos.forecast_point.raw_forecast is 'Forecast of the model itself; NULL without a calibration, as are the columns after it.';
comment on column kronos.forecast_point.raw_lower is 'Lower end of the model''s own interval.';
comment on column kronos.forecast_point.raw_upper is 'Upper end of the model''s own interval.';
comment on column kronos.forecast_point.calibration is 'Calibration that made the row what it is.';
comment on column kronos.forecast_point.calibration_version is 'Version of its state that was used; NULL where it had learnt nothing yet.';

create type kronos.bar_path as (
  series text, path int, ts timestamptz, step int,
  open float8, high float8, low float8, close float8, volume float8, amount float8,
  cutoff timestamptz, model_version text);
comment on type kronos.bar_path is 'One step of one sample path; every bar of it is coherent.';

create type kronos.scenario_point as (
  scenario int, series text, ts timestamptz, step int, value float8, logret float8,
  cutoff timestamptz, model_version text);
comment on type kronos.scenario_point is 'One value of a scenario; rows of one scenario belong together across series.';

create type kronos.backtest_point as (
  series text, target text, model_version text, window_id int, cutoff timestamptz,
  ts timestamptz, step int, actual float8, forecast float8, lower float8, upper float8,
  quantiles float8[], contaminated boolean, status text,
  as_of timestamptz, level float8, quantile_levels float8[], last_value float8, scale float8, crps float8, pit float8, prob_up float8);
comment on type kronos.backtest_point is 'A forecast made at a past cutoff beside what came.';

create type kronos.score as (
  series text, target text, step int, model_version text, n bigint,
  mae float8, rmse float8, mase float8, wql float8, crps float8,
  coverage float8, mean_width float8, winkler float8,
  dir_acc float8, rank_ic float8, skill_vs_naive float8, extra jsonb);
comment on type kronos.score is 'How good forecasts were.';

create type kronos.calibration_row as (
  series text, step int, level float8, n bigint, n_new bigint,
  coverage float8, target_coverage float8, q_lower float8, q_upper float8,
  mean_width float8, drift boolean, updated_through timestamptz, status text);
comment on type kronos.calibration_row is 'State of one group of a calibration.';

create type kronos.weight as (
  symbol text, weight float8, prev_weight float8, trade float8, side text,
  expected_return float8, risk_share float8, cost float8,
  binding text[], status text);
comment on type kronos.weight is 'A proposed position.';
