-- Bars built from trades, and the views that people and models read.
--
-- market.trade_bars_* : per source, exact decimals, from trades alone.
--   community edition: a continuous aggregate (market_internal.trade_bars_*) with the newest trades added at read time;
--   otherwise: stored bars (145_stored_bars.sql), those of hours touched since the last refresh computed when read.
--   All are exact at every instant.
-- market.bars_*       : one row per symbol and time, columns as in kronos.bar; stored bars and trade bars together.
--
-- The views stay the same objects in all three states (only what they read is replaced), so views of users on top survive.
call market.require_not_newer('150_trade_bars.sql', 3);

-- Conditions of the US tapes whose trades do not set open, high, low or close (odd lots, averages, late and
-- out-of-sequence reports); their size still counts. Kept in one function so that the list can change without new trades.
create or replace function market.sets_price(conditions text[]) returns boolean
language sql immutable parallel safe
as $$
  -- Without a path of its own it is inlined, and so must not depend on the caller's.
  select conditions is null
      or not conditions operator(pg_catalog.&&) array['I', 'W', 'P', '4', 'Z', 'U', 'M', 'Q', 'C', 'N', 'R', 'V', 'H', 'T', '7', '9']
$$;
comment on function market.sets_price(text[]) is
  'Whether a trade with these sale conditions sets open, high, low and close of its bar.';

-- Open and close are the price with the smallest and largest (event_time, sequence): an ordered array instead of an
-- ordered aggregate, because it gives one answer in any order of arrival, continuous aggregates accept it, and arrays of
-- hours can be merged to those of days.
drop function if exists market_internal.trade_bars_query(text);
create or replace function market_internal.trade_bars_query(
  bucket text, trades text default 'market.trades as t', pick text default '[3]') returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select format($query$
    select t.symbol,
           t.feed as source,
           %1$s as time,
           (min(array[extract(epoch from t.event_time - timestamptz '2000-01-01 00:00+00'), t.sequence, t.price])
              filter (where market.sets_price(t.conditions)))%3$s as open,
           max(t.price) filter (where market.sets_price(t.conditions)) as high,
           min(t.price) filter (where market.sets_price(t.conditions)) as low,
           (max(array[extract(epoch from t.event_time - timestamptz '2000-01-01 00:00+00'), t.sequence, t.price])
              filter (where market.sets_price(t.conditions)))%3$s as close,
           sum(t.size) as volume,
           sum(t.price * t.size) as amount,
           count(*) as trade_count,
           max(t.known_at) as known_at
    from %2$s
    where t.cancelled_at is null
    group by 1, 2, 3$query$, bucket, trades, pick)
$$;
comment on function market_internal.trade_bars_query(text, text, text) is
  'The one definition of a bar built from trades; bucket is the SQL expression of its start, pick takes the price out of '
  'open and close, which are else the ordered array.';

-- Trades of the hours of a relation with columns symbol, feed and hour. `offset 0` keeps the hours outside: the planner,
-- which cannot tell how few they are, would else read all trades of the symbols and compare each with each hour.
create or replace function market_internal.trades_of(hours text) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select format('%s as h join lateral (
                   select * from market.trades as u
                   where u.symbol = h.symbol and u.feed = h.feed
                     and u.event_time >= h.hour and u.event_time < h.hour + interval ''1 hour''
                   offset 0) as t on t.symbol = h.symbol', hours)
$$;
comment on function market_internal.trades_of(text) is 'A FROM clause: market.trades as t within the given hours.';

create or replace function market_internal.bucket_of(bar_width interval) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select format('date_bin(%L::interval, t.event_time, timestamptz ''2000-01-01 00:00+00'')', bar_width)
$$;
comment on function market_internal.bucket_of(interval) is 'SQL expression of the start of the bar of trade t.';

create or replace procedure market.refresh_trade_bars()
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  taken  market_internal.touched_hours[];
  width  interval;
