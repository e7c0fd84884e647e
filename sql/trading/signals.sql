-- From the ledger's newest forecasts to expected returns that are as large as the models' skill allows.
call market.require_not_newer('trading/signals.sql', 5);

create or replace function trading.expected_returns(
  relation regclass, step integer, as_of timestamptz default now(), model text default null, kinds text[] default '{live,manual}',
  bar_width interval default '1 day', bars_per_year double precision default 252, target text default 'close',
  series_col name default 'symbol', time_col name default 'time', price_col name default 'close', regime text default 'any')
returns table (symbol text, expected_return double precision, volatility double precision, price double precision,
               forecast_return double precision, score double precision, kappa double precision, models text[], cutoff timestamptz)
language plpgsql stable set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
declare
  least_volatility constant double precision := trading.knob('volatility_floor', regime, as_of) * sqrt(step / bars_per_year);
  -- A backtest is issued later than its cutoff by its nature, and says nothing where its model was trained.
  unseen constant text := case when to_regclass('kronos.models') is null then '' else
    ' and (f.kind <> ''backtest'' or not exists (
         select from kronos.models m where m.version = f.model_version and f.cutoff < m.train_cutoff + 1))' end;
begin
  return query execute format($query$
    with latest as (
      -- The newest forecast of each model that still lies ahead, calibrated where it is given both ways.
      select distinct on (f.series, f.model_version)
             f.series, f.model_version, f.calibration, f.cutoff, f.forecast,
             trading.band_volatility(f.lower, f.upper, f.level) as volatility
      from kronos.forecasts f
      where f.relation = $1 and f.step = $2 and f.target = $3 and f.kind = any ($4)
        and f.cutoff <= $6 and (f.issued_at <= $6 or f.kind = 'backtest') and f.forecast > 0 and f.forecast < 'infinity' %5$s
        -- The second condition follows from the first, whatever months and clock changes do to a width, and an index knows ts.
        and f.ts + $5 > $6 and f.ts > $6 - $5 - interval '4 days'
        and ($8 is null or f.model_version = $8 or split_part(f.model_version, '@', 1) = $8)
      -- Where roles contradict each other the first word counts, and what was said in time before what was said afterwards.
      order by f.series, f.model_version, f.cutoff desc, f.calibration desc, array_position($4, f.kind), f.issued_at
    ), said as (
      -- What is left of the forecast from today's price: some of it has come true, or more than all.
      select l.*, last.price, ln(l.forecast / last.price) as forecast_return, coalesce(k.beta, 0) as beta
      from latest l
      cross join lateral (select t.%3$I::float8 as price from %1$s t
                          where t.%4$I::text = l.series and t.%2$I + $5 <= $6 order by t.%2$I desc limit 1) last
      left join trading.forecast_skill($1, $2, $6, $4, $5, $3, %4$L, %2$L, %3$L, $9) k
        on k.model_version = l.model_version and k.calibration = l.calibration
      where last.price > 0 and last.price < 'infinity'
    ), combined as (
      select s.series, coalesce(avg(s.beta * s.forecast_return) filter (where s.beta > 0), 0) as shrunk,
             coalesce(avg(s.volatility) filter (where s.beta > 0), avg(s.volatility)) as volatility,
             avg(s.forecast_return) as forecast_return, max(s.price) as price, max(s.cutoff) as cutoff,
             coalesce(array_agg(s.model_version order by s.model_version) filter (where s.beta > 0), '{}') as models
      from said s group by s.series
    )
    select c.series, c.shrunk + coalesce(i.kappa * greatest(coalesce(c.volatility, 0), $7) * g.score, 0),
           greatest(coalesce(c.volatility, 0), $7), c.price, c.forecast_return, g.score, i.kappa, c.models, c.cutoff
    from combined c
    cross join trading.score_skill($1, $2, $6, $4, $5, $3, %4$L, %2$L, %3$L, $9) i
    left join trading.scores_at($6) g on g.symbol = c.series
    order by c.series
    $query$, relation, time_col, price_col, series_col, unseen)
  using relation, step, target, kinds, bar_width, as_of, least_volatility, model, regime;
end
$$;
comment on function trading.expected_returns(regclass, integer, timestamptz, text, text[], interval, double precision, text, name, name, name, text) is
  'Expected return of each name by the end of its newest forecast of step bars: the mean over models with skill of beta times what is left of the '
  'forecast from the newest known price, plus kappa times volatility times score. Backtests speak where kinds has them, so that a book can be replayed at any as_of. '
  'volatility is that of the calibrated interval, at least volatility_floor a year; price the newest known; models those that had a say.';

create or replace function trading.signals(
  relation regclass, step integer, account text default null, as_of timestamptz default now(), model text default null,
  kinds text[] default '{live,manual}', bar_width interval default '1 day', bars_per_year double precision default 252,
  target text default 'close', series_col name default 'symbol', time_col name default 'time', price_col name default 'close',
  regime text default 'any')
returns table (symbol text, expected_return double precision, volatility double precision, price double precision,
               prev_weight double precision, shortable boolean, veto boolean, cost_bps double precision, borrow_bps double precision,
               adv_weight double precision, halt text, group_sector text)
language sql stable set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
  with name as (
    select e.symbol, e.expected_return, e.volatility, e.price, null::text as halt
    from trading.expected_returns(relation, step, as_of, model, kinds, bar_width, bars_per_year, target, series_col, time_col, price_col, regime) e
  ), held as (
    select p.symbol, p.quantity::float8 as quantity, p.price_usd::float8 as price, p.equity_usd::float8 as equity
    from trading.position_weights p
    where p.account = signals.account and p.quantity <> 0
  ), everything as (
    select coalesce(n.symbol, h.symbol) as symbol, coalesce(n.expected_return, 0) as expected_return,
           coalesce(n.volatility, trading.knob('volatility_floor', signals.regime, signals.as_of) * sqrt(signals.step / signals.bars_per_year)) as volatility,
           -- Both sides of a trade at one price, so that share deltas start from the shares held.
           coalesce(n.price, h.price) as price, h.quantity * coalesce(n.price, h.price) / h.equity as weight,
           -- What nobody forecasts may leave the book, and cannot enter it.
           case when n.symbol is null then 'reduce_only' end as unforecast
    from name n full join held h on h.symbol = n.symbol
  )
  select e.symbol, e.expected_return, e.volatility, e.price, e.weight, coalesce(t.shortable, false), coalesce(t.veto, false),
         coalesce(t.cost_bps, 5), coalesce(t.borrow_bps_year, 0) * signals.step / signals.bars_per_year,
         t.adv_usd / (select a.equity_usd::float8 from trading.accounts a where a.account = signals.account),
         coalesce(trading.halt_of(e.symbol, t.sector), e.unforecast), t.sector
  from everything e left join trading.terms_at(signals.as_of) t on t.symbol = e.symbol
  order by e.symbol
$$;
comment on function trading.signals(regclass, integer, text, timestamptz, text, text[], interval, double precision, text, name, name, name, text) is
  'The query signals of kronos.propose_weights: every name with a forecast or a position, with its expected return and the terms of its trading. '
  'A position without a forecast has an expected return of 0 and may only shrink; a name without terms may not be shorted.';

call market.record_file('trading/signals.sql', 5);
