//! What can go wrong in the program.

use kronos_job::JobError;
use kronos_models::ModelError;
use kronos_training::TrainError;

/// Result of everything in this program.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong, with what a person needs to put it right.
#[derive(Debug, thiserror::Error)]
pub enum Error {
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

impl From<JobError> for Error {
    fn from(error: JobError) -> Self {
        Self::Train(error.into())
    }
}

impl From<ModelError> for Error {
    fn from(error: ModelError) -> Self {
        Self::Train(error.into())
    }
}

impl Error {
    /// The job cannot be run.
    pub fn job(text: impl Into<String>) -> Self {
        JobError::Invalid(text.into()).into()
    }

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
