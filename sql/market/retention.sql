-- How long rows are kept. Bars built from trades outlive their trades.
call market.require_not_newer('market/retention.sql', 4);

-- What may be dropped, the column that tells the age of a row, and what else must hold for it. They stand here and in no
-- table: a row that somebody else may write must never become the text of a statement. Bars of hours are kept: they tell
-- which hours had trades, and days and weeks are made of them; those of 15 and 30 minutes are made of bars of five.
drop function if exists market_internal.retainable();
create or replace function market_internal.retained() returns table (relation text, stored_in text, time_column name, condition text)
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  -- A deletion passes over hours whose bars are not stored yet: it sees trades and notes of the same moment.
  values ('market.trades', 'market.trades', 'event_time'::name,
          'not exists (select from market_internal.touched_hours h
                       where h.symbol = t.symbol and h.feed = t.feed and h.hour = date_trunc(''hour'', t.event_time, ''UTC''))'),
         ('market.trade_bars_1m', 'market_internal.stored_trade_bars', 'time', 'bar_width = interval ''1 minute'''),
         ('market.trade_bars_5m', 'market_internal.stored_trade_bars', 'time', 'bar_width = interval ''5 minutes'''),
         ('market.quotes', 'market.quotes', 'event_time', 'true'),
         ('market.bars', 'market.bars', 'time', 'true'),
         ('market.rejected_rows', 'market.rejected_rows', 'received_at', 'true'),
         ('market.feed_sessions', 'market.feed_sessions', 'opened_at', 'true')
$$;
comment on function market_internal.retained() is 'What retention can be set for: where its rows are stored, the column that tells their age, what else must hold for a row.';

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

-- Runs as the owner: nobody else may write the rules. market_operator may call it.
create or replace procedure market.set_retention(relation regclass, keep interval)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  name constant text := (select t.relation from market_internal.retained() t
                         where to_regclass(t.relation) = set_retention.relation);
begin
  if name is null then
    raise exception 'relation "%" has no retention', relation
      using errcode = 'invalid_parameter_value',
            hint = format('Retention can be set for %s.',
                          (select string_agg(t.relation, ', ' order by t.relation) from market_internal.retained() t));
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
end
$$;
revoke execute on procedure market.set_retention(regclass, interval) from public;
comment on procedure market.set_retention(regclass, interval) is
  'Drops rows older than keep with every run of market.maintenance; NULL keeps them for ever.';

drop procedure if exists market_internal.limit_refreshes(interval), market_internal.add_refresh_policy(text, interval, interval, interval);

create or replace function market.hypertables() returns setof regclass
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return query execute
    'select format(''%I.%I'', hypertable_schema, hypertable_name)::regclass from timescaledb_information.hypertables';
end
$$;
comment on function market.hypertables() is 'Hypertables of this database; an error without TimescaleDB.';

-- A chunk is dropped with whatever is in it, so nobody may be adding a trade meanwhile.
create or replace function market_internal.close_hours(bound timestamptz, in_chunks boolean) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  waits constant text := current_setting('lock_timeout');
begin
  if not market_internal.stores_trade_bars() then
    raise warning 'market.trades keeps all its rows'
      using detail = 'Bars built from them are computed when read, and would go with them.',
            hint = 'TimescaleDB 2.18 and later has what storing bars needs: update it, then set up again.';
    return false;
  end if;
  call market.refresh_trade_bars();
  if in_chunks then
    begin
      -- Who adds trades waits behind this lock.
      perform set_config('lock_timeout', '5s', true);
      lock table market.trades in share row exclusive mode;
      perform set_config('lock_timeout', waits, true);
    exception when lock_not_available or deadlock_detected then
      raise notice 'rows of market.trades are dropped by the next run: some are being added now';
      return false;
    end;
    call market.refresh_trade_bars();
  end if;
  update market_internal.kept_trades set since = greatest(since, bound);
  delete from market_internal.reopened_hours where hour < bound;
  return true;
end
$$;
revoke all on function market_internal.close_hours(timestamptz, boolean) from public;
comment on function market_internal.close_hours(timestamptz, boolean) is
  'Stores the bars of all trades and closes the hours before bound to changes; false: not now, and no trade may be dropped.';

-- The session's settings must not move the bound: a month is counted in UTC, and an abbreviation of a zone is ambiguous.
create or replace procedure market.apply_retention()
language plpgsql security definer set search_path = pg_catalog, pg_temp set datestyle = 'ISO' set timezone = 'UTC'
as $$
declare
  rule      record;
  bound     timestamptz;
  in_chunks boolean;
begin
  for rule in
    select t.relation, t.stored_in, t.time_column, t.condition, r.keep
    from market.retention r join market_internal.retained() t using (relation)
    order by t.relation
  loop
    bound := date_trunc('day', now() - rule.keep, 'UTC');
    in_chunks := rule.relation = rule.stored_in and market.timescale_edition() <> 'none'
                 and to_regclass(rule.relation) = any (array(select market.hypertables()));
    if rule.relation = 'market.trades' and not market_internal.close_hours(bound, in_chunks) then
      continue;
    end if;
    if in_chunks then
      execute format('select %I.drop_chunks($1::regclass, older_than => $2)', market.timescale_schema())
      using rule.relation, bound;
    else
      if market.timescale_edition() = 'community' then
        -- Bars are unpacked where only a part of a batch goes.
        perform set_config('timescaledb.max_tuples_decompressed_per_dml_transaction', '0', true);
      end if;
      execute format('delete from %s as t where %I < %L::timestamptz and %s', rule.stored_in, rule.time_column, bound, rule.condition);
    end if;
    update market.retention r set applied_at = clock_timestamp() where r.relation = rule.relation;
  end loop;
end
$$;
revoke execute on procedure market.apply_retention() from public;
comment on procedure market.apply_retention() is 'Drops what market.retention no longer keeps: rows, or whole chunks of hypertables.';

call market.record_file('market/retention.sql', 4);
