//! A REST question as it comes: a path and the parameters after it.

use chrono::DateTime;

/// A question: its path and the parameters after it.
pub(crate) struct Question<'a> {
    pub path: &'a str,
    query: &'a str,
}

impl<'a> Question<'a> {
    pub(crate) fn new(target: &'a str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self { path, query }
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<&'a str> {
        self.query
            .split('&')
            .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value))
    }

    /// A number, or the seconds of a time in RFC 3339.
    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        let text = self.parameter(name)?;
        text.parse().ok().or_else(|| Some(DateTime::parse_from_rfc3339(text).ok()?.timestamp()))
    }

    /// Microseconds of a time in RFC 3339.
    pub(crate) fn micros(&self, name: &str) -> Option<i64> {
        Some(DateTime::parse_from_rfc3339(self.parameter(name)?).ok()?.timestamp_micros())
    }

    /// The part of the path before the last.
    pub(crate) fn product(&self) -> &'a str {
        self.path.rsplit('/').nth(1).unwrap_or_default()
    }
}
