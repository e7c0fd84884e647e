//! The one error type of the crate; the extension maps every variant to an SQLSTATE.

use std::path::PathBuf;

/// Result of every fallible function of this crate.
pub type Result<T, E = ModelError> = std::result::Result<T, E>;

/// What can go wrong in a model, with the facts a caller needs to say so.
///
/// Deliberately not `#[non_exhaustive]`: a new variant must not compile until every boundary has a message for it.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A parameter is outside its domain.
    #[error("{name} must be {expected}, got {got}")]
    InvalidParameter {
        /// The parameter as the caller knows it.
        name: &'static str,
        /// Its domain in words.
        expected: String,
        /// The value given.
        got: String,
    },
    /// Two inputs that must agree in size do not.
    #[error("{what} has length {got}, expected {expected}")]
    ShapeMismatch {
        /// The input.
        what: &'static str,
        /// Its length.
        got: usize,
        /// The length it must have.
        expected: usize,
    },
    /// The context is shorter than the model accepts.
    #[error("context has {got} points, the model needs {needed}")]
    ContextTooShort {
        /// Points needed.
        needed: usize,
        /// Points given.
        got: usize,
    },
    /// The horizon does not fit the model's window.
    #[error("horizon of {horizon} steps does not fit the model's context of {max_context}")]
    HorizonTooLong {
        /// Steps asked for.
        horizon: usize,
        /// The model's window.
        max_context: usize,
    },
    /// An input value is missing, not finite or above [`LARGEST`](crate::ask::LARGEST) where the model cannot take it.
    #[error("{what} is not finite or too large at position {index}")]
    MissingValue {
        /// Which input.
        what: &'static str,
        /// Zero-based position, oldest first.
        index: usize,
    },
    /// A file of the artifact is not there.
    #[error("could not open \"{}\": file does not exist", path.display())]
    ArtifactMissing {
        /// The file looked for.
        path: PathBuf,
    },
    /// A file of the artifact could not be read.
    #[error("could not read \"{}\": {source}", path.display())]
    ArtifactIo {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file of the artifact does not hold what it must.
    #[error("\"{}\" is not a valid artifact: {reason}", path.display())]
    ArtifactCorrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong, naming the tensor or key.
        reason: String,
    },
    /// A file's SHA-256 differs from the registered one.
    #[error("\"{}\" does not match its checksum", path.display())]
    ChecksumMismatch {
        /// The file.
        path: PathBuf,
        /// Registered digest, hexadecimal.
        expected: String,
        /// Digest of the file, hexadecimal.
        actual: String,
    },
    /// No family of this library has that name.
    #[error("model family \"{family}\" does not exist")]
    UnknownFamily {
        /// The name given.
        family: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// The model cannot do what was asked.
    #[error("model family \"{family}\" does not support {capability}")]
    Unsupported {
        /// Family of the model.
        family: &'static str,
        /// The capability in words.
        capability: String,
    },
    /// Memory needed exceeds the caller's bound.
    #[error("{what} needs {needed} bytes, the limit is {limit}")]
    MemoryLimit {
        /// What needs it.
        what: &'static str,
        /// Bytes needed.
        needed: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The system refused memory.
    #[error("could not allocate {needed} bytes for {what}")]
    OutOfMemory {
        /// What needs it.
        what: &'static str,
        /// Bytes needed.
        needed: u64,
    },
    /// The model produced NaN or infinity.
    #[error("the model produced a non-finite value at step {step}")]
    NonFinite {
        /// One-based forecast step.
        step: usize,
    },
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// The tensor library failed; a defect or exhausted memory, not a caller's mistake.
    #[error("inference failed: {0}")]
    Backend(#[from] candle_core::Error),
}
