//! The ledger of forecasts: what it holds, the policies that fill it, the schedulers that call them, the dashboards that read it.

mod dashboards;
mod policies;
mod record;
mod scheduler;
