-- Sets up (or brings up to date) every table, view and job that holds people's data.
--
--   psql -d DATABASE -f sql/install.sql
--
-- Safe to run again at any time: each file is idempotent and records its version in market.installed_files.
-- Run it again after `create extension timescaledb`: plain tables become hypertables in place, with their rows.
-- `kronos-ingest migrate` and `call kronos.install()` apply the same files, by the list in sql/files.rs.
-- psql's own settings are put back at the end.
\set before_on_error_stop :ON_ERROR_STOP
\set before_quiet :QUIET
\set ON_ERROR_STOP on
\set QUIET on
begin;
set local client_min_messages = warning;
\ir 000_installation.sql
\ir 010_roles.sql
\ir 100_instruments.sql
\ir 110_ticks.sql
\ir 120_bars.sql
\ir 130_feeds.sql
\ir 132_documents.sql
\ir 140_timescale.sql
\ir 145_stored_bars.sql
\ir 150_trade_bars.sql
\ir 155_retention.sql
\ir 160_daily.sql
\ir 170_validate.sql
\ir 180_privileges.sql
\ir 190_jobs.sql
\ir 200_ledger.sql
\ir 202_ledger_roles.sql
\ir 204_ledger_inputs.sql
\ir 210_ledger_timescale.sql
\ir 220_policies.sql
\ir 222_ledger_runs.sql
\ir 223_schedules.sql
\ir 224_policy_runs.sql
\ir 225_ledger_views.sql
\ir 230_ledger_privileges.sql
\ir 240_calibrations.sql
\ir 245_calibration_views.sql
\ir 250_calibration_privileges.sql
\ir 260_training.sql
\ir 300_trading_schema.sql
\ir 310_trading_knobs.sql
\ir 320_trading_positions.sql
\ir 330_trading_breakers.sql
\ir 340_trading_allocations.sql
\ir 350_trading_terms.sql
\ir 355_trading_skill.sql
\ir 360_trading_signals.sql
\ir 365_trading_rebalance.sql
\ir 380_trading_privileges.sql
commit;
\set ON_ERROR_STOP :before_on_error_stop
\set QUIET :before_quiet
\unset before_on_error_stop
\unset before_quiet
