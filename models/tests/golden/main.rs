//! Parity with the reference implementation, stage by stage.
//!
//! A folder of golden vectors holds sets (a checkpoint, its intermediate stages, cases), sampling tables and calendar
//! fields; `fixtures/kronos/README.md` describes the form. Whatever sets and cases a folder holds are run, none is
//! named here. The folder in the project always runs; `KRONOS_GOLDEN` names another one of the same form. With
//! `KRONOS_WEIGHTS` (a directory that holds the published checkpoints by name) the upstream project's own regression
//! test runs too.
//!
//! `cargo test --release --test golden -- --nocapture` prints the deviation of every stage beside its tolerance.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A malformed folder should stop the test there.

mod case;
mod folder;
mod forecasts;
mod formula;
mod report;
mod sampling;
mod sensitivity;
mod stages;
mod upstream;

use std::path::{Path, PathBuf};

fn in_project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kronos")
}

#[test]
fn the_sets_in_the_project() {
    let report = folder::run(&in_project());
    print!("{report}");
    report.assert_parity();
}

#[test]
fn the_sets_of_the_environment() {
    let Some(folder) = std::env::var_os("KRONOS_GOLDEN") else {
        kronos_skip::skipped(
            "only the golden vectors in the project were run",
            "make golden KRONOS_GOLDEN=folder",
        );
        return;
    };
    let report = folder::run(Path::new(&folder));
    print!("{report}");
    report.assert_parity();
}
