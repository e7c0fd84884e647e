//! How large a job may be: the one place that says so.
//!
//! Two kinds of bounds. Single numbers have a largest value far above any useful one, so that no product of them overflows and no
//! list by them is without end. What they need together is compared with the memory of the machine: a lower bound of it,
//! so that nothing that could be trained is refused, while an allocation that the system must refuse, which ends the process,
//! is never tried.

use crate::error::{JobError, Result};
use crate::regime::Options;
use kronos_models::artifact::TensorSpec;

/// Optimiser steps, and steps from one checkpoint to the next.
pub const STEPS: (u64, u64) = (1, 1_000_000_000);
/// Windows of one pass, and passes of one step.
const BATCH: (u64, u64) = (1, 65_536);
/// Looks at the validation windows: each is a line of the log and of the metrics.
const EVALUATIONS: u64 = 10_000_000;
/// Days of a span.
pub const DAYS: (u64, u64) = (0, 1_000_000);
/// Minutes of a simulated bar: a week of them.
pub const MINUTES: u64 = 7 * 24 * 60;
/// Rows of a purge or of a stride.
pub const ROWS: (u64, u64) = (0, 1_000_000_000);
/// Rows of a window of a model with attention; the longest known context is an eighth of it.
pub const WINDOW: (u64, u64) = (1, 65_536);
/// Rows after which a pattern returns.
pub const SEASON: (u64, u64) = (1, 65_536);
/// Windows that weights are chosen by.
pub const SCORED: (u64, u64) = (1, 100_000);
/// Paths per window, ten times the default of `kronos.max_samples`.
pub const PATHS: (u64, u64) = (1, 10_000);
/// Places of a list of columns: a relation has at most so many.
pub const COLUMNS: (u64, u64) = (1, 1_600);
/// Rank of an adapter.
pub const RANK: u64 = 1_024;
/// Length of a list of best fits.
pub const TOP: (u64, u64) = (1, 100_000);
/// Bytes of a text about a model.
const TEXT: usize = 2_000;
/// Bytes of all options as text: thousands of names of series, and no more.
pub const OPTIONS_BYTES: usize = 1 << 20;
/// Numbers of a job's rows, times included; 4 GB of them.
pub const NUMBERS: u64 = 1 << 29;
/// Times of rows in microseconds since 1970: some 70,000 years, so that their distances are numbers too.
pub const TIMES: std::ops::Range<i64> = -(1 << 61)..1 << 61;
/// Bytes of the name of a series.
pub const SERIES_NAME: usize = 1_024;

/// Bytes that a weight takes at the least: itself, its gradient, its two moments, its best value so far, and a copy of these
/// while a checkpoint is written.
const BYTES_PER_WEIGHT: f64 = 4.0 * 9.0;

/// Copies of the rows in memory at a time: as they were read, and by split.
const COPIES: f64 = 2.0;

/// Requires a number to be within bounds.
///
/// # Errors
/// [`JobError::OutOfBounds`].
pub fn between(what: &str, got: u64, (least, most): (u64, u64)) -> Result<()> {
    if (least..=most).contains(&got) {
        return Ok(());
    }
    Err(JobError::OutOfBounds { what: what.into(), least, most, got: got.to_string() })
}

/// Requires a probability, below one.
///
/// # Errors
/// [`JobError::Invalid`].
pub fn probability(what: &str, got: f32) -> Result<()> {
    match (0.0..1.0).contains(&got) {
        true => Ok(()),
        false => Err(JobError::Invalid(format!("{what} must be at least 0 and below 1, got {got}"))),
    }
}

/// Requires a text of a length that people read.
pub(crate) fn text(what: &str, got: &str) -> Result<()> {
    match got.len() <= TEXT {
        true => Ok(()),
        false => Err(JobError::Invalid(format!("{what} must have at most {TEXT} bytes, got {}", got.len()))),
    }
}

/// Checks the knobs of a loop.
pub(crate) fn training(what: &str, options: &Options) -> Result<()> {
    options.validate().map_err(|error| JobError::Invalid(format!("{what}: {error}")))?;
    between(&format!("{what}.steps"), options.steps, STEPS)?;
    between(&format!("{what}.batch"), options.batch as u64, BATCH)?;
    between(&format!("{what}.accumulate"), options.accumulate as u64, BATCH)?;
    let evaluations = options.steps / options.evaluate_every;
    between(&format!("evaluations of {what} (steps / evaluate_every)"), evaluations, (0, EVALUATIONS))
}

/// What a job holds in memory at the least.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Counts {
    /// Weights of all networks.
    pub weights: f64,
    /// Numbers of the largest step, of four bytes each.
    pub step: f64,
}

impl Counts {
    /// Compares with the memory of a machine.
    ///
    /// # Errors
    /// [`JobError::TooLarge`].
    pub fn check(self, memory: u64) -> Result<()> {
        fits("the network", self.weights * BYTES_PER_WEIGHT, memory)?;
        fits("a step", self.weights * BYTES_PER_WEIGHT + self.step * 4.0, memory)
    }
}

/// Numbers in tensors.
pub(crate) fn numbers(specs: &[TensorSpec]) -> f64 {
    specs.iter().map(|spec| spec.shape.iter().map(|&side| side as f64).product::<f64>()).sum()
}

/// Compares rows of so many numbers with what a job may have and a machine can hold.
///
/// # Errors
/// [`JobError::OutOfBounds`], [`JobError::TooLarge`].
pub fn data(numbers: u64, memory: u64) -> Result<()> {
    between("numbers of all rows, times included,", numbers, (0, NUMBERS))?;
    fits("holding the rows", numbers as f64 * 8.0 * COPIES, memory)
}

fn fits(what: &'static str, needed: f64, available: u64) -> Result<()> {
    // Not a comparison the other way round: what is not a number does not fit.
    match needed <= available as f64 {
        true => Ok(()),
        false => Err(JobError::TooLarge { what, needed, available }),
    }
}

/// Memory of this machine in bytes, as Linux tells it; elsewhere that of a large one, which leaves the bounds of single numbers.
pub fn machine() -> u64 {
    const LARGE: u64 = 1 << 40;
    let told = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = told.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = total.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kilobytes.map_or(LARGE, |kilobytes| kilobytes.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_does_not_fit() {
        for step in [f64::NAN, f64::INFINITY, 1e30] {
            let refused = Counts { weights: 1.0, step }.check(u64::MAX).unwrap_err();
            assert!(matches!(refused, JobError::TooLarge { .. }), "{step}: {refused}");
        }
        Counts { weights: 1e6, step: 1e6 }.check(1 << 30).unwrap();
        let refused = Counts { weights: 1e9, step: 0.0 }.check(1 << 30).unwrap_err().to_string();
        assert_eq!(refused, "the network needs at least 33.5 GB of memory, this machine has 1.0 GB");
    }

    #[test]
    fn rows_are_bounded_by_number_and_by_memory() {
        data(NUMBERS, u64::MAX).unwrap();
        assert!(matches!(data(NUMBERS + 1, u64::MAX), Err(JobError::OutOfBounds { .. })));
        assert!(matches!(data(1 << 20, 1 << 20), Err(JobError::TooLarge { .. })));
    }

    #[test]
    fn the_machine_has_memory() {
        assert!(machine() > 1 << 20);
    }
}
