-- How much of a forecast comes true: the slope of what happened on what was said, from outcomes known by then only.
call market.require_not_newer('trading/skill.sql', 7);

create or replace function trading.normal_quantile(p double precision) returns double precision
language plpgsql immutable strict parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  tail    constant double precision := greatest(p, 1 - p);
  z       double precision := 0;
  term    double precision;
  total   double precision;
  change  double precision := 1;
  density double precision;
begin
  if not (p > 0 and p < 1) then
    raise exception 'probability must be between 0 and 1, got %', p using errcode = 'invalid_parameter_value';
  end if;
  -- Newton's steps from the middle stay on one side of the answer, since the distribution bends one way only.
  while abs(change) > 1e-14 loop
    density := exp(-z * z / 2) / sqrt(2 * pi());
    term := z;
    total := z;
    for n in 1 .. 500 loop
      exit when term <= total * 1e-18;
      term := term * z * z / (2 * n + 1);
      total := total + term;
    end loop;
    change := (tail - 0.5 - density * total) / density;
    z := z + change;
    exit when change < 0;
  end loop;
  return sign(p - 0.5) * z;
end
$$;
comment on function trading.normal_quantile(double precision) is 'Quantile of the standard normal distribution, for 0.0001 to 0.9999 to twelve digits.';

create or replace function trading.band_volatility(
  lower double precision, upper double precision, level double precision) returns double precision
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  select case when lower > 0 and upper >= lower and upper < 'infinity' and level > 0 and level < 1
    then ln(upper / lower) / (2 * trading.normal_quantile((1 + level) / 2)) end
$$;
comment on function trading.band_volatility(double precision, double precision, double precision) is
  'Standard deviation of the logarithm that has a share of level between lower and upper: ln(upper / lower) / 3.29 at 0.9. NULL where there is no band.';

-- A date is compared with an instant, and a width of days is added to one, by the time zone of the session: here always in UTC,
-- so that nobody's session gives other numbers.
create or replace function trading.matured_forecasts(
  relation regclass, step integer, as_of timestamptz default now(), kinds text[] default '{live,manual}',
  bar_width interval default '1 day', dates integer default 250, target text default 'close',
  series_col name default 'symbol', time_col name default 'time', price_col name default 'close')
returns table (model_version text, calibration text, series text, cutoff timestamptz, ts timestamptz,
               forecast_return double precision, realised_return double precision, volatility double precision)
language plpgsql stable set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
declare
  -- What a model has seen in training says nothing of its skill.
  unseen constant text := case when to_regclass('kronos.models') is null then '' else
    ' and (f.kind <> ''backtest'' or not exists (
         select from kronos.models m where m.version = f.model_version and f.cutoff < m.train_cutoff + 1))' end;
  -- A date was read as midnight in the zone of a calendar: it is the date whose midnight in UTC is the nearest.
  label constant text := case when (select a.atttypid from pg_attribute a where a.attrelid = relation and a.attname = time_col) = 'date'::regtype
    then '(timezone(''UTC'', r.ts) + interval ''12 hours'')::date' else 'r.ts' end;
begin
  return query execute format($query$
    with said as (
      select distinct on (f.model_version, f.calibration, f.series, f.cutoff)
             f.model_version, f.calibration, f.series, f.cutoff, f.ts, f.forecast,
             trading.band_volatility(f.lower, f.upper, f.level) as volatility
      from kronos.forecasts f
      where f.relation = $1 and f.step = $2 and f.target = $3 and f.kind = any ($4)
        -- The outcome is known at the end of its bar; a backtest is issued later than its cutoff by its nature.
        and f.ts + $5 <= $6 and (f.issued_at <= $6 or f.kind = 'backtest') and f.forecast > 0 and f.forecast < 'infinity' %4$s
      order by f.model_version, f.calibration, f.series, f.cutoff, array_position($4, f.kind), f.issued_at
    ), recent as (
      select s.*, dense_rank() over (partition by s.model_version, s.calibration order by s.cutoff desc) as age from said s
    )
    select r.model_version, r.calibration, r.series, r.cutoff, r.ts,
           ln(r.forecast / before.price), ln(came.price / before.price), r.volatility
    from recent r
    cross join lateral (select t.%3$I::float8 as price from %1$s t
                        where t.%5$I::text = r.series and t.%2$I < r.cutoff order by t.%2$I desc limit 1) before
    join lateral (select t.%3$I::float8 as price from %1$s t where t.%5$I::text = r.series and t.%2$I = %6$s limit 1) came on true
    where r.age <= $7 and before.price > 0 and before.price < 'infinity' and came.price > 0 and came.price < 'infinity'
    $query$, relation, time_col, price_col, unseen, series_col, label)
  using relation, step, target, kinds, bar_width, as_of, dates;
