-- On what terms names can be traded, and what the strategist thinks of them: the inputs of a book beside the forecasts.
call market.require_not_newer('trading/terms.sql', 4);

create table if not exists trading.terms (
  symbol           text not null,
  known_at         timestamptz not null default now(),
  sector           text,
  shortable        boolean,
  veto             boolean not null default false,
  cost_bps         double precision not null default 5 check (cost_bps >= 0 and cost_bps < 'infinity'),
  borrow_bps_year  double precision not null default 0 check (borrow_bps_year >= 0 and borrow_bps_year < 'infinity'),
  adv_usd          double precision check (adv_usd >= 0 and adv_usd < 'infinity'),
  primary key (symbol, known_at)
);
comment on table trading.terms is 'Append-only: on what terms a name can be traded. The newest row known counts.';
comment on column trading.terms.symbol is 'Name, as in the forecasts.';
comment on column trading.terms.known_at is 'From when the terms are known.';
comment on column trading.terms.sector is 'Sector, for limits and for breakers; NULL: none.';
comment on column trading.terms.shortable is
  'Whether shares can be borrowed easily, as the desk says; NULL: as the broker says. Without it a short position can only shrink.';
comment on column trading.terms.veto is 'No new position on either side.';
comment on column trading.terms.cost_bps is 'Cost of a unit traded, in basis points: half the spread, fees, impact.';
comment on column trading.terms.borrow_bps_year is 'Fee of a unit short for a year, in basis points.';
comment on column trading.terms.adv_usd is 'Average dollar volume of a day; NULL: unknown, then participation is not limited.';

create table if not exists trading.scores (
  symbol    text not null,
  known_at  timestamptz not null default now(),
  score     double precision not null check (score between -10 and 10),
  primary key (symbol, known_at)
);
comment on table trading.scores is 'Append-only: scores of names beside the forecasts. The newest row known counts.';
comment on column trading.scores.symbol is 'Name, as in the forecasts.';
comment on column trading.scores.known_at is 'From when the score is known.';
comment on column trading.scores.score is 'In standard deviations across names; positive: better than the others.';

-- Tables of an older version, those of trading/positions.sql too, took NaN and infinity, which no comparison with zero keeps out.
do $$
declare
  item record;
begin
  for item in
    select v.name, v.col, v.least, format('%s_%s_check', v.name, v.col) as rule
    from (values ('accounts', 'equity_usd', '> 0'), ('positions', 'price_usd', '> 0'), ('positions', 'quantity', '> ''-infinity'''),
                 ('terms', 'cost_bps', '>= 0'), ('terms', 'borrow_bps_year', '>= 0'), ('terms', 'adv_usd', '>= 0')) v (name, col, least)
  loop
    if not exists (select from pg_constraint c
                   where c.conrelid = format('trading.%I', item.name)::regclass and c.conname = item.rule
                     and pg_get_constraintdef(c.oid) ~ 'Infinity') then
      execute format('alter table trading.%1$I drop constraint if exists %4$I, '
                     'add constraint %4$I check (%2$I %3$s and %2$I < ''infinity'')', item.name, item.col, item.least, item.rule);
    end if;
  end loop;
end
$$;

-- An older version had false where nothing was said.
alter table trading.terms alter column shortable drop not null, alter column shortable drop default;

create or replace trigger append_only before update or delete or truncate on trading.terms
  for each statement execute function trading.refuse_change();
create or replace trigger append_only before update or delete or truncate on trading.scores
  for each statement execute function trading.refuse_change();

create or replace function trading.borrowability(as_of timestamptz default now())
returns table (symbol text, shortable boolean, veto boolean, reason text, known_at timestamptz)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  with newest as (
    select distinct on (a.source, a.key) a.symbol, a.known_at, a.key,
           case when a.status is distinct from 'active' then 'inactive' when a.tradable is not true then 'not tradable'
                when a.shortable is not true then 'not shortable' when a.easy_to_borrow is not true then 'hard to borrow' end as reason
    from market.alpaca_assets a
    where a.known_at <= borrowability.as_of and a.symbol is not null
    order by a.source, a.key, a.known_at desc, a.digest desc
  )
  -- A ticker may have been another company's, which is inactive now.
  select distinct on (n.symbol) n.symbol, n.reason is null, coalesce(n.reason in ('inactive', 'not tradable'), false), n.reason, n.known_at
  from newest n
  order by n.symbol, coalesce(n.reason = 'inactive', false), n.known_at desc, n.key
$$;
comment on function trading.borrowability(timestamptz) is
  'Which shares the broker (market.alpaca_assets) lent to be sold short, as was known at an instant: reason says why not (inactive, not tradable, not shortable, hard to borrow); veto: no orders are taken.';

create or replace view trading.borrowable with (security_invoker = true) as
select b.symbol, b.shortable, b.veto, b.reason, b.known_at from trading.borrowability(now()) b;
comment on view trading.borrowable is 'trading.borrowability of now.';
comment on column trading.borrowable.symbol is 'Canonical symbol.';
comment on column trading.borrowable.shortable is 'Whether the broker lends it.';
comment on column trading.borrowable.veto is 'Whether the broker takes no orders at all.';
comment on column trading.borrowable.reason is 'Why it is not lent; NULL: it is.';
comment on column trading.borrowable.known_at is 'From when that was known.';

-- The desk may be stricter than the broker, not more generous.
create or replace function trading.terms_at(as_of timestamptz default now()) returns setof trading.terms
language sql stable set search_path = pg_catalog, pg_temp
as $$
  with said as (
    select distinct on (t.symbol) t.* from trading.terms t where t.known_at <= terms_at.as_of order by t.symbol, t.known_at desc
  )
  select coalesce(s.symbol, b.symbol), greatest(s.known_at, b.known_at), s.sector,
         coalesce(s.shortable, b.shortable, false) and coalesce(b.shortable, true), coalesce(s.veto, false) or coalesce(b.veto, false),
         coalesce(s.cost_bps, 5), coalesce(s.borrow_bps_year, 0), s.adv_usd
  from said s full join trading.borrowability(terms_at.as_of) b on b.symbol = s.symbol
$$;
comment on function trading.terms_at(timestamptz) is
  'The terms of every name as they were known at an instant: those of trading.terms, and what the broker lends (trading.borrowability), of both the stricter. What neither says is not shortable, and costs 5 basis points.';

create or replace function trading.scores_at(as_of timestamptz default now()) returns setof trading.scores
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select distinct on (s.symbol) s.* from trading.scores s where s.known_at <= scores_at.as_of order by s.symbol, s.known_at desc
$$;
comment on function trading.scores_at(timestamptz) is 'The score of every name as it was known at an instant.';

call market.record_file('trading/terms.sql', 4);
