-- What was known about a name, and when.
call market.require_not_newer('market/known.sql', 1);

create or replace function market.known(symbol text, as_of timestamptz default now())
returns table (kind text, source text, key text, event_time timestamptz, known_at timestamptz, age interval, payload jsonb)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select distinct on (d.kind) d.kind, d.source, d.key, d.event_time, d.known_at, known.as_of - d.known_at, d.payload
  from market.documents d
  where d.symbol = known.symbol and d.known_at <= known.as_of
  order by d.kind, d.known_at desc, d.event_time desc nulls last, d.key desc, d.source
$$;
comment on function market.known(text, timestamptz) is
  'What was known about a symbol at an instant: for each kind of fact the one that had become known last (of several at once that of the latest event), how old the knowledge was, and whose it is.';

call market.record_file('market/known.sql', 1);
