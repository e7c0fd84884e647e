-- A picture of series: history, forecasts, outcomes.

create function kronos.chart(
  relation regclass,
  series text default null,
  forecast anyarray default null::kronos.bar_forecast[],
  history int default 120,
  target text default 'close',
  series_col name default null,
  time_col name default null,
  as_of timestamptz default null,
  model text default null,
  level float8 default null,
  quantile_levels float8[] default null,
  format text default 'svg',
  options jsonb default '{}')
returns text
language c stable parallel restricted cost 10000
as 'MODULE_PATHNAME', 'chart_wrapper';
comment on function kronos.chart is
  'Draws a series: the newest bars of history before the cutoff, the forecast with its bands and interval, and what came after. forecast: an array of '
  'rows as kronos_predict, forecast or the ledger give them; NULL: the newest in kronos.forecasts with a cutoff up to as_of, of model. '
  'format: svg, or text for a terminal. Options: calendar, height, models (several over each other), series (several side by side), '
  'smooth (bands over neighbouring steps; true), style (candles where the relation has open, high and low; line), theme (auto, light, dark), title, '
  'value_col, width. What is drawn is a research estimate, no advice or offer (docs/limitations.md).';

insert into _kronos.access (level, kind, object) values ('use', 'routine', 'chart');
