//! What can go wrong in training.

use kronos_job::JobError;
use kronos_models::error::ModelError;
use std::path::PathBuf;

/// Result of everything that trains.
pub type Result<T, E = TrainError> = std::result::Result<T, E>;

/// What can go wrong in training, with the facts a caller needs to say so.
///
/// Apart from [`ModelError`], because no forecast can meet these and no database session has to name them.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// What a model itself says; [`ModelError::Cancelled`] after a checkpoint has been written.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The panel is not what windows can be cut from.
    #[error("series \"{series}\": {reason}")]
    InvalidPanel {
        /// Name of the series.
        series: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing is left to train or to validate on.
    #[error("no {part} windows of {context} + {horizon} rows in {series} series")]
    NoWindows {
        /// `training`, `validation` or `test`.
        part: &'static str,
        /// Rows of context.
        context: usize,
        /// Rows of horizon.
        horizon: usize,
        /// Series looked at.
        series: usize,
    },
    /// An input shows what happened after the cut.
    #[error("{what} holds the future: {detail}")]
    Leakage {
        /// The channel or the window.
        what: String,
        /// How it was found out.
        detail: String,
    },
    /// The loss or a gradient is not a number.
    #[error("training diverged at step {step}: the {what} is not finite")]
    Diverged {
        /// One-based optimiser step.
        step: u64,
        /// `loss`, `gradient` or `validation loss`.
        what: &'static str,
    },
    /// A checkpoint belongs to another run.
    #[error("checkpoint \"{}\" belongs to another run: {reason}", path.display())]
    OtherRun {
        /// The checkpoint.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// The job's description is wrong.
    #[error("job: {0}")]
    Job(#[from] JobError),
    /// A file could not be read.
    #[error("\"{}\": {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A data file does not hold what it must.
    #[error("\"{}\", {place}: {reason}", path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// Line, row or column.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// The run ends here because it was asked to.
    #[error("ended after the {part}, as asked; without that wish the same command goes on from here")]
    EndOfPart {
        /// The part of the model that was trained last.
        part: &'static str,
    },
    /// A file could not be written.
    #[error("could not write \"{}\": {source}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl From<candle_core::Error> for TrainError {
    fn from(error: candle_core::Error) -> Self {
        Self::Model(ModelError::Backend(error))
    }
}

/// A parameter outside its domain.
pub fn invalid(name: &'static str, expected: impl Into<String>, got: impl ToString) -> TrainError {
    ModelError::InvalidParameter { name, expected: expected.into(), got: got.to_string() }.into()
}