end
$$;
comment on function trading.matured_forecasts(regclass, integer, timestamptz, text[], interval, integer, text, name, name, name) is
  'Forecasts of one step whose outcome is known at as_of, beside it: logarithmic returns from the last close before the cutoff, over the newest cutoffs of each model. '
  'Backtests count where kinds has them, except for cutoffs that the model was trained on.';

-- What a measurement is worth: nothing while it is within one standard error of zero, nearly itself where it is many.
create or replace function trading.shrunk(estimate double precision, standard_error double precision) returns double precision
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  select case when standard_error is null or estimate <= standard_error then 0
    else least(1, estimate * (1 - (standard_error / estimate) ^ 2)) end
$$;
comment on function trading.shrunk(double precision, double precision) is
  'An estimate times 1 - (standard error / estimate)^2, kept between 0 and 1: 0 without a standard error and within one of zero (positive-part '
  'shrinkage of James and Stein, with a prior about zero whose variance is what is seen beyond the error).';

-- The variance of a sum over dates whose neighbours share shocks, for numbers in the order of their dates: the weights of Bartlett, which
-- keep it from becoming negative, and the factor n / (n - 1) of clustered errors.
create or replace function trading.long_run_variance(numbers double precision[], overlap integer) returns double precision
language sql immutable strict parallel safe set search_path = pg_catalog, pg_temp
as $$
  select case when cardinality(numbers) > 1 then cardinality(numbers)::double precision / (cardinality(numbers) - 1) * (
    select sum(case when lag = 0 then 1 else 2 * (1 - lag::double precision / (overlap + 1)) end * numbers[place] * numbers[place + lag])
    from generate_series(0, overlap) lag, generate_series(1, cardinality(numbers) - lag) place) end
$$;
comment on function trading.long_run_variance(double precision[], integer) is
  'Variance of the sum of numbers of successive dates, of which each shares shocks with the next overlap ones: Newey and West (1987). NULL for fewer than two.';

create or replace function trading.overlap(cutoffs timestamptz[], ends timestamptz[]) returns integer
language sql immutable strict parallel safe set search_path = pg_catalog, pg_temp
as $$
  select max(width_bucket(e.ts, cutoffs) - e.place)::integer from unnest(ends) with ordinality e (ts, place)
$$;
comment on function trading.overlap(timestamptz[], timestamptz[]) is
  'How many later cutoffs lie within the longest stretch from a cutoff to the end that belongs to it: forecasts of those share its shocks. Cutoffs ascend.';

-- Its columns have changed, and OR REPLACE cannot.
do $$
begin
  if to_regprocedure('trading.forecast_skill(regclass, integer, timestamptz, text[], interval, text, name, name, name, text)') is not null
     and not exists (select from pg_proc p
                     where p.oid = to_regprocedure('trading.forecast_skill(regclass, integer, timestamptz, text[], interval, text, name, name, name, text)')
                       and 'standard_error' = any (p.proargnames)) then
    drop function trading.forecast_skill(regclass, integer, timestamptz, text[], interval, text, name, name, name, text);
    drop function trading.score_skill(regclass, integer, timestamptz, text[], interval, text, name, name, name, text);
  end if;
end
$$;

create or replace function trading.forecast_skill(
  relation regclass, step integer, as_of timestamptz default now(), kinds text[] default '{live,manual}',
  bar_width interval default '1 day', target text default 'close',
  series_col name default 'symbol', time_col name default 'time', price_col name default 'close', regime text default 'any')
returns table (model_version text, calibration text, n bigint, dates bigint, intercept double precision, slope double precision,
               standard_error double precision, correlation double precision, beta double precision)
