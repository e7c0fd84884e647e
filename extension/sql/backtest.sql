-- What a model would have said, beside what came, and how good it was. Both functions read as the caller and never write.

comment on column kronos.backtest_point.series is 'Key of the series.';
comment on column kronos.backtest_point.target is 'Column that was forecast; NULL in a row with a status.';
comment on column kronos.backtest_point.model_version is 'name@digest of the model, or the name of a baseline.';
comment on column kronos.backtest_point.window_id is 'Number of the window within its series, from 1 in the order of time; NULL where a series has none.';
comment on column kronos.backtest_point.cutoff is 'End of the last row used.';
comment on column kronos.backtest_point.ts is 'Start of the row forecast; in a row with a status, the start of the first row at fault.';
comment on column kronos.backtest_point.step is '1 for the first row after the cutoff; an embargo leaves out the first steps.';
comment on column kronos.backtest_point.actual is 'What came, as it is known at last; NULL where nothing did.';
comment on column kronos.backtest_point.forecast is 'Point forecast: the median.';
comment on column kronos.backtest_point.lower is 'Quantile at (1 - level) / 2.';
comment on column kronos.backtest_point.upper is 'Quantile at (1 + level) / 2.';
comment on column kronos.backtest_point.quantiles is 'Quantiles in the order of quantile_levels; NULL when not asked for.';
comment on column kronos.backtest_point.contaminated is
  'Whether what the window scores begins by the train_cutoff of the model, of a series that it was trained on where trained_on says so; NULL where '
  'that is not registered.';
comment on column kronos.backtest_point.status is 'NULL, or why there is no forecast: as in the forecast functions.';
comment on column kronos.backtest_point.as_of is 'The moment whose knowledge was used: a forecast function called with it gives the same numbers.';
comment on column kronos.backtest_point.level is 'Probability between lower and upper, a fraction.';
comment on column kronos.backtest_point.quantile_levels is 'Levels of quantiles.';
comment on column kronos.backtest_point.last_value is 'Last value before the cutoff.';
comment on column kronos.backtest_point.scale is 'Mean absolute difference of values a season apart within the context: the unit of mase.';
comment on column kronos.backtest_point.crps is
  'Continuous ranked probability score: of the paths (fair), of the model''s own quantiles, or of the distribution of a baseline.';
comment on column kronos.backtest_point.pit is 'Place of the outcome in the distribution forecast, uniform when calibrated; NULL for models of quantiles.';
comment on column kronos.backtest_point.prob_up is 'Share of paths above the last value; NULL for models without paths.';

create function kronos.backtest(
  model text,
  relation regclass,
  horizon bigint,
  targets name[] default '{close}',
  series_col name default null,
  time_col name default null,
  num_windows bigint default 10,
  window_step bigint default null,
  initial_cutoff timestamptz default null,
  embargo bigint default 0,
  baselines text[] default '{naive,hist_vol}',
  level float8 default 0.9,
  only_series text[] default null,
  as_of timestamptz default null,
  options anycompatible default '{}'::jsonb)
returns setof kronos.backtest_point
language c stable parallel restricted cost 100000 rows 10000
as 'MODULE_PATHNAME', 'backtest_wrapper';
comment on function kronos.backtest is
  'Forecasts from many past cutoffs of each series, each from what was known then, beside what came and the baselines (naive, seasonal_naive, drift, '
  'hist_vol). NULL num_windows: as many as there are; NULL window_step: the horizon. Without initial_cutoff the last window ends with the series. '
  'Options: those of kronos.forecast() without cross_learning, static, categorical and include_partial, and quantile_levels.';

