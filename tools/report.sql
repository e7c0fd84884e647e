-- Shows demo.forecast: a chart and the table of the first series, a line for each of the others.
\pset tuples_only off
\pset format aligned
\pset footer off

select (select min(series) from demo.forecast where status is null) as series,
       (select count(distinct series) > 1 from demo.forecast) as several,
       coalesce((select greatest(0, 4 - floor(log(max(abs(close))::numeric)))::int
                 from demo.forecast
                 where status is null and series = (select min(series) from demo.forecast where status is null)), 0) as digits,
       (select string_agg(distinct model_version, ', ') from demo.forecast) as models,
       exists (select from demo.forecast where model_version like 'kronos-fixture@%') as fixture,
       exists (select from kronos.calendars where name like 'demo-%') as own_hours,
       exists (select from demo.forecast where status is null) as any_good \gset
\if :fixture
  \echo Model :models has random weights (a test fixture): the numbers below mean nothing.
\endif
\if :own_hours
  \echo Trading hours were read off the bars (kronos.calendars, demo-...); up to 12 missing bars in a row are carried forward.
\endif
\if :any_good
  \echo
  \pset tuples_only on
  \pset format unaligned
  select kronos.chart('demo.bar', :'series', (select array_agg(f) from demo.forecast as f where f.series = :'series'),
                      history => 72, series_col => 'symbol', time_col => 'ts', level => 0.9, format => 'text');
  \pset format aligned
  \pset tuples_only off
  \echo
  select step, to_char(ts, 'YYYY-MM-DD HH24:MI') as ts, round(open::numeric, :digits) as open,
         round(high::numeric, :digits) as high, round(low::numeric, :digits) as low,
         round(close::numeric, :digits) as close, round(lower::numeric, :digits) as lower,
         round(upper::numeric, :digits) as upper, round(prob_up::numeric, 2) as prob_up
  from demo.forecast where series = :'series' order by step;
\endif

\if :several
  \echo Last step of each series (the first 20; all rows: demo.forecast):
  select f.series, step, to_char(ts, 'YYYY-MM-DD HH24:MI') as ts, to_char(cutoff, 'YYYY-MM-DD HH24:MI') as cutoff,
         round(close::numeric, d.digits) as close, round(lower::numeric, d.digits) as lower,
         round(upper::numeric, d.digits) as upper, round(prob_up::numeric, 2) as prob_up, status
  from (select distinct on (series) * from demo.forecast order by series, step desc nulls last) as f,
       lateral (select greatest(0, 4 - floor(log(greatest(abs(close), 1e-12)::numeric)))::int as digits) as d
  order by f.series limit 20;
\elif :any_good
\else
  select series, status from demo.forecast order by series limit 20;
\endif
