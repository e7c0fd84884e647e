//! The table of mutants: `table/*.toml`, one file per part of the project.

use crate::Result;
use serde::Deserialize;
use std::fs;
use std::path::Path;

/// A small fault that a programmer could have made, and the tests that are to notice it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutant {
    /// The file, relative to the project.
    pub file: String,
    /// The line, counted from 1, at which `before` stood when the row was written; later it may have moved.
    pub line: usize,
    /// What stands in the file.
    pub before: String,
    /// What the fault puts in its place.
    pub after: String,
    /// What a user would lose.
    pub loses: Loss,
    /// How a user would lose it.
    pub why: String,
    /// Arguments of `cargo test`, one run each; one that fails is enough.
    pub tests: Vec<String>,
    /// What the tests need beside the compiler.
    #[serde(default)]
    pub needs: Needs,
}

/// What a fault costs a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// A forecast, a score or a decision uses what was not yet known.
    LookAhead,
    /// Somebody reads, writes or becomes what is not theirs.
    Privileges,
    /// Weights, orders, costs are wrong.
    Money,
    /// Rows are lost, doubled or go back in time.
    Rows,
    /// Other numbers are wrong.
    Numbers,
    /// Wrong input is taken, or refused in wrong words.
    Errors,
    /// The server is slowed, blocked or fails.
    Service,
    /// Anything else.
    Other,
}

impl Loss {
    /// The share of faults of this kind that tests must notice.
    pub fn required(self) -> f64 {
        match self {
            Self::LookAhead | Self::Privileges | Self::Money | Self::Rows => 1.0,
            Self::Numbers | Self::Errors | Self::Service | Self::Other => 0.9,
        }
    }
}

/// What the tests of a mutant need.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Needs {
    /// The compiler alone.
    #[default]
    Nothing,
    /// A PostgreSQL cluster with the mutated extension.
    Server,
}

impl Mutant {
    /// The text of the file with the fault in it.
    ///
    /// # Errors
    ///
    /// `before` is neither at its line nor at exactly one place of the file, or nothing would change.
    pub fn apply(&self, text: &str) -> Result<String> {
        if self.before == self.after {
            return Err(format!("{self}: before and after are the same").into());
        }
        let at = self.place(text)?;
        Ok(format!("{}{}{}", &text[..at], self.after, &text[at + self.before.len()..]))
    }

    /// Where `before` begins: on its line if it is there, else at its only place.
    fn place(&self, text: &str) -> Result<usize> {
        let places: Vec<usize> = text.match_indices(&self.before).map(|(at, _)| at).collect();
        let line_of = |at: usize| text[..at].matches('\n').count() + 1;
        let on_line: Vec<usize> = places.iter().copied().filter(|at| line_of(*at) == self.line).collect();
        match (on_line.as_slice(), places.as_slice()) {
            ([at, ..], _) | ([], [at]) => Ok(*at),
            ([], []) => Err(format!("{self}: the file has no {:?}", self.before).into()),
            ([], several) => {
                let lines: Vec<usize> = several.iter().map(|at| line_of(*at)).collect();
                Err(format!("{self}: {:?} stands on lines {lines:?}: which is meant?", self.before).into())
            }
        }
    }
}

impl std::fmt::Display for Mutant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{} ({})", self.file, self.line, self.why)
    }
}

/// Every row of every file of `folder`, ordered by the mutated file, so that what follows each other shares a build.
///
/// # Errors
///
/// A file cannot be read or is not a table of mutants.
pub fn read(folder: &Path) -> Result<Vec<Mutant>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Table {
        mutant: Vec<Mutant>,
    }
    let mut mutants = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let table: Table = toml::from_str(&fs::read_to_string(&path)?)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            mutants.extend(table.mutant);
        }
    }
    mutants.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    Ok(mutants)
}
