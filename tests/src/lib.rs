//! End-to-end tests of kronos on a real PostgreSQL cluster.
