//! The engine that serves models to many callers at once: one copy of each model, one batch per model.
//!
//! It knows nothing of Postgres. [`core::Core`] takes a [`message::Request`] from a numbered caller and hands every
//! [`message::Reply`] to a sink; [`server`] puts a Unix-domain socket before it, and a process that wants no other
//! process drives the same core directly, so that both ways give the same bits.
//!
//! Each loaded model has a thread of its own that first loads it and then steps its batch, so loading never holds up
//! the requests for others. On one device these threads take turns step by step: what is shared is the arithmetic, not
//! the memory, and steps of two models at once would only slow each other. A request joins the batch between two
//! steps, is admitted one series at a time in turn with the other requests, and leaves at the step after its caller
//! has gone. Memory is reserved in one [`ledger`] before it is used, for weights, for caches and for results on their
//! way out.
#![deny(missing_docs)]

pub mod answer;
pub mod clock;
pub mod connection;
pub mod core;
pub mod device;
pub mod fault;
pub mod frame;
pub mod job;
pub mod ledger;
mod life;
pub mod message;
mod passes;
mod path;
pub mod restart;
mod runner;
pub mod server;
mod shared;
pub mod statistics;
mod steps;
