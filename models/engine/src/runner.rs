//! What serves one model: the inbox of its requests, and what it asks for next.

use crate::job::{self, CallerId, Job};
use crate::message::ModelSource;
use crate::shared::Shared;
use kronos_models::error::ModelError;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// After how long without work free memory goes back to the system.
const LULL: Duration = Duration::from_secs(1);

/// How often waiting for memory looks at what else has happened.
pub(crate) const GLANCE: Duration = Duration::from_millis(20);

/// The thread of one model, as it looks at what it shares with the others.
pub(crate) struct Runner<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) source: &'a ModelSource,
}

/// How the life of a model ended.
pub(crate) enum End {
    /// It could not be loaded; its slot is gone.
    Refused,
    /// A request asked for its end.
    Unload(Job),
    /// Its memory was needed, its batch was lost, or nobody waited for it any more.
    Evicted,
}

/// What the inbox asks for.
pub(crate) enum Call {
    Work,
    Unload(Job),
    Evict,
}

impl Runner<'_> {
    /// Takes what is in the inbox, waiting for it when there is nothing else to do.
    pub(crate) fn collect(&self, jobs: &mut Vec<Job>, lately: &mut Vec<(CallerId, Instant)>) -> Call {
        let version = &self.source.version;
        let mut state = self.shared.state();
        let window = state.settings.batch_window;
        let was_idle = jobs.is_empty();
        let shared = self.shared;
        let mut trimmed = false;
        let mut deadline = None;
        loop {
            // This thread alone removes its slot, and only after it has left this function.
            let Some(slot) = state.slots.get_mut(version) else { return Call::Evict };
            while let Some(job) = slot.inbox.pop_front() {
                if job.ticket.is_cancelled() {
                    drop(state);
                    drop(job);
                    return Call::Work;
                }
                match job.work {
                    job::Work::Unload if jobs.is_empty() => return Call::Unload(job),
                    job::Work::Unload => {
                        // Everything that came before it is answered first.
                        slot.inbox.push_front(job);
                        return Call::Work;
                    }
                    _ => jobs.push(job),
                }
            }
            slot.idle = jobs.is_empty();
            if slot.idle && slot.evict {
                return Call::Evict;
            }
            let wake = slot.wake.clone();
            if slot.idle && trimmed {
                state = wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            if slot.idle {
                let (kept, waited) = wake.wait_timeout(state, LULL).unwrap_or_else(PoisonError::into_inner);
                state = kept;
                if waited.timed_out() {
                    drop(state);
                    shared.trim();
                    trimmed = true;
                    state = shared.state();
                }
                continue;
            }
            if !was_idle {
                return Call::Work;
            }
            // Callers served a moment ago are about to ask again: those few milliseconds make one batch of them.
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + window);
            let left = deadline.saturating_duration_since(Instant::now());
            if !awaits(lately, jobs, window) || left.is_zero() {
                return Call::Work;
            }
            state = wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Whether callers served a moment ago have not asked again.
pub(crate) fn awaits(lately: &mut Vec<(CallerId, Instant)>, jobs: &[Job], window: Duration) -> bool {
    lately.retain(|(_, at)| at.elapsed() < 4 * window);
    lately.iter().any(|(caller, _)| jobs.iter().all(|job| job.ticket.caller != *caller))
}

/// The threads of a device could not be started.
pub(crate) fn threads(error: rayon::ThreadPoolBuildError) -> ModelError {
    ModelError::Backend(candle_core::Error::Msg(format!("could not start threads: {error}")))
}
