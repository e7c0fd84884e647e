-- Bars of any width as published by a source. Bars built from our own trades: market/trade_bars.sql.
call market.require_not_newer('market/bars.sql', 1);

create table if not exists market.bars (
  symbol       text             not null,
  bar_width    interval         not null check (bar_width > interval '0'),
  time         timestamptz      not null,
  source       text             not null,
  open         double precision not null,
  high         double precision not null,
  low          double precision not null,
  close        double precision not null,
  volume       double precision,
  amount       double precision,
  trade_count  bigint,
  close_adj    double precision,
  sequence     bigint           not null default 0,
  received_at  timestamptz      not null default now(),
  known_at     timestamptz      not null,
  ingested_at  timestamptz      not null default now(),
  primary key (symbol, bar_width, time, source),
  check (known_at >= time)
);
comment on table market.bars is 'Bars as published by a source: one row per symbol, width, start and source.';
comment on column market.bars.symbol is 'Canonical symbol.';
comment on column market.bars.bar_width is 'Width of the bar: 00:01:00, 01:00:00, 1 day, 7 days.';
comment on column market.bars.time is 'START of the bar (its event time); a daily bar starts at 00:00 UTC of its session date.';
comment on column market.bars.source is 'Who published the bar.';
comment on column market.bars.open is 'First price.';
comment on column market.bars.high is 'Highest price.';
comment on column market.bars.low is 'Lowest price.';
comment on column market.bars.close is 'Last price.';
comment on column market.bars.volume is 'Units traded; NULL: unknown (indices, FX).';
comment on column market.bars.amount is 'Money traded, in the quote currency; NULL: unknown.';
comment on column market.bars.trade_count is 'Number of trades; NULL: unknown.';
comment on column market.bars.close_adj is 'Close adjusted for splits and dividends as of received_at; NULL: the source does not say.';
comment on column market.bars.sequence is 'Revision of the source; a higher one replaces a lower one, never the reverse.';
comment on column market.bars.received_at is 'Our clock when the bar arrived.';
comment on column market.bars.known_at is 'First instant at which a participant could have known the whole bar; at the earliest its end.';
comment on column market.bars.ingested_at is 'Start of the transaction that stored the row.';

create index if not exists bars_time_brin on market.bars using brin (time);

call market.record_file('market/bars.sql', 1);
