//! The SQL functions, one file per family.

mod ops;
