-- reader: SELECT. ingestor: also writes data and bookkeeping. operator: also instruments, sources, jobs, repairs.
call market.require_not_newer('market/privileges.sql', 9);

do $$
declare
  item record;
begin
  if (select count(*) from pg_catalog.pg_roles
      where rolname in ('market_reader', 'market_ingestor', 'market_operator')) < 3 then
    return;  -- installation/roles.sql has warned
  end if;
  grant usage on schema market to market_reader, market_ingestor, market_operator;
  -- Reading a view through another view checks the owner of the inner one; continuous aggregates ask for the schema too.
  grant usage on schema market_internal to market_reader, market_ingestor, market_operator;
  grant select on all tables in schema market to market_reader, market_ingestor, market_operator;

  grant insert on market.trades, market.quotes, market.trade_cancels, market.bars, market.feed_sessions,
    market.feed_gaps, market.feed_cursors, market.feed_refusals, market.feed_usage, market.rejected_rows, market.documents,
    market.instruments, market.instrument_symbols, market.validation_findings to market_ingestor, market_operator;
  -- Who entered an event and when is filled by the system.
  grant insert (event_key, kind, symbol, publisher) on market.event_keys to market_ingestor, market_operator;
  grant insert (event_key, scheduled_ts, known_at, is_cancelled, is_day_only, source) on market.event_schedules
    to market_ingestor, market_operator;
  grant insert (event_key, value, known_at, source) on market.event_consensus to market_ingestor, market_operator;
  grant insert (event_key, value, previous, known_at, source) on market.event_releases to market_ingestor, market_operator;
  grant insert on market.event_kinds, market.event_names to market_operator;
  for item in select t.relation from market.document_tables t loop
    execute format('grant insert on %s to market_ingestor, market_operator', item.relation);
  end loop;
  -- The whole of trades, for cancelled_at: TimescaleDB cannot grant single columns of a compressed hypertable.
  grant update on market.trades, market.bars, market.feed_sessions, market.feed_gaps, market.feed_cursors,
    market.feed_refusals, market.feed_usage, market.validation_findings to market_ingestor, market_operator;
  grant delete on market.validation_findings to market_ingestor, market_operator;

  grant execute on procedure market.refresh_liquidity(), market.refresh_trade_bars(), market.apply_retention()
    to market_ingestor, market_operator;
  grant execute on function market.learn_calendars(text[]) to market_ingestor, market_operator;
  -- Its rows decide what is dropped: they are written through the procedure, which checks them.
  grant execute on procedure market.set_retention(regclass, interval) to market_operator;
  revoke insert, update, delete on market.retention from market_operator;

  grant insert, update, delete on market.sources, market.instruments, market.instrument_symbols, market.sessions
    to market_operator;
  grant delete on market.rejected_rows, market.feed_gaps, market.feed_sessions, market.feed_cursors, market.feed_refusals, market.feed_usage
    to market_operator;
end
$$;

call market.record_file('market/privileges.sql', 9);
