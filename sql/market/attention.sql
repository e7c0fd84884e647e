-- Which symbols matter more than others now, for feeds that take too few questions for all alike.
call market.require_not_newer('market/attention.sql', 1);

create or replace function market.attention()
returns table (symbol text, urgency double precision, is_held boolean, event_time timestamptz)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  held text[] := '{}';
begin
  -- What is held is a matter of trading: it counts for those who may read it.
  if has_schema_privilege(to_regnamespace('trading'), 'usage') and has_table_privilege(to_regclass('trading.positions'), 'select') then
    execute 'select coalesce(array_agg(distinct p.symbol), ''{}'') from trading.positions p where p.quantity <> 0' into held;
  end if;
  return query
  select n.symbol, (case when n.is_held then 4 else 1 end * case when n.event_time is not null then 3 else 1 end)::double precision,
         n.is_held, n.event_time
  from (
    select coalesce(h.symbol, e.symbol) as symbol, h.symbol is not null as is_held, e.event_time
    from unnest(held) h (symbol)
    full join (
      select d.symbol, min(d.event_time) as event_time
      from market.documents d
      where d.source = 'fmp' and d.kind = 'fmp_earnings' and d.symbol is not null
        and d.event_time between now() - interval '1 day' and now() + interval '2 days'
      group by d.symbol) e using (symbol)) n;
end
$$;
comment on function market.attention() is
  'Symbols that matter more than others now: a position counts four times (where the caller may read trading.positions), earnings from a day ago to two days ahead three times. What is not there counts once.';

call market.record_file('market/attention.sql', 1);
