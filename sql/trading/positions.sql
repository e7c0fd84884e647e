-- What is held.
call market.require_not_newer('trading/positions.sql', 3);

create table if not exists trading.accounts (
  account     text primary key,
  equity_usd  numeric not null check (equity_usd > 0 and equity_usd < 'infinity'),
  updated_at  timestamptz not null default now()
);
comment on table trading.accounts is 'Brokerage accounts.';
comment on column trading.accounts.account is 'Account identifier.';
comment on column trading.accounts.equity_usd is 'Equity, the whole that weights are fractions of.';
comment on column trading.accounts.updated_at is 'When the broker was last asked.';

create table if not exists trading.positions (
  account     text not null references trading.accounts,
  symbol      text not null,
  quantity    numeric not null check (quantity > '-infinity' and quantity < 'infinity'),
  price_usd   numeric not null check (price_usd > 0 and price_usd < 'infinity'),
  updated_at  timestamptz not null default now(),
  primary key (account, symbol)
);
comment on table trading.positions is 'Positions as the broker last reported them; a flat position has no row or quantity 0.';
comment on column trading.positions.account is 'Account.';
comment on column trading.positions.symbol is 'Symbol, as in the forecasts.';
comment on column trading.positions.quantity is 'Shares, negative for a short.';
comment on column trading.positions.price_usd is 'Price that values the position.';
comment on column trading.positions.updated_at is 'When the broker was last asked.';

create or replace view trading.position_weights with (security_invoker = true) as
select p.account, p.symbol, (p.quantity * p.price_usd / a.equity_usd)::double precision as weight,
       p.quantity, p.price_usd, a.equity_usd, least(p.updated_at, a.updated_at) as updated_at
from trading.positions p join trading.accounts a using (account);
comment on view trading.position_weights is 'Positions as fractions of equity: prev_weight for kronos.propose_weights.';
comment on column trading.position_weights.account is 'Name of the account.';
comment on column trading.position_weights.weight is 'Value of the position as a fraction of the accounts equity; negative for a short.';

call market.record_file('trading/positions.sql', 3);
