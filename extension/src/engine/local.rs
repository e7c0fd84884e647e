//! The engine inside the calling backend: one helper thread that owns the models.
//!
//! PostgreSQL is single-threaded and delivers its signals to whichever thread has them unblocked. So the helper is
//! born with every signal blocked, all threads of its pool inherit that, and none of them ever calls the server. The
//! backend waits on its latch as it would for a socket: cancel, timeouts and termination are served meanwhile.
#![allow(unsafe_code)] // the server's latch, a thread's signal mask, an event descriptor

use super::cache::Models;
use super::{Failure, Limits, Reply, Request};
use crate::error::{Error, Result};
use crate::guc;
use pgrx::{check_for_interrupts, pg_sys};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::cell::RefCell;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// One request on its way to the helper.
struct Job {
    request: Request,
    limits: Limits,
    answer: Answer,
}

/// What backend and helper share about one request.
#[derive(Default)]
struct Exchange {
    reply: Mutex<Option<Result<Reply, Failure>>>,
    /// Set by the backend when it no longer waits.
    cancelled: AtomicBool,
}

impl Exchange {
    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Result<Reply, Failure>>> {
        // The slot is written whole or not at all, so a panic elsewhere cannot have left it half done.
        self.reply.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The helper's end of a request; a helper that dies with it still leaves an answer.
struct Answer {
    exchange: Arc<Exchange>,
    wake: Arc<Wake>,
}

impl Answer {
    fn give(&self, reply: Result<Reply, Failure>) {
        *self.exchange.slot() = Some(reply);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.exchange
            .slot()
            .get_or_insert_with(|| Err(Failure::Broken { reason: "the helper thread ended early".into() }));
        self.wake.signal();
    }
}

/// The backend's end of a request: no longer waiting means cancelled.
struct Asked(Arc<Exchange>);

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }
}

/// A descriptor that becomes readable when an answer is there.
struct Wake(OwnedFd);

impl Wake {
    fn new() -> std::io::Result<Self> {
        // SAFETY: eventfd has no preconditions; the descriptor is owned by nobody else.
        unsafe {
            let fd = libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
            if fd < 0 { Err(std::io::Error::last_os_error()) } else { Ok(Self(OwnedFd::from_raw_fd(fd))) }
        }
    }

