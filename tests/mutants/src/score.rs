//! What came of the mutants, and whether that is enough.

use crate::table::{Loss, Mutant};
use std::collections::BTreeMap;
use std::fmt;

/// What came of one mutant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// A test failed.
    Caught,
    /// Every test passed.
    Survived,
    /// It does not compile, so it shows nothing.
    Invalid,
}

/// Verdicts by what a user would lose.
#[derive(Default)]
pub struct Score {
    caught: BTreeMap<Loss, usize>,
    all: BTreeMap<Loss, usize>,
    missed: Vec<String>,
}

impl Score {
    /// Adds one verdict.
    pub fn add(&mut self, mutant: &Mutant, verdict: Verdict) {
        *self.all.entry(mutant.loses).or_default() += 1;
        if verdict == Verdict::Caught {
            *self.caught.entry(mutant.loses).or_default() += 1;
        } else {
            self.missed.push(format!("{verdict:?}: {mutant}"));
        }
    }

    /// Whether each kind of loss is noticed as often as it must be.
    pub fn suffices(&self) -> bool {
        self.all.iter().all(|(loss, all)| self.share(*loss, *all) >= loss.required())
    }

    fn share(&self, loss: Loss, all: usize) -> f64 {
        let caught = self.caught.get(&loss).copied().unwrap_or_default();
        caught as f64 / all as f64
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for missed in &self.missed {
            writeln!(f, "{missed}")?;
        }
        for (loss, all) in &self.all {
            let caught = self.caught.get(loss).copied().unwrap_or_default();
            let (share, required) = (100.0 * self.share(*loss, *all), 100.0 * loss.required());
            writeln!(
                f,
                "{:<10} {caught:>3} of {all:>3} {share:>6.1} % (at least {required} %)",
                format!("{loss:?}")
            )?;
        }
        let (caught, all) = (self.caught.values().sum::<usize>(), self.all.values().sum::<usize>());
        write!(f, "{:<10} {caught:>3} of {all:>3} mutants caught", "all")
    }
}
