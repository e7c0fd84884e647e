-- What validators find: one row per offending row.
call market.require_not_newer('market/findings.sql', 1);

create table if not exists market.validation_findings (
  check_name     text        not null,
  relation       text        not null,
  symbol         text        not null,
  source         text        not null,
  time           timestamptz not null,
  detail         text        not null,
  first_seen_at  timestamptz not null default now(),
  last_seen_at   timestamptz not null default now(),
  primary key (check_name, relation, symbol, source, time)
);
comment on table market.validation_findings is 'What market.run_validation found: one row per offending row, kept until it is gone.';
comment on column market.validation_findings.check_name is 'Validator: monotone_time, missing_session, half_filled_day, price_jump, stale_feed, non_finite_value, non_positive_price, inverted_bar, crossed_quote, open_gap; of facts half_filled_statement, missing_statement, changed_unit, changed_currency, restatement, stale_fundamentals, release_differs.';
comment on column market.validation_findings.relation is 'Relation of the offending row.';
comment on column market.validation_findings.symbol is 'Its symbol.';
comment on column market.validation_findings.source is 'Its source or feed.';
comment on column market.validation_findings.time is 'Its event time.';
comment on column market.validation_findings.detail is 'The numbers.';
comment on column market.validation_findings.first_seen_at is 'Run that found it first.';
comment on column market.validation_findings.last_seen_at is 'Run that found it last.';

do $$
begin
  if to_regtype('market.finding') is null then
    create type market.finding as (
      check_name text, relation text, symbol text, source text, "time" timestamptz, detail text);
  end if;
end
$$;
comment on type market.finding is 'One offending row found by a validator.';

call market.record_file('market/findings.sql', 1);
