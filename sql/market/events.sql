-- Releases of figures, decisions of central banks, reports of companies: what kinds there are, what vendors call them, and those that people
-- enter. What feeds bring stays in the tables of its documents; market/event_facts.sql puts both together.
call market.require_not_newer('market/events.sql', 4);

create table if not exists market.event_kinds (
  kind            text primary key,
  unit            text     not null,
  -- A zone that there is not would be an error of every answer.
  zone            text     not null check (timezone(zone, timestamp '2000-01-01') is not null),
  due_time        time,
  delay           interval not null default '1 minute' check (delay >= '0'),
  announced       text     check (announced ~ '^(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8]) ([01]\d|2[0-3]):[0-5]\d$'),
  moves_by        integer  not null check (moves_by >= 0),
  n_sigma         integer  not null default 20 check (n_sigma between 2 and 1000),
  min_sigma       integer  not null default 8 check (min_sigma between 2 and 1000),
  floor           double precision check (floor > 0 and floor < 'Infinity'),
  floor_of_price  double precision check (floor_of_price > 0 and floor_of_price < 'Infinity'),
  prior_sigma     double precision check (prior_sigma > 0 and prior_sigma < 'Infinity'),
  description     text     not null
);
comment on table market.event_kinds is 'Kinds of events, and the constants of their surprises.';
comment on column market.event_kinds.kind is 'Kind, as in market.econ_events.kind.';
comment on column market.event_kinds.unit is 'Unit of actual, consensus and surprise.';
comment on column market.event_kinds.zone is 'Time zone of the publisher, with its daylight saving.';
comment on column market.event_kinds.due_time is 'When it is published by the clock of the zone, whatever hour a vendor gives; NULL: as the vendor says.';
comment on column market.event_kinds.delay is 'From when it was due to when it is taken for known, where nobody saw it come.';
comment on column market.event_kinds.announced is 'Month, day and time (MM-DD HH:MM, of the zone) in the year before, when the days of a year are announced; NULL: no rule.';
comment on column market.event_kinds.moves_by is 'Two days of one event that has no name of its own are at most this many days apart.';
comment on column market.event_kinds.n_sigma is 'Surprises before one that its standard deviation is of, at most.';
comment on column market.event_kinds.min_sigma is 'Fewer than this have no standard deviation.';
comment on column market.event_kinds.floor is 'The standard deviation is not below this: one unit of what is displayed.';
comment on column market.event_kinds.floor_of_price is 'The standard deviation is not below this share of the price.';
comment on column market.event_kinds.prior_sigma is 'Standard deviation where there are fewer; NULL: none is assumed.';
comment on column market.event_kinds.description is 'One line for people.';

-- The constants are a part of the definition of surprises: whoever changes them changes past answers.
insert into market.event_kinds (kind, unit, zone, due_time, announced, moves_by, floor, prior_sigma, description) values
  ('FOMC', 'basis points', 'America/New_York', '14:00', '06-15 12:00', 2, 1, null, 'Statement of the Federal Reserve; actual is the change of its target'),
  ('CPI', 'percentage points', 'America/New_York', '08:30', '11-01 10:00', 10, 0.1, 0.13, 'Consumer prices, United States, against the month before'),
  ('CPI_CORE', 'percentage points', 'America/New_York', '08:30', '11-01 10:00', 10, 0.1, null, 'Consumer prices without food and energy, United States, against the month before'),
  ('NFP', 'thousands', 'America/New_York', '08:30', '11-01 10:00', 10, 1, 75, 'Payrolls outside of farms, United States, change in the month'),
  ('UNRATE', 'percentage points', 'America/New_York', '08:30', '11-01 10:00', 10, 0.1, null, 'Rate of unemployment, United States'),
  ('GDP', 'percentage points', 'America/New_York', '08:30', null, 10, 0.1, null, 'Gross domestic product, United States, quarter at annual rate; each estimate is an event'),
  ('PCE', 'percentage points', 'America/New_York', '08:30', null, 10, 0.1, null, 'Price index of personal consumption, United States, against the month before'),
  ('RATE_DECISION', 'basis points', 'UTC', null, null, 2, 1, null, 'Decision of another central bank; actual is the change of its rate')
on conflict (kind) do nothing;
insert into market.event_kinds (kind, unit, zone, moves_by, n_sigma, min_sigma, floor_of_price, description) values
  ('EARNINGS', 'currency per share', 'America/New_York', 30, 8, 4, 0.0002, 'Report of a company; actual is earnings per share')
on conflict (kind) do nothing;

