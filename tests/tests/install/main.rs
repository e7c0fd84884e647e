//! What comes before and around all else: the set-up, the demo, the settings, the documents, dump and restore.

mod demo;
mod docs_sql;
mod dump_restore;
mod guc;
mod harness;
mod setup;
