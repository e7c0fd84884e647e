//! Brings market data from feeds and files into PostgreSQL, complete, once, and stamped with when it was known.
//!
//! A frame takes one way: socket → [`feed::Feed::parse`] (pure) → tracker (gaps, duplicates) → bounded channel →
//! batcher → binary COPY into staging → `INSERT … ON CONFLICT` with the cursors in the same transaction. Everything
//! before the batcher can be driven without a network, a clock or a database.

pub mod backoff;
pub mod config;
pub mod error;
pub mod exact;
pub mod feed;
pub mod kinds;
pub mod live;
pub mod load;
pub mod migrate;
pub mod postgres;
pub mod recording;
pub mod repair;
pub mod report;
pub mod simulate;
pub mod store;
pub mod stream;
pub mod table;
pub mod track;
pub mod transport;
