//! What a model has seen in training.

use crate::calendar::Instant;
use pgrx::datum::Date;
use std::collections::HashSet;

const DAY: Instant = 86_400_000_000;

/// What is registered of a model's training.
pub struct Seen {
    /// The last day of its data.
    pub until: Option<Date>,
    /// Keys of its series; `None`: any may be among them.
    pub series: Option<HashSet<String>>,
}

impl Seen {
    /// Whether the model has seen a series whose scored rows begin at `first`; `None` where nobody knows.
    pub fn contaminates(&self, series: Option<&str>, first: Option<&Instant>) -> Option<bool> {
        if let (Some(seen), Some(series)) = (&self.series, series)
            && !seen.contains(series)
        {
            return Some(false);
        }
        let trained_until = (Instant::from(self.until?.to_pg_epoch_days()) + 1) * DAY;
        first.map(|&first| first < trained_until)
    }
}
