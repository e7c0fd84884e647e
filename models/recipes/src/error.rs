//! What can go wrong.

use kronos_models::ModelError;
use kronos_training::TrainError;
use std::path::PathBuf;

/// Result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong, for a person at a terminal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The training itself.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl Error {
    /// A file that is not what it should be.
    pub fn content(path: impl Into<PathBuf>, reason: impl ToString) -> Self {
        Self::Content { path: path.into(), reason: reason.to_string() }
    }

    /// A file that cannot be read or written.
    pub fn file(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::File { path: path.into(), source }
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Model(error.into())
    }
}
