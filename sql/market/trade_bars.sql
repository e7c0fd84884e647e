-- Bars built from trades, and the views that people and models read.
--
-- market.trade_bars_* : per source, exact decimals, from trades alone: stored bars (market/stored_bars.sql), those of hours
--   touched since the last refresh computed when read, which makes them exact at every instant.
-- market.bars_*       : one row per symbol and time, columns as in kronos.bar; stored bars and trade bars together.
--
-- The views stay the same objects whatever TimescaleDB there is, so views of users on top survive.
call market.require_not_newer('market/trade_bars.sql', 5);

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

-- A cast raises an error, and one trade would keep everybody from reading the bars of all. Inlined like sets_price().
create or replace function market_internal.as_float8(value numeric) returns float8
language sql immutable parallel safe
as $$
  select case
    when value operator(pg_catalog.=) 0
      or pg_catalog.abs(value) operator(pg_catalog.>=) 1e-300 and pg_catalog.abs(value) operator(pg_catalog.<=) 1e300
    then value::pg_catalog.float8 end
$$;
comment on function market_internal.as_float8(numeric) is 'The number as double precision; NULL where it has no such number near it.';

-- Open and close are the price with the smallest and largest (event_time, sequence): an ordered array instead of an
-- ordered aggregate, because it gives one answer in any order of arrival, and arrays of hours can be merged to those of days.
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

-- 3 January 2000 was a Monday: weeks begin there, and every shorter width divides a day.
create or replace function market_internal.bucket_of(bar_width interval) returns text
language sql immutable set search_path = pg_catalog, pg_temp set intervalstyle = 'postgres'
as $$
  select format('date_bin(%L::interval, t.event_time, timestamptz ''2000-01-03 00:00+00'')', bar_width)
$$;
comment on function market_internal.bucket_of(interval) is 'SQL expression of the start of the bar of trade t.';

-- TimescaleDB unpacks every compressed row that the constants of a deletion do not exclude: time is one in each, and the
-- segment too where chunks may be compressed. What is left to unpack is bounded by the notes, so its own limit is lifted.
-- The constants are written and read in one form, whatever that of the session: abbreviations of zones are ambiguous.
create or replace procedure market_internal.delete_stored_bars(hours market_internal.touched_hours[])
language plpgsql set search_path = pg_catalog, pg_temp set datestyle = 'ISO' set timezone = 'UTC'
as $$
declare
  part   record;
  setting constant text := 'timescaledb.max_tuples_decompressed_per_dml_transaction';
  before constant text := current_setting(setting, true);
