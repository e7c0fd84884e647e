//! What can go wrong in a training job.

use kronos_models::ModelError;
use kronos_training::TrainError;
use std::path::PathBuf;

/// Result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong, with what a person needs to put it right.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
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
    /// The job's description is wrong.
    #[error("job: {0}")]
    Job(String),
    /// The worker cannot work like that.
    #[error("{reason}\nHINT:  {hint}")]
    Worker {
        /// What is wrong.
        reason: String,
        /// What puts it right.
        hint: &'static str,
    },
    /// The database refused something, or the connection is gone.
    #[error("database: {}", .0.as_db_error().map_or_else(|| .0.to_string(), |error| error.message().to_owned()))]
    Database(#[from] postgres::Error),
    /// What training says.
    #[error(transparent)]
    Train(#[from] TrainError),
}

impl From<kronos_job::JobError> for Error {
    fn from(error: kronos_job::JobError) -> Self {
        Self::Job(error.to_string())
    }
}

impl From<ModelError> for Error {
    fn from(error: ModelError) -> Self {
        Self::Train(error.into())
    }
}

impl Error {
    /// SQLSTATE of what the server refused.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Database(error) => error.code().map(postgres::error::SqlState::code),
            _ => None,
        }
    }

    /// Whether somebody asked to stop.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Train(TrainError::Model(ModelError::Cancelled)))
    }
}
