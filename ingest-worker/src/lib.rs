//! Brings market data from feeds and files into PostgreSQL, complete, once, and stamped with when it was known.
//!
//! A frame takes one way: socket → [`feeds::StreamFeed::parse`] (pure) → tracker (gaps, duplicates) → bounded channel →
//! batcher → binary COPY into staging → `INSERT … ON CONFLICT` with the cursors in the same transaction. Everything
//! before the batcher can be driven without a network, a clock or a database.
//!
//! Rooms, and what each may know: [`wire`] the network and no feed; [`kinds`] one kind of row each and its table; [`feeds`] one
//! vendor each, kinds and the form of requests; [`store`] kinds and the table of feeds; [`drive`] all of them. [`table`] knows files
//! and kinds, [`symbols`] the names of instruments and nothing else.

pub mod config;
pub mod drive;
pub mod error;
pub mod exact;
pub mod feeds;
pub mod kinds;
pub mod load;
pub mod migrate;
pub mod plan;
pub mod postgres;
pub mod queue;
pub mod recording;
pub mod report;
pub mod retry;
pub mod simulate;
pub mod store;
pub mod symbols;
pub mod table;
pub mod text;
pub mod wire;