create table if not exists market.event_names (
  source     text not null references market.sources,
  country    text not null,
  name       text not null,
  kind       text not null references market.event_kinds,
  publisher  text,
  reading    text not null check (reading in ('level', 'change', 'percent', 'day')),
  scale      numeric not null default 1,
  primary key (source, country, name, kind)
);
comment on table market.event_names is 'What vendors call the kinds of events: a new name is a row, and counts for what was stored before too.';
comment on column market.event_names.source is 'Vendor: fmp (its economic calendar), fred (its series and releases).';
comment on column market.event_names.country is 'Country in the calendar; - where the vendor has one.';
comment on column market.event_names.name is 'Name in the calendar, in small letters, without the period in brackets; series or number of the release at FRED.';
comment on column market.event_names.kind is 'Kind of event.';
comment on column market.event_names.publisher is 'Who decides, where several do under one kind: ECB, BoE, …';
comment on column market.event_names.reading is 'How its values are read: level, change (less the one before), percent (change in percent), day (none: the day alone).';
comment on column market.event_names.scale is 'Factor that brings its values to the unit of the kind.';

insert into market.event_names (source, country, name, kind, publisher, reading, scale) values
  ('fmp', 'US', 'fed interest rate decision',   'FOMC',          null,  'change', 100),
  ('fmp', 'US', 'inflation rate mom',           'CPI',           null,  'level',  1),
  ('fmp', 'US', 'cpi mom',                      'CPI',           null,  'level',  1),
  ('fmp', 'US', 'core inflation rate mom',      'CPI_CORE',      null,  'level',  1),
  ('fmp', 'US', 'core cpi mom',                 'CPI_CORE',      null,  'level',  1),
  ('fmp', 'US', 'non farm payrolls',            'NFP',           null,  'level',  1),
  ('fmp', 'US', 'nonfarm payrolls',             'NFP',           null,  'level',  1),
  ('fmp', 'US', 'unemployment rate',            'UNRATE',        null,  'level',  1),
  ('fmp', 'US', 'gdp growth rate qoq',          'GDP',           null,  'level',  1),
  ('fmp', 'US', 'gdp growth rate qoq adv',      'GDP',           null,  'level',  1),
  ('fmp', 'US', 'gdp growth rate qoq 2nd est',  'GDP',           null,  'level',  1),
  ('fmp', 'US', 'gdp growth rate qoq final',    'GDP',           null,  'level',  1),
  ('fmp', 'US', 'pce price index mom',          'PCE',           null,  'level',  1),
  ('fmp', 'EU', 'ecb interest rate decision',   'RATE_DECISION', 'ECB', 'change', 100),
  ('fmp', 'UK', 'boe interest rate decision',   'RATE_DECISION', 'BoE', 'change', 100),
  ('fmp', 'GB', 'boe interest rate decision',   'RATE_DECISION', 'BoE', 'change', 100),
  ('fmp', 'JP', 'boj interest rate decision',   'RATE_DECISION', 'BoJ', 'change', 100),
  ('fmp', 'CA', 'boc interest rate decision',   'RATE_DECISION', 'BoC', 'change', 100),
  ('fmp', 'CH', 'snb interest rate decision',   'RATE_DECISION', 'SNB', 'change', 100),
  ('fred', '-', '101',             'FOMC',     null, 'day',     1),
  ('fred', '-', '10',              'CPI',      null, 'day',     1),
  ('fred', '-', '10',              'CPI_CORE', null, 'day',     1),
  ('fred', '-', '50',              'NFP',      null, 'day',     1),
  ('fred', '-', '50',              'UNRATE',   null, 'day',     1),
  ('fred', '-', '53',              'GDP',      null, 'day',     1),
  ('fred', '-', '54',              'PCE',      null, 'day',     1),
  ('fred', '-', 'CPIAUCSL',        'CPI',      null, 'percent', 1),
  ('fred', '-', 'CPILFESL',        'CPI_CORE', null, 'percent', 1),
  ('fred', '-', 'PAYEMS',          'NFP',      null, 'change',  1),
  ('fred', '-', 'UNRATE',          'UNRATE',   null, 'level',   1),
  ('fred', '-', 'A191RL1Q225SBEA', 'GDP',      null, 'level',   1),
  ('fred', '-', 'PCEPI',           'PCE',      null, 'percent', 1)
on conflict do nothing;

-- Too few rows for what does that by itself.
analyze market.event_kinds, market.event_names;

create table if not exists market.event_keys (
  event_key  text primary key,
  kind       text not null references market.event_kinds,
  symbol     text,
  publisher  text,
  entered_by text not null default current_user,
  entered_at timestamptz not null default clock_timestamp()
);
comment on table market.event_keys is 'Events that people enter: the identity that outlives a change of the day.';
comment on column market.event_keys.event_key is 'Identity, any text, for example FOMC:2026-12-09.';
comment on column market.event_keys.kind is 'Kind of event.';
comment on column market.event_keys.symbol is 'Canonical symbol of the company; NULL: an event of the economy.';
comment on column market.event_keys.publisher is 'Who decides, where several do under one kind.';
comment on column market.event_keys.entered_by is 'Role that entered it, as the system says.';
comment on column market.event_keys.entered_at is 'When it was entered, as the system says.';

