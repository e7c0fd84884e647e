-- Daily roll-ups of documents, as they stand.
call market.require_not_newer('market/metrics.sql', 1);

create or replace view market.ingest_metrics as
select m.symbol, m.d, m.key, m.value, m.n, m.source, m.known_at from market.metrics(now()) m;
comment on view market.ingest_metrics is 'market.metrics of now: one row per symbol, day, key and source.';
comment on column market.ingest_metrics.symbol is 'Canonical symbol.';
comment on column market.ingest_metrics.d is 'Day that the documents say, by which they were filed or published: not the day of the trades that they tell of.';
comment on column market.ingest_metrics.key is 'What it is, as in market.metric_rules.';
comment on column market.ingest_metrics.value is 'The value, in the unit that its key names.';
comment on column market.ingest_metrics.n is 'Documents that it is made of.';
comment on column market.ingest_metrics.source is 'Feed that brought them.';
comment on column market.ingest_metrics.known_at is 'When the newest of them became known: no row may be used before.';

call market.record_file('market/metrics.sql', 1);
