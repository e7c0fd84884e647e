//! Parity of Chronos-2 and Chronos-Bolt with the reference implementation, stage by stage.
//!
//! A folder of golden vectors holds a manifest of cases and the models they name; `fixtures/chronos2/README.md`
//! describes the form and the tolerances. Whatever cases a manifest lists are run, none is named here. The folder in the
//! project always runs; `CHRONOS2_GOLDEN` names another one of the same form.
//!
//! `cargo test --release --test golden_chronos2 -- --nocapture` prints the deviation of every stage beside its tolerance.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A malformed folder should stop the test there.

mod bolt;
mod embed;
mod folder;
mod frames;
mod inputs;
mod operations;
mod predict;
mod recipe;
#[path = "../golden/report.rs"]
mod report;
mod stages;

use std::path::{Path, PathBuf};

fn in_project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chronos2")
}

#[test]
fn the_cases_in_the_project() {
    let report = folder::run(&in_project());
    print!("{report}");
    report.assert_parity();
}

#[test]
fn the_cases_of_the_environment() {
    let Some(folder) = std::env::var_os("CHRONOS2_GOLDEN") else {
        kronos_skip::skipped(
            "only the golden vectors in the project were run",
            "make golden CHRONOS2_GOLDEN=folder",
        );
        return;
    };
    let report = folder::run(Path::new(&folder));
    print!("{report}");
    report.assert_parity();
}
