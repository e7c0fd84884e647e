-- Validators: each finding names the row it is about. Run by people, by the maintenance job and by the worker.
call market.require_not_newer('market/validate.sql', 5);

create or replace function market.check_bars(
  since timestamptz, until timestamptz, price_jump float8, fill_share float8) returns setof market.finding
language sql stable set search_path = pg_catalog, pg_temp
as $$
  with b as (
    select * from market.bars where time >= since and time < until
  ),
  previous as (
    select *, lag(close) over (partition by symbol, source, bar_width order by time) as previous_close from b
  ),
  -- A session is a day on which at least half of the peers that trade around it have a bar. An instrument whose calendar nobody
  -- knows has no peers.
  daily as (
    select b.symbol, b.source, b.time, coalesce(i.calendar, b.symbol) as calendar
    from b left join market.instruments i on i.symbol = b.symbol
    where b.bar_width = interval '1 day'
  ),
  life as (
    select symbol, source, calendar, min(time) as first_time, max(time) as last_time from daily group by 1, 2, 3
  ),
  peers as (
    select d.calendar, d.source, d.time, count(*) as present from daily d group by 1, 2, 3
  ),
  sessions as (
    select p.calendar, p.source, p.time from peers p
    where p.present * 2 >= (select count(*) from life l
                            where l.calendar = p.calendar and l.source = p.source
                              and p.time between l.first_time and l.last_time)
    union
    select s.calendar, l.source, s.session_on::timestamp at time zone 'UTC'
    from market.sessions s join (select distinct calendar, source from life) l on l.calendar = s.calendar
    where s.session_on::timestamp at time zone 'UTC' between since and until
  ),
  missing as (
    -- A set difference, not an anti-join: nothing tells the planner how large these sets are.
    select l.symbol, l.source, l.calendar, s.time
    from life l
    join sessions s on s.calendar = l.calendar and s.source = l.source and s.time between l.first_time and l.last_time
    except
    select symbol, source, calendar, time from daily
  ),
  per_day as (
    select symbol, source, bar_width, date_trunc('day', time, 'UTC') as day, count(*) as bars_of_day
    from b where bar_width < interval '1 day' group by 1, 2, 3, 4
  ),
  usual as (
    select symbol, source, bar_width, percentile_disc(0.5) within group (order by bars_of_day) as median_bars,
           max(day) as newest_day
    from per_day group by 1, 2, 3
  )
  select 'monotone_time', 'market.bars', symbol, source, time,
         format('bar of %s does not start on its grid', bar_width)
  from b
  -- Daily and longer bars start at midnight; the grid of weeks and months is the source's own.
  where time <> case when bar_width < interval '1 day' then date_bin(bar_width, time, timestamptz '2000-01-01 00:00+00')
                     else date_trunc('day', time, 'UTC') end
  union all
  select 'missing_session', 'market.bars', symbol, source, time,
         format('no daily bar on %s although most of calendar %s has one', (time at time zone 'UTC')::date, calendar)
  from missing
  union all
  select 'half_filled_day', 'market.bars', p.symbol, p.source, p.day,
         format('%s bars of %s, usually %s', p.bars_of_day, p.bar_width, u.median_bars)
  from per_day p join usual u using (symbol, source, bar_width)
  where p.bars_of_day < fill_share * u.median_bars and p.day < u.newest_day
  union all
  select 'price_jump', 'market.bars', symbol, source, time,
         format('close %s after %s, logarithmic return %s', close, previous_close,
                round((ln(close) - ln(previous_close))::numeric, 4))
  from previous
  where close > 0 and close < 'Infinity' and previous_close > 0 and previous_close < 'Infinity'
    -- A ratio beyond double precision is one as well.
    and abs(ln(close) - ln(previous_close)) > price_jump
  union all
  select 'non_finite_value', 'market.bars', symbol, source, time,
         format('open %s, high %s, low %s, close %s, volume %s', open, high, low, close, volume)
  from b
  where greatest(open, high, low, close, volume) in ('NaN', 'Infinity') or least(open, high, low, close, volume) = '-Infinity'
  union all
  select 'non_positive_price', 'market.bars', symbol, source, time,
         format('open %s, high %s, low %s, close %s', open, high, low, close)
  from b where least(open, high, low, close) <= 0
  union all
  select 'inverted_bar', 'market.bars', symbol, source, time,
         format('open %s, high %s, low %s, close %s', open, high, low, close)
  from b where high < low or high < greatest(open, close) or low > least(open, close)
$$;
comment on function market.check_bars(timestamptz, timestamptz, float8, float8) is
  'Validators of market.bars; call market.validate.';

