-- A market that never was, for demos, documentation and tests.

create function kronos.simulate_bars(
  symbols text[] default '{SIM}', n int default 1000, bucket_width interval default '1 hour',
  start timestamptz default '2024-01-01 00:00:00+00', seed bigint default 0, calendar text default '24x7',
  options jsonb default '{}')
returns table (
  symbol text, "time" timestamptz, open float8, high float8, low float8, close float8, volume float8, amount float8)
language c stable parallel restricted cost 100 rows 1000
as 'MODULE_PATHNAME', 'simulate_bars_wrapper';
comment on function kronos.simulate_bars is
  'Simulates n bars per symbol from start on: clustered volatility, fat tails, jumps, sessions, correlated symbols. Same seed, same rows; '
  'a symbol does not depend on the others. Options: volatility and drift (per year), correlation, degrees_of_freedom, jumps_per_year, price, volume.';

insert into _kronos.access (level, kind, object) values ('use', 'routine', 'simulate_bars');
