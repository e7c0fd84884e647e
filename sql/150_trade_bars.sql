-- Bars built from trades, and the views that people and models read.
--
-- market.trade_bars_* : per source, exact decimals, from trades alone.
--   community edition: a continuous aggregate (market_internal.trade_bars_*) with the newest trades added at read time;
--   otherwise: computed from market.trades when read, so it is exact at every instant.
-- market.bars_*       : one row per symbol and time, columns as in kronos.bar; stored bars and trade bars together.
--
-- The views stay the same objects in all three states (only what they read is replaced), so views of users on top survive.
call market.require_not_newer('150_trade_bars.sql', 1);

create schema if not exists market_internal;
comment on schema market_internal is 'Continuous aggregates behind the views of schema market; read the views instead.';

-- Conditions of the US tapes whose trades do not set open, high, low or close (odd lots, averages, late and
-- out-of-sequence reports); their size still counts. Kept in one function so that the list can change without new trades.
create or replace function market.sets_price(conditions text[]) returns boolean
language sql immutable parallel safe
as $$
  select conditions is null
      or not conditions && array['I', 'W', 'P', '4', 'Z', 'U', 'M', 'Q', 'C', 'N', 'R', 'V', 'H', 'T', '7', '9']
$$;
comment on function market.sets_price(text[]) is
  'Whether a trade with these sale conditions sets open, high, low and close of its bar.';

-- Open and close are the price with the smallest and largest (event_time, sequence): an ordered array instead of an
-- ordered aggregate, because it gives one answer in any order of arrival and continuous aggregates accept it.
create or replace function market_internal.trade_bars_query(bucket text) returns text
language sql immutable
as $$
  select format($query$
    select symbol,
           feed as source,
           %s as time,
           (min(array[extract(epoch from event_time - timestamptz '2000-01-01 00:00+00'), sequence, price])
              filter (where market.sets_price(conditions)))[3] as open,
           max(price) filter (where market.sets_price(conditions)) as high,
           min(price) filter (where market.sets_price(conditions)) as low,
           (max(array[extract(epoch from event_time - timestamptz '2000-01-01 00:00+00'), sequence, price])
              filter (where market.sets_price(conditions)))[3] as close,
           sum(size) as volume,
           sum(price * size) as amount,
           count(*) as trade_count,
           max(known_at) as known_at
    from market.trades
    where cancelled_at is null
    group by 1, 2, 3$query$, bucket)
$$;
comment on function market_internal.trade_bars_query(text) is
  'The one definition of a bar built from trades; bucket is the SQL expression of its start.';

create or replace procedure market_internal.add_refresh_policy(
  suffix text, start_offset interval, end_offset interval, every interval)
language plpgsql
as $$
declare
  ts  constant name := market.timescale_schema();
begin
  execute format(
    'select %I.add_continuous_aggregate_policy(%L::regclass, start_offset => %L::interval, end_offset => %L::interval,
                                               schedule_interval => %L::interval, if_not_exists => true %s)',
    ts, 'market_internal.trade_bars_' || suffix, start_offset, end_offset, every,
    -- Newest first would show the bars of the past as missing until the policy has caught up with them.
    case when exists (select from pg_catalog.pg_proc
                      where proname = 'add_continuous_aggregate_policy'
                        and pronamespace = (select oid from pg_catalog.pg_namespace where nspname = ts)
                        and 'refresh_newest_first' = any (proargnames))
         then ', refresh_newest_first => false' else '' end);
end
$$;
comment on procedure market_internal.add_refresh_policy(text, interval, interval, interval) is
  'Schedules the refresh of one continuous aggregate from start_offset (NULL: the beginning) to end_offset before now.';

do $$
declare
  ts       constant name := market.timescale_schema();
  edition  constant text := market.timescale_edition();
  width    record;
  source   text;