language sql stable set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
  with matured as (
    select m.model_version, m.calibration, m.cutoff, m.ts, m.forecast_return as x, m.realised_return as y
    from trading.matured_forecasts(
      relation, step, as_of, kinds, bar_width, trading.knob('skill_dates', regime, as_of)::integer, target, series_col, time_col, price_col) m
  ), line as (
    -- Forecasts that differ by rounding alone have no slope.
    select m.model_version, m.calibration, count(*) as n, avg(m.x) as centre, nullif(regr_sxx(m.y, m.x), 0) as spread,
           case when stddev_pop(m.x) > 1e-9 then regr_intercept(m.y, m.x) end as intercept,
           case when stddev_pop(m.x) > 1e-9 then regr_slope(m.y, m.x) end as slope,
           case when stddev_pop(m.x) > 1e-9 then corr(m.y, m.x) end as correlation
    from matured m group by m.model_version, m.calibration
  ), dated as (
    -- Names of one date share its shocks: they are one observation of what the line misses.
    select m.model_version, m.calibration, m.cutoff, max(m.ts) as ts,
           sum((m.x - l.centre) * (m.y - l.intercept - l.slope * m.x)) as missed
    from matured m join line l using (model_version, calibration)
    group by m.model_version, m.calibration, m.cutoff
  ), judged as (
    select d.model_version, d.calibration, count(*) as dates,
           trading.long_run_variance(array_agg(d.missed order by d.cutoff),
             trading.overlap(array_agg(d.cutoff order by d.cutoff), array_agg(d.ts order by d.cutoff))) as variance
    from dated d group by d.model_version, d.calibration
  )
  select l.model_version, l.calibration, l.n, j.dates, l.intercept, l.slope, sqrt(j.variance) / l.spread, l.correlation,
         case when j.dates >= trading.knob('skill_least', forecast_skill.regime, forecast_skill.as_of)
           then trading.shrunk(coalesce(l.slope, 0), sqrt(j.variance) / l.spread) else 0 end
  from line l join judged j using (model_version, calibration)
$$;
comment on function trading.forecast_skill(regclass, integer, timestamptz, text[], interval, text, name, name, name, text) is
  'Skill of each model as of an instant: slope of realised on forecast returns over the last skill_dates cutoffs, its standard error with the names of a date as '
  'one observation and dates that overlap as correlated (Driscoll and Kraay, 1998), and beta, the slope shrunk by that error and kept between 0 and 1. '
  'beta is 0 with fewer than skill_least dates: a model without measured skill has no say.';

create or replace function trading.score_skill(
  relation regclass, step integer, as_of timestamptz default now(), kinds text[] default '{live,manual}',
  bar_width interval default '1 day', target text default 'close',
  series_col name default 'symbol', time_col name default 'time', price_col name default 'close', regime text default 'any')
returns table (n bigint, dates bigint, ic double precision, standard_error double precision, kappa double precision)
language sql stable set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
  with outcome as (
    -- Several models may have spoken of the same bar; it came true once.
    select m.series, m.cutoff, max(m.ts) as ts, min(m.realised_return) as realised_return, avg(m.volatility) as volatility
    from trading.matured_forecasts(
      relation, step, as_of, kinds, bar_width, trading.knob('skill_dates', regime, as_of)::integer, target, series_col, time_col, price_col) m
    group by m.series, m.cutoff
  ), daily as (
    select o.cutoff, max(o.ts) as ts, count(*) as n,
           -- A score has a unit of its own; returns, above, have none.
           case when stddev_pop(s.score) > 1e-9 * max(abs(s.score)) then corr(s.score, o.realised_return / coalesce(nullif(o.volatility, 0), 1)) end as ic
    from outcome o
    cross join lateral (select s.score from trading.scores s
                        where s.symbol = o.series and s.known_at <= o.cutoff order by s.known_at desc limit 1) s
    group by o.cutoff
  ), measured as (
    select d.*, avg(d.ic) over () as mean from daily d where d.ic is not null
  ), judged as (
    select coalesce(sum(m.n), 0)::bigint as n, count(*) as dates, avg(m.ic) as ic,
           sqrt(trading.long_run_variance(array_agg(m.ic - m.mean order by m.cutoff),
             trading.overlap(array_agg(m.cutoff order by m.cutoff), array_agg(m.ts order by m.cutoff)))) / count(*) as standard_error
    from measured m
  )
  select j.n, j.dates, j.ic, j.standard_error,
         case when j.dates >= trading.knob('skill_least', score_skill.regime, score_skill.as_of)
           then trading.shrunk(coalesce(j.ic, 0), j.standard_error) else 0 end
  from judged j
$$;
comment on function trading.score_skill(regclass, integer, timestamptz, text[], interval, text, name, name, name, text) is
  'Information coefficient of trading.scores as of an instant: mean over dates of the correlation across names between score and realised return per unit of volatility, '
  'and its standard error over dates, those that overlap as correlated. kappa is the mean shrunk by that error and kept between 0 and 1, and 0 with fewer than skill_least dates.';

call market.record_file('trading/skill.sql', 7);
