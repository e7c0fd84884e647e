-- How long rows are kept. Bars built from trades outlive their trades.
call market.require_not_newer('155_retention.sql', 3);

-- What may be dropped, and the column that tells the age of a row. It stands here and in no table: a row that somebody
-- else may write must never become the text of a statement.
create or replace function market_internal.retainable() returns table (relation text, table_name name, time_column name)
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  values ('market.trades', 'trades'::name, 'event_time'::name), ('market.quotes', 'quotes', 'event_time'),
         ('market.bars', 'bars', 'time'), ('market.rejected_rows', 'rejected_rows', 'received_at'),
         ('market.feed_sessions', 'feed_sessions', 'opened_at')
$$;
comment on function market_internal.retainable() is 'Tables that retention can be set for, and the column that tells the age of a row.';

create table if not exists market.retention (
  relation     text        primary key,
  keep         interval    not null check (keep >= interval '7 days'),
  applied_at   timestamptz
);
alter table market.retention drop constraint if exists retention_relation_check, drop column if exists time_column;
comment on table market.retention is 'What is dropped after how long, by the maintenance job; set with market.set_retention.';
comment on column market.retention.relation is 'Table, with its schema; rows of any other name do nothing.';
comment on column market.retention.keep is 'Age at which rows are dropped, in whole days.';
comment on column market.retention.applied_at is 'When rows were dropped last.';
drop function if exists market.set_trade_retention(interval);

-- Runs as the owner, who alone may change the refresh of continuous aggregates; market_operator may call it.
create or replace procedure market.set_retention(relation regclass, keep interval)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  name constant text := (select t.relation from market_internal.retainable() t
                         where to_regclass(t.relation) = set_retention.relation);
begin
  if name is null then
    raise exception 'relation "%" has no retention', relation
      using errcode = 'invalid_parameter_value',
            hint = format('Retention can be set for %s.',
                          (select string_agg(t.relation, ', ' order by t.relation) from market_internal.retainable() t));
  end if;
  if keep < interval '7 days' then
    raise exception 'rows must be kept for at least 7 days, got %', keep
      using errcode = 'invalid_parameter_value',
            hint = 'Pass an interval of 7 days or more, or NULL to keep rows for ever.';
  end if;
  if keep is null then
    delete from market.retention r where r.relation = name;
  else
    insert into market.retention as r (relation, keep) values (name, set_retention.keep)
    on conflict on constraint retention_pkey do update set keep = excluded.keep;
  end if;
  if name = 'market.trades' and market.timescale_edition() = 'community' then
    call market_internal.limit_refreshes(keep);
  end if;
end
$$;
revoke execute on procedure market.set_retention(regclass, interval) from public;
comment on procedure market.set_retention(regclass, interval) is
  'Drops rows older than keep with every run of market.maintenance; NULL keeps them for ever.';

-- Bars of continuous aggregates outlive their trades only if no refresh visits the dropped time again.
create or replace procedure market_internal.limit_refreshes(keep interval)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  suffix  text;
begin
  foreach suffix in array array['1m', '5m', '1h', '1d'] loop
    execute format('select %I.remove_continuous_aggregate_policy(%L, if_exists => true)',
                   market.timescale_schema(), 'market_internal.trade_bars_' || suffix);
    call market_internal.add_refresh_policy(
      suffix, keep - interval '2 days',
      case suffix when '1m' then interval '1 minute' when '5m' then interval '5 minutes'
                  when '1h' then interval '1 hour' else interval '1 day' end,
      interval '30 minutes');
  end loop;
end
$$;
comment on procedure market_internal.limit_refreshes(interval) is
  'Keeps the refresh of continuous aggregates within the trades that are kept.';

create or replace function market.hypertables() returns setof regclass
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return query execute
    'select format(''%I.%I'', hypertable_schema, hypertable_name)::regclass from timescaledb_information.hypertables';
end
$$;
comment on function market.hypertables() is 'Hypertables of this database; an error without TimescaleDB.';

create or replace procedure market.apply_retention()
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  rule   record;
  bound  timestamptz;
begin
  for rule in
    select t.relation, t.table_name, t.time_column, r.keep
    from market.retention r join market_internal.retainable() t using (relation)
    order by t.relation
  loop
    bound := date_trunc('day', now() - rule.keep, 'UTC');
    if rule.relation = 'market.trades' then
      if market_internal.stores_trade_bars() then
        call market.refresh_trade_bars();
      end if;
      -- From here on no change of an older trade, dropping it included, touches the bars.
      update market_internal.kept_trades set since = greatest(since, bound);
    end if;
    if market.timescale_edition() <> 'none' and to_regclass(rule.relation) = any (array(select market.hypertables())) then
      execute format('select %I.drop_chunks($1::regclass, older_than => $2)', market.timescale_schema())
      using rule.relation, bound;
    else
      execute format('delete from market.%I where %I < $1', rule.table_name, rule.time_column) using bound;
    end if;
    update market.retention r set applied_at = clock_timestamp() where r.relation = rule.relation;
  end loop;
end
$$;
revoke execute on procedure market.apply_retention() from public;
comment on procedure market.apply_retention() is 'Drops what market.retention no longer keeps; whole chunks of hypertables.';

call market.record_file('155_retention.sql', 3);