begin
  -- One at a time: a slower one would overwrite the bars of a later one with what it saw before.
  perform pg_advisory_xact_lock(hashtext('market.refresh_trade_bars'));
  loop
    -- Notes that can be seen belong to trades that can be seen; a later statement sees these trades and perhaps more.
    with gone as (
      delete from market_internal.touched_hours t
      where t.ctid = any (array(select n.ctid from market_internal.touched_hours n
                                order by n.symbol, n.feed, n.hour limit 20000))
      returning t.*)
    select array_agg(distinct gone::market_internal.touched_hours) into taken from gone;
    exit when taken is null;
    delete from market_internal.stored_trade_bars b using unnest(taken) as h
    where b.symbol = h.symbol and b.source = h.feed and b.time >= h.hour and b.time < h.hour + interval '1 hour';
    foreach width in array array[interval '1 minute', interval '5 minutes', interval '1 hour'] loop
      execute format(
        'insert into market_internal.stored_trade_bars
           (bar_width, symbol, source, time, open, high, low, close, volume, amount, trade_count, known_at)
         select %L::interval, b.* from (%s) as b', width,
        market_internal.trade_bars_query(market_internal.bucket_of(width), market_internal.trades_of('unnest($1)'), ''))
      using taken;
    end loop;
  end loop;
end
$$;
revoke execute on procedure market.refresh_trade_bars() from public;
comment on procedure market.refresh_trade_bars() is
  'Stores the bars of hours in which trades were added, changed or deleted; reading is exact before and after.';

create or replace procedure market_internal.add_refresh_policy(
  suffix text, start_offset interval, end_offset interval, every interval)
language plpgsql set search_path = pg_catalog, pg_temp
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
          market_internal.trade_bars_query(format('%I.time_bucket(%L::interval, t.event_time)', ts, width.bar_width)));
      end if;
      -- No lower bound: a trade that arrives years late still reaches its bar with the next refresh.
      call market_internal.add_refresh_policy(width.suffix, null, width.bar_width, width.every);
      source := format('select * from %s', source);
    elsif market_internal.stores_trade_bars() and width.bar_width < interval '1 day' then
      execute format(
        'create or replace view market_internal.trade_parts_%1$s as
         select s.symbol, s.source, s.time, s.open, s.high, s.low, s.close, s.volume, s.amount, s.trade_count, s.known_at
         from market_internal.stored_trade_bars s
         where s.bar_width = %2$L::interval
           and not exists (select from market_internal.touched_hours h
                           where h.symbol = s.symbol and h.feed = s.source and h.hour = date_trunc(''hour'', s.time, ''UTC''))
         union all
         %3$s',
        width.suffix, width.bar_width,
        market_internal.trade_bars_query(
          market_internal.bucket_of(width.bar_width),
          market_internal.trades_of('(select distinct symbol, feed, hour from market_internal.touched_hours)'), ''));
      execute format('comment on view market_internal.trade_parts_%s is %L', width.suffix,
                     'Stored bars and those of touched hours; open and close with their place in time.');
      source := format(
        'select symbol, source, time, open[3] as open, high, low, close[3] as close, volume, amount, trade_count, known_at
         from market_internal.trade_parts_%s', width.suffix);
    elsif market_internal.stores_trade_bars() then
      source := 'select symbol, source, date_bin(interval ''1 day'', time, timestamptz ''2000-01-01 00:00+00'') as time,
                        (min(open))[3] as open, max(high) as high, min(low) as low, (max(close))[3] as close,
                        sum(volume) as volume, sum(amount) as amount, sum(trade_count)::bigint as trade_count,
                        max(known_at) as known_at
                 from market_internal.trade_parts_1h group by 1, 2, 3';
    else
      source := market_internal.trade_bars_query(market_internal.bucket_of(width.bar_width));
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
  if not market_internal.stores_trade_bars() then
    drop view if exists market_internal.trade_parts_1m, market_internal.trade_parts_5m, market_internal.trade_parts_1h;
  end if;
end
$$;

-- After a bulk load the jobs catch up by themselves; these statements do it now. They are handed out instead of executed
-- because TimescaleDB refreshes outside of functions only: in psql, end the query with \gexec.
create or replace function market.refresh_trade_bars_statements(since timestamptz default null) returns setof text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select format('call %I.refresh_continuous_aggregate(%L, %L::timestamptz, null)',
                market.timescale_schema(), 'market_internal.trade_bars_' || suffix, since)
  from unnest(array['1m', '5m', '1h', '1d']) as suffix
  where market.timescale_edition() = 'community'
  union all
  select 'call market.refresh_trade_bars()' where market_internal.stores_trade_bars()
$$;
comment on function market.refresh_trade_bars_statements(timestamptz) is
  'Statements that bring the stored bars built from trades up to date; none where bars are computed when read.';

call market.record_file('150_trade_bars.sql', 3);
