//! Asserting on the errors of the server.

/// An error of the server: what a user sees of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlFailure {
    /// The five characters of SQLSTATE.
    pub code: String,
    /// The primary message.
    pub message: String,
    /// DETAIL, empty when there is none.
    pub detail: String,
    /// HINT, empty when there is none.
    pub hint: String,
}

impl SqlFailure {
    /// What the server said; fails when the error is not the server's.
    #[track_caller]
    pub fn new(error: &postgres::Error) -> Self {
        let Some(error) = error.as_db_error() else { panic!("the server did not raise this error: {error}") };
        Self {
            code: error.code().code().to_owned(),
            message: error.message().to_owned(),
            detail: error.detail().unwrap_or_default().to_owned(),
            hint: error.hint().unwrap_or_default().to_owned(),
        }
    }

    /// Asserts the SQLSTATE, and that the message contains `message`.
    #[track_caller]
    pub fn is(&self, code: &str, message: &str) -> &Self {
        assert!(
            self.code == code && self.message.contains(message),
            "wanted {code} {message:?}, got {self:?}"
        );
        self
    }

    /// Asserts that the DETAIL contains `text`.
    #[track_caller]
    pub fn detail(&self, text: &str) -> &Self {
        assert!(self.detail.contains(text), "wanted a DETAIL with {text:?}, got {self:?}");
        self
    }

    /// Asserts that the HINT contains `text`.
    #[track_caller]
    pub fn hint(&self, text: &str) -> &Self {
        assert!(self.hint.contains(text), "wanted a HINT with {text:?}, got {self:?}");
        self
    }
}