comment on column kronos.score.series is 'Series, where scores are by it; NULL otherwise, as are target, step and model_version.';
comment on column kronos.score.n is 'Forecasts scored.';
comment on column kronos.score.mae is 'Mean absolute error, in units of the target or, with unit return, of log returns.';
comment on column kronos.score.rmse is 'Root mean squared error.';
comment on column kronos.score.mase is 'Mean absolute error in units of the seasonal-naive error within each context; NULL where rows have no scale.';
comment on column kronos.score.wql is
  'Weighted quantile loss: twice the mean pinball loss over the mean |actual|. Comparable only among as many levels: wql_levels in extra.';
comment on column kronos.score.crps is
  'Continuous ranked probability score: of paths or distributions, or twice the mean pinball loss of nine levels or more; NULL with fewer.';
comment on column kronos.score.coverage is 'Share of outcomes within [lower, upper].';
comment on column kronos.score.mean_width is 'Mean of upper - lower.';
comment on column kronos.score.winkler is 'Mean interval score.';
comment on column kronos.score.dir_acc is 'Share of moves from the last value whose sign was foretold; moves of zero do not count.';
comment on column kronos.score.rank_ic is 'Mean rank correlation of foretold and realised moves across three series or more of one cutoff and step.';
comment on column kronos.score.skill_vs_naive is 'Share of the absolute error of the last value that the forecast saves; negative is worse.';
comment on column kronos.score.extra is
  'Tests and what else there is: benchmark, dm, dm_wql (Diebold-Mariano against it, positive is worse), skill, skill_wql, skill_crps, skill_winkler '
  '(share of its loss that is saved), direction, pit, pit_bins, rank_ic, coverage_interval, worst_coverage_60, long_short, dropped (rows of cells that '
  'not all models have); and the other columns of by.';

create function kronos.evaluate(
  relation regclass default null,
  actuals regclass default null,
  by text[] default '{model_version}',
  options jsonb default '{}')
returns setof kronos.score
language c stable parallel restricted cost 100000 rows 100
as 'MODULE_PATHNAME', 'evaluate_wrapper';
comment on function kronos.evaluate is
  'Scores forecasts by columns of theirs: rows of kronos.backtest(), or rows of the ledger (NULL: the view kronos.forecasts) beside actuals, the '
  'relation with what came. Models are scored by the cells that all of them have, and against a benchmark. Options: benchmark (hist_vol, naive or a model), '
  'benchmark_window, calendar, contaminated, cost_bps, input, known_at_col, level, quantile_levels, series_col, since, target, time_col, unit (value or '
  'return), until, windows (common or own).';

create function kronos.record_backtest(rows regclass, relation regclass, args jsonb default '{}')
returns table (run_id bigint, model_version text, n_series int, n_failed int, n_new bigint, state text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  version  text;
  steps    integer;
  recorded record;
begin
  if rows is null or relation is null then
    raise exception 'rows and relation must not be null' using errcode = 'null_value_not_allowed';
  end if;
  perform _kronos.require_ledger();
  for version, steps in
    execute format('select r.model_version, max(r.step) from %s r group by 1 order by 1', rows)
  loop
    run_id := ledger.open_run('backtest', relation, 'backtest', horizon => steps, model => version, args => args);
    select * into recorded from ledger.record(run_id, format(
      'select r.*, jsonb_build_object(''window_id'', r.window_id, ''contaminated'', r.contaminated) as features
       from %s r where r.model_version = %L', rows, version));
    model_version := version;
    n_series := recorded.n_series;
    n_failed := recorded.n_failed;
    n_new := recorded.n_new;
    state := ledger.close_run(run_id);
    return next;
  end loop;
end
$$;
comment on function kronos.record_backtest is
  'Writes rows of kronos.backtest() into the ledger, one run of kind backtest for each model, so that they can be calibrated and looked at like any '
  'others. rows: a table or view of them; relation: what was forecast; args: what to remember of the call. Rows that are there already stay.';

insert into _kronos.access (level, kind, object) values
  ('use', 'routine', 'backtest'),
  ('use', 'routine', 'evaluate'),
  ('operate', 'routine', 'record_backtest');
