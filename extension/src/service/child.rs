//! The engine process: a child of the supervisor that is no process of PostgreSQL any more.
//!
//! It is forked without exec, so that the one library PostgreSQL installs is all there is, and before any thread or
//! device exists in the parent. What it inherits of the server it lets go of: handlers, exit callbacks, shared memory,
//! descriptors.
#![allow(unsafe_code)] // fork and what belongs to it

use kronos_engine::core::Origin;
use kronos_engine::message::Settings;
use kronos_engine::server;
use kronos_models::device::OPENER;
use kronos_models::families::FAMILIES;
use pgrx::pg_sys;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::net::UnixListener;

unsafe extern "C" {
    /// Exported by the server for its own child processes; not among the bindings.
    fn PGSharedMemoryDetach();
}

/// The system shall take this process before any of the server's when memory runs out.
const OOM_SCORE: &str = "500";

/// Allocations from this size on go back to the system as soon as they are freed; the largest the allocator accepts.
/// What a pass frees, the next takes again: getting it from the system each time would cost a page fault per 4 KiB.
const LARGE_ALLOCATION: libc::c_int = 32 << 20;

/// Free memory that a heap keeps until [`trim_heap`] is called: after a model has been loaded or has gone, and in a lull.
const KEPT: libc::c_int = 256 << 20;

/// Heaps that threads allocate from, for each core. With a single heap, two threads at work spent half of their time
/// waiting for it; many keep free memory to themselves until [`trim_heap`].
const HEAPS_PER_CORE: usize = 2;

/// From this size on, freeing has the allocator look at the end of the heap.
const LARGE_PIECE: usize = 128 << 10;

/// An engine as its supervisor sees it.
#[derive(Debug)]
pub struct Child {
    pid: libc::pid_t,
}

/// How an engine ended.
#[derive(Debug, Clone, Copy)]
pub enum End {
    /// By a signal.
    Signal(i32),
    /// By its own decision.
    Exit(i32),
}

impl Child {
    /// Forks an engine that serves `listener`.
    ///
    /// # Errors
    /// When the system refuses, or when this process has threads: those a fork would lose with what they hold.
    pub fn fork(listener: &UnixListener, settings: Settings, restarts: u64) -> io::Result<Self> {
        let threads = std::fs::read_dir("/proc/self/task")?.count();
        if threads != 1 {
            return Err(io::Error::other(format!("the supervisor has {threads} threads")));
        }
        // SAFETY: the process has one thread. No handler of the server may run in the child, so all signals stay
        // blocked until it has replaced them.
        unsafe {
            let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
            let supervisor = libc::getpid();
            let pid = libc::fork();
            if pid == 0 {
                let work = || run(supervisor, listener.as_raw_fd(), settings, restarts);
                let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
                libc::_exit(if ended.is_ok() { 1 } else { 2 });
            }
            let error = io::Error::last_os_error();
            libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
            if pid < 0 { Err(error) } else { Ok(Self { pid }) }
        }
    }

    /// Its process.
    pub fn pid(&self) -> libc::pid_t {
        self.pid
    }

    /// How it ended, if it did.
    pub fn ended(&self) -> Option<End> {
        let mut status = 0;
        // SAFETY: asks about a child of this process, without waiting.
        if unsafe { libc::waitpid(self.pid, &mut status, libc::WNOHANG) } != self.pid {
            return None;
        }
        Some(if libc::WIFSIGNALED(status) {
            End::Signal(libc::WTERMSIG(status))
        } else {
            End::Exit(libc::WEXITSTATUS(status))
        })
    }

    /// Kills it; there is nothing in it to save, and a stopped process heeds nothing less.
    pub fn kill(&self) {
        // SAFETY: a child that has not been waited for, so the number is still its own.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
    }

    /// Kills it and waits until it is gone.
    pub fn destroy(self) {
        self.kill();
        // SAFETY: as above.
        unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), 0) };
    }
}

