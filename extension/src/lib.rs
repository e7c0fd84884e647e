//! The kronos extension: the only crate that knows PostgreSQL.

pgrx::pg_module_magic!();
