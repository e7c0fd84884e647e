-- What vendors say in a form of their own, as they said it, with every version.
call market.require_not_newer('market/documents.sql', 1);

create table if not exists market.documents (
  source       text        not null,
  kind         text        not null,
  key          text        not null,
  symbol       text,
  event_time   timestamptz,
  known_at     timestamptz not null,
  received_at  timestamptz not null,
  ingested_at  timestamptz not null default now(),
  payload      jsonb       not null,
  digest       bytea       not null check (octet_length(digest) = 32),
  primary key (source, kind, key, known_at, digest)
);
comment on table market.documents is
  'Statements, estimates, news and other facts without a table of their own: one row per version, nothing is overwritten.';
comment on column market.documents.source is 'Feed that brought it.';
comment on column market.documents.kind is 'What it is, in the words of the feed, for example income-statement.';
comment on column market.documents.key is 'Which one: identity within source and kind.';
comment on column market.documents.symbol is 'Canonical symbol it is about; NULL: none, or several.';
comment on column market.documents.event_time is 'When what it tells of happened; NULL: it does not say.';
comment on column market.documents.known_at is
  'First instant at which a participant could have known this version: its publication, or when it arrived where the publication is that of an older one.';
comment on column market.documents.received_at is 'Our clock when it arrived.';
comment on column market.documents.ingested_at is 'Start of the transaction that stored the row.';
comment on column market.documents.payload is 'What was said; control characters are replaced.';
comment on column market.documents.digest is 'SHA-256 of the payload in one form for all spellings of the same content.';

create index if not exists documents_symbol_idx on market.documents (symbol, kind, known_at) where symbol is not null;

create or replace function market.documents_at(as_of timestamptz default now()) returns setof market.documents
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select distinct on (d.source, d.kind, d.key) d.*
  from market.documents d
  where d.known_at <= documents_at.as_of
  order by d.source, d.kind, d.key, d.known_at desc, d.received_at desc
$$;
comment on function market.documents_at(timestamptz) is 'Every document in the version that was known at an instant.';

call market.record_file('market/documents.sql', 1);