create or replace function market.check_ticks(since timestamptz, until timestamptz) returns setof market.finding
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select 'monotone_time', 'market.trades', symbol, feed, event_time,
         format('trade %s is %s older than trade %s before it', trade_id, previous_time - event_time, previous_id)
  from (
    select *, lag(event_time) over w as previous_time, lag(trade_id) over w as previous_id
    from market.trades where event_time >= since and event_time < until
    window w as (partition by symbol, feed, venue order by sequence, event_time)) as t
  -- Venues number trades before they stamp them; a second of disorder is theirs, more is ours to explain.
  where event_time < previous_time - interval '1 second'
  union all
  select 'monotone_time', 'market.trades', symbol, feed, event_time,
         format('trade %s was received %s before it happened', trade_id, event_time - received_at)
  from market.trades
  where event_time >= since and event_time < until and received_at < event_time - interval '5 seconds'
  union all
  select 'non_finite_value', 'market.trades', symbol, feed, event_time,
         format('trade %s: price %s, size %s', trade_id, price, size)
  from market.trades
  where event_time >= since and event_time < until
    and (greatest(price, size) in ('NaN', 'Infinity') or least(price, size) = '-Infinity')
  union all
  select 'non_positive_price', 'market.trades', symbol, feed, event_time,
         format('trade %s: price %s, size %s', trade_id, price, size)
  from market.trades
  where event_time >= since and event_time < until and (price <= 0 or size < 0)
  union all
  select 'non_positive_price', 'market.quotes', symbol, feed, event_time, format('bid %s, ask %s', bid, ask)
  from market.quotes
  where event_time >= since and event_time < until and least(bid, ask) <= 0
  union all
  select 'crossed_quote', 'market.quotes', symbol, feed, event_time, format('bid %s above ask %s', bid, ask)
  from market.quotes
  where event_time >= since and event_time < until and bid > ask
$$;
comment on function market.check_ticks(timestamptz, timestamptz) is
  'Validators of market.trades and market.quotes; call market.validate.';

create or replace function market.check_feeds(since timestamptz, until timestamptz) returns setof market.finding
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select 'stale_feed', 'market.feed_cursors', h.symbol, h.feed, coalesce(h.newest_event_time, h.updated_at),
         format('channel %s is silent since %s', h.channel, h.updated_at)
  from market.feed_health h where h.stale
  union all
  select 'open_gap', 'market.feed_gaps', g.symbol, g.feed, coalesce(g.from_time, g.detected_at),
         format('channel %s lacks %s to %s (%s)', g.channel, g.from_seq, g.to_seq, g.cause)
  from market.feed_gaps g where g.status = 'open' and g.detected_at >= since and g.detected_at < until
$$;
comment on function market.check_feeds(timestamptz, timestamptz) is
  'Validators of the feeds: silence and open gaps; call market.validate.';

create or replace function market.validate(
  since       timestamptz default '-infinity',
  until       timestamptz default 'infinity',
  price_jump  float8      default 0.35,
  fill_share  float8      default 0.5) returns setof market.finding
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if price_jump is null or not price_jump > 0 then
    raise exception 'price_jump must be above 0, got %', price_jump
      using errcode = 'invalid_parameter_value',
            hint = 'price_jump is a logarithmic return; 0.35 marks moves of 42 % and more.';
  end if;
  if fill_share is null or fill_share < 0 or fill_share > 1 then
    raise exception 'fill_share must be between 0 and 1, got %', fill_share
      using errcode = 'invalid_parameter_value',
            hint = 'fill_share is a fraction; did you mean 0.5?';
  end if;
  return query select * from market.check_bars(since, until, price_jump, fill_share);
  return query select * from market.check_ticks(since, until);
  return query select * from market.check_feeds(since, until);
  return query select * from market.check_statements(since, until, fill_share);
  return query select * from market.check_facts(since, until);
end
$$;
comment on function market.validate(timestamptz, timestamptz, float8, float8) is
  'All validators over [since, until): one row per offending row, none when the data is clean.';

create or replace procedure market.run_validation(since timestamptz default now() - interval '7 days')
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  started constant timestamptz := clock_timestamp();
begin
  insert into market.validation_findings as f (check_name, relation, symbol, source, time, detail, first_seen_at, last_seen_at)
  select distinct on (check_name, relation, symbol, source, time)
         check_name, relation, symbol, source, time, detail, started, started
  from market.validate(since)
  order by check_name, relation, symbol, source, time, detail
  on conflict on constraint validation_findings_pkey do update
    set detail = excluded.detail, last_seen_at = excluded.last_seen_at;
  -- Findings inside the checked time that were not found again are repaired.
  delete from market.validation_findings f where f.time >= run_validation.since and f.last_seen_at < started;
end
$$;
comment on procedure market.run_validation(timestamptz) is
  'Stores the findings of market.validate since then in market.validation_findings and forgets repaired ones.';

call market.record_file('market/validate.sql', 5);