begin
  for width in
    select * from (values
      ('1m', interval '1 minute',  interval '1 minute'),
      ('5m', interval '5 minutes', interval '5 minutes'),
      ('1h', interval '1 hour',    interval '30 minutes'),
      ('1d', interval '1 day',     interval '1 hour')
    ) as w (suffix, bar_width, every)
  loop
    if edition = 'community' then
      source := format('market_internal.trade_bars_%s', width.suffix);
      if to_regclass(source) is null then
        execute format(
          'create materialized view %s with (timescaledb.continuous, timescaledb.materialized_only = false) as %s with no data',
          source,
          market_internal.trade_bars_query(format('%I.time_bucket(%L::interval, event_time)', ts, width.bar_width)));
      end if;
      -- No lower bound: a trade that arrives years late still reaches its bar with the next refresh.
      call market_internal.add_refresh_policy(width.suffix, null, width.bar_width, width.every);
      source := format('select * from %s', source);
    else
      source := market_internal.trade_bars_query(
        format('date_bin(%L::interval, event_time, timestamptz ''2000-01-01 00:00+00'')', width.bar_width));
    end if;
    execute format(
      'create or replace view market.trade_bars_%s as
       select symbol, source, time, open, high, low, close, volume, amount, trade_count,
              greatest(known_at, time + %L::interval) as known_at
       from (%s) as b
       where open is not null',
      width.suffix, width.bar_width, source);
    execute format(
      'create or replace view market.source_bars_%1$s as
       select symbol, source, time, open, high, low, close, volume, amount, trade_count, known_at
       from market.bars where bar_width = %2$L::interval
       union all
       select symbol, source, time, open::float8, high::float8, low::float8, close::float8,
              volume::float8, amount::float8, trade_count, known_at
       from market.trade_bars_%1$s',
      width.suffix, width.bar_width);
    execute format(
      'create or replace view market.bars_%1$s as
       select distinct on (b.symbol, b.time)
              b.symbol, b.time, b.open, b.high, b.low, b.close, b.volume, b.amount
       from market.source_bars_%1$s b
       left join market.instruments i on i.symbol = b.symbol
       left join market.sources s on s.source = b.source
       where i.bar_source is null or i.bar_source = b.source
       order by b.symbol, b.time, s.rank, b.source',
      width.suffix);
    execute format('comment on view market.trade_bars_%s is %L', width.suffix,
      format('Bars of %s built from market.trades, per source, exact decimals. The day is the UTC day.', width.bar_width));
    execute format('comment on view market.source_bars_%s is %L', width.suffix,
      format('Bars of %s per source: stored ones and those built from trades.', width.bar_width));
    execute format('comment on view market.bars_%s is %L', width.suffix,
      format('Bars of %s, one per symbol and time, best-ranked source first (market.sources.rank, instruments.bar_source).',
             width.bar_width));
    execute format('comment on column market.bars_%s.time is %L', width.suffix, 'START of the bar; known at its end.');
  end loop;
end
$$;

-- After a bulk load of old trades the policies catch up by themselves; these statements do it now. They are handed out
-- instead of executed because TimescaleDB refreshes outside of functions only: in psql, end the query with \gexec.
create or replace function market.refresh_trade_bars_statements(since timestamptz default null) returns setof text
language sql stable
as $$
  select format('call %I.refresh_continuous_aggregate(%L, %L::timestamptz, null)',
                market.timescale_schema(), 'market_internal.trade_bars_' || suffix, since)
  from unnest(array['1m', '5m', '1h', '1d']) as suffix
  where market.timescale_edition() = 'community'
$$;
comment on function market.refresh_trade_bars_statements(timestamptz) is
  'Statements that bring the continuous aggregates up to date; none where bars are computed when read.';

create or replace function market.set_trade_retention(keep interval) returns void
language plpgsql
as $$
declare
  ts      constant name := market.timescale_schema();
  suffix  text;
begin
  if market.timescale_edition() <> 'community' then
    raise exception 'retention of trades needs the community edition of TimescaleDB'
      using errcode = 'feature_not_supported',
            hint = 'Delete old rows of market.trades, or drop chunks, with a job of your own.';
  end if;
  if keep is not null and keep < interval '7 days' then
    raise exception 'trades must be kept for at least 7 days, got %', keep
      using errcode = 'invalid_parameter_value',
            hint = 'Pass an interval of 7 days or more, or NULL to keep trades for ever.';
  end if;
  execute format('select %I.remove_retention_policy(%L, if_exists => true)', ts, 'market.trades');
  -- Bars outlive their trades only if no refresh visits the dropped time again.
  foreach suffix in array array['1m', '5m', '1h', '1d'] loop
    execute format('select %I.remove_continuous_aggregate_policy(%L, if_exists => true)',
                   ts, 'market_internal.trade_bars_' || suffix);
    call market_internal.add_refresh_policy(
      suffix, keep - interval '2 days',
      case suffix when '1m' then interval '1 minute' when '5m' then interval '5 minutes'
                  when '1h' then interval '1 hour' else interval '1 day' end,
      interval '30 minutes');
  end loop;
  if keep is not null then
    execute format('select %I.add_retention_policy(%L, drop_after => %L::interval)', ts, 'market.trades', keep);
  end if;
end
$$;
comment on function market.set_trade_retention(interval) is
  'Drops trades older than keep (NULL: never) and keeps the bars built from them. Community edition only.';

call market.record_file('150_trade_bars.sql', 1);
