-- What is installed, and whether it can work.

create function kronos.version() returns text
language c immutable parallel safe
as 'MODULE_PATHNAME', 'version_wrapper';
comment on function kronos.version is
  'Version of the loaded library; pg_extension.extversion is that of the SQL objects, which ALTER EXTENSION UPDATE changes. '
  'Forecasts are research estimates, no advice or offer to buy or sell; past results promise nothing (docs/limitations.md).';

create function kronos.diagnostics()
returns table ("check" text, ok boolean, detail text, hint text)
language c volatile parallel restricted
as 'MODULE_PATHNAME', 'diagnostics_wrapper';
comment on function kronos.diagnostics is
  'Checks the installation: one row per check; hint says what to do where ok is false.';