begin
  if before is not null then
    perform set_config(setting, '0', true);
  end if;
  for part in
    select case when h.hour < now() - interval '1 month' then format('b.symbol = %L and b.source = %L and', h.symbol, h.feed)
           end as segment,
           min(h.hour) as first_hour, max(h.hour) as last_hour
    from unnest(hours) as h
    group by 1, date_trunc('month', h.hour, 'UTC')
  loop
    execute format(
      'delete from market_internal.stored_trade_bars b using unnest($1) as h
       where %s b.time >= %L::timestamptz and b.time < %L::timestamptz
         and b.symbol = h.symbol and b.source = h.feed and b.time >= h.hour and b.time < h.hour + interval ''1 hour''',
      part.segment, part.first_hour, part.last_hour + interval '1 hour')
    using hours;
  end loop;
  if before is not null then
    perform set_config(setting, before, true);
  end if;
end
$$;
revoke all on procedure market_internal.delete_stored_bars(market_internal.touched_hours[]) from public;
comment on procedure market_internal.delete_stored_bars(market_internal.touched_hours[]) is 'Deletes the stored bars of some hours.';

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
    insert into market_internal.reopened_hours
    select h.symbol, h.feed, h.hour from unnest(taken) as h
    where h.hour < (select since from market_internal.kept_trades)
      and not exists (select from market_internal.stored_trade_bars b
                      where b.symbol = h.symbol and b.source = h.feed and b.bar_width = interval '1 hour' and b.time = h.hour)
    on conflict do nothing;
    -- Those of closed hours go without effect.
    taken := array(
      select h::market_internal.touched_hours from unnest(taken) as h
      where h.hour >= (select since from market_internal.kept_trades)
         or exists (select from market_internal.reopened_hours r
                    where r.symbol = h.symbol and r.feed = h.feed and r.hour = h.hour));
    call market_internal.delete_stored_bars(taken);
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

do $$
declare
  width      record;
  described  record;
  source     text;
begin
  for width in
    select * from (values
      ('1m', interval '1 minute', '1m'), ('5m', interval '5 minutes', '5m'), ('15m', interval '15 minutes', '5m'),
      ('30m', interval '30 minutes', '5m'), ('1h', interval '1 hour', '1h'), ('4h', interval '4 hours', '1h'),
      ('1d', interval '1 day', '1h'), ('1w', interval '7 days', '1h')
    ) as w (suffix, bar_width, made_of)
  loop
    if market_internal.stores_trade_bars() and width.suffix = width.made_of then
      execute format(
        'create or replace view market_internal.trade_parts_%1$s as
         select s.symbol, s.source, s.time, s.open, s.high, s.low, s.close, s.volume, s.amount, s.trade_count, s.known_at
         from market_internal.stored_trade_bars s
         where s.bar_width = %2$L::interval
           and not exists (select from market_internal.open_hours h
                           where h.symbol = s.symbol and h.feed = s.source and h.hour = date_trunc(''hour'', s.time, ''UTC''))
         union all
         %3$s',
        width.suffix, width.bar_width,
        market_internal.trade_bars_query(
          market_internal.bucket_of(width.bar_width), market_internal.trades_of('market_internal.open_hours'), ''));
      execute format('comment on view market_internal.trade_parts_%s is %L', width.suffix,
                     'Stored bars and those of touched hours; open and close with their place in time.');
      source := format(
        'select symbol, source, time, open[3] as open, high, low, close[3] as close, volume, amount, trade_count, known_at
         from market_internal.trade_parts_%s', width.suffix);
    elsif market_internal.stores_trade_bars() then
      source := format(
        'select symbol, source, date_bin(%L::interval, time, timestamptz ''2000-01-03 00:00+00'') as time,
                (min(open))[3] as open, max(high) as high, min(low) as low, (max(close))[3] as close,
                sum(volume) as volume, sum(amount) as amount, sum(trade_count)::bigint as trade_count,
                max(known_at) as known_at
         from market_internal.trade_parts_%s group by 1, 2, 3', width.bar_width, width.made_of);
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
       select symbol, source, time, market_internal.as_float8(open) as open, market_internal.as_float8(high) as high,
              market_internal.as_float8(low) as low, market_internal.as_float8(close) as close,
              market_internal.as_float8(volume) as volume, market_internal.as_float8(amount) as amount, trade_count, known_at
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
      format('Bars of %s built from market.trades, per source, exact decimals. Days are those of UTC, weeks begin on Monday.', width.bar_width));
    execute format('comment on view market.source_bars_%s is %L', width.suffix,
      format('Bars of %s per source: stored ones and those built from trades.', width.bar_width));
    execute format('comment on view market.bars_%s is %L', width.suffix,
      format('Bars of %s, one per symbol and time, best-ranked source first (market.sources.rank, instruments.bar_source).',
             width.bar_width));
    for described in
      select v.relation, c.attname as column_name, m.meaning
      from unnest(array['trade_bars_', 'source_bars_', 'bars_']) as v (relation)
      join pg_catalog.pg_attribute c on c.attrelid = ('market.' || v.relation || width.suffix)::regclass and c.attnum > 0
      join (values
        ('symbol', 'Canonical symbol.'), ('source', 'Who published the bar, or the feed of its trades.'),
        ('time', 'START of the bar; known at its end.'), ('open', 'First price.'), ('high', 'Highest price.'),
        ('low', 'Lowest price.'), ('close', 'Last price.'), ('volume', 'Units traded; NULL: unknown.'),
        ('amount', 'Money traded, in the quote currency; NULL: unknown.'), ('trade_count', 'Number of trades; NULL: unknown.'),
        ('known_at', 'First instant at which a participant could have known the whole bar; at the earliest its end.')
      ) as m (column_name, meaning) on m.column_name = c.attname
    loop
      execute format('comment on column market.%I.%I is %L', described.relation || width.suffix, described.column_name, described.meaning);
    end loop;
  end loop;
  if not market_internal.stores_trade_bars() then
    drop view if exists market_internal.trade_parts_1m, market_internal.trade_parts_5m, market_internal.trade_parts_1h;
  end if;
  for width in select suffix from unnest(array['1m', '5m', '1h', '1d']) as suffix loop
    if to_regclass('market_internal.trade_bars_' || width.suffix) is not null then
      execute format('drop materialized view market_internal.trade_bars_%s', width.suffix);
    end if;
  end loop;
end
$$;

create or replace function market.refresh_trade_bars_statements(since timestamptz default null) returns setof text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select 'call market.refresh_trade_bars()' where market_internal.stores_trade_bars()
$$;
comment on function market.refresh_trade_bars_statements(timestamptz) is
  'Statements that bring the stored bars built from trades up to date; none where bars are computed when read.';

call market.record_file('market/trade_bars.sql', 5);
