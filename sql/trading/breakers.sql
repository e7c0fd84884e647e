-- Circuit breakers: append-only, their effective state is a view. They close entries, never exits.
call market.require_not_newer('trading/breakers.sql', 2);

create table if not exists trading.circuit_breakers (
  breaker_id    bigint generated always as identity primary key,
  scope         text not null check (scope in ('symbol', 'sector', 'global')),
  key           text not null,
  mode          text not null check (mode in ('reduce_only', 'frozen', 'flatten', 'cleared')),
  reason        text not null,
  triggered_by  text not null default current_user,
  triggered_at  timestamptz not null default now(),
  expires_at    timestamptz not null,
  clears        bigint references trading.circuit_breakers,
  metrics       jsonb not null default '{}',
  check ((mode = 'cleared') = (clears is not null)),
  check ((scope = 'global') = (key = '*')),
  check (expires_at >= triggered_at)
);
create unique index if not exists circuit_breakers_clears_key on trading.circuit_breakers (clears) where clears is not null;
create index if not exists circuit_breakers_open_idx on trading.circuit_breakers (scope, key, expires_at);
comment on table trading.circuit_breakers is 'Append-only: what closed trading where and why; a breaker ends by a row that clears it, or by expiring.';
comment on column trading.circuit_breakers.breaker_id is 'Identity of the breaker.';
comment on column trading.circuit_breakers.scope is 'symbol, sector or global.';
comment on column trading.circuit_breakers.key is 'The symbol or sector; * for global.';
comment on column trading.circuit_breakers.mode is 'reduce_only (positions may shrink), frozen (no trade), flatten (exit), or cleared.';
comment on column trading.circuit_breakers.reason is 'Why, for people.';
comment on column trading.circuit_breakers.triggered_by is 'Role that acted, as the system says; a rule that acted for it is in metrics.';
comment on column trading.circuit_breakers.triggered_at is 'When, as the system says.';
comment on column trading.circuit_breakers.expires_at is 'When a symbol or sector breaker ends by itself; a global one ends only by being cleared.';
comment on column trading.circuit_breakers.clears is 'The breaker that a row of mode cleared ends.';
comment on column trading.circuit_breakers.metrics is 'The measurements that triggered it.';

create or replace trigger append_only before update or delete or truncate on trading.circuit_breakers
  for each statement execute function trading.refuse_change();

create or replace view trading.effective_breakers with (security_invoker = true) as
select distinct on (b.scope, b.key) b.scope, b.key, b.mode, b.breaker_id, b.reason, b.triggered_by, b.triggered_at, b.expires_at
from trading.circuit_breakers b
where b.mode <> 'cleared'
  and (b.expires_at > now() or b.scope = 'global')
  and not exists (select from trading.circuit_breakers c where c.clears = b.breaker_id)
order by b.scope, b.key, array_position('{flatten,frozen,reduce_only}', b.mode), b.triggered_at;
comment on view trading.effective_breakers is
  'The strictest breaker in force per scope and key: flatten before frozen before reduce_only.';

create or replace function trading.halt_of(symbol text, sector text default null) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case when e.mode = 'reduce_only' then 'reduce_only' else 'frozen' end
  from trading.effective_breakers e
  where (e.scope, e.key) in (('symbol', symbol), ('sector', sector), ('global', '*'))
  order by array_position('{flatten,frozen,reduce_only}', e.mode)
  limit 1
$$;
comment on function trading.halt_of(text, text) is
  'Column halt for kronos.propose_weights: the strictest of the name''s, its sector''s and the global breaker; NULL: none. '
  'A name being flattened is frozen for the allocator, since its exit is under way.';

create or replace function trading.clear_breaker(breaker_id bigint, reason text) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  found_breaker trading.circuit_breakers;
  clearing bigint;
begin
  select * into found_breaker from trading.circuit_breakers b
  where b.breaker_id = clear_breaker.breaker_id and b.mode <> 'cleared';
  if not found then
    raise exception 'circuit breaker % does not exist', breaker_id
      using errcode = 'undefined_object', hint = 'See trading.effective_breakers.';
  end if;
  insert into trading.circuit_breakers (scope, key, mode, reason, expires_at, clears)
  values (found_breaker.scope, found_breaker.key, 'cleared', clear_breaker.reason, now(), found_breaker.breaker_id)
  returning circuit_breakers.breaker_id into clearing;
  return clearing;
end
$$;
comment on function trading.clear_breaker(bigint, text) is 'Ends a breaker by adding a row; returns the identity of that row.';

call market.record_file('trading/breakers.sql', 2);
