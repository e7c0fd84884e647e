//! Answers, and what their status means.

use std::time::Duration;

use crate::{error::FeedError, exact::rfc3339, text::clean};

/// Longest wait that a peer may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);

/// What came back for a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    pub status: u16,
    /// How long the peer asks to wait, by `Retry-After` or by a limit that is used up.
    pub wait: Option<Duration>,
    /// `Content-Type`; empty where there was none.
    pub content_type: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body of a success.
    ///
    /// # Errors
    /// As [`classify`].
    pub fn success(self) -> Result<Vec<u8>, FeedError> {
        classify(self.status, self.wait, &self.body)?;
        Ok(self.body)
    }

    /// Whether it is a success and no page for people.
    pub(super) fn is_data(&self) -> bool {
        let is_page = self.content_type.starts_with("text/html");
        let first = self.body.iter().find(|byte| !byte.is_ascii_whitespace());
        (200..300).contains(&self.status) && !is_page && first != Some(&b'<')
    }

    /// The body of a success that is JSON.
    ///
    /// # Errors
    /// As [`classify`]; [`FeedError::Transient`] for a page for people (a notice of maintenance, a proxy's error), which
    /// comes with a status of success, too.
    pub fn json(self) -> Result<Vec<u8>, FeedError> {
        let is_data = self.is_data();
        let body = self.success()?;
        match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
            _ if !is_data => Err(FeedError::Transient(told("a page instead of JSON:", &body))),
            None => Err(FeedError::Transient("an empty answer instead of JSON".to_owned())),
            _ => Ok(body),
        }
    }
}

/// The beginning of a body, for messages.
fn told(what: &str, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(200)]);
    format!("{what} {}", clean(&text))
}

/// What an HTTP status means. 404 and its kin concern the request, not the feed.
///
/// # Errors
/// Everything but a success.
pub(super) fn classify(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Result<(), FeedError> {
    let reason = told(&format!("HTTP {status}"), body);
    match status {
        200..=299 => Ok(()),
        429 | 418 => Err(FeedError::RateLimited { reason, retry_after }),
        401 => Err(FeedError::Fatal(reason)),
        402 | 403 => Err(FeedError::NotInPlan(reason)),
        408 | 425 | 500..=599 => Err(FeedError::Transient(reason)),
        _ => Err(FeedError::Rejected(reason)),
    }
}

/// `Retry-After` as seconds, or as a time of the peer's, in seconds since 1970 `now`.
pub(super) fn retry_after(text: &str, now: i64) -> Option<Duration> {
    let text = text.trim();
    let seconds = match text.parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => {
            let until = chrono::DateTime::parse_from_rfc2822(text).ok()?.timestamp();
            u64::try_from(until.saturating_sub(now)).unwrap_or(0)
        }
    };
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

/// How long `X-RateLimit-Remaining` and `-Reset` ask to wait: nothing while more than `reserve` requests remain.
pub(super) fn used_up(remaining: &str, reset: &str, reserve: u64, now: i64) -> Option<Duration> {
    if remaining.trim().parse::<u64>().ok()? > reserve {
        return None;
    }
    let reset = reset.trim();
    // A time where it is one, else seconds from now.
    let wait = match reset.parse::<i64>() {
        Ok(time) if time > 1_000_000_000 => time.saturating_sub(now),
        Ok(seconds) => seconds,
        Err(_) => rfc3339(reset).ok()?.timestamp().saturating_sub(now),
    };
    Some(Duration::from_secs(u64::try_from(wait).unwrap_or(0)).min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    #[test]
    fn a_used_up_limit_is_waited_for() {
        let seconds = Duration::from_secs;
        assert_eq!(used_up("1", "1800000009", 0, NOW), None);
        assert_eq!(used_up("0", "1800000009", 0, NOW), Some(seconds(9)));
        assert_eq!(used_up("0", "7", 0, NOW), Some(seconds(7)));
        assert_eq!(used_up("0", "1799999999", 0, NOW), Some(Duration::ZERO));
        assert_eq!(used_up("0", "soon", 0, NOW), None);
        // The last ones are left where the counter is known to jump; a reset may be a time in words.
        assert_eq!(used_up("51", "2027-01-15T08:00:30Z", 50, NOW), None);
        assert_eq!(used_up("50", "2027-01-15T08:00:30.000Z", 50, NOW), Some(seconds(30)));
    }

    #[test]
    fn both_forms_of_retry_after_are_read() {
        for (text, expected) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("Fri, 15 Jan 2027 08:00:30 GMT", Some(30)),
            ("Fri, 15 Jan 2027 07:59:00 GMT", Some(0)),
            ("999999999", Some(86_400)),
            ("Fri, 15 Jan 2100 08:00:00 GMT", Some(86_400)),
            ("soon", None),
            ("-3", None),
            ("", None),
        ] {
            assert_eq!(retry_after(text, NOW).map(|wait| wait.as_secs()), expected, "{text}");
        }
    }

    #[test]
    fn statuses_are_told_apart() {
        let wait = Some(Duration::from_secs(7));
        assert!(classify(200, None, b"").is_ok());
        assert!(
            matches!(classify(429, wait, b""), Err(FeedError::RateLimited { retry_after, .. }) if retry_after == wait)
        );
        assert!(matches!(classify(401, None, b""), Err(FeedError::Fatal(_))));
        for status in [402, 403] {
            assert!(matches!(classify(status, None, b""), Err(FeedError::NotInPlan(_))), "{status}");
        }
        assert!(
            matches!(classify(503, None, b"busy"), Err(FeedError::Transient(text)) if text.contains("busy"))
        );
        for status in [301, 404] {
            assert!(matches!(classify(status, None, b"<html>"), Err(FeedError::Rejected(_))), "{status}");
        }
    }

    #[test]
    fn a_page_for_people_is_no_json() {
        let answer = |content_type: &str, body: &str| {
            Answer { status: 200, wait: None, content_type: content_type.to_owned(), body: body.into() }
                .json()
        };
        assert_eq!(answer("application/json", "{}"), Ok(b"{}".to_vec()));
        assert_eq!(answer("", " []"), Ok(b" []".to_vec()));
        for (content_type, body) in [("text/html; charset=utf-8", "{}"), ("", "\n<!doctype html>"), ("", " ")]
        {
            assert!(matches!(answer(content_type, body), Err(FeedError::Transient(_))), "{body}");
        }
    }
}
