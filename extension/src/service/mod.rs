//! The service: one engine for all sessions, in a process whose death ends none of them.
//!
//! A background worker only supervises ([`supervisor`]): PostgreSQL restarts every session when a process it counts as
//! its own dies by a signal, so native inference must not run in one. The engine is a child of the worker, forked
//! without exec and no longer a process of PostgreSQL ([`child`]). Sessions reach it by a Unix-domain socket in the
//! data directory ([`client`]); shared memory would save some 25 µs of a round trip and cost a bounded payload.

mod child;
pub mod client;
mod supervisor;

use crate::guc;
use kronos_engine::message::Settings;

pub use child::trim;
pub use supervisor::register;

/// The socket, relative to the data directory, which is the working directory of every process of the server.
const SOCKET: &str = "kronos.sock";

/// Held by the supervisor that may own the socket.
const LOCK: &str = "kronos.sock.lock";

/// What the configuration of this process tells an engine.
pub fn settings() -> Settings {
    Settings {
        threads: guc::threads(),
        memory: guc::max_cpu_memory(),
        batch_window: guc::batch_window(),
        max_queue: guc::max_queue(),
        track: guc::track(),
        model_dir: guc::model_dir(),
        built_in_dir: guc::share_dir(),
        devices: guc::devices(),
        gpu_memory: guc::max_gpu_memory(),
        gpu_precision: guc::gpu_precision(),
    }
}
