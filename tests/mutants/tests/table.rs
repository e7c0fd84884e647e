//! The table of mutants fits the code, and the tool judges rightly.

#![allow(clippy::unwrap_used, clippy::panic)]

use kronos_mutants::copy::Copy;
use kronos_mutants::score::{Score, Verdict};
use kronos_mutants::table::{Loss, Mutant, Needs, read};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn rows() -> Vec<Mutant> {
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("table")).unwrap()
}

fn mutant(line: usize, before: &str, after: &str, loses: Loss) -> Mutant {
    let [file, why] = ["file.rs", "a fault"].map(str::to_owned);
    let [before, after] = [before, after].map(str::to_owned);
    Mutant { file, line, before, after, loses, why, tests: vec!["--test a b".into()], needs: Needs::Nothing }
}

#[test]
fn every_row_fits_the_code() {
    let wrong: Vec<String> = rows()
        .iter()
        .filter_map(|mutant| {
            let text = fs::read_to_string(project().join(&mutant.file))
                .unwrap_or_else(|error| panic!("{mutant}: {error}"));
            mutant.apply(&text).err().map(|error| error.to_string())
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_row_names_tests_that_exist() {
    let sources = Command::new("git").args(["ls-files", "*.rs"]).current_dir(project()).output().unwrap();
    let files: Vec<String> = String::from_utf8(sources.stdout).unwrap().lines().map(str::to_owned).collect();
    for mutant in rows() {
        assert!(!mutant.tests.is_empty(), "{mutant}: no test is named");
        for tests in &mutant.tests {
            let words: Vec<&str> = tests.split_whitespace().collect();
            let filter = words.last().unwrap().rsplit("::").next().unwrap();
            let binary = words.iter().position(|word| *word == "--test").map(|at| words[at + 1]);
            let of_binary = |file: &&String| match binary {
                Some(name) => {
                    file.contains(&format!("/tests/{name}.rs")) || file.contains(&format!("/tests/{name}/"))
                }
                None => file.contains("/src/"),
            };
            let found = files.iter().filter(of_binary).any(|file| {
                let text = fs::read_to_string(project().join(file)).unwrap_or_default();
                text.lines().any(|line| line.contains("fn ") && line.contains(filter))
            });
            assert!(found || binary == Some(filter), "{mutant}: no test is called {filter:?} in {tests:?}");
        }
    }
}

#[test]
fn every_part_of_the_project_is_in_the_table() {
    let rows = rows();
    assert!(rows.len() >= 120, "{} rows", rows.len());
    let part = |file: &str| {
        let parts =
            ["extension/sql/", "extension/src/", "ingest-worker/", "models/allocation/", "models/engine/"];
        let parts = parts.into_iter().chain(["models/", "sql/", "tools/train/"]);
        parts.into_iter().find(|part| file.starts_with(part))
    };
    let covered: BTreeSet<_> = rows.iter().filter_map(|mutant| part(&mutant.file)).collect();
    assert_eq!(covered.len(), 8, "{covered:?}");
}

#[test]
fn a_row_is_found_on_its_line_or_at_its_only_place() {
    let text = "a < b\nc < d\ne\n";
    let applied = |line, before: &str| mutant(line, before, "X", Loss::Other).apply(text);
    assert_eq!(applied(2, " < ").unwrap(), "a < b\ncXd\ne\n");
    assert_eq!(applied(1, "e").unwrap(), "a < b\nc < d\nX\n", "it moved");
    assert_eq!(applied(1, "b\nc").unwrap(), "a < X < d\ne\n");
    assert!(applied(3, " < ").unwrap_err().to_string().contains("stands on lines [1, 2]"));
    assert!(applied(1, "z").unwrap_err().to_string().contains("has no"));
    assert!(mutant(1, "a", "a", Loss::Other).apply(text).is_err());
}

/// One of ten may slip through where numbers are at stake, none where money is.
#[test]
fn the_score_asks_more_where_more_is_lost() {
    let of = |loses, survivors: usize| {
        let mut score = Score::default();
        for number in 0..10 {
            let verdict = if number < survivors { Verdict::Survived } else { Verdict::Caught };
            score.add(&mutant(1, "a", "b", loses), verdict);
        }
        score
    };
    assert!(of(Loss::Numbers, 1).suffices());
    assert!(!of(Loss::Numbers, 2).suffices());
    assert!(of(Loss::Money, 0).suffices());
    assert!(!of(Loss::Money, 1).suffices());
    let text = of(Loss::Money, 1).to_string();
    assert!(text.contains("Survived: file.rs:1 (a fault)") && text.contains("9 of  10"), "{text}");
}

#[test]
fn what_does_not_compile_does_not_count_as_caught() {
    let mut score = Score::default();
    score.add(&mutant(1, "a", "b", Loss::Rows), Verdict::Invalid);
    assert!(!score.suffices());
}

#[test]
fn the_copy_has_what_git_would_take_and_unchanged_files_stay_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("project"), folder.path().join("copy/tree"));
    let git = |arguments: &[&str]| {
        assert!(Command::new("git").args(arguments).current_dir(&from).status().unwrap().success());
    };
    fs::create_dir(&from).unwrap();
    git(&["init", "-q"]);
    for (name, text) in [(".gitignore", "built\n"), ("kept", "1"), ("gone", "1"), ("built", "1")] {
        fs::write(from.join(name), text).unwrap();
    }
    git(&["add", "."]);
    Copy::of(&from, to.clone()).unwrap();
    let time = |name: &str| fs::metadata(to.join(name)).unwrap().modified().unwrap();
    let (before, of_kept) = (fs::read_to_string(to.join("gone")).unwrap(), time("kept"));
    assert_eq!(before, "1");
    fs::remove_file(from.join("gone")).unwrap();
    fs::write(from.join("new"), "2").unwrap();
    fs::create_dir(to.join("target")).unwrap();
    fs::write(to.join("target/library"), "3").unwrap();
    let copy = Copy::of(&from, to.clone()).unwrap();
    assert_eq!(copy.read("new").unwrap(), "2");
    assert!(!to.join("gone").exists() && !to.join("built").exists());
    assert!(to.join("target/library").exists(), "what was built stays");
    assert_eq!(time("kept"), of_kept);
}
