-- Outcomes that a forecast made before them did not expect. Reads as the caller and never writes.

create type kronos.anomaly as (
  series text, target text, ts timestamptz, actual float8, forecast float8, lower float8, upper float8, level float8, is_anomaly boolean,
  score float8, probability float8, model_version text, calibration text, cutoff timestamptz, step int, issued_at timestamptz,
  contaminated boolean, status text);
comment on type kronos.anomaly is 'An outcome beside the interval that was forecast for it.';
comment on column kronos.anomaly.series is 'Key of the series.';
comment on column kronos.anomaly.target is 'Column that was forecast.';
comment on column kronos.anomaly.ts is 'Start of the row that came.';
comment on column kronos.anomaly.actual is 'What came, as it was known at as_of.';
comment on column kronos.anomaly.forecast is 'Point forecast.';
comment on column kronos.anomaly.lower is 'Lower end of the interval, calibrated where the forecast was.';
comment on column kronos.anomaly.upper is 'Upper end of the interval, calibrated where the forecast was.';
comment on column kronos.anomaly.level is 'Probability between lower and upper, a fraction.';
comment on column kronos.anomaly.is_anomaly is 'Whether what came lies outside of the interval.';
comment on column kronos.anomaly.score is
  'Distance of what came from the forecast in standard deviations of a normal distribution with the interval on that side; negative below. NULL without width.';
comment on column kronos.anomaly.probability is 'Probability of an outcome nearer to the forecast, by that distribution: above level for anomalies.';
comment on column kronos.anomaly.model_version is 'name@digest of the model, or the name of a baseline.';
comment on column kronos.anomaly.calibration is 'Calibration that made the interval; NULL: the model''s own.';
comment on column kronos.anomaly.cutoff is 'End of the last row that the forecast used.';
comment on column kronos.anomaly.step is 'Rows from the cutoff to what came.';
comment on column kronos.anomaly.issued_at is 'When the forecast was written into the ledger; NULL for one made now.';
comment on column kronos.anomaly.contaminated is 'Whether the model may have been trained on what came; NULL where nobody knows.';
comment on column kronos.anomaly.status is 'NULL, or why a series has no forecast.';

create function kronos.detect_anomalies(
  relation regclass,
  model text default null,
  target text default null,
  step bigint default 1,
  level float8 default null,
  num_windows bigint default 100,
  since timestamptz default null,
  only_series text[] default null,
  series_col name default null,
  time_col name default null,
  as_of timestamptz default null,
  options anycompatible default '{}'::jsonb)
returns setof kronos.anomaly
language c stable parallel restricted cost 100000 rows 1000
as 'MODULE_PATHNAME', 'detect_anomalies_wrapper';
comment on function kronos.detect_anomalies is
  'Outcomes of a relation beside the intervals that were forecast before them, with a score. Without a model: live forecasts of the ledger, written '
  'before what came had ended, with the interval as it was served (options: calendar, known_at_col). With one: forecasts made now from what was known '
  'at each of the last num_windows cutoffs, with the model''s own interval at level, 0.95 if NULL (options: those of kronos.backtest). step: which of '
  'the forecasts of a row, by the rows between.';

insert into _kronos.access (level, kind, object) values
  ('use', 'routine', 'detect_anomalies');
