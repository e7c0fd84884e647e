//! Why a job is refused.

use kronos_models::ModelError;

/// Result of everything in this crate.
pub type Result<T, E = JobError> = std::result::Result<T, E>;

/// Why a job is refused, with the facts a caller needs to say so.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// A key nobody reads.
    #[error("unrecognized option \"{name}\"")]
    UnknownOption {
        /// The key.
        name: String,
        /// The keys that are read.
        valid: Vec<String>,
    },
    /// What a family cannot do.
    #[error("option \"{option}\" is not for family \"{family}\"")]
    NotForFamily {
        /// The option.
        option: &'static str,
        /// The family.
        family: String,
    },
    /// A family nobody can train.
    #[error("family \"{family}\" cannot be trained")]
    UnknownFamily {
        /// The name given.
        family: String,
    },
    /// A value that is not what it must be.
    #[error("{0}")]
    Invalid(String),
    /// More than the product trains.
    #[error("{what} must be between {least} and {most}, got {got}")]
    OutOfBounds {
        /// The option.
        what: String,
        /// Least value.
        least: u64,
        /// Largest value.
        most: u64,
        /// The value given.
        got: String,
    },
    /// More than the machine can hold.
    #[error("{what} needs at least {} of memory, this machine has {}", amount(*needed), amount(*available as f64))]
    TooLarge {
        /// What needs it.
        what: &'static str,
        /// Bytes, at the least.
        needed: f64,
        /// Bytes of the machine.
        available: u64,
    },
}

impl From<ModelError> for JobError {
    fn from(error: ModelError) -> Self {
        Self::Invalid(error.to_string())
    }
}

/// An amount of memory for people.
fn amount(bytes: f64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut unit = 0;
    let mut amount = bytes;
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        (amount, unit) = (amount / 1024.0, unit + 1);
    }
    format!("{amount:.1} {}", UNITS[unit])
}
