//! The inference service on a real cluster: one engine for all, and nothing that happens to it ends a session.
//!
//! The default run keeps storms short; `KRONOS_STORM_SECONDS=60 cargo test --test service` gives them a minute.

mod cancel;
mod cluster;
mod faults;
mod model;
mod sharing;
mod standby;
mod throughput;
mod training;
