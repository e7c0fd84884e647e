-- What is traded, under which names, and where the data comes from.
call market.require_not_newer('market/instruments.sql', 5);

create table if not exists market.sources (
  source       text primary key,
  kind         text    not null check (kind in ('venue', 'vendor', 'file', 'synthetic')),
  rank         integer not null default 100,
  stale_after  interval,
  description  text
);
comment on table market.sources is 'Where rows come from: live venues, data vendors, files, the simulator.';
comment on column market.sources.source is 'Name of the feed or file source, as in trades.feed and bars.source.';
comment on column market.sources.kind is 'venue (its own trades), vendor (redistributes), file, or synthetic.';
comment on column market.sources.rank is 'Where two sources have the same bar, the views show the lower rank.';
comment on column market.sources.stale_after is 'Silence after which the feed counts as stale; NULL: never.';
comment on column market.sources.description is 'One line for people.';

insert into market.sources (source, kind, rank, stale_after, description) values
  ('coinbase',          'venue',     10, '2 minutes', 'Coinbase Advanced Trade market data'),
  ('coinbase_exchange', 'venue',     11, '2 minutes', 'Coinbase Exchange market data'),
  ('kraken',            'venue',     20, '2 minutes', 'Kraken websocket v2'),
  ('kraken_v1',         'venue',     21, null,        'Kraken websocket v1, from recordings'),
  ('alpaca',            'vendor',    30, '5 minutes', 'Alpaca stock market data'),
  ('alpaca_crypto',     'vendor',    31, '5 minutes', 'Alpaca crypto market data'),
  ('yahoo',             'vendor',    40, null,        'Yahoo chart back-fill'),
  ('fmp',               'vendor',    45, '8 days',    'Financial Modeling Prep'),
  ('fred',              'vendor',    46, '8 days',    'Federal Reserve Bank of St. Louis: FRED, ALFRED'),
  ('alpaca_news',       'vendor',    32, '1 day',     'Alpaca news'),
  ('stocktwits',        'vendor',    60, '1 day',     'Stocktwits'),
  ('truthsocial',       'vendor',    61, '1 day',     'Truth Social'),
  ('file',              'file',      50, null,        'Rows loaded from a file'),
  ('simulate',          'synthetic', 90, null,        'Rows made by kronos-ingest simulate')
on conflict (source) do nothing;

create table if not exists market.instruments (
  symbol       text primary key,
  name         text,
  asset_class  text        not null default 'unknown' check (asset_class in
    ('equity', 'etf', 'index', 'crypto', 'fx', 'commodity', 'rate', 'bond', 'future', 'unknown')),
  calendar     text,
  sector       text,
  industry     text,
  currency     text,
  bar_source   text        references market.sources,
  listed_on    date,
  delisted_on  date,
  received_at  timestamptz not null default now(),
  known_at     timestamptz not null default now()
);
-- Up to version 1 the column said 24x7 of every instrument that nobody had described.
do $$
begin
  if exists (select from pg_catalog.pg_attribute a
             where a.attrelid = 'market.instruments'::regclass and a.attname = 'calendar' and a.attnotnull) then
    alter table market.instruments alter column calendar drop default, alter column calendar drop not null;
    update market.instruments set calendar = null where calendar = '24x7' and asset_class <> 'crypto';
  end if;
end
$$;
comment on table market.instruments is 'One row per instrument under its canonical symbol.';
comment on column market.instruments.symbol is 'Canonical symbol, for example BTCUSD or SPY; the series of every view.';
comment on column market.instruments.name is 'Full name.';
comment on column market.instruments.asset_class is 'equity, etf, index, crypto, fx, commodity, rate, bond, future or unknown.';
comment on column market.instruments.calendar is 'Trading calendar, one of kronos.calendars: that of its forecasts unless a call names another. NULL: unknown, its bars tell.';
comment on column market.instruments.sector is 'GICS sector where it applies.';
comment on column market.instruments.industry is 'GICS industry where it applies.';
comment on column market.instruments.currency is 'Currency of its prices, ISO 4217.';
comment on column market.instruments.bar_source is 'Show bars of this source only; NULL: the best-ranked source that has the bar.';
comment on column market.instruments.listed_on is 'First trading day; NULL: unknown.';
comment on column market.instruments.delisted_on is 'Last trading day; NULL: still listed or unknown.';
comment on column market.instruments.received_at is 'When the row reached this database.';
comment on column market.instruments.known_at is 'From when these attributes may be used.';

create table if not exists market.instrument_symbols (
  feed           text not null references market.sources,
  native_symbol  text not null,
  symbol         text not null references market.instruments on update cascade,
  primary key (feed, native_symbol)
);
-- Tickers are handed on: what a name means begins on a day, and ends with the next meaning.
alter table market.instrument_symbols add column if not exists since date not null default '-infinity';
do $$
begin
  if (select cardinality(conkey) from pg_catalog.pg_constraint
      where conrelid = 'market.instrument_symbols'::regclass and contype = 'p') = 2 then
    alter table market.instrument_symbols drop constraint instrument_symbols_pkey, add primary key (feed, native_symbol, since);
  end if;
end
$$;
comment on table market.instrument_symbols is
  'The spelling of each feed: BTC-USD at Coinbase, BTC/USD at Kraken, BTCUSD here; with several rows where a ticker was handed on.';
comment on column market.instrument_symbols.feed is 'Feed that uses the spelling.';
comment on column market.instrument_symbols.native_symbol is 'Spelling of the feed.';
comment on column market.instrument_symbols.symbol is 'Canonical symbol.';
comment on column market.instrument_symbols.since is 'First day (UTC) on which the spelling means the symbol, until the next row of the spelling; -infinity: always.';
create index if not exists instrument_symbols_symbol_idx on market.instrument_symbols (symbol);

create or replace function market.symbol_of(feed text, native_symbol text, at timestamptz default now()) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select m.symbol from market.instrument_symbols m
  where m.feed = symbol_of.feed and m.native_symbol = symbol_of.native_symbol
    and m.since <= (symbol_of.at at time zone 'UTC')::date
  order by m.since desc limit 1
$$;
comment on function market.symbol_of(text, text, timestamptz) is
  'The canonical symbol of what a feed called so at an instant; NULL: market.instrument_symbols does not say.';

create table if not exists market.sessions (
  calendar    text        not null,
  session_on  date        not null,
  opens_at    timestamptz not null,
  closes_at   timestamptz not null,
  primary key (calendar, session_on),
  check (closes_at > opens_at)
);
comment on table market.sessions is
  'Sessions of a calendar where they are known exactly; without rows the validators learn them from peer instruments.';
comment on column market.sessions.calendar is 'As in instruments.calendar.';
comment on column market.sessions.session_on is 'Local date of the session.';
comment on column market.sessions.opens_at is 'Start of the session.';
comment on column market.sessions.closes_at is 'End of the session; early closes included.';

call market.record_file('market/instruments.sql', 5);
