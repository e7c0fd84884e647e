//! Market data: what `sql/` stores and derives, and the worker's program that brings it.

mod events;
mod facts;
mod ingest;
mod ingest_feeds;
mod ingest_files;
mod ingest_live;
mod ingest_tls;
mod leaders;
mod replay;
mod revisions;
mod storage;
mod validate_facts;
