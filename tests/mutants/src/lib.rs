//! Whether the tests would notice: small faults are put into a copy of the project, one at a time, and the tests that are
//! meant to notice must fail.
//!
//! The faults are the rows of `table/`. Those that cost a user look-ahead, privileges, money or rows must all be noticed,
//! of the others nine in ten. Every row is tried by `make mutants`; that every row still fits the code, by `make test`.

pub mod copy;
pub mod run;
pub mod score;
pub mod table;

/// What the tool does, or why not: a sentence for the person who called it.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
