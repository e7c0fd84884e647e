//! The worker's program, run by tests.

// Each test program uses its part of this.
#![allow(dead_code)]

use kronos_tests::{Cluster, Database, project_root};
use std::process::Command;

/// `kronos-ingest`, told to use the database at `connection`.
pub fn at(connection: &str) -> Command {
    let mut command = Command::new(project_root().join("target/release/kronos-ingest"));
    command.env("KRONOS_DATABASE_URL", connection).env("RUST_LOG", "warn");
    command
}

/// `kronos-ingest`, told to use `db`.
pub fn of(db: &Database) -> Command {
    at(&Cluster::get().connection_string(db.name()))
}

/// What the command prints; the test fails when the command does.
#[track_caller]
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().expect("the program can be run");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

/// A database of its own with the tables of `sql/`.
pub fn migrated(test: &str) -> Database {
    let db = Database::new(test);
    succeed(of(&db).arg("migrate"));
    db
}
