//! One question that is put again and again, and when its turn is.

use std::{cmp::Reverse, time::Duration};

use tokio::time::Instant;

use super::Place;
use crate::{
    error::FeedError,
    feeds::{Endpoint, Polled, Question},
    kinds::Timestamp,
    wire::Backoff,
};

/// One question that is put again and again.
pub(super) struct Task {
    pub(super) endpoint: &'static Endpoint,
    /// Spelling of the feed.
    pub(super) native: Option<String>,
    pub(super) symbol: String,
    pub(super) sequence: i64,
    pub(super) place: Option<Place>,
    pub(super) due: Instant,
    /// How long it rests between two readings.
    pub(super) every: Duration,
    pub(super) backoff: Backoff,
    pub(super) is_refused: bool,
    /// Whether it was answered whole since the worker started.
    pub(super) is_read: bool,
    /// Whether it was refused since then, and rests.
    pub(super) is_resting: bool,
    /// Attempts that failed in a row, and why the last one did.
    pub(super) failures: u32,
    pub(super) reason: String,
}

impl Task {
    /// What is asked at `now`.
    pub(super) fn question(&self, now: Timestamp) -> Question<'_> {
        let position = self.place.as_ref().and_then(|place| place.position.as_ref());
        Question { endpoint: self.endpoint, symbol: self.native.as_deref(), position, now }
    }

    /// Refuses an answer that promises more from where it was asked: it would be asked for ever.
    pub(super) fn goes_on(&self, polled: Polled) -> Result<Polled, FeedError> {
        let before = self.place.as_ref().and_then(|place| place.position.as_ref());
        if polled.has_more && (polled.position.is_none() || polled.position.as_ref() == before) {
            return Err(FeedError::Rejected("a page that says it is followed by itself".to_owned()));
        }
        Ok(polled)
    }

    pub(super) fn turn(&self, now: Instant) -> Turn {
        match now.checked_duration_since(self.due) {
            Some(late) => {
                let lateness = late.as_nanos() * 1_000_000 / self.every.as_nanos().max(1);
                Turn::Due(Reverse(lateness), self.every)
            }
            None => Turn::Later(self.due),
        }
    }
}

/// The lowest goes first. Of questions that are due that which is late by most of its pause: news of minutes do not wait for a
/// first reading that takes days, and where there is too much to ask, each is asked in proportion to how often it should be.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    /// By how many millionths of its pause, and the pause.
    Due(Reverse<u128>, Duration),
    Later(Instant),
}
