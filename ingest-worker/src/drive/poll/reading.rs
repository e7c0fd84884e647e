//! A reading that ends: every question that is due is put until it is answered whole, or is given up.

use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressStyle};

use super::task::Task;

/// Failed attempts in a row after which a question is given up.
const ATTEMPTS: u32 = 8;

/// How far a reading has come.
pub struct Reading {
    bar: ProgressBar,
    outcome: Mutex<Outcome>,
}

/// What became of the questions of a reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Questions that were answered whole.
    pub read: usize,
    /// Questions that the account's plan does not have.
    pub refused: usize,
    /// Endpoint, symbol and reason of those that were given up.
    pub failed: Vec<(String, String, String)>,
}

impl Reading {
    /// Told by `bar`, which counts the questions.
    pub fn new(bar: ProgressBar) -> Self {
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} questions {msg} {eta}") {
            bar.set_style(style);
        }
        Reading { bar, outcome: Mutex::default() }
    }

    /// What became of the questions so far.
    pub fn outcome(&self) -> Outcome {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a question is not to be put again; counts it then.
    pub(super) fn is_over(&self, task: &Task) -> bool {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        if task.is_read {
            outcome.read += 1;
        } else if task.is_resting {
            outcome.refused += 1;
        } else if task.failures >= ATTEMPTS {
            let reason = task.reason.clone();
            outcome.failed.push((task.endpoint.name.to_owned(), task.symbol.clone(), reason));
        } else {
            return false;
        }
        drop(outcome);
        self.bar.set_message(format!("{} {}", task.endpoint.name, task.symbol));
        self.bar.inc(1);
        true
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
