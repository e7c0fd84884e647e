-- Sets up (or brings up to date) every table, view and job that holds people's data.
--
--   psql -d DATABASE -f sql/install.sql
--
-- Safe to run again at any time: each file is idempotent and records its version in market.installed_files.
-- Run it again after `create extension timescaledb`: plain tables become hypertables in place, with their rows.
-- This is the list of the files and of their order, for `kronos-ingest migrate` and `call kronos.install()` too (build.rs reads it).
-- A folder is a subject; a file may use what those before it made, and the extension only when a function is called.
-- psql's own settings are put back at the end.
\set before_on_error_stop :ON_ERROR_STOP
\set before_quiet :QUIET
\set ON_ERROR_STOP on
\set QUIET on
begin;
set local client_min_messages = warning;
\ir installation/begin.sql
\ir installation/roles.sql
\ir market/instruments.sql
\ir market/ticks.sql
\ir market/bars.sql
\ir market/feeds.sql
\ir market/documents.sql
\ir market/document_tables.sql
\ir market/metric_rules.sql
\ir market/fmp.sql
\ir market/quiver.sql
\ir market/capitol_trades.sql
\ir market/metrics.sql
\ir market/alpaca_assets.sql
\ir market/social.sql
\ir market/attention.sql
\ir market/fred.sql
\ir market/events.sql
\ir market/known.sql
\ir market/timescale.sql
\ir market/stored_bars.sql
\ir market/trade_bars.sql
\ir market/retention.sql
\ir market/daily.sql
\ir market/trailing.sql
\ir market/factors.sql
\ir market/event_facts.sql
\ir market/surprises.sql
\ir market/revisions.sql
\ir market/leaders.sql
\ir market/calendars.sql
\ir market/findings.sql
\ir market/validate_facts.sql
\ir market/validate.sql
\ir market/privileges.sql
\ir market/jobs.sql
\ir ledger/forecasts.sql
\ir ledger/roles.sql
\ir ledger/inputs.sql
\ir ledger/timescale.sql
\ir ledger/policies.sql
\ir ledger/runs.sql
\ir ledger/schedules.sql
\ir ledger/policy_runs.sql
\ir ledger/views.sql
\ir ledger/privileges.sql
\ir ledger/calibrations.sql
\ir ledger/calibration_views.sql
\ir ledger/calibration_privileges.sql
\ir training/jobs.sql
\ir trading/schema.sql
\ir trading/knobs.sql
\ir trading/positions.sql
\ir trading/breakers.sql
\ir trading/allocations.sql
\ir trading/terms.sql
\ir trading/skill.sql
\ir trading/signals.sql
\ir trading/rebalance.sql
\ir trading/privileges.sql
\ir installation/comments.sql
commit;
\set ON_ERROR_STOP :before_on_error_stop
\set QUIET :before_quiet
\unset before_on_error_stop
\unset before_quiet