    fn signal(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: writes eight bytes from a buffer of eight. It fails only when the counter is full, which is readable.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    fn clear(&self) {
        let mut count = [0u8; 8];
        // SAFETY: reads at most eight bytes into a buffer of eight. It fails only when there was nothing to clear.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

/// The helper as the backend sees it.
struct Helper {
    jobs: Sender<Job>,
    wake: Arc<Wake>,
}

thread_local! {
    /// Only the backend's main thread makes requests, so this is one per process.
    static HELPER: RefCell<Option<Helper>> = const { RefCell::new(None) };
}

/// Has the helper answer a request, serving interrupts until it has.
///
/// # Errors
/// The engine's own, or a timeout by `kronos.request_timeout`. A cancelled query leaves through the server's own
/// error; the helper then stops at its next check.
pub fn call(request: Request) -> Result<Reply> {
    let (asked, wake) = HELPER.with_borrow_mut(|helper| submit(helper, request))?;
    let reply = wait(&asked, &wake)?;
    if matches!(reply, Err(Failure::Broken { .. })) {
        HELPER.set(None);
    }
    reply.map_err(Error::from)
}

/// Hands a request to the helper, starting one where there is none.
fn submit(helper: &mut Option<Helper>, request: Request) -> Result<(Asked, Arc<Wake>)> {
    let Helper { jobs, wake } = match helper {
        Some(helper) => helper,
        None => helper.insert(start().map_err(|source| Error::EngineFailed { reason: source.to_string() })?),
    };
    let exchange = Arc::new(Exchange::default());
    let answer = Answer { exchange: exchange.clone(), wake: wake.clone() };
    let asked = (Asked(exchange), wake.clone());
    // A helper that is gone drops the job, and dropping it leaves an answer.
    drop(jobs.send(Job { request, limits: Limits::from_settings(), answer }));
    Ok(asked)
}

/// Waits for an answer on the latch.
fn wait(asked: &Asked, wake: &Wake) -> Result<Result<Reply, Failure>> {
    let started = Instant::now();
    let timeout = guc::request_timeout();
    loop {
        wake.clear();
        if let Some(reply) = asked.0.slot().take() {
            return Ok(reply);
        }
        let mut events = pg_sys::WL_LATCH_SET | pg_sys::WL_SOCKET_READABLE | pg_sys::WL_EXIT_ON_PM_DEATH;
        let mut milliseconds = -1;
        if let Some(timeout) = timeout {
            let left = timeout.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Err(Error::RequestTimeout { limit: timeout });
            }
            events |= pg_sys::WL_TIMEOUT;
            // Rounded up, so that the last wait does not spin.
            milliseconds = i64::try_from(left.as_millis()).unwrap_or(i64::MAX).saturating_add(1);
        }
        // SAFETY: the main thread of a backend, whose latch is initialised; the descriptor is open while `wake` lives.
        unsafe {
            let happened = pg_sys::WaitLatchOrSocket(
                pg_sys::MyLatch,
                events as i32,
                wake.0.as_raw_fd(),
                milliseconds,
                pg_sys::PG_WAIT_EXTENSION,
            );
            if happened as u32 & pg_sys::WL_LATCH_SET != 0 {
                pg_sys::ResetLatch(pg_sys::MyLatch);
            }
        }
        // Leaves by unwinding, which drops the caller's `Asked` and so cancels the work.
        check_for_interrupts!();
    }
}

/// Starts a helper thread with every signal blocked.
fn start() -> std::io::Result<Helper> {
    let wake = Arc::new(Wake::new()?);
    let (jobs, queue) = channel();
    let _blocked = BlockedSignals::new();
    std::thread::Builder::new().name("kronos-engine".into()).spawn(move || serve(&queue))?;
    Ok(Helper { jobs, wake })
}

/// Every signal of this thread blocked until dropped.
struct BlockedSignals(libc::sigset_t);

impl BlockedSignals {
    fn new() -> Self {
        // SAFETY: both sets are initialised by the calls before anything reads them.
        unsafe {
            let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
            Self(before)
        }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: restores the mask this thread had.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }
}

/// The helper's life: answers jobs until the backend lets go of it, or until one of them panics.
fn serve(queue: &Receiver<Job>) {
    let mut models = Models::default();
    let mut pool: Option<ThreadPool> = None;
    while let Ok(Job { request, limits, answer }) = queue.recv() {
        let interrupt = &answer.exchange.cancelled;
        if interrupt.load(Ordering::Relaxed) {
            continue;
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let pool = match pool.take().filter(|pool| pool.current_num_threads() == limits.threads) {
                Some(kept) => pool.insert(kept),
                None => pool.insert(threads(limits.threads)?),
            };
            pool.install(|| models.answer(request, limits, interrupt))
        }));
        match outcome {
            Ok(reply) => answer.give(reply),
            Err(cause) => {
                // What the panic left behind is not trusted: the thread ends with it, and the backend starts another.
                answer.give(Err(Failure::Broken { reason: text_of(cause.as_ref()) }));
                return;
            }
        }
    }
}

/// A pool of its own, because the process-wide one could not be resized or bounded.
fn threads(count: usize) -> Result<ThreadPool, Failure> {
    ThreadPoolBuilder::new()
        .num_threads(count)
        .thread_name(|index| format!("kronos-{index}"))
        .build()
        .map_err(|error| Failure::Broken { reason: error.to_string() })
}

fn text_of(cause: &(dyn std::any::Any + Send)) -> String {
    cause
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| cause.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> (Answer, Asked, Arc<Wake>) {
        let (exchange, wake) = (Arc::new(Exchange::default()), Arc::new(Wake::new().unwrap()));
        (Answer { exchange: exchange.clone(), wake: wake.clone() }, Asked(exchange), wake)
    }

    fn readable(wake: &Wake) -> bool {
        let mut poll = libc::pollfd { fd: wake.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor, which is open.
        unsafe { libc::poll(&mut poll, 1, 0) == 1 }
    }

    #[test]
    fn a_request_lost_by_the_helper_still_wakes_the_backend() {
        let (answer, asked, wake) = asked();
        assert!(!readable(&wake));
        drop(answer);
        assert!(readable(&wake));
        assert!(matches!(asked.0.slot().take(), Some(Err(Failure::Broken { .. }))));
        wake.clear();
        assert!(!readable(&wake));
    }

    #[test]
    fn an_answer_given_is_the_answer_kept() {
        let (answer, asked, _) = asked();
        answer.give(Ok(Reply::Unload(true)));
        drop(answer);
        assert!(matches!(asked.0.slot().take(), Some(Ok(Reply::Unload(true)))));
    }

    #[test]
    fn no_longer_waiting_means_cancelled() {
        let (answer, asked, _) = asked();
        drop(asked);
        assert!(answer.exchange.cancelled.load(Ordering::Relaxed));
    }
}
