//! The engine inside the calling backend: the same as the service's, without a process of its own.
//!
//! PostgreSQL is single-threaded and delivers its signals to whichever thread has them unblocked. So the engine's
//! threads are born with every signal blocked, all threads they start inherit that, and none of them ever calls the
//! server. The backend waits on its latch as it would for a socket.
#![allow(unsafe_code)] // a thread's signal mask

use super::wait::{Patience, Readiness, wait};
use crate::error::{Error, Result};
use crate::service;
use kronos_engine::answer::{Answer, Assembly};
use kronos_engine::core::{Core, Origin};
use kronos_engine::job::{CallerId, Delivery, RequestId, Sink};
use kronos_engine::message::{Request, Settings};
use kronos_models::families::FAMILIES;
use rustix::event::{EventfdFlags, eventfd};
use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

/// The one caller of a backend's own engine.
const SELF: CallerId = 0;

/// Replies on their way to the backend's main thread.
struct Mailbox {
    replies: Sender<(RequestId, Delivery)>,
    wake: Arc<OwnedFd>,
}

impl Sink for Mailbox {
    fn deliver(&self, _: CallerId, request: RequestId, delivery: Delivery) {
        // The receiver lives as long as the backend.
        if self.replies.send((request, delivery)).is_ok() {
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }
    }
}

struct Engine {
    core: Core,
    settings: Settings,
    replies: Receiver<(RequestId, Delivery)>,
    wake: Arc<OwnedFd>,
}

thread_local! {
    /// Only the backend's main thread makes requests, so this is one per process.
    static ENGINE: RefCell<Option<Engine>> = const { RefCell::new(None) };
}

/// A request nobody waits for any more is cancelled.
struct Asked {
    core: Core,
    id: RequestId,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.core.cancel(self.id);
    }
}

/// Has the backend's own engine answer a request, serving interrupts until it has.
///
/// # Errors
/// The engine's own, or a timeout by `kronos.request_timeout`.
pub fn call(request: Request) -> Result<Answer> {
    ENGINE.with_borrow_mut(|engine| {
        let engine = match engine {
            Some(engine) => engine,
            None => {
                engine.insert(start().map_err(|error| Error::EngineFailed { reason: error.to_string() })?)
            }
        };
        engine.answer(request)
    })
}

fn start() -> std::io::Result<Engine> {
    let wake = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
    let (sender, replies) = channel();
    let settings = service::settings();
    // Each session with a context of its own on a GPU would leave no memory for models.
    let origin = Origin { families: FAMILIES, restarts: 0, trim: service::trim, gpus: None };
    let core = Core::new(settings.clone(), origin, Mailbox { replies: sender, wake: wake.clone() });
    Ok(Engine { core, settings, replies, wake })
}

impl Engine {
    fn answer(&mut self, request: Request) -> Result<Answer> {
        let patience = Patience::of_session();
        let settings = service::settings();
        if settings != self.settings {
            self.settings = settings.clone();
            self.submit(Request::Configure(settings));
        }
        let mut assembly = Assembly::new(request.series_count());
        let asked = Asked { core: self.core.clone(), id: self.submit(request) };
        loop {
            // Fails when there was nothing to clear.
            let _ = rustix::io::read(&self.wake, &mut [0; 8]);
            // Replies to requests given up before are still in the mailbox.
            while let Ok((id, delivery)) = self.replies.try_recv() {
                if id == asked.id
                    && let Some(answer) = assembly.take(delivery.into_reply())?
                {
                    return Ok(answer);
                }
            }
            wait(Some((self.wake.as_fd(), Readiness::Readable)), patience, None)?;
        }
    }

    /// The runners that a request may start inherit the mask.
    fn submit(&self, request: Request) -> RequestId {
        let _blocked = BlockedSignals::new();
        self.core.submit(SELF, std::process::id(), request, 1)
    }
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
