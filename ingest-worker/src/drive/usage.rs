//! What a feed that is polled has taken of its vendor, and what is left.
//!
//! Vendors that count bytes count those of the last days, so days are what is kept. A worker that starts reads them from
//! `market.feed_usage`; rows hold totals of a day and not what was added, so that storing one twice changes nothing.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use chrono::{Days, NaiveDate, NaiveTime};

use crate::{kinds::Timestamp, store::UsageRow, wire::Bandwidth};

/// Totals by day, shared by the lanes of a feed.
pub(super) struct Usage {
    allowed: Option<Bandwidth>,
    days: Mutex<BTreeMap<NaiveDate, UsageRow>>,
}

impl Usage {
    pub(super) fn new(rows: Vec<UsageRow>, allowed: Option<Bandwidth>) -> Self {
        Usage { allowed, days: Mutex::new(rows.into_iter().map(|row| (row.day, row)).collect()) }
    }

    /// Counts an answer.
    pub(super) fn count(&self, now: Timestamp, bytes: usize) {
        let day = now.date_naive();
        let mut days = self.days.lock().unwrap_or_else(PoisonError::into_inner);
        let row = days.entry(day).or_insert_with(|| UsageRow { day, requests: 0, bytes: 0, allowed: None });
        row.requests += 1;
        row.bytes += i64::try_from(bytes).unwrap_or(i64::MAX);
        row.allowed = self.allowed.and_then(|allowed| i64::try_from(allowed.bytes).ok());
    }

    /// The day as it stands.
    pub(super) fn row(&self, now: Timestamp) -> Option<UsageRow> {
        self.days.lock().unwrap_or_else(PoisonError::into_inner).get(&now.date_naive()).cloned()
    }

    /// How long to wait before anything is asked: until a day is over, where the last ones have taken all that is allowed.
    pub(super) fn wait(&self, now: Timestamp) -> Option<Duration> {
        let allowed = self.allowed?;
        let today = now.date_naive();
        let since = today.checked_sub_days(Days::new(u64::from(allowed.days.saturating_sub(1))))?;
        let days = self.days.lock().unwrap_or_else(PoisonError::into_inner);
        let spent: i64 = days.range(since..=today).map(|(_, row)| row.bytes).sum();
        if u64::try_from(spent).unwrap_or(0) < allowed.bytes {
            return None;
        }
        let midnight = today.succ_opt()?.and_time(NaiveTime::MIN).and_utc();
        (midnight - now).to_std().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_last_days_have_taken_is_waited_out() {
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let day =
            |text: &str, bytes| UsageRow { day: at(text).date_naive(), requests: 1, bytes, allowed: None };
        let stored = vec![day("2026-10-21T00:00:00Z", 900), day("2026-10-22T00:00:00Z", 60)];
        let usage = Usage::new(stored, Some(Bandwidth { bytes: 100, days: 30 }));
        let now = at("2026-11-20T18:00:00Z");
        assert_eq!(usage.wait(now), None, "of thirty days the oldest is 22 October");
        usage.count(now, 30);
        assert_eq!(usage.wait(now), None);
        usage.count(now, 10);
        assert_eq!(usage.wait(now), Some(Duration::from_secs(6 * 3_600)));
        assert_eq!(
            usage.row(now).map(|row| (row.requests, row.bytes, row.allowed)),
            Some((2, 40, Some(100)))
        );
        assert_eq!(usage.wait(at("2026-11-21T00:00:00Z")), None, "a day has left the thirty");
        let unbounded = Usage::new(vec![day("2026-11-20T00:00:00Z", i64::MAX)], None);
        assert_eq!(unbounded.wait(now), None);
    }
}
