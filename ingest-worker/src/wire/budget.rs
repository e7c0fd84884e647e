//! How many requests a vendor takes: one bucket for each of its limits, whatever the endpoint.

use std::{
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed},
};
use tokio::time::Instant;

/// A limit of a vendor's: so many requests in a time, of which some may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Name within the feed.
    pub name: &'static str,
    pub requests: u32,
    pub per: Duration,
    pub burst: u32,
}

/// So many bytes of answers in the last days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bandwidth {
    pub bytes: u64,
    pub days: u32,
}

/// tokio's clock, which tests run ahead.
#[derive(Clone, Debug)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.0.elapsed())
    }
}

/// What is left of a limit. Rejected: a pause after each request, which wastes what a vendor allows whenever answers are slow.
pub struct Budget {
    clock: TokioClock,
    bucket: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Nanos>>,
    /// Until when the vendor has asked not to be asked.
    held_until: Mutex<Instant>,
}

impl Budget {
    /// A full bucket.
    pub fn new(limit: Limit) -> Self {
        let clock = TokioClock(Instant::now());
        let burst = NonZeroU32::new(limit.burst).unwrap_or(NonZeroU32::MIN);
        let each = limit.per / limit.requests.max(1);
        let quota = Quota::with_period(each).unwrap_or(Quota::per_second(NonZeroU32::MAX)).allow_burst(burst);
        let held_until = Mutex::new(clock.0);
        Budget { bucket: RateLimiter::direct_with_clock(quota, clock.clone()), clock, held_until }
    }

    /// Waits until a request may be sent, and takes it off the budget.
    pub async fn ready(&self) {
        loop {
            let held_until = *self.held_until.lock().unwrap_or_else(PoisonError::into_inner);
            tokio::time::sleep_until(held_until).await;
            match self.bucket.check() {
                Ok(()) => return,
                Err(refusal) => tokio::time::sleep(refusal.wait_time_from(self.clock.now())).await,
            }
        }
    }

    /// Lets nobody ask for `wait`: the vendor knows better what is left.
    pub fn hold(&self, wait: Duration) {
        let mut held_until = self.held_until.lock().unwrap_or_else(PoisonError::into_inner);
        *held_until = held_until.max(Instant::now() + wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_are_spread_as_the_limit_has_it() {
        let limit = Limit { name: "all", requests: 60, per: Duration::from_secs(60), burst: 5 };
        let budget = Budget::new(limit);
        let started = Instant::now();
        for _ in 0..5 {
            budget.ready().await;
        }
        assert_eq!(started.elapsed(), Duration::ZERO, "a burst");
        for _ in 0..10 {
            budget.ready().await;
        }
        assert_eq!(started.elapsed().as_secs(), 10);
        budget.hold(Duration::from_secs(100));
        budget.hold(Duration::from_secs(1));
        budget.ready().await;
        assert_eq!(started.elapsed().as_secs(), 110, "what the vendor says counts more");
    }

    #[tokio::test(start_paused = true)]
    async fn no_limit_makes_the_bucket_fail() {
        for (requests, per, burst) in [(0, 1, 0), (1, 0, 1), (u32::MAX, 1, u32::MAX)] {
            let per = Duration::from_secs(per);
            Budget::new(Limit { name: "odd", requests, per, burst }).ready().await;
        }
    }
}