/// Serves until the end of the process.
fn run(supervisor: libc::pid_t, listener: RawFd, settings: Settings, restarts: u64) {
    // SAFETY: called once, in the child, right after the fork; the descriptor is this process's copy.
    let listener = unsafe {
        become_engine(supervisor, listener);
        UnixListener::from_raw_fd(listener)
    };
    let origin = Origin { families: FAMILIES, restarts, trim: trim_heap, gpus: OPENER };
    if let Err(error) = server::serve(listener, settings, origin) {
        eprintln!("kronos engine: {error}");
    }
}

/// Stops being a process of PostgreSQL.
///
/// # Safety
/// Only in a forked child with one thread and all signals blocked.
unsafe fn become_engine(supervisor: libc::pid_t, keep: RawFd) {
    // SAFETY: as the caller promises.
    unsafe {
        // Handlers first: an inherited one would set latches in shared memory on the parent's behalf.
        for signal in 1..libc::SIGRTMIN() {
            libc::signal(signal, libc::SIG_DFL);
        }
        for signal in [libc::SIGHUP, libc::SIGPIPE, libc::SIGUSR1, libc::SIGUSR2, libc::SIGALRM] {
            libc::signal(signal, libc::SIG_IGN);
        }
        // The postmaster signals whole process groups.
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT] {
            libc::signal(signal, leave as extern "C" fn(i32) as usize);
        }
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if libc::getppid() != supervisor {
            libc::_exit(0);
        }
        // Before IsUnderPostmaster is cleared: it does nothing afterwards.
        pg_sys::init_ps_display(c"kronos engine".as_ptr());
        set_ps_display(c"inference");
        // A native library's exit() must not run the server's callbacks.
        pg_sys::on_exit_reset();
        pg_sys::dsm_detach_all();
        PGSharedMemoryDetach();
        pg_sys::IsUnderPostmaster = false;
        pg_sys::MyProc = std::ptr::null_mut();
        pg_sys::MyLatch = std::ptr::null_mut();
        close_all_but(keep);
        libc::prctl(libc::PR_SET_NAME, c"kronos-engine".as_ptr());
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_ALLOCATION);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        libc::mallopt(libc::M_ARENA_MAX, (cores * HEAPS_PER_CORE) as libc::c_int);
        raise_descriptor_limit();
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
    // Where the system has no such file, it takes whom it takes.
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
}

/// Names the process in `ps`. PostgreSQL 16 made the function an inline one above another.
///
/// # Safety
/// As the function of the server: in the main thread.
unsafe fn set_ps_display(activity: &std::ffi::CStr) {
    // SAFETY: as the caller promises; the text is read before the call returns.
    unsafe {
        #[cfg(feature = "pg15")]
        pg_sys::set_ps_display(activity.as_ptr());
        #[cfg(any(feature = "pg16", feature = "pg17"))]
        pg_sys::set_ps_display_with_len(activity.as_ptr(), activity.count_bytes());
    }
}

extern "C" fn leave(_: i32) {
    // SAFETY: may be called in a handler; runs nothing else.
    unsafe { libc::_exit(0) }
}

/// Closes every descriptor from 3 up but `keep`.
///
/// # Safety
/// Nothing may use the others any more.
unsafe fn close_all_but(keep: RawFd) {
    let keep = keep as libc::c_uint;
    for (first, last) in [(3, keep.saturating_sub(1)), (keep + 1, libc::c_uint::MAX)] {
        if first <= last {
            // SAFETY: as the caller promises.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    }
}

/// One descriptor per session: the soft limit is often below `max_connections`.
fn raise_descriptor_limit() {
    // SAFETY: plain calls with a structure of this function's own.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

/// Gives free memory back to the system: that of the calling thread's heap, and what lies inside of the others.
fn trim_heap() {
    // SAFETY: parameters that exist; what is freed was allocated.
    unsafe {
        // The free end of a heap that is not the first is looked at when a large piece of that heap is freed, never else.
        libc::mallopt(libc::M_TRIM_THRESHOLD, 0);
        libc::free(std::hint::black_box(libc::malloc(LARGE_PIECE)));
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
    }
    trim();
}

/// Gives free memory inside of the heaps back to the system.
pub fn trim() {
    // SAFETY: has no preconditions.
    unsafe { libc::malloc_trim(0) };
}
