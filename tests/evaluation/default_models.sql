-- The tables "How good they are" of docs/models.md and "On real data" of docs/backtesting.md:
--
--   tools/cluster psql NAME -v data=../shared/data -f tests/evaluation/default_models.sql
--
-- An empty database with the extension is needed. Every bar that is scored is in the test part of the models' recipes, which nothing
-- was chosen by; the daily and four-hourly ones are later than the train_cutoff of the models too. Takes about half an hour on two cores.
\set ON_ERROR_STOP on
\pset null –
set client_min_messages = warning;
set search_path = public, kronos;
call kronos.install(parts => '{market,ledger}');

create table daily (symbol text, ds date, open float8, high float8, low float8, close float8, volume float8, primary key (symbol, ds));
create table crypto_4h (symbol text, ds timestamptz, open float8, high float8, low float8, close float8, volume float8, primary key (symbol, ds));
create table etf_5min (like crypto_4h including all);
\setenv KRONOS_DATA :data
\copy daily from program 'for part in 1 2 3 4; do zcat "$KRONOS_DATA/daily/us_equities_daily_$part.csv.gz" | tail -n +2; done' csv
\copy crypto_4h from program 'zcat "$KRONOS_DATA/crypto/crypto_4h.csv.gz"' csv header
\copy etf_5min from program 'zcat "$KRONOS_DATA/intraday/us_etf_5min.csv.gz"' csv header
-- Files that have been reconstructed hold a day more than the models' year.
delete from daily where ds > '2023-03-01';

-- The most traded stocks of the year before the scored one: known at its beginning.
create table chosen as
select symbol, row_number() over (order by percentile_cont(0.5) within group (order by close * volume) desc) as rank
from daily where ds >= '2021-03-01' and ds < '2022-03-01'
group by symbol having count(*) > 240 and max(ds) > '2022-02-20'
order by rank limit 100;

create table sets (relation text primary key, what text, horizon int, windows int, step int, options jsonb);
insert into sets values
  ('daily', '100 stocks, daily, 2022-03 to 2023-03, 5 steps', 5, 124, 2, '{"calendar": "XNYS", "season": 5}'),
  ('crypto_4h', 'BTC and ETH, 4 hours, 2022-03 to 2023-03, 6 steps', 6, 1090, 2, '{"season": 6}'),
  ('etf_5min', '105 funds, 5 minutes, 2020-01-03 to 08, 12 steps', 12, 30, 8, '{"calendar": "XNYS", "season": 78}');

-- Nineteen levels for everybody: losses over other numbers of levels do not compare.
select format($$create table %I as
       select b.* from backtest('hist_vol', %L, %s, num_windows => %s, window_step => %s, only_series => %L,
                                baselines => '{naive,drift,seasonal_naive}', options => %L) b$$,
              'answers_' || relation, relation, horizon, windows, step, only_series, options),
       format($$insert into %I
       select b.* from kronos.models m cross join lateral
         backtest(m.version, %L, %s, num_windows => %s, window_step => %s, only_series => %L, baselines => '{}', options => %L) b
       where m.built_in and (m.family <> 'nbeats' or %L = 'daily')$$,
              'answers_' || relation, relation, horizon, windows, step, only_series, options, relation)
from (select s.relation, s.horizon, s.windows, s.step,
             case s.relation when 'daily' then (select array_agg(symbol::text order by symbol) from chosen) end as only_series,
             s.options || jsonb_build_object('samples', 100, 'quantile_levels', (
               select jsonb_agg(n * 0.05 order by n) from generate_series(1, 19) n)) as options
      from sets s) s
\gexec

-- Each forecast judged by intervals that were calibrated on what was known before it, as they would have been live.
select format($$select count(*) from record_backtest(%L, %L)$$, 'answers_' || relation, relation),
       format($$select create_calibration(%L, %L, options => %L)$$, relation || '_90', relation,
              jsonb_build_object('kind', 'backtest') || coalesce(jsonb_build_object('calendar', options -> 'calendar'), '{}')),
       format($$select count(*) from calibrate(%L)$$, relation || '_90')
from sets
\gexec

select format($$select %L as data, split_part(s.model_version, '@', 1) as model,
              round(s.wql::numeric, 4) as wql, round(s.crps::numeric, 5) as crps, round(s.coverage::numeric, 3) as raw,
              round(c.calibrated::numeric, 3) as calibrated, round(s.dir_acc::numeric, 3) as dir_acc,
              round((s.extra -> 'dm_wql' ->> 'statistic')::numeric, 2) as dm, round((s.extra -> 'dm_wql' ->> 'p_value')::numeric, 3) as p
       from evaluate(%L, options => '{"unit": "return"}') s
       left join (select model, sum(n * coverage) / sum(n) filter (where coverage is not null) as calibrated
                  from stat_calibration where name = %L group by model) c on c.model = split_part(s.model_version, '@', 1)
       order by s.wql$$,
              what, 'answers_' || relation, relation || '_90')
from sets order by relation desc
\gexec

-- By step, on fifty of the stocks.
select model, step, sum(n) as n, round((sum(n * raw_coverage) / sum(n))::numeric, 3) as before,
       round((sum(n * coverage) / sum(n))::numeric, 3) as after
from stat_calibration
where name = 'daily_90' and series in (select symbol from chosen where rank <= 50)
group by model, step order by model, step;
