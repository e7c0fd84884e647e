//! Memory as it is promised: nothing is allocated for a model or a series before its bytes are reserved here.

use kronos_models::error::ModelError;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The bytes of one device and who has them.
#[derive(Debug)]
pub struct Ledger {
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug)]
struct State {
    limit: u64,
    used: u64,
}

/// Bytes taken from a [`Ledger`], given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    ledger: Arc<Ledger>,
    bytes: u64,
}

impl Ledger {
    /// A ledger of `limit` bytes.
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { limit, used: 0 }), freed: Condvar::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Two integers, changed together under the lock: a panic elsewhere cannot have left them half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that may be reserved in all.
    pub fn limit(&self) -> u64 {
        self.state().limit
    }

    /// Bytes reserved.
    pub fn used(&self) -> u64 {
        self.state().used
    }

    /// Changes the limit; what is reserved beyond it stays until it is given back.
    pub fn set_limit(&self, limit: u64) {
        self.state().limit = limit;
        self.freed.notify_all();
    }

    /// Takes bytes if they are there.
    pub fn reserve(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        let mut state = self.state();
        let used = state.used.checked_add(bytes).filter(|&used| used <= state.limit)?;
        state.used = used;
        Some(Reservation { ledger: self.clone(), bytes })
    }

    /// Waits until something was given back, at most `timeout`.
    pub fn wait_for_change(&self, timeout: Duration) {
        let state = self.state();
        drop(self.freed.wait_timeout(state, timeout));
    }
}

/// Asks the system whether it would give so many bytes now, and keeps none of them.
///
/// A failed allocation ends a process; what is large is asked for here first, so that it only ends a request.
///
/// # Errors
/// [`ModelError::OutOfMemory`].
pub fn probe(what: &'static str, bytes: u64) -> Result<(), ModelError> {
    let mut room = Vec::<u8>::new();
    let given = usize::try_from(bytes).is_ok_and(|bytes| room.try_reserve_exact(bytes).is_ok());
    // Looked at, or the compiler would find that nobody needs the bytes.
    std::hint::black_box(&room);
    if given { Ok(()) } else { Err(ModelError::OutOfMemory { what, needed: bytes }) }
}

impl Reservation {
    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Holds `bytes` from now on, even where that exceeds the limit: the bytes are in use, as it turned out.
    pub fn correct(&mut self, bytes: u64) {
        let mut state = self.ledger.state();
        state.used = state.used.saturating_sub(self.bytes).saturating_add(bytes);
        self.bytes = bytes;
        drop(state);
        self.ledger.freed.notify_all();
    }

    /// Hands a part of the bytes on, at most all of them.
    pub fn split(&mut self, bytes: u64) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { ledger: self.ledger.clone(), bytes }
    }

    /// Whether more is reserved in all than the limit allows.
    pub fn is_over(&self) -> bool {
        let state = self.ledger.state();
        state.used > state.limit
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.correct(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back() {
        let ledger = Ledger::new(100);
        let held = ledger.reserve(60).unwrap();
        assert!(ledger.reserve(41).is_none());
        let rest = ledger.reserve(40).unwrap();
        assert_eq!(ledger.used(), 100);
        drop(held);
        assert_eq!(ledger.used(), 40);
        drop(rest);
        assert_eq!(ledger.used(), 0);
        assert!(ledger.reserve(u64::MAX).is_none());
    }

    #[test]
    fn a_reservation_is_corrected_to_what_is_in_use() {
        let ledger = Ledger::new(100);
        let mut held = ledger.reserve(60).unwrap();
        let other = ledger.reserve(30).unwrap();
        held.correct(20);
        assert_eq!((held.bytes(), ledger.used()), (20, 50));
        held.correct(90);
        assert!(held.is_over(), "in use, whatever the limit says");
        assert_eq!(ledger.used(), 120);
        drop(other);
        assert!(!held.is_over());
    }

    #[test]
    fn a_part_that_is_handed_on_comes_back_by_itself() {
        let ledger = Ledger::new(100);
        let mut held = ledger.reserve(60).unwrap();
        let part = held.split(25);
        assert_eq!((held.bytes(), part.bytes(), ledger.used()), (35, 25, 60));
        drop(held);
        assert_eq!(ledger.used(), 25);
        drop(part);
        assert_eq!(ledger.used(), 0);
        assert_eq!(ledger.reserve(10).unwrap().split(99).bytes(), 10, "no more than there is");
    }

    #[test]
    fn what_no_system_has_is_refused() {
        probe("the model", 1 << 20).unwrap();
        assert!(matches!(probe("the model", 1 << 62), Err(ModelError::OutOfMemory { .. })));
        assert!(probe("the model", u64::MAX).is_err());
    }

    #[test]
    fn a_lower_limit_takes_nothing_away() {
        let ledger = Ledger::new(100);
        let held = ledger.reserve(80).unwrap();
        ledger.set_limit(50);
        assert!(held.is_over());
        assert!(ledger.reserve(1).is_none());
        drop(held);
        assert!(ledger.reserve(50).is_some());
    }
}
