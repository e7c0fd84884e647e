//! Exponential back-off with jitter: 250 ms, doubling, at most 30 s where nobody says otherwise, plus up to 200 ms.

use std::time::Duration;

/// First delay.
const FIRST: Duration = Duration::from_millis(250);
/// Longest delay before jitter.
const LONGEST: Duration = Duration::from_secs(30);
/// Jitter keeps workers that lost the same server from coming back at the same instant.
const JITTER_MS: u64 = 200;

/// The delays of one connection. Who calls [`Backoff::reset`] decides what counts as health: for feeds it is a minute of
/// data, because a server that accepts and drops would otherwise be hammered.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
    random: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        use std::hash::{BuildHasher, RandomState};
        Backoff::seeded(RandomState::new().hash_one(std::process::id()))
    }
}

impl Backoff {
    /// A back-off whose jitter follows from `seed` (tests).
    pub fn seeded(seed: u64) -> Self {
        Backoff { next: FIRST, longest: LONGEST, random: seed | 1 }
    }

    /// A back-off whose delays grow to `longest` before jitter.
    pub fn up_to(longest: Duration) -> Self {
        Backoff { longest, ..Backoff::default() }
    }

    /// The next delay; the one after it is longer.
    pub fn next_delay(&mut self) -> Duration {
        // xorshift: jitter needs spread, not secrecy.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let delay = self.next + Duration::from_millis(self.random % (JITTER_MS + 1));
        self.next = self.next.saturating_mul(2).min(self.longest);
        delay
    }

    /// Starts over.
    pub fn reset(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_to_their_bound_with_jitter_and_start_over() {
        let mut backoff = Backoff::seeded(7);
        let delays: Vec<_> = (0..12).map(|_| backoff.next_delay()).collect();
        for (i, delay) in delays.iter().enumerate() {
            let base = (FIRST * 2u32.pow(i as u32)).min(LONGEST);
            assert!(*delay >= base && *delay <= base + Duration::from_millis(JITTER_MS), "{i}: {delay:?}");
        }
        assert!(delays.windows(2).any(|w| w[1].subsec_millis() % 250 != w[0].subsec_millis() % 250));
        backoff.reset();
        assert!(backoff.next_delay() <= FIRST + Duration::from_millis(JITTER_MS));
    }
}
