-- Trades and quotes, one row per event, whatever the feed repeats.
call market.require_not_newer('market/ticks.sql', 1);

create table if not exists market.trades (
  symbol        text        not null,
  feed          text        not null,
  event_time    timestamptz not null,
  trade_id      text        not null,
  sequence      bigint      not null,
  price         numeric     not null,
  size          numeric     not null,
  side          text,
  aggressor     text        check (aggressor in ('buy', 'sell')),
  venue         text,
  conditions    text[],
  received_at   timestamptz not null,
  known_at      timestamptz not null,
  ingested_at   timestamptz not null default now(),
  cancelled_at  timestamptz,
  corrects      text,
  primary key (symbol, feed, event_time, trade_id)
);
comment on table market.trades is 'Executed trades: exactly one row per trade of a feed.';
comment on column market.trades.symbol is 'Canonical symbol.';
comment on column market.trades.feed is 'Feed that reported the trade.';
comment on column market.trades.event_time is 'When the venue executed the trade.';
comment on column market.trades.trade_id is 'Identity within feed and symbol; where the feed gives none, made from the content of the trade.';
comment on column market.trades.sequence is 'Order of the feed among trades of the same event_time.';
comment on column market.trades.price is 'Price exactly as sent, in the quote currency.';
comment on column market.trades.size is 'Size exactly as sent, in the base asset or in shares.';
comment on column market.trades.side is 'Side exactly as the feed names it; whether it is the maker or the taker differs by feed.';
comment on column market.trades.aggressor is 'Side that took liquidity, derived from side by the convention of the feed; NULL: unknown.';
comment on column market.trades.venue is 'Exchange code within the feed, where it reports several.';
comment on column market.trades.conditions is 'Sale conditions as sent.';
comment on column market.trades.received_at is 'Our clock when the frame or response arrived.';
comment on column market.trades.known_at is 'First instant at which a participant could have known the trade.';
comment on column market.trades.ingested_at is 'Start of the transaction that stored the row.';
comment on column market.trades.cancelled_at is 'When the venue took the trade back; bars leave it out.';
comment on column market.trades.corrects is 'trade_id of the cancelled trade that this one replaces.';

create table if not exists market.trade_cancels (
  symbol        text        not null,
  feed          text        not null,
  trade_id      text        not null,
  cancelled_at  timestamptz not null,
  reason        text        not null check (reason in ('cancel', 'correction')),
  received_at   timestamptz not null,
  known_at      timestamptz not null,
  primary key (symbol, feed, trade_id)
);
comment on table market.trade_cancels is
  'Trades taken back by the venue. Kept apart from trades because the notice may arrive before the trade.';
comment on column market.trade_cancels.symbol is 'Canonical symbol.';
comment on column market.trade_cancels.feed is 'Feed that sent the notice.';
comment on column market.trade_cancels.trade_id is 'The trade taken back, as in trades.trade_id.';
comment on column market.trade_cancels.cancelled_at is 'When the venue took it back.';
comment on column market.trade_cancels.reason is 'cancel, or correction (another trade replaces it).';
comment on column market.trade_cancels.received_at is 'Our clock when the notice arrived.';
comment on column market.trade_cancels.known_at is 'First instant at which a participant could have known it.';

create table if not exists market.quotes (
  symbol       text        not null,
  feed         text        not null,
  event_time   timestamptz not null,
  sequence     bigint      not null,
  bid          numeric,
  bid_size     numeric,
  ask          numeric,
  ask_size     numeric,
  bid_venue    text,
  ask_venue    text,
  conditions   text[],
  received_at  timestamptz not null,
  known_at     timestamptz not null,
  ingested_at  timestamptz not null default now(),
  primary key (symbol, feed, event_time, sequence)
);
comment on table market.quotes is 'Best bid and ask as published, one row per change.';
comment on column market.quotes.symbol is 'Canonical symbol.';
comment on column market.quotes.feed is 'Feed that published the quote.';
comment on column market.quotes.event_time is 'Time of the quote at the venue.';
comment on column market.quotes.sequence is 'Tells quotes of one instant apart; from the content where the feed numbers none.';
comment on column market.quotes.bid is 'Best bid price; NULL: no bid.';
comment on column market.quotes.bid_size is 'Size at the best bid.';
comment on column market.quotes.ask is 'Best ask price; NULL: no ask.';
comment on column market.quotes.ask_size is 'Size at the best ask.';
comment on column market.quotes.bid_venue is 'Exchange code of the bid.';
comment on column market.quotes.ask_venue is 'Exchange code of the ask.';
comment on column market.quotes.conditions is 'Quote conditions as sent.';
comment on column market.quotes.received_at is 'Our clock when the frame or response arrived.';
comment on column market.quotes.known_at is 'First instant at which a participant could have known the quote.';
comment on column market.quotes.ingested_at is 'Start of the transaction that stored the row.';

-- Rows arrive almost in order of time, so a block-range index serves "everything since" at no cost to the writer.
create index if not exists trades_event_time_brin on market.trades using brin (event_time);
create index if not exists quotes_event_time_brin on market.quotes using brin (event_time);

call market.record_file('market/ticks.sql', 1);
