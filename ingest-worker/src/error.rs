//! The two error types: what a feed can say about a message, and what stops a command.

use std::{path::PathBuf, time::Duration};

/// What a message or response of a feed means for the stream.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FeedError {
    /// The connection or request failed; try again with back-off.
    #[error("{0}")]
    Transient(String),
    /// The feed asks to slow down; not before `retry_after`, where it says.
    #[error("{reason}")]
    RateLimited { reason: String, retry_after: Option<Duration> },
    /// The message cannot be read; it goes to quarantine and the stream goes on.
    #[error("{0}")]
    Rejected(String),
    /// The account's plan does not have this: not to be asked again for a day.
    #[error("{0}")]
    NotInPlan(String),
    /// Trying again cannot help (credentials): this feed stops, the others go on.
    #[error("{0}")]
    Fatal(String),
}

/// What stops a command of the worker.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("could not read \"{path}\": {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("could not write \"{path}\": {source}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("configuration \"{path}\": {message}")]
    Config { path: PathBuf, message: String },
    #[error("environment variable {name} is not set (needed for {purpose})")]
    MissingVariable { name: &'static str, purpose: &'static str },
    #[error("could not connect to the database: {0}")]
    Connect(String),
    #[error("database: {}", database_message(.0))]
    Database(#[from] tokio_postgres::Error),
    #[error("file \"{path}\", line {line}: {message}")]
    Row { path: PathBuf, line: u64, message: String },
    #[error("feed \"{feed}\": {error}")]
    Feed { feed: String, error: FeedError },
    #[error("{0}")]
    Usage(String),
    #[error("could not serve metrics: {0}")]
    Metrics(String),
    #[error("{rows} rows were rejected; market.rejected_rows has them, with the reasons")]
    Refused { rows: u64 },
    #[error("feed \"{feed}\" refused {} of {total} symbols: {}", refused.len(), list(refused))]
    NoHistory {
        feed: &'static str,
        total: usize,
        /// Symbols and reasons.
        refused: Vec<(String, String)>,
    },
    #[error("{} questions were given up: {}", questions.len(), first(questions))]
    Unread {
        /// Feed, endpoint, symbol and reason of each.
        questions: Vec<String>,
    },
    #[error("{failed} of {total} checks failed")]
    Checks { failed: usize, total: usize },
}

/// The first few of many.
fn first(questions: &[String]) -> String {
    let shown: Vec<_> = questions.iter().take(5).map(String::as_str).collect();
    let more = questions.len().saturating_sub(shown.len());
    if more > 0 { format!("{}; and {more} more", shown.join("; ")) } else { shown.join("; ") }
}

fn list(refused: &[(String, String)]) -> String {
    refused.iter().map(|(symbol, reason)| format!("{symbol} ({reason})")).collect::<Vec<_>>().join(", ")
}

/// Result of everything a command does.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Message, DETAIL and HINT of the server, which `tokio_postgres::Error` leaves out of its own text.
pub fn database_message(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => {
            let mut text = format!("{} (SQLSTATE {})", db.message(), db.code().code());
            for (label, part) in [("detail", db.detail()), ("hint", db.hint())] {
                if let Some(part) = part {
                    text.push_str(&format!("; {label}: {part}"));
                }
            }
            text
        }
        None => match std::error::Error::source(error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        },
    }
}
