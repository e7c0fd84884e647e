-- How long rows are kept. Bars built from trades outlive their trades.
call market.require_not_newer('155_retention.sql', 2);

create table if not exists market.retention (
  relation     text        primary key,
  time_column  text        not null,
  keep         interval    not null check (keep >= interval '7 days'),
  applied_at   timestamptz
);
-- Operators may write rows, and market.apply_retention() runs what they say with the rights of its owner.
alter table market.retention drop constraint if exists retention_relation_check;
alter table market.retention add constraint retention_relation_check check ((relation, time_column) in (
  ('market.trades', 'event_time'), ('market.quotes', 'event_time'), ('market.bars', 'time'),
  ('market.rejected_rows', 'received_at'), ('market.feed_sessions', 'opened_at')));
comment on table market.retention is 'What is dropped after how long, by the maintenance job; set with market.set_retention.';
comment on column market.retention.relation is 'Table, with its schema.';
comment on column market.retention.time_column is 'Column that tells the age of a row.';
comment on column market.retention.keep is 'Age at which rows are dropped, in whole days.';
comment on column market.retention.applied_at is 'When rows were dropped last.';
drop function if exists market.set_trade_retention(interval);

create or replace procedure market.set_retention(relation regclass, keep interval)
language plpgsql
as $$
declare
  ages  constant jsonb := '{"market.trades": "event_time", "market.quotes": "event_time", "market.bars": "time",
                            "market.rejected_rows": "received_at", "market.feed_sessions": "opened_at"}';
  name  constant text := (select format('%I.%I', n.nspname, c.relname)
                          from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                          where c.oid = relation);
begin
  if name is null or not ages ? name then
    raise exception 'relation "%" has no retention', coalesce(name, relation::text)
      using errcode = 'invalid_parameter_value',
            hint = format('Retention can be set for %s.', (select string_agg(k, ', ' order by k) from jsonb_object_keys(ages) k));
  end if;
  if keep < interval '7 days' then
    raise exception 'rows must be kept for at least 7 days, got %', keep
      using errcode = 'invalid_parameter_value',
            hint = 'Pass an interval of 7 days or more, or NULL to keep rows for ever.';
  end if;
  if keep is null then
    delete from market.retention r where r.relation = name;
  else
    insert into market.retention as r (relation, time_column, keep) values (name, ages ->> name, set_retention.keep)
    on conflict on constraint retention_pkey do update set keep = excluded.keep;
  end if;
  if name = 'market.trades' and market.timescale_edition() = 'community' then
    call market_internal.limit_refreshes(keep);
  end if;
end
$$;
comment on procedure market.set_retention(regclass, interval) is
  'Drops rows older than keep with every run of market.maintenance; NULL keeps them for ever.';

-- Bars of continuous aggregates outlive their trades only if no refresh visits the dropped time again.
create or replace procedure market_internal.limit_refreshes(keep interval)
language plpgsql
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
language plpgsql stable
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
  rule   market.retention;
  bound  timestamptz;
begin
  for rule in select * from market.retention order by relation loop
    bound := date_trunc('day', now() - rule.keep, 'UTC');
    if rule.relation = 'market.trades' then
      if market_internal.stores_trade_bars() then
        call market.refresh_trade_bars();
      end if;
      update market_internal.kept_trades set since = greatest(since, bound);
      perform set_config('market.keeps_bars', 'on', true);
    end if;
    if market.timescale_edition() <> 'none' and to_regclass(rule.relation) = any (array(select market.hypertables())) then
      execute format('select %I.drop_chunks(%L::regclass, older_than => %L::timestamptz)',
                     market.timescale_schema(), rule.relation, bound);
    else
      execute format('delete from %s where %I < %L::timestamptz', rule.relation, rule.time_column, bound);
    end if;
    perform set_config('market.keeps_bars', 'off', true);
    update market.retention r set applied_at = clock_timestamp() where r.relation = rule.relation;
  end loop;
end
$$;
revoke execute on procedure market.apply_retention() from public;
comment on procedure market.apply_retention() is 'Drops what market.retention no longer keeps; whole chunks of hypertables.';

call market.record_file('155_retention.sql', 2);
