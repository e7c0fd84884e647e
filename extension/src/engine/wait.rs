//! Waiting as a backend must: on its latch, with cancel, timeouts and termination served meanwhile.
#![allow(unsafe_code)] // the server's latch

use crate::error::{Error, Result};
use crate::guc;
use pgrx::{check_for_interrupts, pg_sys};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

/// When a request has taken too long for `kronos.request_timeout`.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    since: Instant,
    limit: Option<Duration>,
}

impl Patience {
    /// That of this session, beginning now.
    pub fn of_session() -> Self {
        Self { since: Instant::now(), limit: guc::request_timeout() }
    }

    /// What is left; `None` when nothing limits it.
    fn left(&self) -> Result<Option<Duration>> {
        let Some(limit) = self.limit else { return Ok(None) };
        match limit.saturating_sub(self.since.elapsed()) {
            Duration::ZERO => Err(Error::RequestTimeout { limit }),
            left => Ok(Some(left)),
        }
    }
}

/// What a descriptor is awaited for.
#[derive(Debug, Clone, Copy)]
pub enum Readiness {
    /// Something to read, or a hang-up.
    Readable,
    /// Room to write, or a hang-up.
    Writable,
}

/// Waits until a descriptor is ready, `at_most` has passed, or the latch was set; the caller looks again.
///
/// # Errors
/// [`Error::RequestTimeout`]. A cancelled query leaves by unwinding, which drops what the caller holds.
pub fn wait(
    on: Option<(BorrowedFd<'_>, Readiness)>,
    patience: Patience,
    at_most: Option<Duration>,
) -> Result<()> {
    let left = patience.left()?;
    let timeout = [left, at_most].into_iter().flatten().min();
    let mut events = pg_sys::WL_LATCH_SET | pg_sys::WL_EXIT_ON_PM_DEATH;
    if timeout.is_some() {
        events |= pg_sys::WL_TIMEOUT;
    }
    let descriptor = match on {
        Some((descriptor, Readiness::Readable)) => {
            events |= pg_sys::WL_SOCKET_READABLE;
            descriptor.as_raw_fd()
        }
        Some((descriptor, Readiness::Writable)) => {
            events |= pg_sys::WL_SOCKET_WRITEABLE;
            descriptor.as_raw_fd()
        }
        None => pg_sys::PGINVALID_SOCKET,
    };
    // Rounded up, so that the last wait does not spin.
    let milliseconds = timeout
        .map_or(-1, |timeout| i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX).saturating_add(1));
    // SAFETY: the main thread of a backend, whose latch is initialised; the descriptor is borrowed and so open.
    unsafe {
        let happened = pg_sys::WaitLatchOrSocket(
            pg_sys::MyLatch,
            events as i32,
            descriptor,
            milliseconds,
            pg_sys::PG_WAIT_EXTENSION,
        );
        if happened as u32 & pg_sys::WL_LATCH_SET != 0 {
            pg_sys::ResetLatch(pg_sys::MyLatch);
        }
    }
    check_for_interrupts!();
    Ok(())
}
