-- Daily roll-ups of documents: which keys there are, and how each is made.
call market.require_not_newer('market/metric_rules.sql', 1);

create table if not exists market.metric_rules (
  key        text not null,
  kind       text not null,
  day        text,
  value      text not null,
  condition  text not null,
  about      text not null,
  primary key (key, kind)
);
comment on table market.metric_rules is 'How each key of market.metrics is made of documents; written by market.define_metric.';
comment on column market.metric_rules.key is 'Key, as in market.metrics.key.';
comment on column market.metric_rules.kind is 'Kind of the documents, which is the name of their table.';
comment on column market.metric_rules.day is 'Column with the day that a document belongs to; NULL: the day in New York on which it became known, since it is a picture of that day.';
comment on column market.metric_rules.value is 'Aggregate over the documents of a name and a day.';
comment on column market.metric_rules.condition is 'Which documents count.';
comment on column market.metric_rules.about is 'What it says, and in which unit.';

-- The facts are the documents, with all their versions; a table of roll-ups would be a second truth, which a restatement would have
-- to rewrite. One function for all instants is inlined into the query that asks, so that a symbol, a day or a key reads
-- its own documents alone; that is also why it sets no search_path, which its body, parsed here, does not need.
create or replace procedure market.define_metric(key text, kind text, day name, value text, condition text, about text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  body text;
begin
  if not exists (select from market.document_tables t where t.kind = define_metric.kind) then
    raise exception 'kind "%" has no table', define_metric.kind
      using errcode = 'undefined_table', hint = 'CALL market.define_document_table(...) gives it one; see market.document_tables.';
  end if;
  insert into market.metric_rules as r (key, kind, day, value, condition, about)
  values (define_metric.key, define_metric.kind, define_metric.day, define_metric.value, define_metric.condition, define_metric.about)
  on conflict on constraint metric_rules_pkey do update
    set day = excluded.day, value = excluded.value, condition = excluded.condition, about = excluded.about;
  select string_agg(format($branch$
    select d.symbol, %1$s as d, %2$L::text as key, (%3$s)::double precision as value, count(*)::integer as n, d.source, max(d.known_at) as known_at
    from market.%4$I d
    where d.known_at <= metrics.as_of and d.symbol is not null and %1$s is not null and (%5$s)
      and not exists (select from market.%4$I n
                      where (n.source, n.kind, n.key) = (d.source, d.kind, d.key) and n.known_at <= metrics.as_of
                        and (n.known_at, n.digest) > (d.known_at, d.digest)%6$s)
    group by d.symbol, %1$s, d.source
    having (%3$s) is not null$branch$,
    coalesce('d.' || quote_ident(r.day), days.of_d), r.key, r.value, r.kind, r.condition,
    case when r.day is null then format(' and %s = %s', days.of_n, days.of_d) end), ' union all ' order by r.key, r.kind)
  into body
  from market.metric_rules r,
       (values ('(d.known_at at time zone ''America/New_York'')::date', '(n.known_at at time zone ''America/New_York'')::date')) days (of_d, of_n);
  execute format($function$
    create or replace function market.metrics(as_of timestamptz default now())
    returns table (symbol text, d date, key text, value double precision, n integer, source text, known_at timestamptz)
    language sql stable parallel safe begin atomic %s; end$function$, body);
  comment on function market.metrics(timestamptz) is
    'Daily roll-ups of documents by symbol, day, key and source, from the versions that were known at an instant; market.metric_rules says what each key is. n: documents that count; known_at: when the newest of them became known.';
end
$$;
revoke execute on procedure market.define_metric(text, text, name, text, text, text) from public;
comment on procedure market.define_metric(text, text, name, text, text, text) is
  'Gives market.metrics a key, or another rule for it: kind of the documents, column with their day (NULL: pictures of the day on which they became known), aggregate, condition, and what it says.';

create or replace function market.side_of(transaction text) returns integer
language sql immutable strict parallel safe set search_path = pg_catalog, pg_temp
as $$
  select case when transaction ~* '^\s*(purchase|buy)' then 1 when transaction ~* '^\s*(sale|sell)' then -1 else 0 end
$$;
comment on function market.side_of(text) is 'Of a trade as it was disclosed: 1 for a purchase, -1 for a sale, whole or in part, 0 for an exchange or anything else.';

-- Ranges are those of the forms that members of Congress fill in, so the lower end alone says which one is meant. One that is
-- open has no middle.
create or replace function market.json_range(payload jsonb, variadic names text[]) returns double precision
language plpgsql immutable strict parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  least_ones constant numeric[] := '{1001,15001,50001,100001,250001,500001,1000001,5000001,25000001,50000001}';
  parts text[];
  lower_end numeric;
  place integer;
begin
  for i in 1 .. cardinality(names) loop
    parts := regexp_match(regexp_replace(payload ->> names[i], '[\s$,]', '', 'g'), '^(?:.*over)?(\d{1,15}(?:\.\d{1,15})?)(?:([-–+])(\d{1,15}(?:\.\d{1,15})?)?)?$', 'i');
    if parts is not null then
      lower_end := parts[1]::numeric;
      if parts[3] is not null then
        return (lower_end + parts[3]::numeric) / 2;
      end if;
      place := case when parts[2] is null then array_position(least_ones, lower_end) end;
      return (lower_end + coalesce(least_ones[place + 1] - 1, lower_end)) / 2;
    end if;
  end loop;
  return null;
end
$$;
comment on function market.json_range(jsonb, text[]) is
  'Of the first of the named members that is a range of amounts ("$1,001 - $15,000") its middle; of an open one its lower end. An amount alone is the lower end of a range of the forms of Congress where they have one; NULL: there is none.';

call market.record_file('market/metric_rules.sql', 1);
