-- The schema of everything that leads from forecasts to orders, and the guard of its append-only tables.
call market.require_not_newer('trading/schema.sql', 2);

create schema if not exists trading;
comment on schema trading is 'Policy, positions, circuit breakers and allocation runs. Nothing here sends an order.';

create or replace function trading.refuse_change() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'table "%.%" is append-only', tg_table_schema, tg_table_name
    using errcode = 'object_not_in_prerequisite_state', hint = 'Add a row that supersedes the other one.';
end
$$;
comment on function trading.refuse_change() is 'Trigger that refuses UPDATE, DELETE and TRUNCATE with 55000.';

call market.record_file('trading/schema.sql', 2);
