-- Policy: the numbers a desk turns, with their defaults, by market regime and by date.
call market.require_not_newer('trading/knobs.sql', 4);

create table if not exists trading.knobs (
  knob           text primary key,
  default_value  double precision not null,
  least          double precision not null,
  most           double precision not null,
  unit           text not null,
  description    text not null,
  check (default_value between least and most)
);
comment on table trading.knobs is 'Every knob there is, with the value that holds until somebody sets another.';
comment on column trading.knobs.knob is 'Name of the knob.';
comment on column trading.knobs.default_value is 'Value without any row in policy_knobs.';
comment on column trading.knobs.least is 'Least value accepted.';
comment on column trading.knobs.most is 'Greatest value accepted.';
comment on column trading.knobs.unit is 'weight (fraction of equity), usd, share, or none.';
comment on column trading.knobs.description is 'One line for people.';

insert into trading.knobs (knob, default_value, least, most, unit, description) values
  ('max_long_weight',   0.05,  0,    1,    'weight', 'greatest long weight of a name'),
  ('max_short_weight',  0.03,  0,    1,    'weight', 'greatest short weight of a name, as a positive number'),
  ('sector_net',        0.15,  0,    5,    'weight', 'greatest absolute net weight of a sector'),
  ('sector_gross',      0.30,  0,    5,    'weight', 'greatest gross weight of a sector'),
  ('gross',             1.50,  0,    10,   'weight', 'greatest sum of absolute weights'),
  ('net_min',          -0.10, -10,   10,   'weight', 'least sum of weights'),
  ('net_max',           0.30, -10,   10,   'weight', 'greatest sum of weights'),
  ('cash_reserve',      0.05, -10,   1,    'weight', 'buying power left unused'),
  ('short_margin',      0.50,  0,    5,    'share',  'buying power that one unit short takes'),
  ('max_turnover',      0.15,  0,    10,   'weight', 'greatest one-way turnover of a rebalance'),
  ('risk_aversion',     5,     0,    1e6,  'none',   'price of risk'),
  ('participation',     0.02,  0,    1,    'share',  'greatest share of a day''s dollar volume traded'),
  ('min_notional',      500,   0,    1e9,  'usd',    'trades smaller than this are not made'),
  ('skill_dates',       250,   2,    1e5,  'none',   'newest cutoffs that the skill of a model is measured on'),
  ('skill_least',       20,    2,    1e6,  'none',   'dates with outcomes below which a model counts as without skill'),
  ('volatility_floor',  0.25,  0,    10,   'share',  'least volatility of a name over a year')
on conflict (knob) do update
  set default_value = excluded.default_value, least = excluded.least, most = excluded.most,
      unit = excluded.unit, description = excluded.description;

create table if not exists trading.policy_knobs (
  knob        text not null references trading.knobs,
  regime      text not null default 'any' check (regime in ('any', 'risk_on', 'neutral', 'risk_off')),
  valid_from  timestamptz not null default now(),
  value       double precision not null,
  set_by      text not null default current_user,
  note        text,
  set_at      timestamptz default clock_timestamp(),
  primary key (knob, regime, valid_from)
);
alter table trading.policy_knobs add column if not exists set_at timestamptz;
alter table trading.policy_knobs alter column set_at set default clock_timestamp();
comment on table trading.policy_knobs is 'Append-only: who set which knob to what, from when, in which regime.';
comment on column trading.policy_knobs.knob is 'Name of the knob.';
comment on column trading.policy_knobs.regime is 'Market regime the value is for; any: where the regime has none of its own.';
comment on column trading.policy_knobs.valid_from is 'The value holds from here until the next row of the same knob and regime.';
comment on column trading.policy_knobs.value is 'The value, in the unit of the knob.';
comment on column trading.policy_knobs.set_by is 'Role that set it, as the system says.';
comment on column trading.policy_knobs.set_at is 'When it was set, as the system says, whatever valid_from claims; NULL: before this was noted.';
comment on column trading.policy_knobs.note is 'Why.';

create or replace function trading.check_knob() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  known trading.knobs;
begin
  select * into known from trading.knobs k where k.knob = new.knob;
  if found and not new.value between known.least and known.most then
    raise exception 'knob "%" must be between % and %, got %', new.knob, known.least, known.most, new.value
      using errcode = 'invalid_parameter_value', hint = format('It is the %s.', known.description);
  end if;
  return new;
end
$$;
comment on function trading.check_knob() is 'Trigger that refuses values outside the range of the knob.';

create or replace trigger check_knob before insert on trading.policy_knobs
  for each row execute function trading.check_knob();
create or replace trigger append_only before update or delete or truncate on trading.policy_knobs
  for each statement execute function trading.refuse_change();

create or replace function trading.knob(knob text, regime text default 'any', as_of timestamptz default now())
returns double precision
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  result double precision;
begin
  select p.value into result
  from trading.policy_knobs p
  where p.knob = knob.knob and p.regime in (knob.regime, 'any') and p.valid_from <= as_of
  order by p.regime = 'any', p.valid_from desc
  limit 1;
  if result is null then
    select k.default_value into result from trading.knobs k where k.knob = knob.knob;
  end if;
  if result is null then
    raise exception 'knob "%" does not exist', knob using errcode = 'undefined_object', hint = 'See trading.knobs.';
  end if;
  return result;
end
$$;
comment on function trading.knob(text, text, timestamptz) is
  'Value of a knob at an instant: that of the regime, else that for any regime, else the default.';

call market.record_file('trading/knobs.sql', 4);