create table if not exists market.event_schedules (
  event_key     text        not null references market.event_keys,
  scheduled_ts  timestamptz not null,
  known_at      timestamptz not null,
  is_cancelled  boolean     not null default false,
  is_day_only   boolean     not null default false,
  source        text        not null default 'file' references market.sources,
  entered_by    text        not null default current_user,
  entered_at    timestamptz not null default clock_timestamp(),
  entry         bigint generated always as identity primary key
);
comment on table market.event_schedules is 'Append-only: when an event is due, one row each time that changes.';
comment on column market.event_schedules.event_key is 'Event.';
comment on column market.event_schedules.scheduled_ts is 'When it is due; of one that is known by its day alone, 09:30 there.';
comment on column market.event_schedules.known_at is 'From when that was known.';
comment on column market.event_schedules.is_cancelled is 'Called off.';
comment on column market.event_schedules.is_day_only is 'Whether the hour is unknown.';
comment on column market.event_schedules.source is 'Whose it is.';
comment on column market.event_schedules.entry is 'Order of arrival: of two at one time the later counts.';
comment on column market.event_schedules.entered_by is 'Role that entered it, as the system says.';
comment on column market.event_schedules.entered_at is 'When it was entered, as the system says, whatever known_at claims.';

create table if not exists market.event_consensus (
  event_key  text        not null references market.event_keys,
  value      numeric     not null check (value <> 'NaN' and value between -1e12 and 1e12),
  known_at   timestamptz not null,
  source     text        not null default 'file' references market.sources,
  entered_by text        not null default current_user,
  entered_at timestamptz not null default clock_timestamp(),
  entry      bigint generated always as identity primary key
);
comment on table market.event_consensus is 'Append-only: what was expected of an event, one row per snapshot.';
comment on column market.event_consensus.event_key is 'Event.';
comment on column market.event_consensus.value is 'What was expected, in the unit of the kind.';
comment on column market.event_consensus.known_at is 'When the snapshot was taken.';
comment on column market.event_consensus.source is 'Whose it is.';
comment on column market.event_consensus.entry is 'Order of arrival: of two at one time the later counts.';
comment on column market.event_consensus.entered_by is 'Role that entered it, as the system says.';
comment on column market.event_consensus.entered_at is 'When it was entered, as the system says, whatever known_at claims.';

create table if not exists market.event_releases (
  event_key  text        not null references market.event_keys,
  value      numeric     check (value <> 'NaN' and value between -1e12 and 1e12),
  previous   numeric     check (previous <> 'NaN' and previous between -1e12 and 1e12),
  known_at   timestamptz not null,
  source     text        not null default 'file' references market.sources,
  entered_by text        not null default current_user,
  entered_at timestamptz not null default clock_timestamp(),
  entry      bigint generated always as identity primary key
);
comment on table market.event_releases is 'Append-only: what was released. The first value counts for ever; later ones are revisions.';
comment on column market.event_releases.event_key is 'Event.';
comment on column market.event_releases.value is 'What was released, in the unit of the kind; NULL: nothing yet.';
comment on column market.event_releases.previous is 'The figure before, as it was shown with this one.';
comment on column market.event_releases.known_at is 'From when it was public.';
comment on column market.event_releases.source is 'Whose it is.';
comment on column market.event_releases.entry is 'Order of arrival: of two at one time the later counts.';
comment on column market.event_releases.entered_by is 'Role that entered it, as the system says.';
comment on column market.event_releases.entered_at is 'When it was entered, as the system says, whatever known_at claims.';

create index if not exists event_keys_kind_idx on market.event_keys (kind, symbol);
create index if not exists event_schedules_key_idx on market.event_schedules (event_key, known_at);
create index if not exists event_consensus_key_idx on market.event_consensus (event_key, known_at);
create index if not exists event_releases_key_idx on market.event_releases (event_key, known_at);
create index if not exists fmp_economic_calendar_name on market.fmp_economic_calendar
  (source, country, lower(regexp_replace(event, '\s*\([^)]*\)\s*$', '')));
create index if not exists fred_release_date_release on market.fred_release_date (source, release_id);

-- The days of a year are announced in the year before; read back long after, that is when they were known.
create or replace function market.known_when_announced() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from market.documents d where (d.source, d.kind, d.key) = (new.source, new.kind, new.key)) then
    new.known_at := (
      select least(new.known_at, min(coalesce(
        make_date(extract(year from d.day)::integer - 1, left(k.announced, 2)::integer, substr(k.announced, 4, 2)::integer)
          + right(k.announced, 5)::time,
        d.day + k.due_time + k.delay) at time zone k.zone))
      from market.event_names n join market.event_kinds k using (kind), market.json_date(new.payload, 'date') d (day)
      where n.source = new.source and n.name = new.payload ->> 'release_id' and n.reading = 'day'
        -- One to come was seen when it was seen.
        and d.day < (new.received_at at time zone k.zone)::date);
  end if;
  return new;
end
$$;
comment on function market.known_when_announced() is
  'Dates the first version of a day of release that was seen after it: by when the days of its year are announced, else by the release.';
create or replace trigger known_when_announced before insert on market.fred_release_date
  for each row execute function market.known_when_announced();

call market.record_file('market/events.sql', 4);
