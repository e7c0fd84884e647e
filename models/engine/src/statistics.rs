//! What each model has done since counting began.

use crate::clock::{UnixMicros, now};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Counters of one model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Requests answered or refused.
    pub calls: u64,
    /// Series in them.
    pub series: u64,
    /// Bars forecast, counted once per series whatever the number of paths.
    pub rows: u64,
    /// Requests refused, and series without paths.
    pub errors: u64,
    /// The newest of those errors.
    pub last_error: Option<String>,
    /// When it was.
    pub last_error_at: Option<UnixMicros>,
    /// From the arrival of requests to their last reply.
    pub total: Duration,
    /// The part of it before the first series was admitted.
    pub queued: Duration,
    /// Decode steps.
    pub steps: u64,
    /// Paths in those steps, summed.
    pub step_rows: u64,
}

impl Counters {
    /// Counts an error.
    pub fn fail(&mut self, reason: String) {
        self.errors += 1;
        self.last_error = Some(reason);
        self.last_error_at = Some(now());
    }
}

/// Resident memory of this process in bytes, 0 where the system does not tell.
pub fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|statm| statm.split(' ').nth(1)?.parse::<u64>().ok())
        .unwrap_or(0);
    pages * rustix::param::page_size() as u64
}
