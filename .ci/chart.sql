-- Draws the newest bars of one series and its forecast as text.
-- psql variable: series. Reads demo.bar and demo.forecast.
with history as (
    select row_number() over (order by ts) as x, ts, low, high, close, false as ahead
    from (select * from demo.bar where symbol = :'series' order by ts desc limit 54) as newest
), ahead as (
    select (select max(x) from history) + step as x, ts, lower, upper, close, true
    from demo.forecast where series = :'series' and status is null
), column_of as (
    select * from history union all select * from ahead
), scale as (
    select min(low) as bottom, greatest((max(high) - min(low)) / 15, abs(max(high)) * 1e-9, 1e-12) as unit from column_of
), level as (
    select n, bottom + (n + 0.5) * unit as price,
           greatest(0, 1 - floor(log(unit::numeric)))::int as digits
    from scale, generate_series(0, 14) as n
), cell as (
    select l.n, c.x,
           case when l.n = least(14, floor((c.close - s.bottom) / s.unit)) then case when c.ahead then '●' else '•' end
                when l.n between floor((c.low - s.bottom) / s.unit) and least(14, floor((c.high - s.bottom) / s.unit))
                then case when c.ahead then '░' else '│' end
                else ' ' end
           || case when not c.ahead and c.x = (select max(x) from history) then '┊' else '' end as glyph
    from level as l, column_of as c, scale as s
), line as (
    select 1 as part, -l.n as rank,
           lpad(case when l.n % 2 = 0 then round(l.price::numeric, least(l.digits, 8))::text else '' end, 12) || ' ┤'
           || (select string_agg(glyph, '' order by x) from cell as c where c.n = l.n) as text
    from level as l
    union all
    select 0, 0, format('%s: %s bars of history (• close, │ low to high) ┊ %s bars of forecast (● close, ░ interval)',
                        :'series', (select count(*) from history), (select count(*) from ahead))
    union all
    select 2, 0, repeat(' ', 13) || '└' || repeat('─', (select count(*)::int + 1 from column_of))
    union all
    select 3, 0, repeat(' ', 14) || rpad((select to_char(min(ts), 'YYYY-MM-DD HH24:MI') from history),
                                         greatest(17, (select max(x)::int + 1 from history)))
                 || (select to_char(min(ts), 'YYYY-MM-DD HH24:MI') from ahead)
)
select text from line order by part, rank;
